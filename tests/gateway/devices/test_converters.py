"""Four converters with a controller each, driven as one station, over real Modbus."""

import asyncio

import pytest
from fakes.converter_bench import TERMINALS, converter_bench, instruction

from firmware_sim.plant.states import OpState
from gateway.core.interlock import (
    STATUS_ESTOP,
    STATUS_FAILSAFE,
    STATUS_LOCAL,
    STATUS_MASTER_OK,
    STATUS_REMOTE,
)
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import DeviceError, DeviceNotSent, DeviceRefused, OutcomeUnknown
from gateway.model.setpoint import Ack, Command, ControlMode, Setpoint
from gateway.model.telemetry import Quality, State

pytestmark = pytest.mark.usefixtures("still_time")
SLAVES = range(1, 4)


@pytest.fixture
async def bench():
    async with converter_bench() as found:
        yield found


def powers(seen):
    return [t.p_w_set_active for t in seen.terminals]


# Reading


async def test_one_station_is_made_of_what_each_converter_says(bench):
    await bench.ready()
    wanted = await bench.carry_out(0, 100_000, -50_000, 20_000, q=(1_000, -2_000, 0, 0))
    seen = await bench.live(8)
    sop = bench.sop
    assert (seen.state, seen.quality, seen.master) == (State.RUN, Quality.GOOD, "T1")
    assert seen.status_bits == STATUS_REMOTE | STATUS_MASTER_OK
    assert (seen.fault_bits, seen.alarm_bits) == (0, 0)
    assert (seen.ack_seq, seen.ack_code) == (3, Ack.EXECUTED)
    assert (seen.instruction_id, seen.lease_owner) == (wanted.id, 7)
    assert seen.v_dc_dv == pytest.approx(10 * sop.v_dc_measured_v, abs=10)
    assert seen.loss_w == -sum(t.p_w for t in seen.terminals)
    assert seen.loss_w == pytest.approx(sop.loss_w, abs=40)
    assert seen.uptime_s == 9
    assert seen.watchdog_remaining_ds == 40
    assert (seen.utc_us, seen.mono_us) == (bench.time.utc_us(), bench.time.now_us)
    for terminal, row, converter in zip(TERMINALS, seen.terminals, sop.converters, strict=True):
        assert (row.id, row.state, row.fault_bits) == (terminal.id, State.RUN, 0)
        assert row.p_w == pytest.approx(converter.p_w, abs=5)
        assert row.q_var == pytest.approx(converter.q_var, abs=5)
        assert row.v_dv == pytest.approx(10 * converter.v_ac_v, abs=1)
        assert row.s_va_available == 250_000
        assert row.export_wh == int(converter.injected_wh)
        assert row.import_wh == int(converter.absorbed_wh)
    assert seen.terminals[1].export_wh > 50
    assert seen.terminals[2].import_wh > 50
    assert powers(seen) == [0, 100_000, -50_000, 20_000]
    assert [t.p_w_set_received for t in seen.terminals] == powers(seen)
    assert len(seen.registers) > 4 * 80


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        ("RUN RUN RUN RUN", "RUN"),
        ("RUN RUN DERATED RUN", "DERATED"),
        ("RUN STANDBY DERATED RUN", "STANDBY"),
        ("STANDBY STANDBY STANDBY STANDBY", "STANDBY"),
        ("RUN STOPPING STANDBY RUN", "STOPPING"),
        ("STOPPED STANDBY RUN RUN", "STOPPED"),
        ("PRECHARGE STANDBY RUN RUN", "INIT"),
        ("RUN STOPPED LOCKOUT RUN", "FAULT"),
        ("ESTOP RUN RUN RUN", "FAULT"),
    ],
)
async def test_the_least_ready_converter_is_the_state_of_all(bench, states, whole):
    for converter, state in zip(bench.sop.converters, states.split(), strict=True):
        converter.state = OpState[state]
    assert (await bench.station.read()).state is State[whole]


