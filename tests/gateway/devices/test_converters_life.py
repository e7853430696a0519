"""Four converters with a controller each: failures on the way, signs of life, commands."""

import asyncio

import pytest
from fakes.converter_bench import converter_bench, instruction, powers

from gateway.core.interlock import (
    STATUS_FAILSAFE,
    STATUS_MASTER_OK,
)
from gateway.devices.guard import GuardRefused
from gateway.model.errors import (
    BadAnswer,
    DeviceError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.setpoint import Ack, Command
from gateway.model.telemetry import State

pytestmark = pytest.mark.usefixtures("still_time")


@pytest.fixture
async def bench():
    async with converter_bench() as found:
        yield found


# Failures on the way


async def test_applied_in_part_is_unknown_and_names_who_has_it(bench):
    await bench.ready()
    wanted = instruction(0, 30_000, -20_000, 10_000, order=(2, 3, 1, 0))
    await bench.station.select(wanted)
    bench.fault(4, "lose_reply", functions=("write",))
    with pytest.raises(OutcomeUnknown, match=r"T3 set, T4 may be \(.*\), T2 not written"):
        await bench.station.operate(wanted)
    assert bench.set_w() == [0, 0, -20_000, 10_000]
    bench.well()
    seen = await bench.station.read()
    assert seen.instruction_id == wanted.id
    assert powers(seen) == [0, 0, -20_000, 10_000]
    with pytest.raises(GuardRefused, match="not-selected"):  # and is not done again
        await bench.station.operate(wanted)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("lose_request", OutcomeUnknown),
        ("lose_reply", OutcomeUnknown),
        ("local", DeviceRefused),
    ],
)
async def test_the_first_failure_is_raised_as_it_is(bench, fault, error):
    await bench.ready()
    wanted = instruction(0, 30_000, -20_000, 0)
    await bench.station.select(wanted)
    if fault == "local":
        bench.injector.inject("local", {})
    else:
        bench.fault(2, fault, functions=("write",))
    writes = bench.device.terminal_maps[1].write_count
    with pytest.raises(error, match="sop1-t2"):
        await bench.station.operate(wanted)
    assert bench.set_w()[2] == 0
    assert bench.device.terminal_maps[1].write_count - writes <= 1
    bench.well()
    seen = await bench.station.read()
    assert powers(seen)[1] == (30_000 if fault == "lose_reply" else 0)


async def test_a_refused_set_value_after_others_is_unknown(bench):
    await bench.ready()
    wanted = instruction(0, 125_000, 125_000, 0)  # with the losses more than the master carries
    await bench.station.select(wanted)
    with pytest.raises(OutcomeUnknown, match=r"T2 set, T3 is not \("):
        await bench.station.operate(wanted)
    assert bench.set_w() == [0, 125_000, 0, 0]
    alone = instruction(0, 125_000, 125_000, 0, id=2)
    bench.wait(0.5)  # the same again is a write like another
    await bench.station.read()
    await bench.station.select(alone)
    with pytest.raises(DeviceRefused, match="illegal data value"):
        await bench.station.operate(alone)


@pytest.mark.parametrize("terminal", [1, 2])
async def test_a_stop_reaches_who_holds_reactive_power_told_otherwise(bench, terminal):
    await bench.ready()
    face = bench.device.terminal_maps[terminal - 1]
    inner = face._controls
    face._controls = lambda: {**inner(), "704.VarSetEna": 1, "704.VarSetMod": 2}
    face._image_key = ()
    with pytest.raises(BadAnswer, match="q_set is held as var-max-percent"):
        await bench.station.read()
    writes = bench.watch(terminal)
    with pytest.raises(OutcomeUnknown, match=f"T{terminal} not known to be at zero"):
        await bench.station.command(Command.ENTER_STANDBY)
    assert {40334, 40331} <= {address for address, _ in writes}
    face._controls, face._image_key = inner, ()
    assert await bench.station.command(Command.ENTER_STANDBY) is Ack.EXECUTED
    await bench.station.read()


async def test_a_mute_converter_sends_nothing_before_operate(bench):
    await bench.ready()
    bench.fault(3, "half_open")
    with pytest.raises(DeviceNotSent, match="sop1-t3"):
        await bench.station.select(instruction(0, 1_000, 0, 0))
    bench.well()
    await bench.station.read()
    await bench.station.select(instruction(0, 1_000, 0, 0))
    bench.fault(3, "half_open")
    with pytest.raises(DeviceNotSent, match="sop1-t3"):
        await bench.station.staged_equals(instruction(0, 1_000, 0, 0))


