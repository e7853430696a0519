"""Hears for a moment what is said on a broker; publishes nothing and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import aiomqtt

from gateway.market.mqtt import Broker
from gateway.model.errors import DeviceNotSent

TOPICS_COUNT_MAX = 1000


@dataclass(slots=True, kw_only=True)
class Heard:
    """One topic: how many messages, whether one was stored, how large the last one was."""

    topic: str
    count: int = 0
    retained: bool = False
    size: int = 0


async def hear(broker: Broker, topic: str, *, listen_s: float) -> list[Heard]:
    """Listen and return the topics in alphabetical order; DeviceNotSent without a broker.

    The session is clean and QoS 0, so that the broker keeps nothing for us and no message that
    somebody else waits for is taken away.
    """
    found: dict[str, Heard] = {}
    try:
        async with aiomqtt.Client(
            broker.host, broker.port, username=broker.username, password=broker.password,
            tls_context=broker.tls, clean_session=True, timeout=5,
        ) as client:  # fmt: skip
            await client.subscribe(topic, qos=0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(listen_s):
                    async for message in client.messages:
                        _note(found, message)
    except aiomqtt.MqttError as error:
        raise DeviceNotSent(f"{broker.host}:{broker.port}", str(error)) from None
    return sorted(found.values(), key=lambda heard: heard.topic)


def _note(found: dict[str, Heard], message: aiomqtt.Message) -> None:
    name = str(message.topic)
    if name not in found and len(found) >= TOPICS_COUNT_MAX:
        return
    heard = found.setdefault(name, Heard(topic=name))
    heard.count += 1
    heard.retained |= bool(message.retain)
    heard.size = len(message.payload)
