"""The TCP server: pipelined and split frames, bad headers, link faults."""

import asyncio
import struct

import pytest

from firmware_sim.faces.modbus_tcp import ModbusTcpServer
from firmware_sim.faces.registers import ILLEGAL_ADDRESS, ModbusRefusalError
from firmware_sim.faces.responder import Responder


class Registers:
    """A unit of 100 registers."""

    identity = ("test", "registers", "1")

    def __init__(self):
        self.words = list(range(100))

    def read(self, table, address, count):
        if address + count > 100:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        return self.words[address : address + count]

    def write(self, address, values):
        if address + len(values) > 100:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        self.words[address : address + len(values)] = values

    def discrete(self, address, count):
        raise ModbusRefusalError(ILLEGAL_ADDRESS)


@pytest.fixture
async def served():
    server = ModbusTcpServer(Responder({1: Registers()}, refresh=lambda: None))
    port = await server.start(0)
    yield server, port
    await server.close()


def frame(tid, pdu, unit=1):
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


READ = struct.pack(">BHH", 3, 10, 2)


async def answer(reader):
    head = await reader.readexactly(7)
    tid, _, length, unit = struct.unpack(">HHHB", head)
    return tid, unit, await reader.readexactly(length - 1)


async def test_pipelined_requests_are_all_answered_in_order(served):
    _, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(frame(t, READ) for t in range(1, 51)))
    assert [(await answer(reader))[0] for _ in range(50)] == list(range(1, 51))
    writer.close()


async def test_a_frame_may_arrive_byte_by_byte(served):
    _, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for byte in frame(7, READ):
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0)
    assert await answer(reader) == (7, 1, bytes((3, 4, 0, 10, 0, 11)))
    writer.close()


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack(">HHHB", 1, 1, 6, 1) + READ,
        struct.pack(">HHHB", 1, 0, 0, 1) + READ,
        struct.pack(">HHHB", 1, 0, 1, 1) + READ,
        struct.pack(">HHHB", 1, 0, 255, 1) + READ,
    ],
)
async def test_a_bad_header_ends_the_connection(served, bad):
    _, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(bad)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await answer(reader)
    writer.close()


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (struct.pack(">BHH", 3, 0, 0), 3),
        (struct.pack(">BHH", 3, 0, 126), 3),
        (struct.pack(">BHH", 3, 99, 2), 2),
        (struct.pack(">BHH", 3, 65535, 2), 2),
        (struct.pack(">BHHB", 16, 0, 2, 2) + b"\0\0", 3),
        (struct.pack(">BHHB", 16, 0, 2, 4) + b"\0\0", 3),
        (struct.pack(">BHHB", 16, 99, 2, 4) + b"\0\0\0\0", 2),
        (struct.pack(">BH", 3, 0), 3),
        (b"\x10\0", 3),
        (b"\x17\0", 3),
        (b"\x2b\x0e\x09\0", 3),
        (b"\x41\0", 1),
        (b"\x01\0\0\0\1", 1),
        (b"\x02\0\0\0\1", 2),
    ],
)
async def test_malformed_requests_get_their_exception(served, pdu, code):
    server, _ = served
    assert server.responder.respond(1, pdu) == bytes((pdu[0] | 0x80, code))


async def test_unknown_unit_is_exception_0b(served):
    server, _ = served
    assert server.responder.respond(9, READ) == bytes((0x83, 0x0B))


async def test_link_cut_by_reset_refuses_new_connections(served):
    server, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    server.cut(silent=False)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    server.wire.heal()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(frame(1, READ))
    assert (await answer(reader))[0] == 1
    writer.close()


async def test_silent_cut_swallows_requests_for_ever(served):
    server, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    server.cut(silent=True)
    writer.write(frame(1, READ))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.readexactly(1)
    server.wire.heal()
    writer.write(frame(2, READ))
    assert (await answer(reader))[0] == 2
    writer.close()


async def test_freeze_repeats_old_answers_while_the_world_moves_on(served):
    server, _ = served
    server.responder.freeze()
    before = server.responder.respond(1, READ)
    server.responder.units[1].words[10] = 999
    assert server.responder.respond(1, READ) == before
    server.wire.heal()
    assert server.responder.respond(1, READ) != before


async def test_exception_and_delay_on_demand(served):
    server, port = served
    server.wire.exception_code = 6
    assert server.responder.respond(1, READ) == bytes((0x83, 6))
    server.wire.heal()
    server.wire.delay_s = 0.05
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = loop.time()
    writer.write(frame(1, READ))
    await answer(reader)
    assert loop.time() - began >= 0.045
    writer.close()