async def test_a_value_kept_otherwise_is_unknown(bench):
    await bench.ready()
    wanted = instruction(0, 30_000, 0, 0)
    await bench.station.select(wanted)
    bench.fault(2, "lost_write")
    with pytest.raises(OutcomeUnknown, match="p_set reads 0, not 30000"):
        await bench.station.operate(wanted)


@pytest.mark.parametrize("slow", [2, 3, 4])
async def test_a_stop_in_the_middle_of_an_operation_has_the_last_word(bench, slow):
    await bench.ready()
    wanted = instruction(0, 30_000, -20_000, 10_000)
    await bench.station.select(wanted)
    writes = bench.watch(slow)
    bench.fault(slow, "delay", functions=("write",), delay_s=1.0)
    operating = asyncio.ensure_future(bench.station.operate(wanted))
    while not writes:
        await asyncio.sleep(0.01)
    assert await bench.station.command(Command.ENTER_STANDBY) is Ack.EXECUTED
    (outcome,) = await asyncio.gather(operating, return_exceptions=True)
    if slow == 4:  # its last write had left before
        assert outcome is Ack.EXECUTED
    else:
        assert isinstance(outcome, OutcomeUnknown)
        assert f"T{slow + 1} is not (sop1: a stop was ordered)" in str(outcome)
    assert bench.set_w() == [0, 0, 0, 0]
    assert len(writes) == 2
    bench.well()
    # And the end of that operation gave nothing a longer life.
    assert bench.station._life_end_us <= bench.time.now_us


async def test_a_write_that_was_refused_leaves_the_instruction_before(bench):
    await bench.ready()
    first = await bench.carry_out(0, 30_000, 0, 0)
    bench.wait(1)
    second = instruction(0, 20_000, 0, 0, id=2)
    await bench.station.select(second)
    bench.injector.inject("local", {})
    with pytest.raises(DeviceRefused):
        await bench.station.operate(second)
    assert (await bench.station.read()).instruction_id == first.id


# Signs of life


async def test_without_signs_of_life_all_fall_within_their_life_and_a_second(bench):
    await bench.ready()
    await bench.carry_out(0, 100_000, -50_000, 20_000)
    assert powers(await bench.live(20)) == [0, 100_000, -50_000, 20_000]
    bench.wait(3.9)
    assert bench.set_w() == [0, 100_000, -50_000, 20_000]
    bench.wait(2.1)
    assert bench.set_w() == [0, 0, 0, 0]
    seen = await bench.station.read()
    assert seen.status_bits & STATUS_FAILSAFE
    assert (powers(seen), seen.watchdog_remaining_ds) == ([0] * 4, 0)
    # Only new set values end it.
    await bench.station.configure(
        watchdog_ds=50, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=7
    )
    assert (await bench.station.read()).status_bits & STATUS_FAILSAFE
    await bench.carry_out(0, 0, 10_000, 0, id=2)
    assert not (await bench.station.read()).status_bits & STATUS_FAILSAFE
    assert powers(await bench.live(10)) == [0, 0, 10_000, 0]


async def test_a_stop_ends_a_fail_safe_as_well(bench):
    await bench.ready()
    await bench.carry_out(0, 100_000, 0, 0)
    bench.wait(6)
    assert (await bench.station.read()).status_bits & STATUS_FAILSAFE
    await bench.station.command(Command.ENTER_STANDBY)
    assert not (await bench.station.read()).status_bits & STATUS_FAILSAFE


async def test_applied_in_part_lives_no_longer_than_what_was_there(bench):
    await bench.ready()
    await bench.carry_out(0, 10_000, 0, 0, ttl_s=6)
    bench.wait(1)
    wanted = instruction(0, 20_000, 30_000, 0, id=2)
    await bench.station.select(wanted)
    bench.fault(3, "lose_request", functions=("write",))
    with pytest.raises(OutcomeUnknown, match="T2 set, T3 may be"):
        await bench.station.operate(wanted)
    bench.well()
    writes = bench.watch(2)
    while bench.set_w()[1]:
        await bench.station.heartbeat(0)
        await bench.station.read()
        bench.wait(0.5)
        assert len(writes) < 40
    assert bench.set_w() == [0, 0, 0, 0]


async def test_one_that_fell_lets_all_fall(bench):
    await bench.ready()
    await bench.carry_out(0, 100_000, -50_000, 20_000)
    await bench.live(3)
    bench.fault(3, "lose_request", functions=("write",))
    for _ in range(7):
        with pytest.raises(DeviceError, match="sop1-t3"):
            await bench.station.heartbeat(0)
        bench.wait(1)
    assert bench.set_w() == [0, 100_000, 0, 20_000]
    bench.well()
    assert (await bench.station.read()).status_bits & STATUS_FAILSAFE
    for _ in range(6):
        await bench.station.heartbeat(0)
        bench.wait(1)
    assert bench.set_w() == [0, 0, 0, 0]


