"""The watchdog test by killing: another process holds the power, this one holds control.

The other one writes to the device only what this one has put into the ledger first: it asks over a
socket both inherited, in the words of borrowed control. Imported inside commands only.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Mapping
from typing import Any

from gateway.cli.borrow import BorrowedJournal
from gateway.cli.field import Field, user
from gateway.cli.output import ExitCode, fail
from gateway.commissioning.runs.silence import Kill, WatchdogOrder
from gateway.runtime.control import ANSWER_BYTES_MAX

HOLDING = "holding"
START_S_MAX = 120.0  # of real time: an interpreter, a site file, a ramp, all on a busy machine


async def hold_elsewhere(field: Field, order: WatchdogOrder) -> Kill:
    """Let another process hold the power; return what kills it."""
    await _append(field, "operator", {
        "user": user(),
        "verb": "test hold",
        "arguments": [order.terminal, f"{order.p_w}W"],
        "reason": "watchdog test by killing the process that holds the power",
    })  # fmt: skip
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "test", "hold", order.terminal,
        "--power", f"{order.p_w}W", "--confirm", field.equipment.sop.id,
        "--sop", field.equipment.sop.id, "--under", str(theirs.fileno()),
        "-c", str(field.site.path),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    )  # fmt: skip
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours, limit=ANSWER_BYTES_MAX)

    async def kill() -> None:
        process.kill()
        await process.wait()
        writer.close()

    try:
        async with asyncio.timeout(START_S_MAX):
            holds = await _serve(field, reader, writer)
    except (TimeoutError, ConnectionError):
        holds = False
    if not holds:
        await kill()
        fail(ExitCode.FAILED, "the process that should hold the power did not start", code="H008")
    return kill


async def _serve(field: Field, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Write the other one's entries until it holds; False when it gave up."""
    size = field.journal.status().size if field.journal is not None else 0
    answer: dict[str, Any] = {"owner_id": field.rack.owner, "entries": size}
    while True:
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
        request: dict[str, Any] = json.loads(line) if line else {"verb": "return"}
        if request["verb"] in (HOLDING, "return"):
            return bool(request["verb"] == HOLDING)
        answer = {"ok": True, "index": await _append(field, request["kind"], request["fields"])}


async def _append(field: Field, kind: str, fields: Mapping[str, Any]) -> int:
    if field.journal is None:
        return -1
    index, _entry = await field.journal.append(kind, fields)
    return index


async def under(descriptor: int) -> BorrowedJournal:
    """Return the ledger of the process that started this one and handed it a socket."""
    reader, writer = await asyncio.open_connection(
        sock=socket.socket(fileno=descriptor), limit=ANSWER_BYTES_MAX
    )
    return BorrowedJournal(reader, writer, json.loads(await reader.readline()))
