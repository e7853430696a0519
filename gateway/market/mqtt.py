"""The link to the market's broker: thin, at least once in both directions, never ahead of the disk.

Messages are acknowledged to the broker only when the caller says so, after their entry is
durable; the client library would do it on receipt and lose trades at a crash. A broker's own
acknowledgement proves nothing about the market having read something: that is what the signed
answers are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
from typing_extensions import override

from gateway.market.papers import Papers
from gateway.model.errors import ContractError
from gateway.model.message import Inbound

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"
INBOX_MAX = 64  # mosquitto stops at 20 unacknowledged; the rest is room for QoS 0
BEHIND_INBOX_MAX = 1024  # held by the client library while the inbox is full, unacknowledged
OUTBOX_MAX = 10_000  # a day of answers and reports while the broker is away
SENDING_MAX = 16  # messages under way at once: hides the round trip, keeps the order
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.25, 30.0
STEADY_S = 10.0  # a session that lasted this long ended for a new cause
DRAIN_CHECK_S = 0.05
REQUEST_TIMEOUT_S = 10.0
TAKEN_PER_S_MAX = 100.0  # far above any market; 3 % of a core, 15 % if all were hostile
TAKEN_AT_ONCE_MAX = 200  # a day-ahead clearing may come in one go
KEEPALIVE_S = 15
QOS = 1
_SUBSCRIBE_FAILED = 0x80  # SUBACK return code


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker is and who we are there."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: str | None = None
    papers: Papers | None = None

    def next_tls(self) -> ssl.SSLContext | None:
        """Return the context of the next connection, with certificates renewed in place."""
        return self.papers.renewed(self.tls) if self.papers is not None else self.tls


def broker_from(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    ca_file: Path | None = None,
    certificate: Path | None = None,
    key_file: Path | None = None,
) -> Broker:
    """Return the broker of ``mqtt://host[:port]`` or ``mqtts://host[:port]``.

    With ``ca_file`` only certificates signed by one of its authorities are believed, without it
    those of the system. ``certificate`` and ``key_file`` are ours, for a broker that asks.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise ContractError(f"{url!r} is not mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    secure = parts.scheme == "mqtts"
    papers = Papers(ca_file=ca_file, certificate=certificate, key_file=key_file) if secure else None
    return Broker(
        host=parts.hostname,
        port=parts.port or (8883 if secure else 1883),
        tls=papers.context() if papers is not None else None,
        username=username,
        password=password,
        papers=papers,
    )


@dataclass(frozen=True, slots=True)
class _Outgoing:
    topic: str
    payload: bytes
    retain: bool


class Pace:
    """A bucket of ``at_once`` tokens that fills with ``per_s``; pure but for its own count."""

    def __init__(self, *, per_s: float, at_once: int) -> None:
        self._per_s = per_s
        self._at_once = float(at_once)
        self._tokens = float(at_once)
        self._seen_s: float | None = None

    def take(self, now_s: float) -> float:
        """Take one token at a monotonic instant; return how long to wait before using it."""
        elapsed_s = 0.0 if self._seen_s is None else max(0.0, now_s - self._seen_s)
        self._seen_s = now_s
        self._tokens = min(self._at_once, self._tokens + elapsed_s * self._per_s) - 1
        return max(0.0, -self._tokens / self._per_s)


class _Behind(asyncio.Queue[aiomqtt.Message]):
    """The client library's queue; says when it had to turn away what the broker must resend."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self.overflowed = asyncio.Event()

    @override
    def put_nowait(self, item: aiomqtt.Message) -> None:
        if self.full() and item.qos > 0:
            self.overflowed.set()
        super().put_nowait(item)


class MarketLink:
    """One persistent session with the broker; ``run`` it in a task group until cancelled."""

    def __init__(
        self,
        *,
        broker: Broker,
        identifier: str,
        subscriptions: Sequence[str],
        availability: str,
        taken_per_s: float = TAKEN_PER_S_MAX,
    ) -> None:
        """Prepare the link; nothing is sent before ``run``.

        Args:
            broker: where to connect.
            identifier: name of the session; the same after every restart, or what waits is lost.
            subscriptions: topics to hear.
            availability: topic that says whether we are there, also as our last will.
            taken_per_s: pace beyond a first burst; what comes faster waits at the broker.
        """
        self.inbox: asyncio.Queue[Inbound] = asyncio.Queue(maxsize=INBOX_MAX)
        self.online = asyncio.Event()
        self.dropped_count = 0
        self.connection_seq = 0
        self._broker = broker
        self._identifier = identifier
        self._subscriptions = [(topic, QOS) for topic in subscriptions]
        self._availability = availability
        self._pace = Pace(per_s=taken_per_s, at_once=TAKEN_AT_ONCE_MAX)
        self._client: aiomqtt.Client | None = None
        self._numbers = itertools.count()
        self._outbox: dict[int, _Outgoing] = {}
        self._waiting_retained: dict[str, int] = {}  # topic -> place of a value not yet under way
        self._something = asyncio.Event()
        self._nothing = asyncio.Event()
        self._nothing.set()

    async def run(self) -> None:
        """Keep the session up until cancelled; then say goodbye."""
        delay_s = BACKOFF_S_MIN
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                await finished(self._session())
            except* (aiomqtt.MqttError, OSError) as errors:
                log.warning("broker lost: %s", "; ".join(str(e) for e in _leaves(errors)))
            # A session that ended at once may have been taken by a namesake: back off as well.
            delay_s = BACKOFF_S_MIN if loop.time() - began_s > STEADY_S else delay_s
            await self._pause(delay_s)
            delay_s = min(delay_s * 2, BACKOFF_S_MAX)

    async def acknowledge(self, inbound: Inbound) -> None:
        """Tell the broker that a message is ours now; call it only after its entry is durable.

        Of a message from an earlier connection nothing is said: the broker sends it again, and
        the repetition is acknowledged then.
        """
        client = self._client
        if (
            client is None
            or inbound.qos_level == 0
            or inbound.connection_seq != self.connection_seq
        ):
            return
        client._client.ack(inbound.mid_number, inbound.qos_level)  # noqa: SLF001 - no public way

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Queue one message; it is sent again after a reconnect until the broker has it.

        A retained value that still waits is replaced by the newer one. When the queue is full
        the oldest message gives way and ``dropped_count`` grows: the ledger has what it said.
        """
        if retain and (place := self._waiting_retained.get(topic)) is not None:
            self._outbox[place] = _Outgoing(topic, payload, retain)
            return
        if len(self._outbox) >= OUTBOX_MAX:
            oldest = next(iter(self._outbox))
            gone = self._outbox.pop(oldest)
            if self._waiting_retained.get(gone.topic) == oldest:
                del self._waiting_retained[gone.topic]
            self.dropped_count += 1
            log.warning("outbox full, dropped topic=%s", gone.topic)
        number = next(self._numbers)
        self._outbox[number] = _Outgoing(topic, payload, retain)
        if retain:
            self._waiting_retained[topic] = number
        self._nothing.clear()
        self._something.set()

    @property
    def outbox_size(self) -> int:
        """Number of messages the broker does not have yet."""
        return len(self._outbox)

    async def flushed(self) -> None:
        """Return once the broker has everything that was published."""
        await self._nothing.wait()

    async def _session(self) -> None:
        client = self._new_client()
        with _retrieved(client):
            async with client:
                self.connection_seq += 1
                self._client = client
                try:
                    await self._greet(client)
                    raise_if_cancelled()
                    self.online.set()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._receive(client))
                        group.create_task(self._resend_after_overflow(client))
                        group.create_task(self._send(client))
                except asyncio.CancelledError:
                    await self._say_goodbye(client)
                    raise
                finally:
                    self.online.clear()
                    self._client = None

    def _new_client(self) -> aiomqtt.Client:
        # A new client a connection: the library would otherwise repeat messages on its own.
        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.username,
            password=self._broker.password,
            identifier=self._identifier,
            clean_session=False,
            protocol=aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(self._availability, OFFLINE, qos=QOS, retain=True),
            timeout=REQUEST_TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            queue_type=_Behind,
            max_queued_incoming_messages=BEHIND_INBOX_MAX,
            tls_context=self._broker.next_tls(),
        )
        client.pending_calls_threshold = 2 * SENDING_MAX
        # Before connecting, so that no message of a waiting session slips through acknowledged.
        client._client.manual_ack_set(on=True)  # noqa: SLF001 - aiomqtt has no public way
        return client

    async def _greet(self, client: aiomqtt.Client) -> None:
        if self._subscriptions:
            codes = await client.subscribe(self._subscriptions)
            for (topic, _), code in zip(self._subscriptions, codes, strict=True):
                if isinstance(code, int) and code >= _SUBSCRIBE_FAILED:
                    raise aiomqtt.MqttError(f"the broker refuses a subscription to {topic}")
        await client.publish(self._availability, ONLINE, qos=QOS, retain=True)

    async def _say_goodbye(self, client: aiomqtt.Client) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            await client.publish(self._availability, OFFLINE, qos=QOS, retain=True, timeout=1.0)

    async def _receive(self, client: aiomqtt.Client) -> None:
        loop = asyncio.get_running_loop()
        async for message in client.messages:
            wait_s = self._pace.take(loop.time())
            if wait_s > 0:
                await self._pause(wait_s)
            await self.inbox.put(
                Inbound(
                    topic=str(message.topic),
                    payload=bytes(message.payload),
                    retain=message.retain,
                    qos_level=message.qos,
                    connection_seq=self.connection_seq,
                    mid_number=message.mid,
                )
            )

    async def _resend_after_overflow(self, client: aiomqtt.Client) -> None:
        """End the session when a message was turned away: the broker sends it in the next one.

        Happens only with a broker that does not wait for acknowledgements. What did find room is
        worked off first, or there would be no progress from session to session.
        """
        queue = client._queue  # noqa: SLF001 - the one we gave it the type of
        assert isinstance(queue, _Behind)
        await queue.overflowed.wait()
        while not (queue.empty() and self.inbox.empty()):
            await self._pause(DRAIN_CHECK_S)
        raise aiomqtt.MqttError("more unacknowledged messages than there is room for")

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            await self._something.wait()
            batch = list(itertools.islice(self._outbox.items(), SENDING_MAX))
            for number, message in batch:
                if self._waiting_retained.get(message.topic) == number:
                    del self._waiting_retained[message.topic]
            async with asyncio.TaskGroup() as group:
                for _, message in batch:
                    group.create_task(self._send_one(client, message))
            for number, _ in batch:
                self._outbox.pop(number, None)
            if not self._outbox:
                self._something.clear()
                self._nothing.set()

    async def _send_one(self, client: aiomqtt.Client, message: _Outgoing) -> None:
        await client.publish(message.topic, message.payload, qos=QOS, retain=message.retain)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()


def raise_if_cancelled() -> None:
    """End a task whose cancellation was swallowed.

    ``asyncio.wait_for`` of Python 3.11, which the client library waits with, does so when the
    broker's answer comes in the same turn of the loop: the session would then go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextlib.contextmanager
def _retrieved(client: aiomqtt.Client) -> Iterator[None]:
    """Look at how the connection ended, or the loop reports it as never looked at."""
    try:
        yield
    finally:
        ended = client._disconnected  # noqa: SLF001
        if ended.done() and not ended.cancelled():
            ended.exception()


async def finished(session: Coroutine[Any, Any, None]) -> None:
    """Run a session to its end; our own cancellation gets through however the session ends.

    A connection that breaks while it is being closed raises its own error in the place of the
    cancellation, and whoever asked the task to end would wait for ever.
    """
    task = asyncio.ensure_future(session)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise
    task.result()


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
