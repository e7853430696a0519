"""Values, discovery and Sparkplug on a real broker."""

import asyncio
import importlib.util
import itertools
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from gateway.market.mqtt import broker_from
from gateway.northbound import sparkplug_payload as payload
from gateway.northbound.mqtt_publisher import REBIRTH_S_MIN, MqttPublisher, MqttPublishing
from gateway.northbound.sparkplug import REBIRTH
from gateway.northbound.sparkplug_payload import BOOLEAN, Metric

_spec = importlib.util.spec_from_file_location(
    "market_fixtures", Path(__file__).parent.parent / "market" / "conftest.py"
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
mosquitto = _module.mosquitto
OUT = "sopgw/v1/bench4/SOP-1/values"


@asynccontextmanager
async def publishing(port, views, **more):
    broker = broker_from(f"mqtt://127.0.0.1:{port}")
    publisher = MqttPublisher(MqttPublishing(broker=broker, **more), views, period_s=0.02)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def heard(client, wanted):
    """Return the payload of the first message that ``wanted`` accepts."""
    async with asyncio.timeout(60):
        async for message in client.messages:
            if wanted(message):
                return message.payload
    raise AssertionError


async def test_values_are_retained_and_availability_is_the_will(mosquitto, view):
    now = [view]
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        await client.subscribe("#", qos=1)
        async with publishing(mosquitto.port, lambda: now[0], home_assistant=True):
            await heard(
                client, lambda m: (str(m.topic), m.payload) == (f"{OUT}/availability", b"online")
            )
            found = await heard(client, lambda m: str(m.topic).startswith("homeassistant/"))
            assert json.loads(found)["state_topic"] == OUT
            told = json.loads(await heard(client, lambda m: str(m.topic) == OUT))
            assert told["Terminals/T2/ActivePower"] == -150_200
            assert told["Terminals/T4/Meter/ActivePower"] is None
            now[0] = replace(view, mode="off")
            await heard(
                client, lambda m: str(m.topic) == OUT and json.loads(m.payload)["Mode"] == "off"
            )
        await heard(
            client, lambda m: (str(m.topic), m.payload) == (f"{OUT}/availability", b"offline")
        )


async def test_a_sparkplug_host_sees_birth_data_rebirth_and_death(mosquitto, view):
    now = [view]
    wish = payload.write(
        utc_ms=1, metrics=[Metric(datatype_code=BOOLEAN, content=True, name=REBIRTH)]
    )

    def kind(word):
        return lambda m: f"/{word}/" in str(m.topic)

    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        # An old order waits on the broker: it must move nothing, and ask for no second birth.
        await client.publish("spBv1.0/elm/NCMD/gw", wish, qos=1, retain=True)
        await client.subscribe("spBv1.0/elm/#", qos=1)
        async with publishing(mosquitto.port, lambda: now[0], sparkplug=("elm", "gw")):
            first = payload.read(await heard(client, kind("NBIRTH")))
            await heard(client, kind("DBIRTH"))
            now[0] = replace(view, loss_w=6_000)
            nothing_else = await heard(client, lambda m: kind("DDATA")(m) or kind("NBIRTH")(m))
            with pytest.raises(KeyError):
                payload.read(nothing_else)["bdSeq"]
            await client.publish("spBv1.0/elm/NCMD/gw", wish, qos=1)
            again = payload.read(await heard(client, kind("NBIRTH")))
            assert again["bdSeq"] == first["bdSeq"]
        death = payload.read(await heard(client, kind("NDEATH")))
        assert death["bdSeq"] == first["bdSeq"]
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        await client.publish("spBv1.0/elm/NCMD/gw", b"", qos=1, retain=True)


async def test_a_flood_of_rebirth_orders_is_granted_now_and_then(mosquitto, view):
    looks = itertools.count()
    wish = payload.write(
        utc_ms=1, metrics=[Metric(datatype_code=BOOLEAN, content=True, name=REBIRTH)]
    )

    async def flood():
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as stranger:
            while True:
                await stranger.publish("spBv1.0/elm/NCMD/gw", wish, qos=1)

    def views():
        return replace(view, loss_w=next(looks))

    loop = asyncio.get_running_loop()
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        await client.subscribe("spBv1.0/elm/#", qos=1)
        flooding = asyncio.create_task(flood())
        try:
            async with publishing(mosquitto.port, views, sparkplug=("elm", "gw")):
                births = data_count = 0
                begun_s = loop.time()
                async with asyncio.timeout(60):
                    async for message in client.messages:
                        births += "/NBIRTH/" in str(message.topic)
                        data_count += "/DDATA/" in str(message.topic)
                        if births > 1 and data_count > 20:
                            break
                assert births <= 1 + (loop.time() - begun_s) / REBIRTH_S_MIN
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)


async def test_a_broker_that_is_not_there_is_tried_again(view, caplog, monkeypatch):
    monkeypatch.setattr("gateway.northbound.mqtt_publisher.BACKOFF_S_MIN", 0.01)
    async with publishing(1, lambda: view), asyncio.timeout(60):
        while caplog.text.count("northbound broker lost") < 3:
            await asyncio.sleep(0.01)
