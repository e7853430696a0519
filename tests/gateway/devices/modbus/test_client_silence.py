"""Devices that are silent, slow or away: no write twice, no neighbour stalled, back at the next poll."""

import asyncio
import itertools
from collections import Counter

import pytest
from fakes.modbus_unit import READ, WRITE, unit_at, words

from gateway.devices.connect import Endpoints, client_of
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ALONE, SHARED, BackOff, ModbusUnit
from gateway.devices.profile import Kind, ModbusSettings, Profile, Protocol, Table
from gateway.model.errors import DeviceNotSent, OutcomeUnknown

pytestmark = pytest.mark.usefixtures("still_time")

PROFILE = Profile(id="any", kind=Kind.METER, protocol=Protocol.MODBUS)


async def test_rtu_over_tcp_stays_silent_after_a_timeout(peer):
    async with peer(lambda *_: None, rtu=True) as device:
        unit = unit_at(device, scheme="modbus+rtutcp", timeout_s=0.1)
        loop = asyncio.get_running_loop()
        asked = []
        device.script = lambda *_: asked.append(loop.time())
        with pytest.raises(OutcomeUnknown):
            await unit.read(READ)
        gaps = [b - a for a, b in itertools.pairwise(asked)]
        assert len(asked) == 3
        # Time-out and twice as much silence lie between two questions.
        assert min(gaps) > 0.29
        await unit.client.close()


async def test_a_silent_device_never_gets_a_write_twice(peer):
    async with peer(lambda *_: None) as device:
        unit = unit_at(device, timeout_s=0.1)
        with pytest.raises(OutcomeUnknown):
            await unit.write(WRITE)
        with pytest.raises(DeviceNotSent):
            await unit.write(WRITE)
        unit._not_before_s = 0.0
        with pytest.raises(OutcomeUnknown):
            await unit.read(READ)
        assert device.functions == Counter({3: 2, 16: 1})
        await unit.client.close()


async def test_a_peer_that_closes_in_the_middle_makes_the_outcome_unknown_at_once(peer):
    async with peer(lambda d, wire, r: wire.close()) as device:
        unit = unit_at(device, timeout_s=30)
        async with asyncio.timeout(60):
            with pytest.raises(OutcomeUnknown):
                await unit.write(WRITE)
        assert device.functions[16] == 1
        await unit.client.close()


async def test_dribble_and_endless_streams_end_at_the_whole_reply_deadline(peer):
    async def dribble(device, wire, request):
        for byte in device.honest(request)[:-1]:
            wire.send(bytes((byte,)))
            await asyncio.sleep(0.03)

    async with peer(dribble) as device:
        unit = unit_at(device, timeout_s=0.15)
        with pytest.raises(OutcomeUnknown):
            await unit.read(READ)
        assert unit.client.counts["timeout"] >= 1
        await unit.client.close()


async def test_a_stalled_path_leaves_the_outcome_unknown_until_read_back(peer, honestly):
    """A proxy swallows the write, the client gives up, and later the device executes it."""
    async with peer(honestly) as device:
        released = asyncio.Event()
        upstream = []

        async def stalling(reader, writer):
            behind, ahead = await asyncio.open_connection("127.0.0.1", device.port)
            upstream.append(ahead)
            head = await reader.readexactly(6)
            data = head + await reader.readexactly(int.from_bytes(head[4:6]))
            if data[7] == 16:
                await released.wait()
            ahead.write(data)
            reply = await behind.readexactly(6)
            writer.write(reply + await behind.readexactly(int.from_bytes(reply[4:6])))
            writer.close()

        proxy = await asyncio.start_server(stalling, "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        unit = ModbusUnit(
            client_of(f"modbus+tcp://127.0.0.1:{port}", ModbusSettings(), timeout_s=0.1),
            name="d",
            timeout_s=0.1,
        )
        with pytest.raises(OutcomeUnknown):
            await unit.write(WRITE)
        assert device.registers[100] == 1100  # not yet
        released.set()
        await device.until(lambda d: d.functions[16] == 1)
        unit._not_before_s = 0.0
        assert words(await unit.read(frame.read(1, Table.HOLDING, 100, 1))) == [4660]
        await unit.client.close()
        proxy.close()
        for writer in upstream:
            writer.transport.abort()


async def test_what_waited_behind_a_mute_unit_leaves_over_the_next_connection_once(peer):
    def script(device, wire, request):
        if request[6] == 1:
            wire.send(device.honest(request))

    async with peer(script) as device:
        lines = Endpoints()
        url = f"modbus+tcp://127.0.0.1:{device.port}"
        well, mute = (
            lines.unit(name=name, profile=PROFILE, url=url, timeout_s=0.5)
            for name in ("well", "mute")
        )
        asking = asyncio.create_task(mute.read(frame.read(2, Table.HOLDING, 0, 2)))
        await device.until(lambda d: len(d.requests) == 1)
        await asyncio.gather(well.write(WRITE), well.read(READ))
        assert (device.registers[100], device.functions[16]) == (4660, 1)
        assert well.counts["asked_anew"] == 2
        with pytest.raises(OutcomeUnknown):
            await asking
        await well.client.close()


