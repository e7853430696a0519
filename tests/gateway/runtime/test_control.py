"""The operator's socket: private, strict, default deny, refusals written down, loans that end."""

import asyncio
import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.people_rig import NOBODY, PeopleRig

from gateway.core.access import ALLOWED, Access, Role
from gateway.runtime.control import LINE_BYTES_MAX, REFUSALS_MAX, ask

ROOT = Path(__file__).resolve().parents[3]
ORDERS = {
    "stop": {}, "arm": {}, "mode": {"mode": "test"}, "ack": {"code": "A-104"},
    "shelve": {"code": "A-104", "for_s": 60, "reason": "x"}, "unshelve": {"code": "A-104"},
    "setpoint": {"setpoints": {"T2": 1000}, "for_ms": 1000}, "borrow": {"words": "test"},
    "limits.propose": {"terminal": "T2", "p_w_min": -1, "p_w_max": 1},
    "limits.confirm": {"id": "l-0000"},
}  # fmt: skip


def members(*roles):
    me = f"uid:{os.geteuid()}"
    return Access(members={role: frozenset({me} if role in roles else ()) for role in Role})


@contextlib.asynccontextmanager
async def served(tmp_path, access=NOBODY, mode="test"):
    rig = await PeopleRig(members=access, mode=mode).start()
    path = tmp_path / "sopgw.sock"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.socket(path).run())
        while not path.exists():
            await asyncio.sleep(0)
        yield path, rig
        task.cancel()
    assert not path.exists()


async def test_without_roles_its_owner_alone_may_open_it(tmp_path):
    async with served(tmp_path) as (path, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await ask(path, {"verb": "whoami"}))["roles"] == ["engineer"]
    async with served(tmp_path, members(Role.VIEWER)) as (path, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert (await ask(path, {"verb": "whoami"}))["roles"] == ["viewer"]


async def test_status_is_answered_and_writes_nothing(tmp_path):
    async with served(tmp_path) as (path, rig):
        size = len(rig.journal.written)
        assert (await ask(path, {"verb": "status"}))["status"] == {"mode": "test"}
        assert (await ask(path, {"verb": "limits"}))["limits"][1]["p_w_max"] == 230_000
        assert len(rig.journal.written) == size


async def test_an_order_carries_the_user_the_kernel_knows(tmp_path):
    async with served(tmp_path) as (path, rig):
        assert (await ask(path, {"verb": "mode", "mode": "blocked", "user": "root"}))["ok"]
        assert rig.entries("operator")[-1]["user"] == f"uid:{os.getuid()}"
        assert rig.scan.state.mode == "blocked"


@pytest.mark.parametrize(
    "request_", [{"verb": "explode"}, {"mode": "on"}, {"verb": "mode", "mode": "turbo"}, [1],
                 {"verb": ["stop"]}, {"verb": None}, "stop"]
)  # fmt: skip
async def test_what_is_not_understood_is_refused_and_not_carried_out(tmp_path, request_):
    async with served(tmp_path) as (path, rig):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(json.dumps(request_).encode() + b"\n")
        answer = json.loads(await reader.readline())
        writer.close()
        assert answer["ok"] is False
        assert answer["cause"] == "inconsistent-parameters"
        assert rig.scan.state.mode == "test"


async def test_an_endless_line_ends_its_own_connection_only(tmp_path):
    async with served(tmp_path) as (path, _):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"x" * (LINE_BYTES_MAX * 3))
        assert await reader.read() == b""
        writer.close()
        assert (await ask(path, {"verb": "status"}))["ok"]


async def test_a_line_nested_without_end_is_refused_like_any_other(tmp_path):
    async with served(tmp_path) as (path, _rig):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"[" * (LINE_BYTES_MAX - 100) + b"\n")
        answer = json.loads(await reader.readline())
        writer.close()
        assert answer["cause"] == "inconsistent-parameters"
        assert (await ask(path, {"verb": "status"}))["ok"]


@pytest.mark.parametrize("role", [*Role, None])
async def test_the_table_of_roles_holds_for_every_verb(tmp_path, role):
    """Default deny: whoever lacks the role gets no-access-authority, and an entry says so."""
    access = members(role) if role else Access(members={Role.VIEWER: frozenset({"uid:999999"})})
    async with served(tmp_path, access) as (path, rig):
        for verb, allowed in ALLOWED.items():
            if verb in ("entries", "borrow") and role in allowed:
                continue  # answered in an operating gateway; a loan keeps its connection
            before = len(rig.entries("operator", verb="refused"))
            answer = await ask(path, {"verb": verb, **ORDERS.get(verb, {})})
            denied = answer.get("cause") == "no-access-authority"
            second = verb == "limits.confirm"
            assert denied == (role not in allowed), (verb, answer)
            if denied and before < REFUSALS_MAX:
                entry = rig.entries("operator", verb="refused")[-1]
                assert entry["arguments"]["verb"] == verb
                assert entry["user"] == f"uid:{os.geteuid()}"
            assert not second or not answer["ok"]


