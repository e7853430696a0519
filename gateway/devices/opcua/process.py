"""Starts the limited child and speaks to it; a second one may stand ready behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway.devices.modbus.client import BackOff
from gateway.devices.opcua import pipe
from gateway.model.errors import OutcomeUnknown

START_TIMEOUT_S = 30.0  # of the child and its first handshake; a busy machine takes its time
LAST_MOMENT_S = 0.2
Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child process and our end of its socket pair."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to end: by its process, or by its end of the pipe."""
        return self.process.returncode is None and not self.reader.at_eof()

    async def end(self) -> None:
        """Kill it and wait until it is gone; nothing is lost with it but a session."""
        if self.reader.at_eof():  # it ends by itself, which its watcher should be first to see
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_MOMENT_S):
                    await self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self.writer.close()


async def spawn() -> Child:
    """Start a child with one end of a socket pair."""
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway.devices.opcua.child", str(theirs.fileno()),
                pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, asyncio.CancelledError):
            writer.close()
            raise
    return Child(process=process, reader=reader, writer=writer)


async def prepared() -> Child:
    """A child that has imported everything, taken its limits and made its impostor's key.

    Raises OutcomeUnknown when it ends, or is not ready in ``START_TIMEOUT_S``.
    """
    child = await spawn()
    try:
        child.writer.write(pipe.pack({"id": 0, "op": "prepare"}))
        async with asyncio.timeout(START_TIMEOUT_S):
            await pipe.receive(child.reader)
    except (TimeoutError, pipe.PipeBroken):
        await child.end()
        raise OutcomeUnknown("opcua", "a spare child did not start") from None
    except asyncio.CancelledError:
        await child.end()
        raise
    return child


class Spare:
    """One more child that stands ready and is connected to nothing.

    Starting a child is mostly imports; what a flood killed is replaced at once by one that has
    them behind it. The spare ends with its parent, as every child does.
    """

    def __init__(self, *, back_off: BackOff | None = None) -> None:
        self._back_off = back_off or BackOff(first_s=1.0, pause_s_max=60.0)
        self._coming: asyncio.Task[Child] | None = None
        self._failures_count = 0
        self._not_before_s = 0.0

    @property
    def ready(self) -> bool:
        """Whether a child stands ready now."""
        coming = self._coming
        return (
            coming is not None
            and coming.done()
            and not coming.cancelled()
            and coming.exception() is None
            and coming.result().alive
        )

    async def keep(self) -> None:
        """See to it that there is one, or that one is on its way; called whenever all is well."""
        loop = asyncio.get_running_loop()
        if self._coming is not None:
            if not self._coming.done() or self.ready:
                return
            await self.close()
            self._failures_count += 1
            self._not_before_s = loop.time() + self._back_off.pause_s(self._failures_count)
        if loop.time() >= self._not_before_s:
            self._coming = loop.create_task(prepared(), name="opcua-spare")

    async def take(self) -> Child | None:
        """The child, the caller's from now on, waited for if it is on its way; else None."""
        if self._coming is None:
            return None
        await asyncio.wait([self._coming])
        if not self.ready:
            return None
        child = self._coming.result()
        self._coming, self._failures_count = None, 0
        return child

    async def close(self) -> None:
        """End it, ready or not."""
        coming, self._coming = self._coming, None
        if coming is None:
            return
        coming.cancel()
        await asyncio.wait([coming])
        if not coming.cancelled() and coming.exception() is None:
            await coming.result().end()


@contextlib.asynccontextmanager
async def asking(*, timeout_s: float) -> AsyncIterator[Ask]:
    """A child for a few questions; it ends with the block.

    An order without an answer in ``timeout_s`` raises OutcomeUnknown, and so does every later one.
    """
    child = await spawn()

    async def ask(order: dict[str, Any]) -> dict[str, Any]:
        try:
            child.writer.write(pipe.pack(order | {"id": 1}))
            async with asyncio.timeout(timeout_s):
                return await pipe.receive(child.reader)
        except TimeoutError:
            child.process.kill()
            raise OutcomeUnknown("opcua", "no answer in time") from None
        except pipe.PipeBroken as error:
            raise OutcomeUnknown("opcua", f"the child ended: {error}") from None

    try:
        yield ask
    finally:
        await child.end()
