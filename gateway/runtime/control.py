"""The operator's door: a Unix socket beside the site file, one JSON object a line.

Who asks is what the kernel says (SO_PEERCRED); what he may ask for stands in ``core.access`` and
is denied otherwise. Refusals are entries of the ledger. Orders go through the same scan as trades
(law 7); ``stop`` alone goes ahead of everything.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.core.access import ALLOWED, Access, Person, allowed
from gateway.runtime.orders import OrderRefused, Orders
from gateway.runtime.people import person_at

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 16384  # the intent of a test at sixteen terminals is under 4 KiB
ANSWER_BYTES_MAX = 1 << 20
REFUSALS_MAX = 20  # refusals of a minute that get an entry each; more are counted in the next one
REFUSALS_US = 60_000_000

Answer = Mapping[str, Any]
Question = Callable[[Mapping[str, Any]], Answer | Awaitable[Answer]]


class ControlSocket:
    """Listens for orders and questions of people on this machine."""

    def __init__(
        self,
        *,
        path: Path,
        orders: Orders,
        access: Access,
        questions: Mapping[str, Question],
        mono_us: Callable[[], int],
    ) -> None:
        """Serve at ``path``: ``questions`` answer at once, ``orders`` are carried out."""
        self._path = path
        self._orders = orders
        self._access = access
        self._questions = dict(questions)
        self._mono_us = mono_us
        self._refused_us: list[int] = []
        self._unwritten_count = 0
        self._serving: set[asyncio.Task[None]] = set()
        assert self._questions.keys() <= ALLOWED.keys()

    async def run(self) -> None:
        """Serve until cancelled, then remove the socket."""
        self._path.unlink(missing_ok=True)
        # With a role map the table decides, not the file system.
        mask = os.umask(0o177 if self._access.owner_only else 0o111)
        try:
            server = await asyncio.start_unix_server(
                self._serve, path=str(self._path), limit=LINE_BYTES_MAX
            )
        finally:
            os.umask(mask)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            # Whoever is still there holds up no stop, and a loan ends before the ledger closes.
            serving = tuple(self._serving)
            for one in serving:
                one.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        peer: socket.socket = writer.get_extra_info("socket")
        person = person_at(peer, self._access)
        try:
            while line := await reader.readline():
                answer = await self._answer(line, person)
                writer.write(json.dumps(answer).encode() + b"\n")
                if answer.get("loan"):  # before anything can fail: a loan without end is none
                    await self._lend(person, reader, writer)
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError) as error:
            log.info("control connection ended: %s", error)
        except asyncio.CancelledError:  # of a cancelled one Python 3.11 logs a traceback
            log.info("control connection ended: the gateway stops")
        finally:
            writer.close()

    async def _lend(
        self, person: Person, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve whoever borrowed control until he gives it back, is late or is gone."""

        async def lines() -> bytes:
            return await reader.readline()

        async def say(answer: Mapping[str, Any]) -> None:
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()

        await self._orders.lend(person, lines, say)

    async def _answer(self, line: bytes, person: Person) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
            verb = request["verb"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"ok": False, "cause": "inconsistent-parameters",
                    "error": 'a request is {"verb": …}'}  # fmt: skip
        if not isinstance(verb, str) or verb not in ALLOWED:
            return {"ok": False, "cause": "inconsistent-parameters",
                    "error": f"no such verb: {str(verb)[:40]}"}  # fmt: skip
        arguments = {k: v for k, v in request.items() if k != "verb"}
        try:
            _permit(person, verb)
            if verb in self._questions:
                found = self._questions[verb](arguments)
                return {"ok": True, **(await found if inspect.isawaitable(found) else found)}
            if verb == "whoami":
                return {"ok": True, "user": person.user, "roles": sorted(person.roles)}
            if verb == "access":
                members = {r.value: sorted(m) for r, m in self._access.members.items()}
                return {"ok": True, "members": members}
            return {"ok": True, **await self._orders.carry_out(verb, person, arguments)}
        except OrderRefused as refused:
            await self._write_down(person, verb, refused)
            return {"ok": False, "cause": refused.cause, "error": refused.what}

    async def _write_down(self, person: Person, verb: str, refused: OrderRefused) -> None:
        """Make a refusal an entry, so many a minute: the ledger is not for flooding."""
        now_us = self._mono_us()
        self._refused_us = [at for at in self._refused_us if now_us - at < REFUSALS_US]
        if len(self._refused_us) >= REFUSALS_MAX:
            self._unwritten_count += 1
            return
        self._refused_us.append(now_us)
        arguments: dict[str, Any] = {"verb": verb, "cause": refused.cause}
        if self._unwritten_count:
            arguments["unwritten_count"] = self._unwritten_count
            self._unwritten_count = 0
        await self._orders.write_down(person, "refused", arguments, refused.what)


def _permit(person: Person, verb: str) -> None:
    if not allowed(person.roles, verb):
        roles = ", ".join(sorted(person.roles)) or "no role here"
        raise OrderRefused("no-access-authority", f"{person.user} ({roles}) may not {verb}")


async def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one request to a running gateway; ConnectionError or TimeoutError when none answers."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(str(path), limit=ANSWER_BYTES_MAX)
        try:
            return await ask_on(reader, writer, request)
        finally:
            writer.close()


async def ask_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Send one request over an open connection and return the answer."""
    writer.write(json.dumps(dict(request)).encode() + b"\n")
    await writer.drain()
    line = await reader.readline()
    if not line:
        raise ConnectionError("the gateway closed the connection")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ConnectionError("not an answer")
    return answer
