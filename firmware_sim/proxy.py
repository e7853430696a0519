"""A proxy that lies: stands before any Modbus TCP device and applies faults by name, seeded.

One request at a time goes through each connection, in order. What was done is in ``log``, so that
a test can ask whether the client noticed.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 (type of the injected source only)
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from firmware_sim.faults import (
    FAULTS,
    LINK_FAULTS,
    REPLY_LIES,
    REQUEST_LIES,
    WRITES,
    Exchange,
    Frame,
    Send,
)
from firmware_sim.orders import between, not_below_zero, number

ENDLESS_CHUNK = b"\x00" * 1024
LOG_SIZE_MAX = 10_000
AT_ONCE = frozenset(LINK_FAULTS) - {"frozen", "refuse"}


@dataclass(slots=True, kw_only=True)
class Rule:
    """When a fault applies: how often, how many times, to which requests."""

    fault: str
    rate_ratio: float = 1.0
    left_count: int | None = None
    unit_id: int | None = None
    functions: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def matches(self, frame: Frame, rng: random.Random) -> bool:
        """Whether it is due for this request."""
        if self.left_count == 0:
            return False
        if self.unit_id is not None and frame.unit_id != self.unit_id:
            return False
        kind = "write" if frame.pdu[0] in (*WRITES, 23) else "read"
        if self.functions and not {kind, str(frame.pdu[0])} & set(self.functions):
            return False
        return self.rate_ratio >= 1.0 or rng.random() < self.rate_ratio

    def spend(self) -> bool:
        """Use up one of its times; False where another connection took the last."""
        if self.left_count is None:
            return True
        if self.left_count == 0:
            return False
        self.left_count -= 1
        return True


# What a fault may be told besides whom it hits, and how its value is read.
SETTINGS: Final[dict[str, dict[str, Callable[[Any], Any]]]] = {
    "delay": {"delay_s": not_below_zero},
    "late_reply": {"delay_s": not_below_zero},
    "jitter": {"jitter_s": not_below_zero},
    "dribble": {"gap_s": not_below_zero},
    "stall": {"for_s": not_below_zero},
    "exception": {"code": between(1, 255)},
    "partial_write": {"registers": between(1, 123)},
    "clip_write": {"limit": between(0, 0x7FFF_FFFF)},
}
WHOM: Final = ("rate", "times", "unit", "functions")


def _rate(value: Any) -> float:
    """A share of the requests: 0.1 or 10%."""
    said = str(value)
    found = number(said.removesuffix("%")) / 100 if said.endswith("%") else number(value)
    if not 0.0 <= found <= 1.0:
        raise ValueError(f"{value!r} is not 0 to 1, or 0% to 100%")
    return found


def _functions(value: Any) -> tuple[str, ...]:
    """Words read and write, and numbers of function codes; separated by commas in a text."""
    words = value.split(",") if isinstance(value, str) else [str(word) for word in value]
    for word in words:
        if word not in ("read", "write") and not word.isdigit():
            raise ValueError(f"{word!r} is neither read nor write nor a function code")
    return tuple(words)


def read_rule(fault: str, order: Mapping[str, Any]) -> Rule:
    """The rule of an order; ValueError names the key that is wrong or that nothing knows."""
    if fault not in FAULTS:
        raise ValueError(f"no such fault {fault!r}; one of {', '.join(FAULTS)}")
    readers: dict[str, Callable[[Any], Any]] = {
        "rate": _rate, "times": between(1, 1 << 31), "unit": between(0, 255),
        "functions": _functions, **SETTINGS.get(fault, {}),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for key, value in order.items():
        if key not in readers:
            raise ValueError(f"{key}: {fault} takes no such setting; one of {', '.join(readers)}")
        if value is None:
            continue
        try:
            found[key] = readers[key](value)
        except ValueError as wrong:
            raise ValueError(f"{key}: {wrong}") from None
    return Rule(
        fault=fault, rate_ratio=found.get("rate", 1.0), left_count=found.get("times"),
        unit_id=found.get("unit"), functions=found.get("functions", ()),
        settings={key: value for key, value in found.items() if key not in WHOM},
    )  # fmt: skip


class FaultProxy:
    """Listens on loopback and passes Modbus TCP on to the device, not always honestly."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        rng: random.Random,
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        self._upstream = (host, port)
        self._rng = rng
        self._wait = wait
        self._rules: list[Rule] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._frozen: dict[tuple[int, bytes], Frame] = {}
        self.log: list[str] = []

    async def start(self, port: int = 0) -> int:
        """Listen and return the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening, drop the connections and end what is still held back."""
        if self._server is not None:
            self._server.close()
        self.drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def drop(self) -> None:
        """Reset every connection of a client."""
        for writer in list(self._writers):
            writer.transport.abort()

    def apply(self, fault: str, **order: Any) -> None:
        """From now on commit this fault; several may be in force together.

        Whom it hits: ``rate``, ``times``, ``unit``, ``functions``; the rest is its own.
        """
        rule = read_rule(fault, order)
        if fault == "reset":
            self._note("reset")
            self.drop()
            return
        self._rules.append(rule)

    def clear(self) -> None:
        """Be honest again."""
        self._rules.clear()
        self._frozen.clear()

    # -------------------------------------------------------------- connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self._writers.add(writer)
        device: asyncio.StreamWriter | None = None
        try:
            if any(rule.fault == "refuse" for rule in self._rules):
                self._note("refuse")
                writer.transport.abort()
                return
            device_reader, device = await asyncio.open_connection(*self._upstream)
            await self._pump(reader, writer, device_reader, device)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        except asyncio.CancelledError:
            # Only ``close`` cancels: ending quietly is what it waits for.
            return
        finally:
            self._writers.discard(writer)
            if task is not None:
                self._tasks.discard(task)
            if device is not None:
                device.close()
            writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        device_reader: asyncio.StreamReader,
        device: asyncio.StreamWriter,
    ) -> None:
        previous: Frame | None = None
        while True:
            frame = await _read_frame(reader)
            due = [rule for rule in self._rules if rule.matches(frame, self._rng)]
            # A fault of time or of the connection hits every request; a lie only what it changes.
            due = [r for r in due if r.fault not in AT_ONCE or self._commit(r)]
            names = {rule.fault for rule in due}
            if names & {"half_open", "lose_request"}:
                continue
            for rule in due:
                if rule.fault == "stall":
                    await self._wait(float(rule.settings.get("for_s", 1.0)))
            if "reset_before_reply" in names:
                device.write(frame.encode())
                await device.drain()
                writer.transport.abort()
                return
            reply = await self._ask(frame, due, device_reader, device)
            for rule in due:
                if rule.fault == "frozen" and reply.pdu[0] in (3, 4) and self._commit(rule):
                    reply = self._remembered(frame, reply)
            exchange = Exchange(request=frame, reply=reply, previous=previous)
            previous = reply
            if "lose_reply" in names:
                continue
            await self._deliver(writer, self._lies(exchange, due), due)

    async def _ask(
        self,
        frame: Frame,
        due: Sequence[Rule],
        reader: asyncio.StreamReader,
        device: asyncio.StreamWriter,
    ) -> Frame:
        sent: Frame | None = frame
        for rule in due:
            if sent is not None and rule.fault in REQUEST_LIES:
                lie = REQUEST_LIES[rule.fault](sent, rule.settings, self._rng)
                if lie != sent and self._commit(rule):
                    sent = lie
        if sent is None:
            return _acknowledgement(frame)
        device.write(sent.encode())
        await device.drain()
        reply = await _read_frame(reader)
        if sent != frame and not reply.pdu[0] & 0x80:
            return _acknowledgement(frame)
        return reply

    def _remembered(self, frame: Frame, reply: Frame) -> Frame:
        first = self._frozen.setdefault((frame.unit_id, frame.pdu), reply)
        return Frame(transaction_id=reply.transaction_id, unit_id=reply.unit_id, pdu=first.pdu)

    def _lies(self, exchange: Exchange, due: Sequence[Rule]) -> Sequence[Send]:
        honest = (Send(data=exchange.reply.encode()),)
        for rule in due:
            if rule.fault in REPLY_LIES:
                exchange.settings = rule.settings
                lie = tuple(REPLY_LIES[rule.fault](exchange, self._rng))
                if lie != honest and self._commit(rule):
                    return lie
        return honest

    def _commit(self, rule: Rule) -> bool:
        """Use up one of a rule's times and say so in the log."""
        if not rule.spend():
            return False
        self._note(rule.fault)
        return True

    async def _deliver(
        self, writer: asyncio.StreamWriter, sends: Sequence[Send], due: Sequence[Rule]
    ) -> None:
        link = {rule.fault: rule.settings for rule in due if rule.fault in LINK_FAULTS}
        pause_s = float(link.get("delay", {}).get("delay_s", 0.3)) if "delay" in link else 0.0
        if "jitter" in link:
            pause_s += self._rng.random() * float(link["jitter"].get("jitter_s", 0.3))
        if "late_reply" in link:
            pause_s += float(link["late_reply"].get("delay_s", 2.0))
        if pause_s > 0.0:
            await self._wait(pause_s)
        for send in sends:
            if "dribble" in link:
                gap_s = float(link["dribble"].get("gap_s", 0.05))
                await self._dribble(writer, send.data, gap_s)
            elif "split" in link:
                await self._dribble(writer, send.data, 0.0)
            else:
                writer.write(send.data)
                await writer.drain()
            if send.then_reset:
                writer.close()
        while "endless" in link:
            writer.write(ENDLESS_CHUNK)
            await writer.drain()
            await self._wait(0.001)

    async def _dribble(self, writer: asyncio.StreamWriter, data: bytes, gap_s: float) -> None:
        for byte in data:
            writer.write(bytes((byte,)))
            await writer.drain()
            await self._wait(gap_s)

    def _note(self, what: str) -> None:
        if len(self.log) < LOG_SIZE_MAX:
            self.log.append(what)


async def _read_frame(reader: asyncio.StreamReader) -> Frame:
    head = await reader.readexactly(7)
    transaction_id, _, length, unit_id = struct.unpack(">HHHB", head)
    pdu = await reader.readexactly(max(1, length - 1))
    return Frame(transaction_id=transaction_id, unit_id=unit_id, pdu=pdu)


def _acknowledgement(frame: Frame) -> Frame:
    """What a device would say if it had done the whole request."""
    pdu = frame.pdu[:5] if frame.pdu[0] in (15, 16) else frame.pdu
    return Frame(transaction_id=frame.transaction_id, unit_id=frame.unit_id, pdu=pdu)
