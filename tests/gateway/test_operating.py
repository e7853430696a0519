"""What people ask a running gateway never holds up its scan."""

import asyncio
import threading
from types import SimpleNamespace

from gateway.operating import entries_of

ENTRY = {"kind": "boot", "utc_us": 5, "version": "1", "boot": 1}


class SlowDisk:
    """A ledger whose files answer when they are told to."""

    def __init__(self):
        self.asked, self.answers = threading.Event(), threading.Event()

    def status(self):
        return SimpleNamespace(size=70)

    def entries(self, start):
        self.asked.set()
        assert self.answers.wait(20)
        return [(start, ENTRY)]


async def test_entries_are_read_beside_the_loop():
    disk = SlowDisk()
    asking = asyncio.create_task(entries_of(disk)({"count": 10}))
    while not disk.asked.is_set():
        await asyncio.sleep(0.001)  # the loop goes on while the disk does not
    disk.answers.set()
    (row,) = (await asking)["entries"]
    assert (row["index"], row["kind"]) == (60, "boot")
