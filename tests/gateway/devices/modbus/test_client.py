"""One connection and its requests: order, pace, refusals, cancelled questions, pipelining."""

import asyncio
from collections import Counter

import pytest
from fakes.modbus_unit import OTHER, READ, WRITE, unit_at, words

from gateway.devices.connect import client_of
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.profile import ModbusSettings, Table
from gateway.model.errors import DeviceNotSent, DeviceRefused, OutcomeUnknown

pytestmark = pytest.mark.usefixtures("still_time")


async def test_reads_and_writes_over_one_connection(peer, honestly):
    async with peer(honestly) as device:
        unit = unit_at(device)
        assert words(await unit.read(READ)) == [1000, 1001]
        await unit.write(WRITE)
        assert device.registers[100] == 4660
        assert device.connections == 1
        assert unit.counts["answers"] == 2
        await unit.client.close()


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
        assert loop.time() - start > 0.1 - 1e-6
        await asyncio.gather(unit.read(READ), unit.read(READ), unit.read(READ))
        assert loop.time() - start > 0.25 - 1e-6
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
        if request[7] == 3:
            wire.send(device.honest(request))

    async with peer_of(script) as device:
        unit = unit_at(device, timeout_s=2)  # of the real clock, on any machine
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
