"""``sopgw scan mqtt``: what is said on a broker; nothing is published and nothing is kept."""

import asyncio
import contextlib

import aiomqtt

from gateway.market.embedded_broker import EmbeddedBroker


@contextlib.asynccontextmanager
async def broker():
    embedded = EmbeddedBroker()
    port = await embedded.start()
    try:
        yield port
    finally:
        await embedded.stop()


async def scan(sopgw, port):
    arguments = ("--topic", "a/#", "--listen", "1s", "--json")
    return (await asyncio.to_thread(sopgw, "scan", "mqtt", f"127.0.0.1:{port}", *arguments)).json


async def test_stored_messages_are_heard(sopgw):
    async with broker() as port:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.publish("a/stored", b"12345", qos=1, retain=True)
        async with asyncio.timeout(60):
            while not (heard := await scan(sopgw, port))["ok"]:
                pass
    (row,) = heard["data"]["topics"]
    assert (row["topic"], row["count"], row["size"]) == ("a/stored", 1, 5)


async def test_silence_and_nobody_are_told_apart(sopgw, unused_tcp_port):
    async with broker() as port:
        silent = await scan(sopgw, port)
    assert (silent["exit_code"], silent["data"]["topics"]) == (9, [])
    assert silent["errors"][0]["code"] == "E004"
    assert (await scan(sopgw, unused_tcp_port))["exit_code"] == 4
