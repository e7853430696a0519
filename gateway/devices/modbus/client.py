"""A line to one endpoint: connects when asked to, backs off, hands requests to its link.

Units that share an endpoint share the line; each backs off by itself, so that a mute unit costs
its neighbours one time-out now and then and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.devices.modbus.frame import Refusal, Request, WrongAnswer
from gateway.devices.modbus.link import Framing, Link, NotSent, Unanswered
from gateway.model.errors import BadAnswer, DeviceNotSent, DeviceRefused, OutcomeUnknown

READ_RETRY_COUNT_MAX = 2  # a read changes nothing; a write is never repeated
BUSY_CODE = 6
BUSY_PAUSE_S = 0.2
ACKNOWLEDGE_CODE = 5  # accepted and still at work: not known to be done
TARGET_MUTE_CODE = 11  # the unit behind a gateway gave no answer
LIES_A_MINUTE_MAX = 5
QUARANTINE_S = 10.0

Opener = Callable[[Callable[[], Link]], Awaitable[Link]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Pause after a failure: ``first_s``, then ``factor`` times as much up to ``pause_s_max``."""

    first_s: float = 0.2
    factor: float = 2.0
    pause_s_max: float = 0.75  # so that a poll each second finds a device that came back
    jitter_ratio: float = 0.2

    def pause_s(self, failures_count: int) -> float:
        """How long to stay away after that many failures in a row."""
        pause_s = min(self.pause_s_max, self.first_s * self.factor ** min(failures_count - 1, 16))
        spread = int.from_bytes(os.urandom(2)) / 32767.5 - 1.0
        return pause_s * (1.0 + self.jitter_ratio * spread)


ALONE = BackOff()
SHARED = BackOff(pause_s_max=5.0)
NEIGHBOURS_FACTOR = 20  # a mute unit takes a twentieth of a serial line's time, not more


class ModbusClient:
    """One endpoint and its one connection."""

    def __init__(
        self,
        *,
        where: str,
        opener: Opener,
        framing: Callable[[], Framing],
        connect_timeout_s: float = 1.0,
        connect_delay_s: float = 0.0,
        drain_s: float = 0.0,
        silence_s: float = 0.0,
        back_off: BackOff = ALONE,
    ) -> None:
        self.where = where
        self.counts: Counter[str] = Counter()
        self.unit_count = 0
        self._opener = opener
        self._framing = framing
        self._connect_timeout_s = connect_timeout_s
        self._connect_delay_s = connect_delay_s
        self.drain_s = drain_s
        self.silence_s = silence_s
        self._back_off = back_off
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._failures_count = 0
        self._not_before_s = 0.0
        self._drained_s = 0.0
        self._closed = False

    @property
    def open_link(self) -> Link | None:
        """The connection while it is open; asking for it costs no turn of a coroutine."""
        link = self._link
        return link if link is not None and not link.closed else None

    async def link(self) -> Link:
        """The open connection, made now if there is none; NotSent while it cannot be."""
        link = self.open_link
        if link is not None:
            return link
        async with self._connecting:
            if self._link is not None and not self._link.closed:
                return self._link
            if self._closed:
                raise NotSent("closed")
            loop = asyncio.get_running_loop()
            if loop.time() < self._not_before_s:
                raise NotSent(f"{self.where}: waiting before the next try")
            rest_until_s = max(loop.time() + self._connect_delay_s, self._drained_s)
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    self._link = await self._opener(
                        lambda: Link(
                            self._framing(),
                            counts=self.counts,
                            on_end=self._ended,
                            rest_until_s=rest_until_s,
                            drain_s=self.drain_s,
                        )
                    )
            except (OSError, TimeoutError) as error:
                self.counts["connect_failed"] += 1
                self._failed(loop.time())
                why = str(error) or "no connection in time"
                raise NotSent(f"{self.where}: {why}") from None
            self.counts["connected"] += 1
            self._failures_count = 0
            return self._link

    def _failed(self, now_s: float) -> None:
        self._failures_count += 1
        self._not_before_s = now_s + self._back_off.pause_s(self._failures_count)

    def _ended(self) -> None:
        # The next connection may be tried at once: whether a unit is mute is the unit's matter,
        # and its neighbours must not wait for it.
        # Serial lines carry no transaction id: stay silent until nothing old can come any more.
        self._drained_s = asyncio.get_running_loop().time() + self.drain_s
        self.counts["ended"] += 1

    async def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        if self._link is not None:
            await self._link.close()


