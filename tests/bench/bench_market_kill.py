"""Trades lost and trades repeated when the gateway's process is killed with SIGKILL, again and again.

A real mosquitto, one publisher with QoS 1, one consumer that appends every message to a file and
syncs it. Two consumers: ours, which acknowledges after the sync, and one with the client library's
own acknowledgement on receipt.

Run: python tests/bench/bench_market_kill.py [messages] [kills]
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import aiomqtt

from gateway.market.mqtt import Broker, MarketLink

TOPIC = "p2p/v1/bench4/SOP-1/trades"
AVAILABILITY = "sopgw/v1/bench4/SOP-1/availability"


class Early(MarketLink):
    """The control: acknowledged on receipt, by the library, into a queue without a limit."""

    def _new_client(self):
        client = super()._new_client()
        client._client.manual_ack_set(on=False)
        client._queue._maxsize = 0
        return client


async def consume(kind, port, path):
    """Write every message, sync, acknowledge; until killed."""
    link = (MarketLink if kind == "late" else Early)(
        broker=Broker(host="127.0.0.1", port=port), identifier=f"consumer-{kind}",
        subscriptions=[TOPIC], availability=AVAILABILITY, taken_per_s=1e9,
    )  # fmt: skip
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with asyncio.TaskGroup() as group:
        group.create_task(link.run())
        while True:
            inbound = await link.inbox.get()
            os.write(descriptor, inbound.payload + b"\n")
            os.fdatasync(descriptor)
            await link.acknowledge(inbound)


async def campaign(kind, port, path, messages, kills):
    """Publish, kill, restart; return what was lost and what came twice."""
    rng = random.Random(7)
    path.touch()

    async def started():
        return await asyncio.create_subprocess_exec(
            sys.executable, __file__, "consume", kind, str(port), str(path)
        )

    consumer = await started()
    async with aiomqtt.Client("127.0.0.1", port) as market:
        await market.subscribe(AVAILABILITY, qos=1)
        async for message in market.messages:
            if message.payload == b"online":
                break

        async def publish():
            for i in range(messages):
                await market.publish(TOPIC, b"%d" % i, qos=1)

        sending = asyncio.create_task(publish())
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(0.4, 1.2))
            consumer.send_signal(signal.SIGKILL)
            await consumer.wait()
            consumer = await started()
        await sending
    quiet, size = 0, -1
    while quiet < 10 and len(set(path.read_bytes().splitlines())) < messages:
        quiet = quiet + 1 if size == path.stat().st_size else 0
        size = path.stat().st_size
        await asyncio.sleep(1)
    consumer.kill()
    await consumer.wait()
    lines = path.read_bytes().splitlines()
    return messages - len(set(lines)), len(lines) - len(set(lines))


async def main(messages, kills):
    """Run both consumers against brokers of their own."""
    print("| acknowledged | messages | kills | lost | came twice |\n|---|---|---|---|---|")
    for kind, words in (("late", "after the sync"), ("early", "on receipt")):
        with tempfile.TemporaryDirectory() as folder, socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
            s.close()
            config = Path(folder) / "mosquitto.conf"
            config.write_text(
                f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n"
                "max_queued_messages 0\n"
            )
            broker = await asyncio.create_subprocess_exec("mosquitto", "-c", str(config))
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.02)
            try:
                lost, twice = await campaign(kind, port, Path(folder) / "got", messages, kills)
            finally:
                broker.terminate()
                await broker.wait()
            print(f"| {words} | {messages} | {kills} | {lost} | {twice} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["consume"]:
        asyncio.run(consume(sys.argv[2], int(sys.argv[3]), sys.argv[4]))
    else:
        counts = [int(a) for a in sys.argv[1:]]
        asyncio.run(main(*(counts + [8_000, 20][len(counts) :])))
