import asyncio
import struct
import time
from decimal import Decimal

import pytest

from gateway.config.profile_file import load_profile
from gateway.devices.codec import EncodeError
from gateway.devices.connect import open_device
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.devices.profile import (
    Access,
    Interlock,
    Kind,
    ModbusSettings,
    Point,
    PointType,
    Profile,
    Protocol,
    Register,
    Table,
    WriteRule,
)
from gateway.model.errors import OutcomeUnknown
from gateway.model.telemetry import Quality

pytestmark = pytest.mark.usefixtures("still_time")


class RealClock:
    def utc_us(self):
        return time.time_ns() // 1000

    def mono_us(self):
        return time.monotonic_ns() // 1000


def at(address):
    return Register(table=Table.HOLDING, address=address)


def profile_of(*points, **fields):
    return Profile(
        id="x", kind=Kind.SENSOR, protocol=Protocol.MODBUS, points=points,
        modbus=fields.pop("modbus", ModbusSettings(gap_size=20)), **fields,
    )  # fmt: skip


def device_at(peer, profile, **fields):
    return open_device(
        name="d", profile=profile, url=f"modbus+tcp://127.0.0.1:{peer.port}", unit=1,
        clock=RealClock(), **{"read_only": False, **fields},
    )  # fmt: skip


def refusing(*poison, code=2):
    def script(device, wire, request):
        address, count = struct.unpack_from(">HH", request, 8)
        if any(address <= p < address + count for p in poison) and request[7] in (3, 4):
            wire.send(request[:4] + b"\0\3\1" + bytes((request[7] | 0x80, code)))
        else:
            wire.send(device.honest(request))

    return script


async def test_one_poisoned_address_is_isolated_and_its_neighbours_are_read(peer):
    points = [Point(name=f"p{n}", register=at(2 * n)) for n in range(50)]
    async with peer(refusing(36)) as peer_:
        device = device_at(peer_, profile_of(*points))
        got = await device.get()
        assert device.refused == {"p18": 2}
        assert got["p18"].value is None
        assert got["p18"].quality is Quality.BAD
        assert [got[f"p{n}"].value for n in range(50) if n != 18] == [
            1000 + 2 * n for n in range(50) if n != 18
        ]
        asked = len(peer_.requests)
        assert asked <= 2 + 2 * 6  # halving, not one request a point
        await device.get()
        # p18 is never asked again, and no block spans it, though the gap would allow that.
        assert len(peer_.requests) - asked == 2
        await device.close()


async def test_a_poisoned_gap_does_not_cost_a_point(peer):
    points = [Point(name=f"p{n}", register=at(10 * n)) for n in range(8)]
    async with peer(refusing(35)) as peer_:
        device = device_at(peer_, profile_of(*points))
        got = await device.get()
        assert device.refused == {}
        assert [v.value for v in got.values()] == [1000 + 10 * n for n in range(8)]
        again = len(peer_.requests)
        await device.get()
        assert len(peer_.requests) - again == 2
        await device.close()


async def test_a_sick_device_is_not_taken_for_a_missing_address(peer):
    async with peer(refusing(3, code=4)) as peer_:
        device = device_at(
            peer_, profile_of(*(Point(name=f"p{n}", register=at(n)) for n in range(9)))
        )
        with pytest.raises(Exception, match="device failure"):
            await device.get()
        assert device.refused == {}
        await device.close()


SET = Point(
    name="set", register=at(10), type=PointType.INT16, scale=Decimal("0.1"), unit="kW",
    access=Access.READ_WRITE, range=(Decimal(-150_000), Decimal(150_000)), readback="shown",
)  # fmt: skip
SHOWN = Point(name="shown", register=at(10), type=PointType.INT16, scale=Decimal("0.1"), unit="kW")


async def test_a_write_is_read_back(peer, honestly):
    async with peer(honestly) as peer_:
        device = device_at(peer_, profile_of(SET, SHOWN))
        shown = await device.set("set", -90_000)
        assert (shown.name, shown.value) == ("shown", -90_000)
        assert shown.registers == (0xFC7C,)
        assert peer_.registers[10] == 0xFC7C
        await device.close()