class ModbusUnit:
    """One device behind a line, by its unit id; turns outcomes into the gateway's errors."""

    def __init__(
        self,
        client: ModbusClient,
        *,
        name: str,
        timeout_s: float = 0.5,
        pause_s: float = 0.0,
        read_retry_count_max: int = READ_RETRY_COUNT_MAX,
    ) -> None:
        self.name = name
        self.client = client
        client.unit_count += 1
        self.counts: Counter[str] = Counter()
        self.timeout_s = timeout_s
        self._pause_s = max(pause_s, client.silence_s)
        self._read_retry_count_max = read_retry_count_max
        self._failures_count = 0
        self._not_before_s = 0.0
        self._quarantine_end_s = 0.0
        self._lies: deque[float] = deque(maxlen=LIES_A_MINUTE_MAX)

    async def read(self, request: Request) -> bytes:
        """Ask, at most three times while the device was well, and return the data."""
        for retries_left in range(self._read_retry_count_max, -1, -1):
            try:
                return await self._ask(request)
            except DeviceRefused as refused:
                if refused.code != BUSY_CODE or not retries_left:
                    raise
                await self._rest(BUSY_PAUSE_S)
            except (OutcomeUnknown, BadAnswer):
                # After the first failure in a row only one try a poll: others need the line.
                if not retries_left or self._failures_count > self._read_retry_count_max:
                    raise
                self._not_before_s = self._quarantine_end_s
                await self._rest(0.0)  # what waited for the line goes first
        raise AssertionError("unreachable: the last try returns or raises")

    async def write(self, request: Request) -> None:
        """Ask once. DeviceNotSent: nothing happened. OutcomeUnknown or BadAnswer: read back."""
        assert request.is_write
        try:
            await self._ask(request)
        except DeviceRefused as refused:
            if refused.code in (ACKNOWLEDGE_CODE, TARGET_MUTE_CODE):
                raise OutcomeUnknown(self.name, refused.what) from None
            raise

    async def _ask(self, request: Request) -> bytes:
        loop = asyncio.get_running_loop()
        not_before_s = max(self._not_before_s, self._quarantine_end_s)
        if not_before_s and loop.time() < not_before_s:
            self.counts["not_sent"] += 1
            raise DeviceNotSent(self.name, "no answer lately; waiting before the next try")
        counts = self.counts
        try:
            link = self.client.open_link
            if link is None:
                link = await self.client.link()
            try:
                answer = await link.ask(request, timeout_s=self.timeout_s, pause_s=self._pause_s)
            except NotSent as ended:
                answer = await self._ask_anew(request, ended)
        except NotSent as error:
            counts["not_sent"] += 1
            raise DeviceNotSent(self.name, str(error)) from None
        except Unanswered as error:
            counts["unanswered"] += 1
            self._failed(loop.time())
            raise OutcomeUnknown(self.name, str(error)) from None
        except WrongAnswer as lie:
            counts[f"lie_{lie.kind}"] += 1
            self._lied(loop.time())
            raise BadAnswer(self.name, str(lie)) from None
        except Refusal as refusal:
            counts[f"exception_{refusal.code}"] += 1
            if refusal.code == TARGET_MUTE_CODE:
                self._failed(loop.time())
            else:
                self._well()
            raise DeviceRefused(self.name, str(refusal), refusal.code) from None
        counts["answers"] += 1
        if self._failures_count:
            self._well()
        return answer

    async def _ask_anew(self, request: Request, ended: NotSent) -> bytes:
        """What waited when the line ended never left: it goes over the next one.

        A line mostly ends for a neighbour's silence, once for each neighbour at worst. Where it was
        this very device that was silent, ``ended`` is the answer.
        """
        loop = asyncio.get_running_loop()
        for _ in range(self.client.unit_count):
            if loop.time() < self._not_before_s:
                break
            self.counts["asked_anew"] += 1
            link = await self.client.link()
            try:
                return await link.ask(request, timeout_s=self.timeout_s, pause_s=self._pause_s)
            except NotSent as error:
                ended = error
        raise ended

    def _well(self) -> None:
        self._failures_count = 0
        self._not_before_s = 0.0

    def _failed(self, now_s: float) -> None:
        self._failures_count += 1
        alone = self.client.unit_count <= 1
        pause_s = (ALONE if alone else SHARED).pause_s(self._failures_count)
        if not alone and self.client.drain_s and self._failures_count > self._read_retry_count_max:
            # Each try costs its neighbours the time-out and the silence after it.
            pause_s = max(pause_s, NEIGHBOURS_FACTOR * (self.timeout_s + self.client.drain_s))
        self._not_before_s = now_s + pause_s

    def _lied(self, now_s: float) -> None:
        self._lies.append(now_s)
        self._failed(now_s)
        if len(self._lies) == LIES_A_MINUTE_MAX and now_s - self._lies[0] < 60.0:
            self._quarantine_end_s = now_s + QUARANTINE_S
            self.counts["quarantined"] += 1

    async def _rest(self, pause_s: float) -> None:
        done = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(pause_s, done.set_result, None)
        try:
            await done
        finally:
            timer.cancel()


def tcp_opener(host: str, port: int) -> Opener:
    """Connect over TCP so that an aborted connection leaves nothing behind on the way."""

    async def open_link(factory: Callable[[], Link]) -> Link:
        loop = asyncio.get_running_loop()
        transport, link = await loop.create_connection(factory, host, port)
        sock: socket.socket = transport.get_extra_info("socket")
        harden(sock)
        return link

    return open_link


def harden(sock: socket.socket) -> None:
    """Send at once, notice a dead path, and discard unsent bytes on abort."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