async def test_reactive_power_falls_as_well(bench):
    await bench.ready()
    await bench.carry_out(0, 0, 0, 0, q=(20_000, 0, -30_000, 0))
    await bench.live(10)
    assert [round(c.q_set_var) for c in bench.sop.converters] == [20_000, 0, -30_000, 0]
    bench.wait(6)
    assert [round(c.q_set_var) for c in bench.sop.converters] == [0, 0, 0, 0]


async def test_nothing_is_kept_beyond_the_life_of_the_instruction(bench):
    await bench.ready()
    await bench.carry_out(0, 100_000, 0, 0, ttl_s=8)
    began_us = bench.time.now_us
    while bench.set_w()[1]:
        await bench.station.heartbeat(0)
        await bench.station.read()
        bench.wait(0.5)
    assert 7_000_000 <= bench.time.now_us - began_us <= 9_000_000
    writes = [m.write_count for m in bench.device.terminal_maps]
    await bench.station.heartbeat(0)  # one fell: none is kept
    assert [m.write_count for m in bench.device.terminal_maps] == writes
    await bench.carry_out(0, 100_000, 0, 0, ttl_s=8, id=2)
    bench.time.now_us += 8_000_000  # the driver's clock says over, whatever the devices hold
    writes = [m.write_count for m in bench.device.terminal_maps]
    await bench.station.heartbeat(0)
    assert [m.write_count for m in bench.device.terminal_maps] == writes


async def test_arming_leaves_the_set_values_alone(bench):
    await bench.ready()
    wanted = await bench.carry_out(0, 100_000, -50_000, 20_000, q=(0, 100, 0, 0))
    await bench.station.configure(
        watchdog_ds=61, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=7
    )
    assert bench.set_w() == [0, 100_000, -50_000, 20_000]
    bench.wait(0.5)
    seen = await bench.station.read()
    assert (seen.instruction_id, seen.watchdog_remaining_ds) == (wanted.id, 60)  # 6.1 s: up to 7
    assert [c.ramp_permille_per_s for c in bench.sop.converters] == [200] * 4
    with pytest.raises(GuardRefused, match="watchdog"):
        await bench.station.configure(
            watchdog_ds=0, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=7
        )
    bench.fault(2, "lost_write")
    with pytest.raises(DeviceRefused, match="sop1-t2"):
        await bench.station.configure(
            watchdog_ds=90, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=7
        )
    assert (await bench.station.read()).lease_owner == 0


# Commands


async def test_enter_standby_takes_power_away_and_opens_nothing(bench):
    await bench.ready()
    wanted = await bench.carry_out(0, 100_000, -50_000, 20_000, q=(9_000, 0, 0, 0))
    await bench.live(5)
    assert await bench.station.command(Command.ENTER_STANDBY) is Ack.EXECUTED
    assert bench.set_w() == [0, 0, 0, 0]
    assert bench.sop.converters[0].q_set_var == 0
    seen = await bench.station.read()
    assert (seen.state, seen.instruction_id) == (State.RUN, wanted.id)
    assert not seen.status_bits & STATUS_FAILSAFE
    seen = await bench.live(7)
    assert [abs(t.p_w) < 100 for t in seen.terminals[1:]] == [True] * 3


@pytest.mark.parametrize("mute", [1, 2, 3, 4])
async def test_a_stop_reaches_the_others_when_one_is_mute(bench, mute):
    await bench.ready()
    await bench.carry_out(0, 100_000, -50_000, 20_000, q=(9_000, 0, 0, 0))
    await bench.live(3)
    bench.fault(mute, "half_open")
    with pytest.raises(OutcomeUnknown, match=f"T{mute} not known to be at zero"):
        await bench.station.command(Command.ENTER_STANDBY)
    held = [0, 100_000, -50_000, 20_000]
    assert bench.set_w() == [held[n] if n == mute - 1 else 0 for n in range(4)]
    # And it is not kept: without a sign of life it falls by itself.
    for _ in range(7):
        await bench.station.heartbeat(0)
        bench.wait(1)
    assert bench.set_w() == [0, 0, 0, 0]


