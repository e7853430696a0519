"""RTU on a pseudo-terminal and over TCP, driven by pymodbus; noise and foreign units."""

import struct

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

from firmware_sim.faces.responder import Responder
from firmware_sim.faces.rtu import PtyBus, RtuFramer, RtuTcpServer, seal
from firmware_sim.faces.station_map import StationMap


@pytest.fixture
def responder(rig):
    station = StationMap(
        rig.sop, lambda: rig.firmware, now_us=lambda: rig.sop.t_us, utc_us=lambda: 0
    )
    return Responder({100: station}, refresh=lambda: None)


async def test_pymodbus_over_a_pseudo_terminal(responder, tmp_path):
    bus = PtyBus(responder)
    link = tmp_path / "ttySOP"
    bus.open(link)
    client = AsyncModbusSerialClient(str(link), framer=FramerType.RTU, baudrate=19200, retries=0)
    try:
        assert await client.connect()
        read = await client.read_input_registers(1100, count=120, device_id=100)
        assert len(read.registers) == 120
        await client.write_registers(4, [4711], device_id=100)
        assert (await client.read_holding_registers(4, count=1, device_id=100)).registers == [4711]
        assert (await client.read_input_registers(5, count=1, device_id=100)).exception_code == 2
    finally:
        client.close()
        bus.close()
    assert not link.exists()


async def test_pymodbus_with_rtu_over_tcp(responder):
    server = RtuTcpServer(responder)
    port = await server.start(0)
    client = AsyncModbusTcpClient("127.0.0.1", port=port, framer=FramerType.RTU, retries=0)
    try:
        assert await client.connect()
        read = await client.read_input_registers(1000, count=28, device_id=100)
        assert read.registers[0] == 5
    finally:
        client.close()
        await server.close()


READ = seal(struct.pack(">BBHH", 100, 4, 1000, 1))
ANSWER = seal(bytes((100, 4, 2, 0, 5)))


def test_a_frame_in_pieces_and_two_at_once(responder):
    framer = RtuFramer(responder)
    assert b"".join(framer.feed(READ[k : k + 1]) for k in range(len(READ))) == ANSWER
    assert framer.feed(READ + READ) == ANSWER + ANSWER


def test_other_units_and_broadcast_get_no_answer(responder, rig):
    framer = RtuFramer(responder)
    assert framer.feed(seal(struct.pack(">BBHH", 7, 4, 1000, 1))) == b""
    assert framer.feed(seal(struct.pack(">BBHH", 0, 6, 4, 99))) == b""
    assert rig.firmware.heartbeat_code == 99
    assert framer.feed(READ) == ANSWER


def test_a_damaged_frame_is_dropped_and_the_next_one_heard(responder):
    framer = RtuFramer(responder)
    damaged = bytes((READ[0], READ[1] ^ 1)) + READ[2:]
    assert framer.feed(damaged) == b""
    framer.silence()
    assert framer.feed(READ) == ANSWER


def test_noise_never_turns_into_a_wrong_answer_with_a_right_checksum(responder):
    framer = RtuFramer(responder)
    responder.wire.bit_error_ratio = 1e-3
    good = silent = damaged = 0
    for _ in range(2000):
        framer.silence()
        reply = framer.feed(READ)
        if reply == ANSWER:
            good += 1
        elif not reply:
            silent += 1
        else:
            damaged += 1
            assert seal(reply[:-2]) != reply
    assert good > silent > 0
    assert damaged > 0


def test_an_adapter_that_echoes(responder):
    framer = RtuFramer(responder)
    responder.wire.echo = True
    assert framer.feed(READ) == READ + ANSWER
