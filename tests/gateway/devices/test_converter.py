"""One converter's driver: every register it writes, what it refuses, what it cannot know."""

import dataclasses
import struct

import pytest
from fakes.converter_bench import PROFILE, TERMINALS, converter_bench

from firmware_sim.faces.registers import ILLEGAL_VALUE, ModbusRefusalError
from gateway.config.profile_file import load_profile
from gateway.devices.connect import open_converters
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.devices.profile import Sign
from gateway.model.errors import (
    BadAnswer,
    ConfigError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.setpoint import Command
from gateway.model.telemetry import State

pytestmark = pytest.mark.usefixtures("still_time")


@pytest.fixture
async def bench():
    async with converter_bench() as found:
        found.one = found.station._converters["T2"]
        found.face = found.device.terminal_maps[1]
        found.converter = found.sop.converters[1]
        yield found


def i32(value):
    return list(struct.unpack(">2H", struct.pack(">i", value)))


def says(bench, **values):
    """The device says something else, by the names of its points."""
    inner = bench.before_says = bench.face._controls
    changed = {key.replace("_", ".", 1).removeprefix("m"): v for key, v in values.items()}
    bench.face._controls = lambda: {**inner(), **changed}
    bench.face._image_key = ()


# What goes out


async def test_the_registers_of_arming(bench):
    writes = bench.watch(2)
    await bench.one.arm(5)
    assert writes == [
        (40345, [20]),  # 50 kW/s of 250 kVA
        (40322, [0, 0]),
        (40326, [1, 0, 5]),
        (40336, [0, 0]),
        (40340, [1, 0, 5]),
    ]


async def test_the_registers_of_a_set_value(bench):
    await bench.one.arm(5)
    await bench.one.operate(Command.EXIT_STANDBY)
    writes = bench.watch(2)
    await bench.one.hold(p_w=-150_200, q_var=0)
    assert writes == [(40318, [1, 1, *i32(-150_200)])]  # one write: all of it or nothing
    writes.clear()
    await bench.one.hold(p_w=-150_200, q_var=70_000)
    assert writes == [
        (40318, [1, 1, *i32(-150_200)]),
        (40334, i32(70_000)),  # the value before what enables it
        (40331, [1, 4]),
    ]
    words = [1, 1, *i32(-150_200), *i32(70_000), 1, 4]
    assert bench.one.block(p_w=-150_200, q_var=70_000) == struct.pack(">8H", *words)
    writes.clear()
    await bench.one.hold(p_w=230_000, q_var=0)  # both at once the device would not bear
    assert [address for address, _ in writes] == [40334, 40331, 40318]
    assert (bench.converter.p_set_w, bench.converter.q_set_var) == (230_000, 0)


async def test_of_a_master_only_the_reactive_power_is_set(bench):
    await bench.one.arm(5)
    writes = bench.watch(2)
    await bench.one.hold(p_w=None, q_var=-1_000)
    assert [address for address, _ in writes] == [40334, 40331]
    writes.clear()
    await bench.one.hold(p_w=None, q_var=-1_000)
    assert writes == []  # it holds that
    assert bench.one.block(p_w=None, q_var=-1_000) == struct.pack(">4H", *i32(-1_000), 1, 4)


async def test_a_sign_of_life_renews_the_timers_in_use_and_no_set_value(bench):
    await bench.one.arm(5)
    await bench.one.hold(p_w=1_000, q_var=0)
    writes = bench.watch(2)
    await bench.one.keep(5)
    await bench.one.keep(3)
    assert writes == [
        (40326, [1, 0, 5]), (40413, [0, 0]), (40326, [1, 0, 3]), (40413, [0, 1]),
    ]  # fmt: skip
    await bench.one.hold(p_w=1_000, q_var=500)
    writes.clear()
    await bench.one.keep(5)
    assert writes == [(40326, [1, 0, 5]), (40340, [1, 0, 5]), (40413, [0, 2])]
    unread = bench.driver()._converters["T2"]  # what is in use it does not know: both
    writes.clear()
    await unread.keep(5)
    assert [address for address, _ in writes] == [40326, 40340, 40413]
    await unread.close()


@pytest.mark.parametrize(
    ("command", "write"),
    [
        (Command.STOP, (40416, [0])),
        (Command.START, (40416, [1])),
        (Command.ENTER_STANDBY, (40416, [2])),
        (Command.EXIT_STANDBY, (40416, [3])),
        (Command.RESET, (40415, [1])),
    ],
)
async def test_the_registers_of_an_operation(bench, command, write):
    if command is Command.ENTER_STANDBY:
        await bench.one.operate(Command.EXIT_STANDBY)
    writes = bench.watch(2)
    await bench.one.operate(command)
    assert writes == [write]


# What comes in


@pytest.mark.parametrize(
    ("p_w", "q_var"), [(0, 0), (1, -1), (230_000, -90_000), (-230_000, 65_536), (-65_535, 32_768)]
)
async def test_set_values_are_read_back_at_both_signs_and_all_sizes(bench, p_w, q_var):
    await bench.one.arm(5)
    await bench.one.operate(Command.EXIT_STANDBY)
    await bench.one.hold(p_w=p_w, q_var=q_var)
    seen = await bench.one.read()
    assert (seen.p_w_set, seen.q_var_set) == (p_w, q_var)
    assert seen.left_ds == 50
    bench.wait(4.5)
    seen = await bench.one.read()
    # Counted in whole seconds: in its last one the timer still runs.
    assert seen.left_ds == (5 if p_w and q_var else 0)
    assert seen.p_w == pytest.approx(bench.converter.p_w, abs=5)
    assert seen.q_var == pytest.approx(bench.converter.q_var, abs=5)
    bench.wait(1)
    seen = await bench.one.read()
    assert (seen.p_w_set, seen.q_var_set, seen.left_ds) == (0, 0, 0)


async def test_what_is_not_enabled_is_not_followed(bench):
    bench.face.write(40320, i32(7_000))
    seen = await bench.one.read()
    assert (seen.p_w_set, seen.left_ds, seen.state) == (0, 0, State.STANDBY)
    assert (seen.local, seen.estop, seen.fault_bits) == (False, False, 0)
    bench.wait(90)
    seen = await bench.one.read()
    assert (seen.heartbeat_count, seen.uptime_s) == (90, 90)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"m701_InvSt": 8}, "unknown operating state 8"),
        ({"m701_InvSt": None}, "unknown operating state none"),
        ({"m701_W": None}, "p has no value"),
        ({"m701_W_SF": None}, "p has no value"),
        ({"m704_WSet": None, "m704_WSetEna": 1}, "p_set has no value"),
        ({"m704_WSet_SF": None}, "sf.p_set has no value"),
        ({"m704_VarSet_SF": 11}, "sf.q_set has no value"),
    ],
)
async def test_without_a_value_there_is_no_reading(bench, values, what):
    says(bench, **values)
    with pytest.raises(BadAnswer, match=what):
        await bench.one.read()


