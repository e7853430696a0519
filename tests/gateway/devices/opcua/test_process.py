"""The spare child: it stands ready, it is only given alive, and it ends with its parent."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.devices.modbus.client import BackOff
from gateway.devices.opcua import pipe
from gateway.devices.opcua.child import MEMORY_BYTES_MAX
from gateway.devices.opcua.process import Spare

pytestmark = pytest.mark.timeout(180)
PARENT = """
import asyncio, os, signal
from gateway.devices.opcua.process import prepared

async def main():
    there = [await prepared() for _ in range(2)]
    os.kill(there[1].process.pid, signal.SIGSTOP)  # it will not see its pipe close
    print(*(child.process.pid for child in there), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def spare_of(**fields):
    spare = Spare(**fields)
    try:
        yield spare
    finally:
        await spare.close()


def gone(pid):
    """Whether a process has ended; nobody may have waited for it yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


async def test_a_spare_is_limited_answers_at_once_and_is_given_once():
    async with spare_of() as spare:
        assert await spare.take() is None
        await spare.keep()
        await spare.keep()  # one is on its way: no second
        child = await spare.take()  # waits for it
        assert not spare.ready
        assert await spare.take() is None
        limits = Path(f"/proc/{child.process.pid}/limits").read_text()
        (line,) = [text for text in limits.splitlines() if text.startswith("Max address space")]
        assert line.split()[3:5] == [str(MEMORY_BYTES_MAX)] * 2
        child.writer.write(pipe.pack({"id": 5, "op": "read", "nodes": ["nsu=a;s=b"]}))
        answer = await pipe.receive(child.reader)
        assert (answer["id"], answer["error"], answer["what"]) == (5, "not_sent", "not connected")
        await child.end()


async def test_a_spare_that_died_is_not_given_and_the_next_one_waits_a_while():
    async with spare_of(back_off=BackOff(first_s=3600, pause_s_max=3600)) as spare:
        await spare.keep()
        await until(lambda: spare.ready)
        child = spare._coming.result()
        os.kill(child.process.pid, signal.SIGKILL)
        await until(lambda: not spare.ready)
        assert await spare.take() is None
        await spare.keep()
        assert spare._coming is None  # not in the next hour
        assert gone(child.process.pid)


async def test_an_end_while_it_is_on_its_way_leaves_nothing():
    async with spare_of() as spare:
        await spare.keep()
        await asyncio.sleep(0)
        coming = spare._coming
        await spare.close()
        assert coming.done()
        assert await spare.take() is None


def test_children_end_with_a_parent_that_was_killed_even_one_that_cannot_see_it():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        pids = [int(text) for text in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        parent.kill()
        parent.wait()
    asyncio.run(until(lambda: all(gone(pid) for pid in pids)))
