"""Publishes the site's values to a broker of the owner's choice; hears nothing but a rebirth.

Apart from the market's link: another broker, other rights, and a flood there must not delay a
trade. What cannot be sent is dropped, the newest values count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aiomqtt

from gateway.hmi.state import SiteView
from gateway.market.mqtt import Broker, finished, raise_if_cancelled
from gateway.northbound import home_assistant
from gateway.northbound.sparkplug import Message, SparkplugNode
from gateway.northbound.values import Content, Sureness, values_of

log = logging.getLogger(__name__)

BACKOFF_S_MIN, BACKOFF_S_MAX = 0.5, 60.0
REQUEST_TIMEOUT_S = 10.0
KEEPALIVE_S = 15
REBIRTH_S_MIN = 2.0  # a birth is every name and value: a host that asks more often has to wait


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttPublishing:
    """What to publish where; ``sparkplug`` is (group, node)."""

    broker: Broker
    home_assistant: bool = False
    sparkplug: tuple[str, str] | None = None


class MqttPublisher:
    """One or two sessions with the broker; ``run`` it in a task group until cancelled."""

    def __init__(
        self,
        publishing: MqttPublishing,
        views: Callable[[], SiteView],
        *,
        period_s: float = 1.0,
    ) -> None:
        """Publish ``views`` once a period; nothing is connected before ``run``."""
        self._publishing, self._views, self._period_s = publishing, views, period_s
        view = views()
        self._out = f"sopgw/v1/{view.site}/{view.sop}/values"
        self._site, self._sop, self._version = view.site, view.sop, view.version
        self.sessions_count = 0

    async def run(self) -> None:
        """Keep the sessions up until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self._plain))
            if self._publishing.sparkplug is not None:
                names = self._publishing.sparkplug
                node = SparkplugNode(group=names[0], node=names[1], device=self._sop)
                group.create_task(self._again(lambda: self._sparkplug(node)))

    async def _again(self, session: Callable[[], Coroutine[Any, Any, None]]) -> None:
        delay_s = BACKOFF_S_MIN
        while True:
            before = self.sessions_count
            try:
                await finished(session())
            except* (aiomqtt.MqttError, OSError) as errors:
                log.warning("northbound broker lost: %s", errors.exceptions[0])
            delay_s = BACKOFF_S_MIN if self.sessions_count > before else delay_s * 2
            await _pause(min(delay_s, BACKOFF_S_MAX))

    async def _plain(self) -> None:
        """Values as JSON, availability as the will, and Home Assistant's document."""
        availability = f"{self._out}/availability"
        will = aiomqtt.Will(availability, b"offline", qos=1, retain=True)
        async with self._client(f"sopgw-{self._site}-{self._sop}-values", will) as client:
            self.sessions_count += 1
            try:
                await client.publish(availability, b"online", qos=1, retain=True)
                if self._publishing.home_assistant:
                    await client.publish(*self._discovery(availability), qos=1, retain=True)
                told = b""
                while True:
                    raise_if_cancelled()
                    body = as_json(self._views())
                    if body != told:
                        await client.publish(self._out, body, qos=1, retain=True)
                        told = body
                    await _pause(self._period_s)
            finally:
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.publish(availability, b"offline", qos=1, retain=True, timeout=1.0)

    def _discovery(self, availability: str) -> tuple[str, bytes]:
        topic = home_assistant.discovery_topic(site=self._site, sop=self._sop)
        body = home_assistant.discovery(
            values_of(self._views()),
            site=self._site,
            sop=self._sop,
            version=self._version,
            state_topic=self._out,
            availability_topic=availability,
        )
        return topic, body

    async def _sparkplug(self, node: SparkplugNode) -> None:
        """Birth, data by exception, and the death that the broker publishes for us."""
        death = node.death(utc_ms=self._views().utc_us // 1000)
        will = aiomqtt.Will(death.topic, death.payload, qos=death.qos_level, retain=False)
        async with self._client(f"sopgw-{self._site}-{self._sop}-spb", will) as client:
            self.sessions_count += 1
            await client.subscribe(node.commands, qos=1)
            raise_if_cancelled()
            async with asyncio.TaskGroup() as group:
                reborn = asyncio.Event()
                reborn.set()  # the first words are a birth
                group.create_task(self._hear(client, node, reborn))
                group.create_task(self._tell(client, node, reborn, death))

    async def _tell(
        self, client: aiomqtt.Client, node: SparkplugNode, reborn: asyncio.Event, death: Message
    ) -> None:
        try:
            now_s, born_s = asyncio.get_running_loop().time, -math.inf
            while True:
                view = self._views()
                values, utc_ms = values_of(view), view.utc_us // 1000
                say = node.data
                if reborn.is_set() and now_s() - born_s >= max(REBIRTH_S_MIN, self._period_s):
                    say, born_s = node.birth, now_s()
                    reborn.clear()
                told = say(values, utc_ms=utc_ms)
                for message in told:
                    await client.publish(message.topic, message.payload, qos=message.qos_level)
                    raise_if_cancelled()
                await _pause(self._period_s)
        finally:
            # A node that leaves on purpose says so itself: the broker keeps its will back.
            with contextlib.suppress(aiomqtt.MqttError):
                await client.publish(death.topic, death.payload, qos=1, timeout=1.0)

    async def _hear(
        self, client: aiomqtt.Client, node: SparkplugNode, reborn: asyncio.Event
    ) -> None:
        async for message in client.messages:
            if node.rebirth_wanted(bytes(message.payload), retained=message.retain):
                reborn.set()

    def _client(self, identifier: str, will: aiomqtt.Will) -> aiomqtt.Client:
        broker = self._publishing.broker
        return aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=identifier,
            clean_session=True,
            protocol=aiomqtt.ProtocolVersion.V311,
            will=will,
            timeout=REQUEST_TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            tls_context=broker.next_tls(),
            max_queued_incoming_messages=16,
        )


def as_json(view: SiteView) -> bytes:
    """Write the values by name; what nobody knows is null, what is old is named under ``stale``."""
    values = values_of(view)
    body: dict[str, Content | list[str]] = {
        v.name: None if v.sureness is Sureness.NONE else v.content for v in values
    }
    body["stale"] = [v.name for v in values if v.sureness is Sureness.STALE]
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


async def _pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