async def test_what_waited_for_the_mute_device_itself_is_not_asked_anew(peer):
    async with peer(lambda *_: None) as device:
        unit = unit_at(device)
        found = await asyncio.gather(unit.write(WRITE), unit.write(WRITE), return_exceptions=True)
        assert [type(e) for e in found] == [OutcomeUnknown, DeviceNotSent]
        assert device.functions == Counter({16: 1})
        await unit.client.close()


@pytest.mark.parametrize(("scheme", "rtu"), [("modbus+tcp", False), ("modbus+rtutcp", True)])
async def test_one_mute_unit_leaves_its_neighbour_its_polls(peer, scheme, rtu):
    def script(device, wire, request):
        if request[0 if rtu else 6] == 1:
            wire.send(device.honest(request))

    async with peer(script, rtu=rtu) as device:
        lines = Endpoints()
        url = f"{scheme}://127.0.0.1:{device.port}"
        well, mute = (
            lines.unit(name=name, profile=PROFILE, url=url, timeout_s=0.5)
            for name in ("well", "mute")
        )
        assert well.client is mute.client
        to_mute = frame.read(2, Table.HOLDING, 0, 2)
        outcomes = Counter()

        async def poll(unit, request, period_s, count):
            loop = asyncio.get_running_loop()
            start = loop.time()
            for n in range(count):
                await asyncio.sleep(max(0.0, start + n * period_s - loop.time()))
                try:
                    await unit.read(request)
                    late_s = loop.time() - (start + n * period_s)
                    outcomes[unit.name, "in time" if late_s < period_s else "late"] += 1
                except (OutcomeUnknown, DeviceNotSent):
                    outcomes[unit.name, "failed"] += 1

        await asyncio.gather(poll(well, READ, 1.0, 300), poll(mute, to_mute, 1.0, 300))
        assert outcomes["well", "in time"] >= 285, outcomes
        assert outcomes["mute", "failed"] == 300
        await well.client.close()


async def test_a_device_that_comes_back_is_found_by_the_next_poll(peer, honestly):
    async with peer(honestly) as device:
        unit = unit_at(device)
        await unit.read(READ)
        port = device.port
    failures = 0
    for _ in range(3):
        try:
            await unit.read(READ)
        except (DeviceNotSent, OutcomeUnknown):
            failures += 1
        await asyncio.sleep(0.1)
    assert failures == 3
    again = peer(honestly)
    again.server = await asyncio.start_server(again._serve, "127.0.0.1", port)
    again.port = port
    await asyncio.sleep(1.0)  # one poll period: longer than the longest pause of a lone device
    assert words(await unit.read(READ)) == [1000, 1001]
    await unit.client.close()
    await again.__aexit__()


def test_back_off_grows_to_its_limit_with_jitter():
    back_off = BackOff(first_s=0.5, pause_s_max=10.0, jitter_ratio=0.3)
    pauses = [back_off.pause_s(n) for n in range(1, 12)]
    assert all(p <= 13.0 for p in pauses)
    assert 0.35 <= pauses[0] <= 0.65
    assert min(pauses[6:]) >= 7.0
    assert len({back_off.pause_s(9) for _ in range(20)}) > 10
    # A poll each second must find a lone device that came back.
    assert ALONE.pause_s_max * (1 + ALONE.jitter_ratio) < 1.0 < SHARED.pause_s_max


@pytest.mark.parametrize("outage_s", [5, 60])
@pytest.mark.parametrize("way", ["mute", "gone"])
async def test_after_an_outage_data_is_back_within_two_polls(peer, honestly, outage_s, way):
    loop = asyncio.get_running_loop()
    down = [False]

    def script(device, wire, request):
        if not down[0]:
            wire.send(device.honest(request))

    async with peer(script) as device:
        unit = unit_at(device, timeout_s=0.05)

        async def poll():
            start_s = loop.time()
            try:
                return words(await unit.read(READ)) == [1000, 1001]
            except (DeviceNotSent, OutcomeUnknown):
                return False
            finally:
                await asyncio.sleep(max(0.0, start_s + 1.0 - loop.time()))

        async with asyncio.timeout(outage_s + 60):
            while not await poll():
                pass
            down[0] = True
            if way == "gone":
                device.server.close()
                for wire in device.wires:
                    wire.close()
            assert [await poll() for _ in range(outage_s)] == [False] * outage_s
            down[0] = False
            if way == "gone":
                device.server = await asyncio.start_server(device._serve, "127.0.0.1", device.port)
            returned = [await poll() for _ in range(3)]
        assert any(returned[:2]), returned
        assert unit.counts["answers"] >= 2
        await unit.client.close()