async def test_what_a_device_need_not_have(bench):
    says(bench, m701_Alrm=None, m715_DERHb=None)
    seen = await bench.one.read()
    assert (seen.fault_bits, seen.heartbeat_count) == (0, 0)
    says(bench, m701_Alrm=1 << 6 | 1 << 7, m715_LocRemCtl=1)
    seen = await bench.one.read()
    assert (seen.fault_bits, seen.estop, seen.local) == (0xC0, True, True)
    says(bench, m715_LocRemCtl=None)
    assert (await bench.one.read()).local  # who does not say that it obeys, does not


async def test_steps_of_the_set_value_come_from_the_device(bench):
    assert bench.one.block(p_w=0, q_var=0)  # zero is zero in every scale
    with pytest.raises(DeviceNotSent, match="not been read"):
        bench.one.block(p_w=10, q_var=0)
    says(bench, m704_WSet_SF=1)
    await bench.one.read()
    assert bench.one.block(p_w=150_200, q_var=0)[4:8] == struct.pack(">i", 15_020)
    with pytest.raises(GuardRefused, match="finer than the register's step") as refused:
        bench.one.block(p_w=150_203, q_var=0)
    assert refused.value.reason is GuardReason.RANGE
    says(bench, m704_WSet_SF=-6)
    await bench.one.read()
    with pytest.raises(GuardRefused, match="does not fit"):
        bench.one.block(p_w=150_203, q_var=0)


