"""The broker inside the process carries trades in and answers out."""

import asyncio
import contextlib

import aiomqtt
import pytest

from gateway.market.embedded_broker import EmbeddedBroker
from gateway.market.mqtt import Broker, MarketLink

pytest.importorskip("amqtt")


async def test_trades_in_and_answers_out():
    broker = EmbeddedBroker()
    port = await broker.start()
    link = MarketLink(
        broker=Broker(host="127.0.0.1", port=port),
        identifier="sopgw-bench4-SOP-1",
        subscriptions=["p2p/v1/bench4/SOP-1/trades"],
        availability="sopgw/v1/bench4/SOP-1/availability",
    )
    async with asyncio.timeout(60):
        task = asyncio.create_task(link.run())
        await link.online.wait()
        async with aiomqtt.Client("127.0.0.1", port) as market:
            await market.subscribe("sopgw/v1/bench4/SOP-1/trade/+/acknowledgement", qos=1)
            await market.publish("p2p/v1/bench4/SOP-1/trades", b"trade", qos=1)
            inbound = await link.inbox.get()
            assert inbound.payload == b"trade"
            await link.acknowledge(inbound)
            await link.publish("sopgw/v1/bench4/SOP-1/trade/t/acknowledgement", b"answer")
            async for message in market.messages:
                assert message.payload == b"answer"
                break
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await broker.stop()
        await broker.stop()
    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_stored_trade_is_marked_as_such_when_the_gateway_comes():
    broker = EmbeddedBroker()
    port = await broker.start()
    async with aiomqtt.Client("127.0.0.1", port) as market:
        await market.publish("p2p/v1/bench4/SOP-1/trades", b"stored", qos=1, retain=True)
    link = MarketLink(
        broker=Broker(host="127.0.0.1", port=port),
        identifier="sopgw-bench4-SOP-1",
        subscriptions=["p2p/v1/bench4/SOP-1/trades"],
        availability="sopgw/v1/bench4/SOP-1/availability",
    )
    async with asyncio.timeout(60):
        task = asyncio.create_task(link.run())
        inbound = await link.inbox.get()
        assert (inbound.payload, inbound.retain) == (b"stored", True)
        await link.acknowledge(inbound)  # of QoS 0 as this broker sends it: nothing to say
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await broker.stop()