async def test_refusals_do_not_flood_the_ledger(tmp_path):
    async with served(tmp_path, members(Role.VIEWER)) as (path, rig):
        for _ in range(REFUSALS_MAX + 15):
            await ask(path, {"verb": "arm"})
        assert len(rig.entries("operator", verb="refused")) == REFUSALS_MAX
        rig.clock.move(61)
        await ask(path, {"verb": "arm"})
        assert rig.entries("operator", verb="refused")[-1]["arguments"]["unwritten_count"] == 15


async def test_a_loan_lives_as_long_as_its_connection(tmp_path):
    async with served(tmp_path) as (path, rig):
        code = (
            "import asyncio, json, sys\n"
            "async def go():\n"
            "    r, w = await asyncio.open_unix_connection(sys.argv[1])\n"
            "    w.write(json.dumps({'verb': 'borrow', 'words': 'test step'}).encode() + b'\\n')\n"
            "    print((await r.readline()).decode(), flush=True)\n"
            "    await asyncio.Event().wait()\n"
            "asyncio.run(go())\n"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(path), stdout=subprocess.PIPE
        )
        assert json.loads(await process.stdout.readline())["loan"]
        refused = await ask(path, {"verb": "mode", "mode": "on"})
        assert refused["cause"] == "locked-by-other-client"
        process.kill()
        await process.wait()
        while not rig.entries("operator", verb="control.lost"):
            await asyncio.sleep(0.01)
        assert rig.station.log.count("ENTER_STANDBY") == 1
        assert rig.orders.holder()["holder"] == "trades"


async def test_whoever_is_still_there_holds_up_no_stop_and_a_loan_ends_before_it(tmp_path, caplog):
    rig = await PeopleRig(members=NOBODY, mode="test").start()
    path = tmp_path / "sopgw.sock"
    task = asyncio.create_task(rig.socket(path).run())
    while not path.exists():
        await asyncio.sleep(0)
    idle_reader, idle = await asyncio.open_unix_connection(str(path))
    reader, borrower = await asyncio.open_unix_connection(str(path))
    borrower.write(json.dumps({"verb": "borrow", "words": "test step"}).encode() + b"\n")
    assert json.loads(await reader.readline())["loan"]
    task.cancel()
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    assert rig.station.log.count("ENTER_STANDBY") == 1
    assert [e["arguments"]["words"] for e in rig.entries("operator", verb="control.lost")] == [
        "test step"
    ]
    assert not path.exists()
    for each, wire in ((idle_reader, idle), (reader, borrower)):
        assert await each.read() == b""
        wire.close()
    assert not [r.getMessage() for r in caplog.records if r.name == "asyncio"]


async def test_a_question_that_waits_for_a_file_holds_up_nobody_else(tmp_path):
    rig = await PeopleRig(members=NOBODY, mode="test").start()
    path, asked, held = tmp_path / "sopgw.sock", asyncio.Event(), asyncio.Event()

    async def entries(_asked):
        asked.set()
        await held.wait()
        return {"entries": []}

    socket = rig.socket(path)
    socket._questions["entries"] = entries
    task = asyncio.create_task(socket.run())
    while not path.exists():
        await asyncio.sleep(0)
    waiting = asyncio.create_task(ask(path, {"verb": "entries"}))
    await asked.wait()
    assert (await ask(path, {"verb": "status"}))["ok"]
    assert not waiting.done()
    held.set()
    assert await waiting == {"ok": True, "entries": []}
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be a second person here")
async def test_two_engineers_of_this_machine_change_a_limit(tmp_path):
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            with contextlib.suppress(OSError):
                parent.chmod(parent.stat().st_mode | 0o111)
    access = Access(members={Role.ENGINEER: frozenset({f"uid:{os.geteuid()}", "user:nobody"})})
    async with served(tmp_path, access) as (path, rig):
        limits = {"terminal": "T2", "p_w_min": -1000, "p_w_max": 1000, "reason": "cable works"}
        proposed = await ask(path, {"verb": "limits.propose", **limits})
        own = await ask(path, {"verb": "limits.confirm", "id": proposed["id"]})
        assert own["cause"] == "no-access-authority"
        code = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "s.sendall(sys.argv[2].encode() + b'\\n'); print(s.makefile().readline())\n"
        )
        request = json.dumps({"verb": "limits.confirm", "id": proposed["id"]})
        process = await asyncio.create_subprocess_exec(
            "/usr/bin/env", "python3", "-c", code, str(path), request,
            stdout=subprocess.PIPE, user="nobody",
        )  # fmt: skip
        out, _ = await process.communicate()
        assert json.loads(out)["ok"], out
        assert rig.scan.state.site.sop.terminal("T2").p_w_max == 1000
        assert rig.entries("operator", verb="limits")[0]["user"] != f"uid:{os.geteuid()}"
