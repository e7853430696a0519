"""Four converters with a controller each, driven as one station, over real Modbus."""

from types import SimpleNamespace

import pytest
from fakes.converter_bench import TERMINALS, converter_bench, instruction, powers

from firmware_sim.plant.converter import Fault
from firmware_sim.plant.states import OpState
from gateway.core.interlock import (
    STATUS_ESTOP,
    STATUS_FAILSAFE,
    STATUS_LOCAL,
    STATUS_MASTER_OK,
    STATUS_REMOTE,
)
from gateway.devices.converter_reading import Pulse
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import OutcomeUnknown
from gateway.model.setpoint import Ack, Command, ControlMode, Setpoint
from gateway.model.telemetry import Quality, State

pytestmark = pytest.mark.usefixtures("still_time")


@pytest.fixture
async def bench():
    async with converter_bench() as found:
        yield found


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
    seen = await bench.station.read()  # over new connections; no reading failed in between
    assert seen.uptime_s < before.uptime_s
    assert (seen.lease_owner, powers(seen)) == (0, [0] * 4)
    assert seen.status_bits & STATUS_FAILSAFE  # what was written is gone


def test_a_restart_is_seen_whoever_has_been_up_longest():
    pulse = Pulse()

    def feel(*uptimes_s):
        rows = {n: SimpleNamespace(uptime_s=s, heartbeat_count=s) for n, s in enumerate(uptimes_s)}
        return pulse.feel(rows), pulse.uptime_s

    assert feel(4, 1_000) == (False, 4)
    assert feel(5, 1_001) == (False, 5)
    assert feel(9, 7) == (True, 0)  # the second one: and the least of them went up
    assert feel(10, 8) == (False, 8)


async def test_a_fault_that_leaves_it_running_is_a_fault(bench):
    await bench.ready()
    wanted = instruction(0, 1_000, 0, 0)
    for index in (0, 1):
        bench.sop.converters[index].faults = Fault.DOOR
        bench.wait(1)
        seen = await bench.station.read()
        assert (seen.state, seen.fault_bits) == (State.RUN, 1 << 5)
        assert bool(seen.status_bits & STATUS_MASTER_OK) is bool(index)
        assert await bench.station.select(wanted) is Ack.REJECTED_STATE
        bench.sop.converters[index].faults = Fault(0)
        bench.wait(1)


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


async def test_the_guard_counts_what_was_written(bench):
    await bench.ready()
    await bench.carry_out(0, 50_000, 0, 0)
    with pytest.raises(GuardRefused, match="write-rate"):
        await bench.station.select(instruction(0, 60_000, 0, 0, id=2))
    assert await bench.station.select(instruction(0, 40_000, 0, 0, id=3)) is Ack.ACCEPTED


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
        await bench.station.read()
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


async def test_what_changed_since_it_was_read_is_not_selected(bench):
    await bench.ready()
    await bench.carry_out(0, 50_000, 0, 0)
    await bench.station.read()
    foreign = bench.driver()
    await foreign.read()
    await foreign._converters["T2"].hold(p_w=20_000, q_var=0)
    await foreign.close()
    bench.wait(1)
    again = instruction(0, 60_000, 0, 0, id=2)
    assert await bench.station.select(again) is Ack.REJECTED_STATE
    assert await bench.station.select(again) is Ack.ACCEPTED, "now it was read"


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
        # Power of ours that is gone is gone, whoever took it.
        assert bool(seen.status_bits & STATUS_FAILSAFE) is (p_w == 0)
    await foreign._converters["T2"].hold(p_w=60_000, q_var=100)
    assert (await bench.station.read()).instruction_id == 0
    after_a_start = bench.driver()
    assert (await after_a_start.read()).instruction_id == 0
    assert powers(await after_a_start.read()) == [0, 60_000, -20_000, 0]
    assert first.id != second.id
    await after_a_start.close()
    await foreign.close()