async def test_one_converter_that_does_not_answer_fails_the_whole_reading(bench):
    await bench.ready()
    bench.fault(3, "half_open")
    with pytest.raises(OutcomeUnknown, match="sop1-t3"):
        await bench.station.read()
    with pytest.raises(GuardRefused, match="not been read"):
        await bench.station.select(instruction(0, 1_000, 0, 0))
    bench.well()
    seen = await bench.station.read()
    assert seen.lease_owner == 0  # whatever it was armed with: it has to be armed anew
    await bench.station.configure(
        watchdog_ds=50, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=9
    )
    assert (await bench.station.read()).lease_owner == 9


async def test_an_absurd_power_is_not_good(bench):
    await bench.ready()
    bench.sop.converters[2].p_w = -300_100.0
    bench.device.terminal_maps[2]._image_key = ()
    assert (await bench.station.read()).quality is Quality.UNCERTAIN


async def test_a_fault_and_an_emergency_stop_and_the_master(bench):
    await bench.ready()
    bench.injector.inject("trip", {"terminal": 2})
    seen = await bench.station.read()
    assert (seen.state, seen.fault_bits, seen.master) == (State.FAULT, 1 << 16, "T1")
    assert [bool(t.fault_bits) for t in seen.terminals] == [False, True, False, False]
    bench.injector.inject("estop", {})
    bench.sop.converters[0].faults |= type(bench.sop.converters[0].faults)(1 << 13)
    bench.wait(1)
    seen = await bench.station.read()
    assert seen.status_bits & STATUS_ESTOP
    assert not seen.status_bits & STATUS_MASTER_OK
    assert seen.master == ""


async def test_life_stands_still_when_one_of_them_does(bench):
    await bench.ready()
    first = await bench.live(3)
    bench.wait(1)
    second = await bench.station.read()
    assert second.heartbeat_count != first.heartbeat_count
    bench.fault(2, "frozen", functions=("read",))  # the first answers from now on, for ever
    third = await bench.station.read()
    bench.wait(60)  # … and the others' counters grow far beyond it
    fourth = await bench.station.read()
    assert (fourth.heartbeat_count, fourth.uptime_s) == (third.heartbeat_count, third.uptime_s)


async def test_a_restart_lowers_the_uptime_and_takes_the_lease(bench):
    await bench.ready()
    await bench.carry_out(0, 50_000, 0, 0)
    before = await bench.live(30)
    bench.injector.inject("reboot", {})
    bench.wait(1)
    bench.well()
    bench.fault(1, "half_open")
    with pytest.raises(DeviceError):  # not seen while it restarted
        await bench.station.read()
    bench.well()
    seen = await bench.station.read()
    assert seen.uptime_s < before.uptime_s
    assert (seen.lease_owner, powers(seen)) == (0, [0] * 4)
    assert seen.status_bits & STATUS_FAILSAFE  # what was written is gone


# Set values


@pytest.mark.parametrize(
    ("order", "p_w", "q_var"),
    [
        ((0, 1, 2, 3), (0, 1, -1, 0), (0, 0, 0, 0)),
        ((3, 2, 1, 0), (0, 230_000, -230_000, 65_536), (0, 0, 0, 0)),
        ((1, 0, 3, 2), (0, -65_535, 32_768, -32_769), (70_000, -65_536, 65_535, -1)),
        ((2, 3, 1, 0), (0, 150_200, 70_000, -99_999), (-1, 100_000, -200_000, 3)),
    ],
)
async def test_set_values_of_both_signs_and_all_sizes_arrive(bench, order, p_w, q_var):
    await bench.ready()
    before = [m.write_count for m in bench.device.terminal_maps]
    wanted = instruction(*p_w, q=q_var, order=order)
    await bench.station.read()
    block = bench.station.staged_block(wanted)
    assert await bench.station.select(wanted) is Ack.ACCEPTED
    assert await bench.station.staged_equals(wanted)
    assert [m.write_count for m in bench.device.terminal_maps] == before  # nothing was staged
    assert await bench.station.operate(wanted) is Ack.EXECUTED
    assert bench.set_w() == list(p_w)
    assert [round(c.q_set_var) for c in bench.sop.converters] == list(q_var)
    seen = await bench.station.read()
    assert powers(seen) == list(p_w)
    assert seen.instruction_id == wanted.id
    place = 0
    for n in order:  # in the instruction's order, of the master the reactive power alone
        for value in (p_w[n], q_var[n]) if n else (q_var[n],):
            place = block.index(value.to_bytes(4, signed=True), place) + 4


