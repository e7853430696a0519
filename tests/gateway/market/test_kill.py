"""SIGKILL of the consumer at any moment: every message the broker took is on disk in the end."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import aiomqtt

HERE = Path(__file__).parent
TOPIC = "p2p/v1/bench4/SOP-1/trades"
MESSAGES = 360
KILLS = 3  # a campaign: tests/bench/bench_market_kill.py


async def test_no_message_is_lost_at_kill_9_of_the_consumer(mosquitto, tmp_path):
    path = tmp_path / "received"
    path.touch()

    async def started():
        return await asyncio.create_subprocess_exec(
            sys.executable, HERE / "durable_consumer.py", str(mosquitto.port), str(path), TOPIC
        )

    async def grown(count):
        async with asyncio.timeout(60):
            while len(path.read_bytes().splitlines()) < count:
                await asyncio.sleep(0.002)

    consumer = await started()
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as market:
        await market.subscribe("sopgw/v1/bench4/SOP-1/availability", qos=1)
        async for message in market.messages:  # the session exists from here on
            if message.payload == b"online":
                break
        for kill in range(KILLS):
            before = len(path.read_bytes().splitlines())
            each = MESSAGES // KILLS
            batch = [b"%d" % (kill * each + i) for i in range(each)]
            sending = asyncio.create_task(publish(market, batch))
            await grown(before + each // 3)  # in the middle of the batch
            consumer.send_signal(signal.SIGKILL)
            await consumer.wait()
            await sending
            consumer = await started()
    wanted = {b"%d" % i for i in range(MESSAGES)}
    try:
        async with asyncio.timeout(60):
            while not wanted <= set(path.read_bytes().splitlines()):
                await asyncio.sleep(0.01)
    finally:
        consumer.kill()
        await consumer.wait()
    # What was written and not yet acknowledged came twice; that is the ledger's to recognise.
    assert set(path.read_bytes().splitlines()) == wanted


async def publish(market, batch):
    for payload in batch:
        await market.publish(TOPIC, payload, qos=1)
