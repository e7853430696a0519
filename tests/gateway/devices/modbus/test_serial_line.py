import asyncio
import os
import pty
import struct
import tty

import pytest
from fakes.still_time import stand_still

from gateway.devices.connect import client_of
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.modbus.serial_line import LineSettings
from gateway.devices.profile import ModbusSettings, Table
from gateway.model.errors import BadAnswer, DeviceNotSent, OutcomeUnknown

READ = frame.read(1, Table.HOLDING, 10, 2)
OTHER = frame.read(1, Table.HOLDING, 50, 2)


class Bus:
    """The far end of a pseudo-terminal pair: a device that answers as its script says."""

    def __init__(self, script, crc):
        self.script, self.crc, self.requests = script, crc, []

    async def __aenter__(self):
        self.ours, theirs = pty.openpty()
        tty.setraw(self.ours)
        tty.setraw(theirs)
        os.set_blocking(self.ours, False)
        self.path, self.theirs, self.data = os.ttyname(theirs), theirs, b""
        self.tasks = set()
        asyncio.get_running_loop().add_reader(self.ours, self._readable)
        return self

    async def __aexit__(self, *_):
        asyncio.get_running_loop().remove_reader(self.ours)
        for task in self.tasks:
            task.cancel()
        os.close(self.ours)
        os.close(self.theirs)

    def _readable(self):
        self.data += os.read(self.ours, 512)
        while len(self.data) >= 8:
            size = 8 if self.data[1] != 16 else 9 + self.data[6]
            if len(self.data) < size:
                return
            request, self.data = self.data[:size], self.data[size:]
            self.requests.append(request)
            task = asyncio.get_running_loop().create_task(self.script(self, request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def send(self, data):
        os.write(self.ours, data)

    def honest(self, request):
        function, address, count = struct.unpack_from(">BHH", request, 1)
        if function == 16:
            body = request[:6]
        else:
            words = range(1000 + address, 1000 + address + count)
            body = request[:2] + struct.pack(f">B{count}H", 2 * count, *words)
        return body + self.crc(body)


@pytest.fixture(autouse=True)
async def still_line():
    """The clock stands still while there is work; a pseudo-terminal hands over in its own time."""
    stand_still(quiet_s=0.05)


def unit_on(bus, timeout_s=0.15):
    client = client_of(
        f"modbus+rtu://{bus.path}?baud=115200", ModbusSettings(), timeout_s=timeout_s
    )
    return ModbusUnit(client, name="d", timeout_s=timeout_s)


def words(data):
    return [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]


async def honestly(bus, request):
    bus.send(bus.honest(request))


async def test_reads_and_writes_on_a_serial_line(crc_bytes):
    async with Bus(honestly, crc_bytes) as bus:
        unit = unit_on(bus)
        assert words(await unit.read(READ)) == [1010, 1011]
        await unit.write(frame.write_registers(1, 5, [1, 2, 3]))
        assert words(await unit.read(OTHER)) == [1050, 1051]
        assert (
            bus.requests[1]
            == bytes.fromhex("01 10 0005 0003 06 0001 0002 0003") + bus.requests[1][-2:]
        )
        await unit.client.close()


async def test_pieces_of_an_answer_are_put_together(crc_bytes):
    async def in_pieces(bus, request):
        for byte in bus.honest(request):
            bus.send(bytes((byte,)))
            await asyncio.sleep(0.002)

    async with Bus(in_pieces, crc_bytes) as bus:
        unit = unit_on(bus, timeout_s=2)
        assert words(await unit.read(READ)) == [1010, 1011]
        await unit.client.close()


@pytest.mark.parametrize("late_s", [0.03, 0.12, 0.25])
async def test_a_late_answer_is_discarded_and_the_line_rests(crc_bytes, late_s):
    """A (read 10) times out; its answer comes late; B (read 50, as long) must not get it."""
    timeout_s = 0.15

    async def first_late(bus, request):
        if len(bus.requests) == 1:
            await asyncio.sleep(timeout_s + late_s)
        bus.send(bus.honest(request))

    async with Bus(first_late, crc_bytes) as bus:
        unit = unit_on(bus, timeout_s)
        link = await unit.client.link()
        with pytest.raises(Exception, match="no whole answer"):
            await link.ask(READ, timeout_s=timeout_s)
        assert words(await unit.read(OTHER)) == [1050, 1051]
        assert unit.client.counts["discarded"] == 9
        await unit.client.close()


async def test_a_wrong_checksum_is_refused_and_counted(crc_bytes):
    async def corrupt(bus, request):
        good = bytearray(bus.honest(request))
        good[3] ^= 0x40
        bus.send(bytes(good))

    async with Bus(corrupt, crc_bytes) as bus:
        unit = unit_on(bus)
        with pytest.raises(BadAnswer, match="crc"):
            await unit.read(READ)
        assert unit.client.counts["lie_crc"] == 3
        await unit.client.close()


async def test_a_silent_line_never_gets_a_write_twice(crc_bytes):
    async def silent(bus, request):
        pass

    async with Bus(silent, crc_bytes) as bus:
        unit = unit_on(bus)
        with pytest.raises(OutcomeUnknown):
            await unit.write(frame.write_registers(1, 5, [1]))
        await asyncio.sleep(0.5)
        assert len(bus.requests) == 1
        await unit.client.close()


async def test_the_port_has_one_owner_and_must_exist(crc_bytes):
    async with Bus(honestly, crc_bytes) as bus:
        first, second = unit_on(bus), unit_on(bus)
        await first.read(READ)
        with pytest.raises(DeviceNotSent):
            await second.read(READ)
        await first.client.close()
        await second.client.close()
    gone = ModbusUnit(
        client_of("modbus+rtu:///dev/nothing-here", ModbusSettings(), timeout_s=0.1), name="d"
    )
    with pytest.raises(DeviceNotSent):
        await gone.read(READ)
    await gone.client.close()


def test_the_silence_between_frames_follows_the_line():
    assert LineSettings(path="x", speed_baud=9600, format="8E1").silence_s == pytest.approx(
        3.5 * 11 / 9600
    )
    assert LineSettings(path="x", speed_baud=115200).silence_s == 0.00175
