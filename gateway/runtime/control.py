"""The operator's door: a Unix socket beside the site file, one JSON object a line.

Orders go through the same scan as trades (law 7). ``stop`` alone goes ahead of everything.
Who may open the socket is the file system's decision: mode 0600.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 4096
MODES = ("off", "blocked", "test", "test-blocked", "on")
_PEER = struct.Struct("3i")

Order = Callable[[str, str, Mapping[str, Any]], Awaitable[str]]


class ControlSocket:
    """Listens for orders and questions of people on this machine."""

    def __init__(
        self, *, path: Path, status: Callable[[], Mapping[str, Any]], order: Order
    ) -> None:
        """Serve at ``path``; ``order(verb, user, arguments)`` carries out arm, stop and mode."""
        self._path = path
        self._status = status
        self._order = order

    async def run(self) -> None:
        """Serve until cancelled, then remove the socket."""
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(
                self._serve, path=str(self._path), limit=LINE_BYTES_MAX
            )
        finally:
            os.umask(mask)
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        user = _peer(writer)
        try:
            while line := await reader.readline():
                answer = await self._answer(line, user)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError) as error:
            log.info("control connection ended: %s", error)
        finally:
            writer.close()

    async def _answer(self, line: bytes, user: str) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
            verb = request["verb"]
        except (ValueError, KeyError, TypeError):
            return {"ok": False, "error": 'a request is {"verb": …}'}
        if verb == "status":
            return {"ok": True, "status": dict(self._status())}
        arguments = {k: v for k, v in request.items() if k != "verb"}
        if verb == "mode" and arguments.get("mode") not in MODES:
            return {"ok": False, "error": f"mode is one of {', '.join(MODES)}"}
        if verb not in ("arm", "stop", "mode"):
            return {"ok": False, "error": f"no such verb: {verb}"}
        return {"ok": True, "outcome": await self._order(verb, user, arguments)}


def _peer(writer: asyncio.StreamWriter) -> str:
    """Name the process owner at the other end, as the kernel knows it."""
    peer: socket.socket = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return f"uid:{_PEER.unpack(raw)[1]}"


async def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one request to a running gateway; ConnectionError or TimeoutError when none answers."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            writer.write(json.dumps(dict(request)).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
        finally:
            writer.close()
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ConnectionError(f"{path}: not an answer")
    return answer
