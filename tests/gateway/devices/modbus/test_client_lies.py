"""What a device may say instead of its answer: nothing of it is taken, nothing is written again."""

import asyncio
from collections import Counter

import pytest
from fakes.modbus_unit import OTHER, READ, WRITE, unit_at, words

from gateway.devices.modbus.client import QUARANTINE_S
from gateway.model.errors import BadAnswer, DeviceNotSent, OutcomeUnknown

pytestmark = pytest.mark.usefixtures("still_time")


# What a lying device sends instead of its honest answer.
LIES = {
    "transaction": lambda good, bad: b"\0\0" + good[2:],
    "protocol": lambda good, bad: good[:2] + b"\0\1" + good[4:],
    "unit": lambda good, bad: good[:6] + b"\2" + good[7:],
    "function": lambda good, bad: good[:7] + b"\4" + good[8:],
    "length": lambda good, bad: good[:5] + bytes((good[5] + 1,)) + good[6:] + b"\0",
    "byte_count": lambda good, bad: good[:8] + b"\3" + good[9:],
    "exception": lambda good, bad: good[:4] + b"\0\3\1\x83\0",
    "extra": lambda good, bad: good + b"\0",
    "extra twice": lambda good, bad: good + good,
    "transaction stale first": lambda good, bad: bad + good,
    "extra stale last": lambda good, bad: good + bad,
}


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_is_refused_counted_and_drops_the_connection(peer, name):
    def lie(device, wire, request):
        good = device.honest(request)
        stale = (int.from_bytes(good[:2]) - 1 & 0xFFFF).to_bytes(2) + good[2:-1] + b"\x77"
        wire.send(LIES[name](good, stale))

    async with peer(lie) as device:
        unit = unit_at(device)
        with pytest.raises(BadAnswer):
            await unit.read(READ)
        kind = name.split()[0]
        assert unit.client.counts[f"lie_{kind}"] == 3  # asked, and asked again twice
        assert unit.counts["answers"] == 0
        await device.until(lambda d: d.dropped == 3)
        assert device.connections == 3
        await unit.client.close()


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_about_a_write_is_not_answered_by_writing_again(peer, name):
    def lie(device, wire, request):
        good = device.honest(request)
        wire.send(LIES[name](good, b"\0\1" + good[2:]))

    async with peer(lie) as device:
        unit = unit_at(device)
        with pytest.raises((BadAnswer, OutcomeUnknown)):
            await unit.write(WRITE)
        await device.until(lambda d: d.dropped == 1)
        assert device.functions == Counter({16: 1})
        await unit.client.close()


async def test_five_lies_a_minute_put_the_unit_in_quarantine(peer):
    async with peer(lambda d, wire, request: wire.send(b"\0\0" + request[2:])) as device:
        unit = unit_at(device)
        for _ in range(3):
            with pytest.raises((BadAnswer, DeviceNotSent)):
                await unit.read(READ)
            unit._not_before_s = 0.0  # only the pause between tries is skipped
        asked = len(device.requests)
        assert asked == 5
        assert unit.counts["quarantined"] == 1
        assert unit._quarantine_end_s > asyncio.get_running_loop().time() + QUARANTINE_S - 2
        with pytest.raises(DeviceNotSent):
            await unit.read(READ)
        assert len(device.requests) == asked
        await unit.client.close()


@pytest.mark.parametrize("data", [b"\0", b"\0\1\0\0\0\7\1\3\4"])
async def test_an_unasked_answer_drops_the_connection(peer, honestly, data):
    async with peer(honestly) as device:
        unit = unit_at(device)
        await unit.read(READ)
        device.wires[0].send(data)
        await device.until(lambda d: d.dropped == 1)
        assert unit.client.counts["lie_unsolicited"] == 1
        assert words(await unit.read(READ)) == [1000, 1001]
        await unit.client.close()


def late(first_reply):
    """The answer to A comes only when B has been asked, on every connection there is."""

    def script(device, wire, request):
        if len(device.requests) == 1:
            device.held = first_reply(device, request)
            return
        for other in device.wires:
            other.send(device.held)
        wire.send(device.honest(request))

    return script


@pytest.mark.parametrize(
    ("scheme", "rtu", "zero"),
    [
        ("modbus+tcp", False, False),
        ("modbus+tcp", False, True),
        ("modbus+rtutcp", True, False),
    ],
)
async def test_a_late_answer_is_never_the_answer_to_the_next_question(peer, scheme, rtu, zero):
    """A times out; its answer, equally long, comes while B waits. B must never read A's values."""

    def first_reply(device, request):
        good = device.honest(request)
        return b"\0\0" + good[2:] if zero else good

    sent = []

    def script(device, wire, request):
        if len(device.requests) == 1:
            device.held = first_reply(device, request)
            return
        device.wires[0].send(device.held)  # where it was asked for
        sent.append(wire is device.wires[0])
        wire.send(device.honest(request))

    async with peer(script, rtu=rtu) as device:
        unit = unit_at(device, scheme=scheme, timeout_s=0.1)
        link = await unit.client.link()
        with pytest.raises(Exception, match="no whole answer"):
            await link.ask(READ, timeout_s=0.1)
        assert words(await unit.read(OTHER)) == [1050, 1051]
        assert sent == [False]  # the second question went over a new connection
        await unit.client.close()


async def test_a_late_answer_pushed_into_the_new_tcp_connection_is_seen_through(peer):
    async with peer(late(lambda device, request: device.honest(request))) as device:
        unit = unit_at(device, timeout_s=0.1)
        try:
            got = words(await unit.read(READ))
        except BadAnswer:
            got = None
        assert got in (None, [1000, 1001])
        assert unit.client.counts["lie_transaction"] >= 1
        await unit.client.close()