# Failures


async def test_without_its_timer_only_zero_is_set(bench):
    await bench.one.read()
    writes = bench.watch(2)
    with pytest.raises(GuardRefused, match="p_set would never end"):
        await bench.one.hold(p_w=1_000, q_var=0)
    with pytest.raises(GuardRefused, match="q_set would never end"):
        await bench.one.hold(p_w=0, q_var=1_000)
    assert writes == []
    await bench.one.arm(5)
    bench.face.write(40322, i32(5_000))  # it would fall to something
    writes.clear()
    with pytest.raises(GuardRefused, match="p_set would never end"):
        await bench.one.hold(p_w=1_000, q_var=0)
    bench.face.write(40322, i32(0))
    bench.face.write(40327, [0, 0])  # or in no time at all, which means never
    with pytest.raises(GuardRefused, match="p_set would never end"):
        await bench.one.hold(p_w=1_000, q_var=0)
    writes.clear()
    await bench.one.hold(p_w=0, q_var=0)
    assert [address for address, _ in writes] == [40318]


async def test_zero_is_set_where_nothing_can_be_read(bench):
    await bench.one.arm(5)
    await bench.one.operate(Command.EXIT_STANDBY)
    await bench.one.hold(p_w=100_000, q_var=10_000)
    bench.fault(2, "lose_request", functions=("read",))
    with pytest.raises(DeviceNotSent):
        await bench.one.hold(p_w=50_000, q_var=0)
    bench.one._unit._not_before_s = 0.0
    with pytest.raises(OutcomeUnknown, match="not read back"):
        await bench.one.hold(p_w=0, q_var=0)
    assert (bench.converter.p_set_w, bench.converter.q_set_var) == (0, 0)


def heals(bench, address):
    """What ``says`` said holds until this register is written."""
    inner, write = bench.before_says, bench.face.write

    def healing(first, values):
        write(first, values)
        if first == address:
            bench.face._controls, bench.face._image_key = inner, ()

    bench.face.write = healing


@pytest.mark.parametrize(
    ("values", "what", "healed_at"),
    [
        ({"m704_WSetEna": 1, "m704_WSet": None}, "p_set has no value", 40318),
        ({"m704_WSetEna": 1, "m704_WSetMod": 0}, "p_set is held as percent", 40318),
        ({"m704_VarSetEna": 1, "m704_VarSet": None}, "q_set has no value", 40331),
        ({"m704_VarSetEna": 1, "m704_VarSetMod": 1}, "q_set is held as w-max-percent", 40331),
    ],
)
async def test_zero_is_written_over_what_cannot_be_told(bench, values, what, healed_at):
    await bench.one.arm(5)
    says(bench, **values)
    with pytest.raises(BadAnswer, match=what):
        await bench.one.read()
    writes = bench.watch(2)
    with pytest.raises(OutcomeUnknown, match=what):  # it says so still: not executed
        await bench.one.hold(p_w=0, q_var=0)
    assert healed_at in [address for address, _ in writes]
    await bench.one._snapshot(bench.one._held_blocks)
    heals(bench, healed_at)
    writes.clear()
    await bench.one.hold(p_w=0, q_var=0)
    assert healed_at in [address for address, _ in writes]
    seen = await bench.one.read()
    assert (seen.p_w_set, seen.q_var_set) == (0, 0)


async def test_of_a_master_the_active_power_is_no_matter(bench):
    await bench.one.arm(5)
    says(bench, m704_WSetEna=1, m704_WSetMod=0, m704_WSet=None)
    await bench.one.hold(p_w=None, q_var=-1_000)
    assert bench.converter.q_set_var == -1_000