async def test_behind_one_address_a_mute_unit_does_not_hold_up_the_stop(bench):
    await bench.ready()
    await bench.carry_out(0, 100_000, -50_000, 20_000)
    await bench.station.close()
    bench.station = bench.driver(together=True)
    seen = await bench.station.read()
    assert powers(seen) == [0, 100_000, -50_000, 20_000]
    bench.fault(1, "lose_request", unit=3)  # the first line carries all four units
    with pytest.raises(OutcomeUnknown, match="T3 not known to be at zero"):
        await bench.station.command(Command.ENTER_STANDBY)
    assert bench.set_w() == [0, 0, -50_000, 0]


async def test_a_derated_converter_says_what_it_can_carry(bench):
    await bench.ready()
    bench.injector.inject("derate", {"ratio": 0.4, "terminal": 3})
    await bench.carry_out(0, 0, 150_000, 0)
    seen = await bench.live(6)
    assert seen.terminals[2].s_va_available == 100_000
    assert (seen.state, seen.terminals[2].state) == (State.DERATED, State.DERATED)
    assert seen.status_bits & STATUS_MASTER_OK


async def test_stop_and_start_and_reset(bench):
    await bench.ready()
    await bench.carry_out(0, 100_000, 0, 0)
    await bench.live(3)
    bench.fault(3, "half_open")
    with pytest.raises(OutcomeUnknown, match="T3 not known to stop"):
        await bench.station.command(Command.STOP)
    assert [c.state.name for c in bench.sop.converters] == [
        "STOPPING", "STOPPING", "RUN", "STOPPING",
    ]  # fmt: skip
    bench.well()
    assert await bench.station.command(Command.STOP) is Ack.EXECUTED
    bench.wait(10)
    assert (await bench.station.read()).state is State.STOPPED
    assert await bench.station.command(Command.START) is Ack.EXECUTED
    bench.wait(10)
    assert (await bench.station.read()).state is State.STANDBY
    bench.injector.inject("trip", {"terminal": 2})
    bench.wait(6)
    assert (await bench.station.read()).state is State.FAULT
    assert await bench.station.command(Command.RESET) is Ack.EXECUTED
    assert (await bench.station.read()).state is State.STOPPED


async def test_exit_standby_begins_with_the_master(bench):
    await bench.station.read()
    bench.injector.inject("local", {})
    with pytest.raises(DeviceRefused, match="sop1-t1"):
        await bench.station.command(Command.EXIT_STANDBY)
    bench.injector.inject("clear", {})
    assert {c.state.name for c in bench.sop.converters} == {"STANDBY"}
    bench.well()
    assert await bench.station.command(Command.EXIT_STANDBY) is Ack.EXECUTED
    assert {c.state.name for c in bench.sop.converters} == {"RUN"}
    assert await bench.station.command(Command.EXIT_STANDBY) is Ack.EXECUTED  # it sets a state


async def test_what_all_refused_did_not_happen(bench):
    await bench.ready()
    await bench.carry_out(0, 10_000, 0, 0)
    bench.injector.inject("local", {})
    for command in (Command.ENTER_STANDBY, Command.START):
        with pytest.raises(DeviceRefused):
            await bench.station.command(command)
    bench.injector.inject("clear", {})
    for proxy in bench.proxies:
        await proxy.close()
    with pytest.raises(DeviceError):
        await bench.station.read()
    with pytest.raises(DeviceNotSent):
        await bench.station.command(Command.ENTER_STANDBY)
    assert bench.set_w() == [0, 10_000, 0, 0]


async def test_reactive_power_of_the_master_goes_too_where_it_was_set_after_the_reading(bench):
    await bench.ready()
    await bench.carry_out(0, 0, 0, 0, q=(9_000, 0, 0, 0))  # not read since
    await bench.station.command(Command.ENTER_STANDBY)
    assert bench.sop.converters[0].q_set_var == 0


async def test_commands_it_cannot_take(bench):
    for command in (Command.SELECT, Command.OPERATE, Command.SET_MASTER):
        with pytest.raises(GuardRefused):
            await bench.station.command(command, 2)


async def test_a_poll_beside_a_write_calls_nothing_fallen(bench):
    """What a poll read before a write, it does not hold against it after the write."""
    await bench.ready()
    wanted = instruction(0, 1_000, 0, 0)
    await bench.station.select(wanted)
    bench.fault(4, "delay", functions=("read",), delay_s=0.5)
    asked = bench.device.responder.request_count
    poll = asyncio.ensure_future(bench.station.read())
    while bench.device.responder.request_count < asked + 13:  # all but the last of the fourth
        await asyncio.sleep(0.01)
    assert await bench.station.operate(wanted) is Ack.EXECUTED
    seen = await poll
    assert powers(seen) == [0, 0, 0, 0]
    assert not seen.status_bits & STATUS_FAILSAFE
    bench.well()
    assert powers(await bench.station.read()) == [0, 1_000, 0, 0]
