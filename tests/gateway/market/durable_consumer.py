"""A gateway in miniature for the kill test: write each message durably, then acknowledge it."""

from __future__ import annotations

import asyncio
import os
import sys

from gateway.market.mqtt import Broker, MarketLink


async def consume(port: int, path: str, topic: str) -> None:
    """Append every message as a line, sync, acknowledge; until killed."""
    link = MarketLink(
        broker=Broker(host="127.0.0.1", port=port),
        identifier="durable-consumer",
        subscriptions=[topic],
        availability="sopgw/v1/bench4/SOP-1/availability",
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with asyncio.TaskGroup() as group:
        group.create_task(link.run())
        while True:
            inbound = await link.inbox.get()
            os.write(descriptor, inbound.payload + b"\n")
            os.fdatasync(descriptor)
            await link.acknowledge(inbound)


if __name__ == "__main__":
    asyncio.run(consume(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