@pytest.mark.parametrize(
    ("value", "error", "word"),
    [
        (160_000, GuardRefused, "range"),
        (150, EncodeError, "finer"),
        ("fast", EncodeError, "no such value"),
    ],
)
async def test_what_must_not_be_written_is_not(peer, honestly, value, error, word):
    async with peer(honestly) as peer_:
        device = device_at(peer_, profile_of(SET, SHOWN))
        with pytest.raises(error, match=word):
            await device.set("set", value)
        assert peer_.functions[16] == 0
        await device.close()


async def test_read_only_devices_and_points_are_not_written(peer, honestly):
    async with peer(honestly) as peer_:
        closed = device_at(peer_, profile_of(SET, SHOWN), read_only=True)
        with pytest.raises(GuardRefused) as caught:
            await closed.set("set", 0)
        assert caught.value.reason is GuardReason.READ_ONLY
        opened = device_at(peer_, profile_of(SET, SHOWN))
        with pytest.raises(GuardRefused):
            await opened.set("shown", 0)
        assert peer_.requests == []
        await opened.close()


async def test_interlocks_wear_and_intervals_hold_writes_back(peer, honestly):
    state = Point(name="state", register=at(20), label_by_code={1020: "remote", 1: "local"})
    worn = Point(name="worn", register=at(11), access=Access.READ_WRITE, write_count_max=1)
    slow = Point(
        name="slow",
        register=at(12),
        access=Access.READ_WRITE,
        write=WriteRule(interval_ms_min=60_000),
    )
    locks = (Interlock(id="IL-1", block=("worn",), when="state == local", cause="blocked-by-mode"),)
    async with peer(honestly) as peer_:
        device = device_at(peer_, profile_of(state, worn, slow, interlocks=locks))
        peer_.registers[20] = 1
        with pytest.raises(GuardRefused, match="blocked-by-mode"):
            await device.set("worn", 1)
        peer_.registers[20] = 1020
        assert (await device.set("worn", 1)).value == 1
        with pytest.raises(GuardRefused, match="wear"):
            await device.set("worn", 2)
        await device.set("slow", 1)
        with pytest.raises(GuardRefused, match="write-rate"):
            await device.set("slow", 2)
        assert peer_.functions[16] == 2
        await device.close()


async def test_a_write_that_cannot_be_read_back_is_unknown(peer):
    def script(device, wire, request):
        if request[7] == 16:
            wire.send(device.honest(request))

    async with peer(script) as peer_:
        device = device_at(peer_, profile_of(SET, SHOWN), timeout_s=0.1)
        with pytest.raises(OutcomeUnknown):
            await device.set("set", 0)
        assert peer_.functions[16] == 1
        await device.close()


async def test_a_read_back_that_cannot_be_asked_for_is_unknown_not_unsent(peer):
    def script(peer_, wire, request):
        wire.send(peer_.honest(request))
        if request[7] == 16:  # the line is gone, and is not tried again at once
            device._unit._not_before_s = asyncio.get_running_loop().time() + 9

    async with peer(script) as peer_:
        device = device_at(peer_, profile_of(SET, SHOWN))
        with pytest.raises(OutcomeUnknown, match="written, but no answer lately"):
            await device.set("set", 0)
        assert peer_.functions[16] == 1
        await device.close()


async def test_scale_factors_are_read_with_the_values(peer, honestly):
    power = Point(name="p", register=at(5), type=PointType.INT16, unit="W", scale_point="sf")
    factor = Point(name="sf", register=at(60), type=PointType.SUNSSF)
    async with peer(honestly) as peer_:
        peer_.registers[5], peer_.registers[60] = 1234, 2
        device = device_at(peer_, profile_of(power, factor))
        assert (await device.get(["p"]))["p"].value == 123_400
        for nonsense in (11, 0x8000, 0xFFF5):
            peer_.registers[60] = nonsense
            assert (await device.get(["p"]))["p"].value is None
        peer_.registers[60] = 0xFFFF
        assert (await device.get(["p"]))["p"].value == 123.4
        await device.close()


def test_what_a_point_of_a_terminal_refers_to_is_of_the_same_terminal():
    points = {p.name: p for p in load_profile("sop-station-v1").all_points(2)}
    assert (points["t2.q_set"].readback, points["t2.q_active"].register.address) == (
        "t2.q_active", points["t1.q_active"].register.address + 40,
    )  # fmt: skip
    assert points["t2.p_set"].effect.point == "t2.p"
    assert points["cmd.seq"].readback == "ack.seq"
