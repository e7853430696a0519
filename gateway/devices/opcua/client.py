"""The gateway's side of the OPC UA child: starts it, watches it, asks it, replaces it.

An order that gets no answer in its time kills the child: what it was doing cannot be known, and a
decoder gone wild cannot be asked to stop. With a ``Spare`` the next one has started already.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.devices.modbus.client import BackOff
from gateway.devices.opcua import pipe
from gateway.devices.opcua.process import START_TIMEOUT_S, Child, Spare, spawn
from gateway.model.errors import ConfigError, DeviceNotSent, DeviceRefused, OutcomeUnknown
from gateway.model.telemetry import Quality

GRACE_S = 0.5  # the child's own time-out comes first where it is alive
STALE_US = 3_000_000
RETRY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Our certificate and key, the server's pinned certificate, and the trust folder."""

    certificate: Path
    key: Path
    pinned: Path
    trusted: Path
    policy: str = "Basic256Sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value with the server's quality and time; ``value`` is None unless it is usable."""

    node: str
    value: int | float | str | Mapping[str, Any] | None
    quality: Quality
    status: str
    source_utc_us: int | None


class OpcuaClient:
    """One server, through one child."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        trust: Trust,
        user: str = "",
        password: str = "",
        timeout_s: float = 1.0,
        back_off: BackOff | None = None,
        spare: Spare | None = None,
    ) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.namespaces: tuple[str, ...] = ()
        self.on_data: Callable[[str, Mapping[str, Any]], None] | None = None
        self._order = {
            "op": "connect",
            "url": url,
            "certificate": str(trust.certificate),
            "key": str(trust.key),
            "pinned": str(trust.pinned),
            "trusted": str(trust.trusted),
            "policy": trust.policy,
            "user": user,
            "password": password,
            "timeout_s": timeout_s,
        }
        self._timeout_s = timeout_s
        self._back_off = back_off or BackOff(pause_s_max=0.75)
        self._spare = spare
        self._child: Child | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next_id = 0
        self._connected = False
        self._off = ""  # why, once the trust files or the server's certificate are wrong
        self._failures_count = 0
        self._deaths_count = 0  # children that died since the last answer
        self._not_before_s = 0.0
        self._lock = asyncio.Lock()
        self._alive = asyncio.Event()  # set at every event of a subscription, and at its end
        self._reported: dict[str, dict[str, Any]] = {}

    async def read(
        self, nodes: Sequence[str], *, utc_us: Callable[[], int], stale_us: int = STALE_US
    ) -> list[Reading]:
        """Read a batch in one request; a bad value comes without a number, an old one uncertain.

        The age is judged when the answer is here: connecting may have come before it.
        """
        answer = await self._ask({"op": "read", "nodes": list(nodes)})
        now_us = utc_us()
        return [
            reading_of(node, found, now_utc_us=now_us, stale_us=stale_us)
            for node, found in zip(nodes, answer["values"], strict=True)
        ]

    async def write(self, node: str, value: int | float | str) -> None:
        """Write once, typed as the node is; OutcomeUnknown when no answer came."""
        await self._ask({"op": "write", "node": node, "value": value})

    async def call(
        self,
        owner: str,
        method: str,
        arguments: Sequence[tuple[str, Any]] = (),
        *,
        obstacle: Callable[[], str] = str,
    ) -> list[Any]:
        """Call a method once with typed arguments and return its outputs.

        ``obstacle`` is asked right before it leaves, for it may have waited: why not, if so.
        """
        order = {"op": "call", "object": owner, "method": method, "arguments": list(arguments)}
        outputs: list[Any] = (await self._ask(order, obstacle))["outputs"]
        return outputs

    async def subscribe(self, nodes: Sequence[str], *, publish_ms: int) -> None:
        """Have changes reported to ``on_data``; an earlier subscription is replaced."""
        order = {"op": "subscribe", "nodes": list(nodes), "publish_ms": publish_ms}
        await self._ask(order)
        self.counts["subscribed"] += 1

    async def watch(
        self,
        nodes: Sequence[str],
        *,
        publish_ms: int,
        silence_s: float,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        """Keep a subscription alive until cancelled; what is silent is stale, not constant.

        The server's own time rides along in each subscription, so that constant values are told
        from a dead subscription. After ``silence_s`` without a sign of life ``on_silence`` is
        called, and the nodes are subscribed anew, over a new connection where need be. Values
        that a server delivers again are not reported again. Raises ConfigError and DeviceRefused.
        """
        while True:
            try:
                await self.subscribe(nodes, publish_ms=publish_ms)
            except (DeviceNotSent, OutcomeUnknown):
                on_silence()
                await self._not_before()
                continue
            while await self._heard_within(silence_s):
                pass
            self.counts["silent"] += 1
            on_silence()

    async def _heard_within(self, silence_s: float) -> bool:
        """Wait for a sign of life; False after silence or when the child ended."""
        self._alive.clear()
        try:
            async with asyncio.timeout(silence_s):
                await self._alive.wait()
        except TimeoutError:
            return False
        return self._connected

    async def _not_before(self) -> None:
        """Wait until the next try is allowed, at least a moment."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        timer = loop.call_at(max(self._not_before_s, loop.time() + RETRY_S), done.set_result, None)
        try:
            await done
        finally:
            timer.cancel()

    async def close(self) -> None:
        """End the child, and the one behind it."""
        await self._end()
        if self._spare is not None:
            await self._spare.close()

    # The child

    async def _ask(
        self, order: dict[str, Any], obstacle: Callable[[], str] = str
    ) -> dict[str, Any]:
        async with self._lock:
            if not self._connected:
                await self._connect()
            if why := obstacle():
                raise DeviceNotSent(self.name, why)
            try:
                answer = await self._exchange(order, self._timeout_s + GRACE_S)
            except OutcomeUnknown:
                if not self._connected:
                    self._died()
                raise
            self._deaths_count = 0
            if self._spare is not None:  # when all is well: a loop of deaths needs no spares
                await self._spare.keep()
            return answer

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        if self._off:
            raise ConfigError(self._off)
        if loop.time() < self._not_before_s:
            raise DeviceNotSent(self.name, "waiting before the next try")
        try:
            await self._start()
            answer = await self._exchange(self._order, START_TIMEOUT_S)
        except (OutcomeUnknown, DeviceRefused) as error:
            self._failed(loop.time())
            raise DeviceNotSent(self.name, error.what) from None
        except DeviceNotSent:
            self._failed(loop.time())
            raise
        self.namespaces = tuple(answer["namespaces"])
        self._connected = True
        self._failures_count = 0
        self.counts["connected"] += 1

    def _failed(self, now_s: float) -> None:
        self._failures_count += 1
        self._not_before_s = now_s + self._back_off.pause_s(self._failures_count)

    def _died(self) -> None:
        """Replace the first at once; one that dies before its first answer has to wait."""
        self._deaths_count += 1
        if self._deaths_count > 1:
            pause_s = self._back_off.pause_s(self._deaths_count - 1)
            self._not_before_s = asyncio.get_running_loop().time() + pause_s

    async def _start(self) -> None:
        if self._hearing is not None and self._hearing.done():
            await self._end()  # it died while nobody asked
        if self._child is not None:
            return
        child = await self._spare.take() if self._spare is not None else None
        self.counts["started" if child is None else "spare_taken"] += 1
        self._child = child if child is not None else await spawn()
        self._hearing = asyncio.get_running_loop().create_task(self._hear(self._child.reader))

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                message = await pipe.receive(reader)
                if "event" in message:
                    self._heard(message)
                    continue
                waiting = self._waiting.pop(message["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
        except pipe.PipeBroken as error:
            self._connected = False
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(OutcomeUnknown(self.name, f"the child ended: {error}"))
            self._waiting.clear()
            self._alive.set()

    def _heard(self, message: dict[str, Any]) -> None:
        """Take an event; a value delivered again after a new subscription is not news."""
        self._alive.set()
        if message["event"] != "data" or self._reported.get(message["node"]) == message:
            return
        self._reported[message["node"]] = message
        if self.on_data is not None:
            self.on_data(message["node"], message)

    async def _exchange(self, order: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._child is not None
        self._next_id += 1
        number = self._next_id
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            self._child.writer.write(pipe.pack(order | {"id": number}))
            async with asyncio.timeout(timeout_s):
                answer: dict[str, Any] = await waiting
        except TimeoutError:
            self.counts["killed"] += 1
            await self._end()
            raise OutcomeUnknown(self.name, "no answer in time; the child was replaced") from None
        except OutcomeUnknown:
            self.counts["died"] += 1
            await self._end()
            raise
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            self._raise(answer)
        return answer

    def _raise(self, answer: Mapping[str, Any]) -> None:
        kind, what = answer["error"], str(answer["what"])
        self.counts[f"error_{kind}"] += 1
        if kind == "security":
            self._off = f"{self.name}: {what}; OPC UA stays off"
            raise ConfigError(self._off)
        if kind == "refused":
            raise DeviceRefused(self.name, what, int(answer["code"]))
        self._connected = False
        if kind == "not_sent":
            raise DeviceNotSent(self.name, what)
        raise OutcomeUnknown(self.name, what)

    async def _end(self) -> None:
        child, self._child = self._child, None
        self._connected = False
        if child is not None:
            await child.end()
        if self._hearing is not None:
            await self._hearing
            self._hearing = None


def reading_of(
    node: str, found: Mapping[str, Any], *, now_utc_us: int, stale_us: int = STALE_US
) -> Reading:
    """Give a value its quality: Good and fresh, or not a number at all."""
    status, stamp = str(found["status"]), found["source_utc_us"]
    quality = Quality.GOOD
    if not status.startswith("Good") or found["value"] is None:
        quality = Quality.UNCERTAIN if status.startswith("Uncertain") else Quality.BAD
    elif stamp is not None and abs(now_utc_us - stamp) > stale_us:
        quality = Quality.UNCERTAIN
    usable = quality is not Quality.BAD
    return Reading(
        node=node,
        value=found["value"] if usable else None,
        quality=quality,
        status=status,
        source_utc_us=stamp,
    )
