"""Any point of a profile as commissioning reads it, against a simulated SunSpec meter."""

import contextlib
import struct

import pytest

from firmware_sim.meter_device import MeterDevice
from firmware_sim.timebase import SimClock, TimeBase
from gateway.commissioning.equipment import DeviceSpec, PointReader
from gateway.config.profile_file import load_profile
from gateway.devices.connect import client_of
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.profile import Kind, Point, PointType, Profile, Protocol, Register, Table
from gateway.runtime.clock import SystemClock

W_SF, A_SF, V_SF, HZ_SF = 40092, 40076, 40085, 40087


@contextlib.asynccontextmanager
async def sunspec_reader(**fields):
    clock = SimClock(TimeBase(epoch_ns=0, utc_epoch_us=0, factor=1.0), lambda: 0)
    device = MeterDevice("sunspec203", clock, **fields)
    url = f"modbus+tcp://127.0.0.1:{(await device.start(0))['meter']}"
    profile = load_profile("sunspec-meter")
    unit = ModbusUnit(client_of(url, profile.modbus, timeout_s=5), name="m", timeout_s=5)
    spec = DeviceSpec(name="m", profile=profile, url=url, unit=1)
    try:
        yield device, PointReader(unit, spec, SystemClock())
    finally:
        await unit.client.close()
        await device.close()


async def test_scale_factors_of_sunspec_are_applied():
    async with sunspec_reader(load_w=50_000.0, start_import_wh=1_000_000.0) as (_, reader):
        names = ("p", "p1", "i1", "v1", "f", "e.import")
        poll = await reader.read(names)
        assert tuple(sorted(poll.points)) == tuple(sorted(names))  # what was asked and no more
        assert poll.missing == ()
        exponents = {
            at: struct.unpack(">h", struct.pack(">H", poll.registers[at]))[0]
            for at in (W_SF, A_SF, V_SF, HZ_SF)
        }
        assert exponents == {W_SF: 1, A_SF: -1, V_SF: -1, HZ_SF: -2}
        assert abs(poll.points["p"]) == pytest.approx(50_000, rel=0.05)
        assert abs(poll.points["p1"]) == pytest.approx(50_000 / 3, rel=0.2)
        assert poll.points["v1"] == pytest.approx(230, rel=0.1)
        assert abs(poll.points["i1"]) == pytest.approx(72, rel=0.3)
        assert poll.points["f"] == pytest.approx(50, rel=0.01)
        assert poll.points["e.import"] == pytest.approx(1_000_000, rel=0.01)


async def test_without_a_sane_scale_factor_a_point_has_no_value():
    async with sunspec_reader() as (device, reader):
        (meter,) = device.units.values()
        at = meter._places["203.W_SF"].address
        real = meter.read

        def spoiled(table, address, count):
            words = list(real(table, address, count))
            if address <= at < address + count:
                words[at - address] = 0x8000
            return words

        meter.read = spoiled
        poll = await reader.read(["p", "v1"])
        assert (set(poll.points), poll.missing) == ({"v1"}, ("p",))


class Line:
    """Coils that are all on, and registers that say their address."""

    name = "line"

    async def read(self, request):
        function, address, count = struct.unpack_from(">BHH", request.pdu)
        if function == 1:
            return b"\xff" * -(-count // 8)
        return struct.pack(f">{count}H", *range(address, address + count))


async def test_coils_are_read_beside_registers():
    points = (
        Point(name="on", type=PointType.BOOL, register=Register(table=Table.COIL, address=3)),
        Point(name="x", register=Register(table=Table.HOLDING, address=7)),
    )
    profile = Profile(id="odd", kind=Kind.SENSOR, protocol=Protocol.MODBUS, points=points)
    spec = DeviceSpec(name="line", profile=profile, url="", unit=1)
    poll = await PointReader(Line(), spec, SystemClock()).read(["on", "x"])
    assert (dict(poll.points), dict(poll.registers)) == ({"on": 1.0, "x": 7.0}, {7: 7})