async def test_only_what_changes_is_written(bench):
    await bench.ready()
    await bench.carry_out(0, 50_000, -20_000, 0)
    before = [m.write_count for m in bench.device.terminal_maps]
    await bench.carry_out(0, 50_000, -20_000, 30_000, id=2)
    after = [m.write_count for m in bench.device.terminal_maps]
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 0, 0, 1]
    # Power goes down before reactive power goes up: 250 kVA bear no other order.
    await bench.carry_out(0, 230_000, 0, 0, id=3, order=(0, 3, 2, 1))
    await bench.carry_out(0, 0, 0, 0, q=(0, 240_000, 0, 0), id=4)
    await bench.carry_out(0, 230_000, 0, 0, q=(0, 0, 0, 0), id=5)
    assert bench.set_w() == [0, 230_000, 0, 0]


async def test_power_brings_those_in_standby_to_run(bench):
    await bench.station.read()
    await bench.station.configure(
        watchdog_ds=50, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=7
    )
    assert (await bench.station.read()).state is State.STANDBY
    await bench.carry_out(0, 0, 0, 0)
    assert (await bench.station.read()).state is State.STANDBY
    await bench.carry_out(0, 10_000, 0, 0, id=2)
    woken = [what for _, what in bench.sop.events if "exit_standby" in what]
    assert [what[:2] for what in woken] == ["T1", "T2", "T3", "T4"]  # the master first
    assert (await bench.station.read()).state is State.RUN


async def test_what_an_instruction_must_name(bench):
    await bench.ready()
    wanted = instruction(0, 1_000, 0, 0)
    missing = instruction(0, 1_000, 0, 0, order=(0, 1, 2))
    twice = instruction(0, 1_000, 0, 0, order=(0, 1, 2, 2))
    for wrong in (missing, twice):
        with pytest.raises(GuardRefused, match="terminals"):
            bench.station.staged_block(wrong)
    droop = (Setpoint(terminal="T4", mode=ControlMode.VDC_DROOP, p_w=0),)
    with pytest.raises(GuardRefused, match="T4 cannot be told VDC_DROOP"):
        bench.station.staged_block(
            type(wanted)(
                id=1, sop="S", ramp_permille_per_s=200, ttl_s=9,
                setpoints=(*wanted.setpoints[:3], *droop),
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (instruction(0, 230_001, 0, 0), GuardReason.POWER_LIMIT),
        (instruction(0, 200_000, 0, 0, q=(0, 200_000, 0, 0)), GuardReason.RATING),
        (instruction(0, 1_000, 0, 0, ramp_permille_per_s=201), GuardReason.RAMP),
        (instruction(0, 1_000, 0, 0, ttl_s=0), GuardReason.TIME_TO_LIVE),
        (instruction(0, 1_000, 0, 0, order=(0, 1, 2)), GuardReason.TERMINALS),
    ],
)
async def test_the_guard_refuses_before_anything_is_read_or_written(bench, wanted, reason):
    await bench.ready()
    count = bench.device.responder.request_count
    with pytest.raises(GuardRefused) as refused:
        await bench.station.select(wanted)
    assert refused.value.reason is reason
    assert bench.device.responder.request_count == count


async def test_a_selection_is_for_one_instruction_and_ten_seconds(bench):
    await bench.ready()
    first, second = instruction(0, 1_000, 0, 0), instruction(0, 1_000, 0, 0, id=2)
    with pytest.raises(GuardRefused, match="not-selected"):
        await bench.station.operate(first)
    bench.wait(1)
    await bench.station.select(first)
    assert not await bench.station.staged_equals(second)
    with pytest.raises(GuardRefused, match="not-selected"):
        await bench.station.operate(second)
    for later_s, factor, refused in ((9.9, 1, False), (10.1, 1, True), (20, 60, False)):
        bench.time.factor = factor
        bench.wait(1)
        wanted = instruction(0, 1_000 + int(later_s), 0, 0, id=3)
        await bench.station.select(wanted)
        bench.time.now_us += round(later_s * 1e6)
        if refused:
            with pytest.raises(GuardRefused, match="not-selected"):
                await bench.station.operate(wanted)
        else:
            assert await bench.station.operate(wanted) is Ack.EXECUTED
    await bench.station.select(first)
    await bench.station.command(Command.CANCEL)
    with pytest.raises(GuardRefused, match="not-selected"):
        await bench.station.operate(first)


