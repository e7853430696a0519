import asyncio
import itertools
from collections import Counter

import pytest

from gateway.devices.connect import Endpoints, client_of
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ALONE, QUARANTINE_S, SHARED, BackOff, ModbusUnit
from gateway.devices.profile import Kind, ModbusSettings, Profile, Protocol, Table
from gateway.model.errors import BadAnswer, DeviceNotSent, DeviceRefused, OutcomeUnknown

READ = frame.read(1, Table.HOLDING, 0, 2)
OTHER = frame.read(1, Table.HOLDING, 50, 2)
WRITE = frame.write_registers(1, 100, [4660])
PROFILE = Profile(id="any", kind=Kind.METER, protocol=Protocol.MODBUS)


def unit_at(peer, *, scheme="modbus+tcp", timeout_s=0.15, settings=None, name="d"):
    client = client_of(
        f"{scheme}://127.0.0.1:{peer.port}", settings or ModbusSettings(), timeout_s=timeout_s
    )
    return ModbusUnit(client, name=name, timeout_s=timeout_s)


def words(data):
    return [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]


async def test_reads_and_writes_over_one_connection(peer, honestly):
    async with peer(honestly) as device:
        unit = unit_at(device)
        assert words(await unit.read(READ)) == [1000, 1001]
        await unit.write(WRITE)
        assert device.registers[100] == 4660
        assert device.connections == 1
        assert unit.counts["answers"] == 2
        await unit.client.close()


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


async def test_one_mute_unit_leaves_its_neighbour_its_polls(peer):
    def script(device, wire, request):
        if request[6] == 1:
            wire.send(device.honest(request))

    async with peer(script) as device:
        lines = Endpoints()
        url = f"modbus+tcp://127.0.0.1:{device.port}"
        well, mute = (
            lines.unit(name=name, profile=PROFILE, url=url, timeout_s=0.05)
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

        # A tenth of the real times: polls each 0.1 s, time-out 0.05 s, for 4 s.
        await asyncio.gather(poll(well, READ, 0.1, 40), poll(mute, to_mute, 0.1, 40))
        assert outcomes["well", "in time"] >= 38
        assert outcomes["mute", "failed"] == 40
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


async def test_busy_is_asked_again_for_reads_and_never_for_writes(peer):
    def script(device, wire, request):
        busy = len(device.requests) == 1 or request[7] == 16
        code = bytes((request[7] | 0x80, 6))
        wire.send(request[:4] + b"\0\3\1" + code if busy else device.honest(request))

    async with peer(script) as device:
        unit = unit_at(device)
        assert words(await unit.read(READ)) == [1000, 1001]
        with pytest.raises(DeviceRefused) as caught:
            await unit.write(WRITE)
        assert caught.value.code == 6
        assert device.functions == Counter({3: 2, 16: 1})
        assert device.connections == 1  # a refusal is a right answer
        await unit.client.close()


@pytest.mark.parametrize(
    ("code", "outcome"), [(5, OutcomeUnknown), (11, OutcomeUnknown), (4, DeviceRefused)]
)
async def test_exceptions_that_leave_a_write_open_are_unknown(peer, code, outcome):
    def script(device, wire, request):
        wire.send(request[:4] + b"\0\3\1" + bytes((0x90, code)))

    async with peer(script) as device:
        unit = unit_at(device)
        with pytest.raises(outcome):
            await unit.write(WRITE)
        assert device.functions == Counter({16: 1})
        await unit.client.close()


async def test_a_write_overtakes_the_waiting_reads(peer):
    order = []
    gate = asyncio.Event()

    async def script(device, wire, request):
        await gate.wait()
        order.append(request[7])
        wire.send(device.honest(request))

    async with peer(script) as device:
        unit = unit_at(device, timeout_s=2)
        reads = [asyncio.create_task(unit.read(READ)) for _ in range(4)]
        await device.until(lambda d: len(d.requests) == 1)
        write = asyncio.create_task(unit.write(WRITE))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*reads, write)
        assert order == [3, 16, 3, 3, 3]
        await unit.client.close()


