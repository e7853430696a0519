"""Hearing what is said on a broker: topics and stored messages, and nothing of ours is left."""

import asyncio

import aiomqtt
import pytest

from gateway.market.embedded_broker import EmbeddedBroker
from gateway.market.listening import hear
from gateway.market.mqtt import broker_from
from gateway.model.errors import DeviceNotSent


async def test_topics_are_counted_and_stored_messages_known():
    broker = EmbeddedBroker()
    port = await broker.start()
    try:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.publish("a/stored", b"12345", qos=1, retain=True)
            listening = asyncio.create_task(
                hear(broker_from(f"mqtt://127.0.0.1:{port}"), "a/#", listen_s=3)
            )
            while not listening.done():
                await client.publish("a/live", b"1", qos=0)
                await client.publish("b/other", b"1", qos=0)
                await asyncio.sleep(0.1)
            live, stored = listening.result()
    finally:
        await broker.stop()
    assert (live.topic, live.size, live.retained) == ("a/live", 1, False)
    assert live.count > 1
    assert (stored.topic, stored.count, stored.size) == ("a/stored", 1, 5)


async def test_without_a_broker_there_is_nothing_to_hear(unused_tcp_port):
    with pytest.raises(DeviceNotSent):
        await hear(broker_from(f"mqtt://127.0.0.1:{unused_tcp_port}"), "#", listen_s=1)