async def test_who_cannot_follow_is_not_selected(bench):
    await bench.ready()
    wanted = instruction(0, 1_000, 0, 0)
    bench.injector.inject("local", {})
    assert await bench.station.select(wanted) is Ack.REJECTED_LOCAL
    assert (await bench.station.read()).status_bits & STATUS_LOCAL
    with pytest.raises(GuardRefused, match="local"):  # known by now
        await bench.station.select(wanted)
    bench.injector.inject("clear", {})
    await bench.station.read()
    bench.injector.inject("trip", {"terminal": 3})
    assert await bench.station.select(wanted) is Ack.REJECTED_STATE
    assert (await bench.station.read()).ack_code == Ack.REJECTED_STATE


async def test_a_set_value_that_would_never_end_is_not_followed_by_another(bench):
    await bench.ready()
    await bench.carry_out(0, 1_000, 0, 0)
    face = bench.device.terminal_maps[1]
    face.write(40326, [0, 0, 0])  # somebody takes the reversion away
    bench.wait(1)
    await bench.station.read()
    assert await bench.station.select(instruction(0, 2_000, 0, 0)) is Ack.REJECTED_STATE
    converter = bench.station._converters["T2"]
    with pytest.raises(GuardRefused, match="watchdog"):
        await converter.hold(p_w=2_000, q_var=0)
    await converter.hold(p_w=0, q_var=0)  # to zero always
    assert bench.set_w()[1] == 0


async def test_a_value_that_moved_after_the_selection_is_seen(bench):
    await bench.ready()
    wanted = instruction(0, 1_000, 0, 0)
    await bench.station.select(wanted)
    await bench.station._converters["T4"].hold(p_w=5_000, q_var=0)
    assert not await bench.station.staged_equals(wanted)


async def test_a_foreign_set_value_is_not_our_instruction(bench):
    await bench.ready()
    first = await bench.carry_out(0, 50_000, -20_000, 0)
    second = await bench.carry_out(0, 60_000, -20_000, 0, id=2)
    assert (await bench.station.read()).instruction_id == second.id
    foreign = bench.driver()
    await foreign.read()
    for p_w, known in ((55_000, False), (50_000, True), (60_000, True), (0, True), (1, False)):
        await foreign._converters["T2"].hold(p_w=p_w, q_var=0)
        seen = await bench.station.read()
        assert seen.instruction_id == (second.id if known else 0), p_w
    await foreign._converters["T2"].hold(p_w=60_000, q_var=100)
    assert (await bench.station.read()).instruction_id == 0
    after_a_start = bench.driver()
    assert (await after_a_start.read()).instruction_id == 0
    assert powers(await after_a_start.read()) == [0, 60_000, -20_000, 0]
    assert first.id != second.id
    await after_a_start.close()
    await foreign.close()


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
    wanted = instruction(0, 230_000, 230_000, 0)  # together more than the master carries
    await bench.station.select(wanted)
    with pytest.raises(OutcomeUnknown, match=r"T2 set, T3 is not \("):
        await bench.station.operate(wanted)
    assert bench.set_w() == [0, 230_000, 0, 0]
    alone = instruction(0, 230_000, 230_000, 0, id=2)
    await bench.station.read()
    await bench.station.select(alone)
    with pytest.raises(DeviceRefused, match="illegal data value"):
        await bench.station.operate(alone)


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
    for _ in range(3):  # and the end of that operation gave nothing a longer life
        await bench.station.read()
    assert bench.station._kept_life_s() == 5


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
    for n in range(1, 6):
        wanted = instruction(0, 1_000 * (n % 2), 2_000 * (n % 2), 0, id=n)
        await bench.station.select(wanted)
        polls = [asyncio.ensure_future(bench.station.read()) for _ in range(3)]
        await bench.station.operate(wanted)
        for seen in await asyncio.gather(*polls, bench.station.read()):
            assert not seen.status_bits & STATUS_FAILSAFE
        bench.wait(1)
