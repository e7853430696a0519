"""The gateway's side of the OPC UA server: starts its process, feeds it, replaces it when it dies.

What the process cannot take is dropped: the newest view counts, and nobody waits for a reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.devices.opcua import pipe
from gateway.hmi.state import SiteView
from gateway.northbound.values import values_of

log = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0  # of CPU it needs four, on a busy machine many more
GRACE_S = 2.0
BACKOFF_S_MIN, BACKOFF_S_MAX = 1.0, 60.0
BEHIND_BYTES_MAX = 256 << 10  # unread by the process: it has stalled


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaServing:
    """Where the server listens, who it is, and whose certificates it knows."""

    host: str
    port: int
    certificate: Path
    key: Path
    trusted: Path


class OpcuaFeed:
    """Runs the server beside the gateway; ``run`` it in a task group until cancelled."""

    def __init__(
        self,
        serving: OpcuaServing,
        views: Callable[[], SiteView],
        *,
        period_s: float = 1.0,
    ) -> None:
        """Feed ``views`` once a period; nothing is started before ``run``."""
        self._serving, self._views, self._period_s = serving, views, period_s
        self.port = 0  # once it listens
        self.listening = asyncio.Event()
        self.dropped_count = 0
        self.started_count = 0

    async def run(self) -> None:
        """Keep the server's process alive."""
        delay_s = BACKOFF_S_MIN
        while True:
            try:
                lived = await self._once()
            except OSError as error:  # no memory for a process, say; it may be there later
                log.warning("no OPC UA server: %r", error)
                lived = False
            delay_s = BACKOFF_S_MIN if lived else min(delay_s * 2, BACKOFF_S_MAX)
            await _pause(delay_s)

    async def _once(self) -> bool:
        """Start one process and feed it to its end; whether it ever listened."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.northbound.opcua_server",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        self.started_count += 1
        try:
            process.stdin.write(pipe.pack(self._settings()))
            if not await self._opened(process):
                return False
            await self._feed(process, process.stdin)
        finally:
            self.listening.clear()
            process.stdin.close()  # the end of the pipe asks it to close
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
        log.warning("the OPC UA server ended with %s", process.returncode)
        return True

    def _settings(self) -> dict[str, Any]:
        view, serving = self._views(), self._serving
        return {
            "site": view.site,
            "sop": view.sop,
            "host": serving.host,
            "port": serving.port,
            "certificate": str(serving.certificate),
            "key": str(serving.key),
            "trusted": str(serving.trusted),
        }

    async def _opened(self, process: asyncio.subprocess.Process) -> bool:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            log.warning("no OPC UA server: it does not start")
            return False
        told: dict[str, Any] = json.loads(line) if line else {"error": "its process died"}
        if "error" in told:
            log.warning("no OPC UA server: %s", told["error"])
            return False
        self.port = told["port"]
        log.info("OPC UA server open port=%d", self.port)
        return True

    async def _feed(self, process: asyncio.subprocess.Process, stdin: asyncio.StreamWriter) -> None:
        """Send the newest view once a period for as long as the process lives."""
        ended = asyncio.ensure_future(process.wait())
        told_count = self.dropped_count
        try:
            while not ended.done():
                if stdin.transport.get_write_buffer_size() > BEHIND_BYTES_MAX:
                    self.dropped_count += 1
                else:
                    if self.dropped_count > told_count:
                        log.warning("OPC UA looks_lost=%d", self.dropped_count - told_count)
                        told_count = self.dropped_count
                    stdin.write(pipe.pack(rows_of(self._views())))
                    self.listening.set()
                await asyncio.wait({ended}, timeout=self._period_s)
        finally:
            ended.cancel()


def rows_of(view: SiteView) -> dict[str, Any]:
    """Write a view as the message the server's process reads."""
    return {
        "utc_us": view.utc_us,
        "values": [
            {
                "name": v.name,
                "content": v.content,
                "kind": v.kind.__name__,
                "unit": v.unit,
                "span": v.span,
                "sureness": v.sureness.value,
            }
            for v in values_of(view)
        ],
    }


async def _pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