async def test_set_in_part_is_unknown(bench):
    await bench.one.arm(5)
    await bench.one.operate(Command.EXIT_STANDBY)
    inner, refusing = bench.face.write, {40318, 40334}

    def write(address, values):
        if address in refusing:
            raise ModbusRefusalError(ILLEGAL_VALUE)
        inner(address, values)

    bench.face.write = write
    with pytest.raises(DeviceRefused):  # the first write of all: nothing was done
        await bench.one.hold(p_w=20_000, q_var=1_000)
    refusing.remove(40318)
    await bench.one.hold(p_w=30_000, q_var=0)
    with pytest.raises(OutcomeUnknown, match="set in part"):
        await bench.one.hold(p_w=20_000, q_var=30_000)
    assert (bench.converter.p_set_w, bench.converter.q_set_var) == (20_000, 0)


async def test_an_armed_timer_that_is_not_kept_is_refused(bench):
    says(bench, m704_WSetRvrtTms=60)
    with pytest.raises(DeviceRefused, match=r"p_set\.reversion_time reads 60, not 5"):
        await bench.one.arm(5)


async def test_a_write_without_an_answer_is_not_repeated(bench):
    await bench.one.arm(5)
    await bench.one.read()
    for act in (
        lambda: bench.one.hold(p_w=1_000, q_var=0),
        lambda: bench.one.keep(5),
        lambda: bench.one.arm(5),
        lambda: bench.one.operate(Command.EXIT_STANDBY),
    ):
        writes = bench.watch(2)
        bench.fault(2, "lose_reply", functions=("write",))
        with pytest.raises(OutcomeUnknown):
            await act()
        assert len(writes) == 1
        bench.well()
        await bench.one.read()


# What can be driven


def opened(profile, terminals=TERMINALS):
    devices = {t.id: (t.id, profile, "modbus+tcp://127.0.0.1:1", 1) for t in terminals}
    return open_converters(
        name="sop1", devices=devices, terminals=terminals, master="T1", clock=None, owner=7
    )


def without(*names):
    points = tuple(p for p in PROFILE.points if p.name not in names)
    return dataclasses.replace(PROFILE, points=points)


def test_a_profile_must_have_what_the_driver_reads_by_name():
    opened(PROFILE)
    opened(without("p_set.mode", "q_set.mode"))  # where there is no choice
    with pytest.raises(ConfigError, match=r"no dc\.v, q_set\.reversion_time$"):
        opened(without("dc.v", "q_set.reversion_time"))
    other = {"label_by_code": {0: "stop", 1: "start", 2: "enter-standby", 3: "run"}}
    points = (
        *without("cmd.op").points,
        dataclasses.replace(PROFILE.point("cmd.op"), **other),
    )
    with pytest.raises(ConfigError, match=r"no “exit-standby” of cmd\.op"):
        opened(dataclasses.replace(PROFILE, points=points))
    with pytest.raises(ConfigError, match="no Modbus"):
        opened(load_profile("sop-station-opcua"))
    with pytest.raises(ConfigError, match="import positive"):
        opened(dataclasses.replace(PROFILE, sign={"p": Sign.IMPORT_POSITIVE}))


def test_a_ramp_is_a_whole_percent():
    slow = tuple(dataclasses.replace(t, ramp_w_per_s=2_499) for t in TERMINALS)
    with pytest.raises(ConfigError, match="T1: a converter ramps by 1 %/s"):
        opened(PROFILE, slow)


async def test_without_a_choice_of_modes_none_is_written(bench):
    bench.urls = bench.urls[:1] * 4
    devices = {
        t.id: (t.id, without("p_set.mode", "q_set.mode"), bench.urls[0], t.index + 1)
        for t in TERMINALS
    }
    station = bench.driver(devices=devices)
    one = station._converters["T2"]
    await one.arm(5)
    writes = bench.watch(2)
    await one.hold(p_w=-1, q_var=1)
    assert writes == [
        (40320, i32(-1)), (40318, [1]), (40334, i32(1)), (40331, [1]),
    ]  # fmt: skip
    await station.close()
