"""The link against a real mosquitto: nothing is lost, nothing is acknowledged too early."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket

import aiomqtt
import pytest

from gateway.market import mqtt
from gateway.market.mqtt import Broker, MarketLink, Pace, broker_from
from gateway.model.errors import ContractError

TRADES = "p2p/v1/bench4/SOP-1/trades"
AVAILABILITY = "sopgw/v1/bench4/SOP-1/availability"


@contextlib.asynccontextmanager
async def running(port, **changes):
    link = MarketLink(
        broker=Broker(host="127.0.0.1", port=port),
        identifier="sopgw-bench4-SOP-1",
        subscriptions=[TRADES],
        availability=AVAILABILITY,
        **changes,
    )
    task = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(60):
            await link.online.wait()
            yield link
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def put(port, *payloads, topic=TRADES, retain=False):
    async with aiomqtt.Client("127.0.0.1", port) as client:
        for payload in payloads:
            await client.publish(topic, payload, qos=1, retain=retain)


async def retained_value(port, topic):
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(topic, qos=1)
        async with asyncio.timeout(60):
            async for message in client.messages:
                return message.payload
    raise AssertionError("the broker closed the connection")


async def test_an_unacknowledged_message_comes_again_and_an_acknowledged_one_does_not(mosquitto):
    async with running(mosquitto.port) as link:
        await put(mosquitto.port, b"one", b"two", b"three")
        first = await link.inbox.get()
        await link.inbox.get()
        assert first.payload == b"one"
        assert not first.retain
        await link.acknowledge(first)
    async with running(mosquitto.port) as link:
        assert [(await link.inbox.get()).payload for _ in range(2)] == [b"two", b"three"]
        await put(mosquitto.port, b"four")
        assert (await link.inbox.get()).payload == b"four"


async def test_what_was_sent_while_we_were_away_waits_in_the_session(mosquitto):
    async with running(mosquitto.port):
        pass
    await put(mosquitto.port, b"meanwhile")
    async with running(mosquitto.port) as link:
        assert (await link.inbox.get()).payload == b"meanwhile"


async def test_all_messages_pass_although_the_broker_stops_at_twenty_unacknowledged(mosquitto):
    async with running(mosquitto.port) as link:
        wanted = [b"%d" % i for i in range(60)]
        await put(mosquitto.port, *wanted)
        found = []
        for _ in wanted:
            inbound = await link.inbox.get()
            found.append(inbound.payload)
            await link.acknowledge(inbound)
        assert found == wanted


async def test_what_found_no_room_comes_again_after_a_reconnect(hasty_mosquitto, monkeypatch):
    monkeypatch.setattr(mqtt, "BEHIND_INBOX_MAX", 16)
    monkeypatch.setattr(mqtt, "INBOX_MAX", 8)
    monkeypatch.setattr(mqtt, "BACKOFF_S_MAX", 0.1)
    wanted = {b"%d" % i for i in range(100)}
    async with running(hasty_mosquitto.port) as link:
        await put(hasty_mosquitto.port, *sorted(wanted))
        first = link.connection_seq
        found = set()
        while found != wanted:
            inbound = await link.inbox.get()
            found.add(inbound.payload)
            await link.acknowledge(inbound)
        assert link.connection_seq > first


async def test_an_acknowledgement_of_an_earlier_connection_is_not_sent(mosquitto):
    async with running(mosquitto.port) as link:
        await put(mosquitto.port, b"one")
        old = await link.inbox.get()
        await mosquitto.stop()
        await mosquitto.start()
        again = await link.inbox.get()
        assert again.payload == b"one"
        assert again.connection_seq > old.connection_seq
        await link.acknowledge(old)
    async with running(mosquitto.port) as link:
        assert (await link.inbox.get()).payload == b"one"


async def test_a_retained_message_is_marked_when_it_waited_for_us(mosquitto):
    await put(mosquitto.port, b"stored", retain=True)
    async with running(mosquitto.port) as link:
        inbound = await link.inbox.get()
        assert inbound.retain
        await link.acknowledge(inbound)
        await put(mosquitto.port, b"", retain=True)  # the broker's way to delete it
        deleted = await link.inbox.get()
        assert deleted.payload == b""
        await link.acknowledge(deleted)


async def test_what_is_published_while_the_broker_is_away_arrives_later_in_order(mosquitto):
    topic = "sopgw/v1/bench4/SOP-1/trade/t/acknowledgement"
    async with running(mosquitto.port) as link:
        await mosquitto.stop(signal.SIGKILL)
        for i in range(40):
            await link.publish(topic, b"%d" % i)
        assert link.outbox_size == 40
        await mosquitto.start()
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as listener:
            await listener.subscribe(topic, qos=1)
            found = []
            async for message in listener.messages:
                if message.payload not in found:  # at least once: a repetition may come
                    found.append(message.payload)
                if len(found) == 40:
                    break
        assert found == [b"%d" % i for i in range(40)]
        await link.flushed()
        assert link.outbox_size == 0


async def test_a_waiting_retained_value_is_replaced_by_the_newer_one(mosquitto):
    async with running(mosquitto.port) as link:
        await mosquitto.stop()
        for i in range(100):
            await link.publish("sopgw/v1/bench4/SOP-1/telemetry", b"%d" % i, retain=True)
        assert link.outbox_size == 1
        await mosquitto.start()
        await link.flushed()
        assert await retained_value(mosquitto.port, "sopgw/v1/bench4/SOP-1/telemetry") == b"99"


async def test_availability_is_online_while_we_run_and_offline_after_a_goodbye(mosquitto):
    async with running(mosquitto.port):
        assert await retained_value(mosquitto.port, AVAILABILITY) == b"online"
    assert await retained_value(mosquitto.port, AVAILABILITY) == b"offline"


async def test_the_broker_says_offline_when_the_link_dies_without_a_word(mosquitto):
    async with (
        running(mosquitto.port) as link,
        aiomqtt.Client("127.0.0.1", mosquitto.port) as client,
    ):
        await client.subscribe(AVAILABILITY, qos=1)
        seen = []
        async for message in client.messages:
            seen.append(message.payload)
            if seen == [b"online"]:
                link._client._client.socket().shutdown(socket.SHUT_RDWR)
            if len(seen) == 3:
                break
        assert seen == [b"online", b"offline", b"online"]


async def test_two_gateways_of_one_name_back_off_from_each_other(mosquitto, monkeypatch):
    pauses = []

    async def pause(self, seconds):
        pauses.append(seconds)
        await asyncio.sleep(0.05)

    monkeypatch.setattr(MarketLink, "_pause", pause)
    async with running(mosquitto.port), running(mosquitto.port):
        async with asyncio.timeout(60):
            while len(pauses) < 8:
                await asyncio.sleep(0.02)
    assert max(pauses) >= 4 * mqtt.BACKOFF_S_MIN


async def test_a_cancellation_swallowed_while_greeting_ends_the_link_all_the_same(
    mosquitto, monkeypatch
):
    greet, greeted = MarketLink._greet, asyncio.Event()

    async def swallowing(self, client):
        await greet(self, client)
        greeted.set()
        with contextlib.suppress(asyncio.CancelledError):  # as wait_for does when an answer comes
            await asyncio.Event().wait()

    monkeypatch.setattr(MarketLink, "_greet", swallowing)
    link = MarketLink(
        broker=Broker(host="127.0.0.1", port=mosquitto.port),
        identifier="x",
        subscriptions=[TRADES],
        availability=AVAILABILITY,
    )
    task = asyncio.create_task(link.run())
    async with asyncio.timeout(60):
        await greeted.wait()
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()


async def test_a_full_outbox_drops_the_oldest_and_counts_it(monkeypatch):
    monkeypatch.setattr(mqtt, "OUTBOX_MAX", 3)
    link = MarketLink(
        broker=Broker(host="127.0.0.1", port=1),
        identifier="x",
        subscriptions=[],
        availability=AVAILABILITY,
    )
    await link.publish("state", b"a", retain=True)
    for i in range(4):
        await link.publish("t", b"%d" % i)
    assert link.outbox_size == 3
    assert link.dropped_count == 2
    await link.publish("state", b"b", retain=True)  # its place is gone: it queues anew
    assert link.dropped_count == 3


def test_a_broker_is_named_by_a_url():
    assert broker_from("mqtt://h") == Broker(host="h", port=1883)
    assert broker_from("mqtt://h:99", username="u", password="p").port == 99
    secure = broker_from("mqtts://h")
    assert secure.port == 8883
    assert secure.tls is not None
    assert secure.tls.check_hostname


@pytest.mark.parametrize("url", ["h:1883", "http://h", "mqtt://", ""])
def test_another_url_is_refused(url):
    with pytest.raises(ContractError):
        broker_from(url)


def test_a_burst_passes_and_then_the_pace_holds():
    pace = Pace(per_s=10, at_once=3)
    assert [pace.take(0.0) for _ in range(3)] == [0, 0, 0]
    assert pace.take(0.0) == pytest.approx(0.1)
    assert pace.take(0.1) == pytest.approx(0.1)
    assert pace.take(10.0) == 0
    assert pace.take(9.0) == 0  # a clock that steps back gives nothing and breaks nothing


async def test_a_flood_is_taken_at_the_pace_and_nothing_of_it_is_lost(mosquitto, monkeypatch):
    pauses = []

    async def pause(self, seconds):
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(MarketLink, "_pause", pause)
    async with running(mosquitto.port, taken_per_s=1e-6) as link:
        wanted = [b"%d" % i for i in range(300)]
        sending = asyncio.create_task(put(mosquitto.port, *wanted))
        found = []
        for _ in wanted:
            inbound = await link.inbox.get()
            found.append(inbound.payload)
            await link.acknowledge(inbound)
        await sending
        assert found == wanted
    assert len(pauses) == 100  # two hundred in one go, the rest one by one


class BrokenOnTheWayOut(MarketLink):
    """A link whose connection breaks while it is being closed."""

    async def _session(self):
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("broken on the way out")


async def test_a_link_that_breaks_while_it_is_ended_ends_all_the_same():
    link = BrokenOnTheWayOut(
        broker=Broker(host="127.0.0.1", port=1), identifier="x", subscriptions=[], availability="a"
    )
    running = asyncio.create_task(link.run())
    await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await running