async def test_a_cancelled_question_does_not_leave_its_answer_to_the_next(peer):
    gate = asyncio.Event()

    async def script(device, wire, request):
        if len(device.requests) == 1:
            await gate.wait()
        wire.send(device.honest(request))

    async with peer(script) as device:
        unit = unit_at(device, timeout_s=2)
        first = asyncio.create_task(unit.read(READ))
        await device.until(lambda d: len(d.requests) == 1)
        first.cancel()
        second = asyncio.create_task(unit.read(OTHER))
        await asyncio.sleep(0)
        gate.set()
        assert words(await second) == [1050, 1051]
        assert device.connections == 1
        await unit.client.close()


async def test_pause_between_requests_and_after_connect(peer, honestly):
    async with peer(honestly) as device:
        settings = ModbusSettings(connect_delay_ms=100)
        unit = unit_at(device, settings=settings)
        unit._pause_s = 0.05
        loop = asyncio.get_running_loop()
        start = loop.time()
        await unit.read(READ)
        assert loop.time() - start >= 0.1
        await asyncio.gather(unit.read(READ), unit.read(READ), unit.read(READ))
        assert loop.time() - start >= 0.1 + 3 * 0.05
        await unit.client.close()


async def test_nobody_there_is_not_sent(unused_tcp_port):
    client = client_of(f"modbus+tcp://127.0.0.1:{unused_tcp_port}", ModbusSettings(), timeout_s=0.1)
    unit = ModbusUnit(client, name="d")
    for _ in range(3):
        with pytest.raises(DeviceNotSent):
            await unit.write(WRITE)
    assert client.counts["connect_failed"] == 1  # the others fell into the pause
    await client.close()


async def test_pipelined_answers_are_matched_by_their_ids_in_any_order(peer):
    from gateway.devices.modbus.client import ModbusClient, tcp_opener
    from gateway.devices.modbus.link import TcpFraming

    held = []

    def script(device, wire, request):
        held.append(device.honest(request))
        if len(held) == 4:
            wire.send(b"".join(reversed(held)))

    async with peer(script) as device:
        client = ModbusClient(
            where="d",
            opener=tcp_opener("127.0.0.1", device.port),
            framing=lambda: TcpFraming(flying_count_max=4, first_key=65533),
        )
        unit = ModbusUnit(client, name="d")
        requests = [frame.read(1, Table.HOLDING, 10 * n, 1) for n in range(4)]
        answers = await asyncio.gather(*(unit.read(r) for r in requests))
        assert [words(a) for a in answers] == [[1000], [1010], [1020], [1030]]
        assert [int.from_bytes(r[:2]) for r in device.requests] == [65534, 65535, 1, 2]
        await client.close()


async def _read_write_and_time_out(peer_of):
    def script(device, wire, request):
        if request[7] == 3 and len(device.requests) < 4:
            wire.send(device.honest(request))

    async with peer_of(script) as device:
        unit = unit_at(device, timeout_s=0.1)
        assert words(await unit.read(READ)) == [1000, 1001]
        with pytest.raises(OutcomeUnknown):
            await unit.write(WRITE)
        unit._not_before_s = 0.0
        assert words(await unit.read(READ)) == [1000, 1001]
        assert device.functions[16] == 1
        await unit.client.close()


def test_the_same_under_another_event_loop(peer):
    uvloop = pytest.importorskip("uvloop")
    uvloop.run(_read_write_and_time_out(peer))


@pytest.mark.parametrize("outage_s", [5, 60])
@pytest.mark.parametrize("way", ["mute", "gone"])
async def test_after_an_outage_data_is_back_within_two_polls(
    peer, honestly, monkeypatch, outage_s, way
):
    """The loop's own time is moved on a second a poll, so that a minute takes no minute."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real() + ahead[0])
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
                ahead[0] += max(0.0, start_s + 1.0 - loop.time())

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
