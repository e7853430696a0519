"""Starts the limited child and speaks to it; one order after the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from gateway.devices.opcua import pipe
from gateway.model.errors import OutcomeUnknown

START_TIMEOUT_S = 30.0  # of the child and its first handshake; a busy machine takes its time
Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def spawn() -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]:
    """Start a child with one end of a socket pair; return it and our end."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.devices.opcua.child", str(theirs.fileno()),
            pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    reader, writer = await asyncio.open_connection(sock=ours)
    return process, reader, writer


@contextlib.asynccontextmanager
async def asking(*, timeout_s: float) -> AsyncIterator[Ask]:
    """A child for a few questions; it ends with the block.

    An order without an answer in ``timeout_s`` raises OutcomeUnknown, and so does every later one.
    """
    process, reader, writer = await spawn()

    async def ask(order: dict[str, Any]) -> dict[str, Any]:
        try:
            writer.write(pipe.pack(order | {"id": 1}))
            async with asyncio.timeout(timeout_s):
                return await pipe.receive(reader)
        except TimeoutError:
            process.kill()
            raise OutcomeUnknown("opcua", "no answer in time") from None
        except pipe.PipeBroken as error:
            raise OutcomeUnknown("opcua", f"the child ended: {error}") from None

    try:
        yield ask
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        writer.close()
