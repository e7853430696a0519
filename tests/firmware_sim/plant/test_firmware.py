"""Commands, watchdog, setpoint life, lease: what the station accepts, refuses and does alone."""

import pytest

from firmware_sim.plant.states import Event

ACCEPTED, EXECUTED, STATE, RANGE, CRC, LOCAL, NOT_SELECTED, TIMEOUT, LEASE = range(1, 10)
START, STOP, RESET, ENTER, EXIT, ESTOP, SELECT, OPERATE, CANCEL, MASTER = range(1, 11)
ZERO = 0.005 * 250_000


def state_of(rig):
    return rig.sop.station_state().name


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        ("off", set()),
        ("stopped", {START, STOP}),
        ("standby", {START, STOP, ENTER, EXIT}),
        ("run", {START, STOP, ENTER, EXIT}),
    ],
)
def test_orders_by_state(make_rig, state, allowed):
    for order in (START, STOP, ENTER, EXIT):
        rig = make_rig(state=state)
        assert rig.command(order) == (EXECUTED if order in allowed else STATE), order


def test_start_takes_the_station_through_precharge_to_standby(make_rig):
    rig = make_rig(state="stopped")
    assert rig.command(START) == EXECUTED
    seen = []
    rig.wait(5, each=lambda: seen.append(state_of(rig)))
    assert list(dict.fromkeys(seen)) == ["PRECHARGE", "SYNC", "STANDBY"]
    assert 2.9 < seen.index("SYNC") * 0.02 < 3.1  # 95 % of an RC of one second


def test_stop_ramps_down_and_opens(rig):
    assert rig.operate([0, 100_000, -50_000, 0]) == (ACCEPTED, EXECUTED)
    rig.wait(5)
    assert rig.command(STOP) == EXECUTED
    rig.wait(5)
    assert state_of(rig) == "STOPPED"
    assert rig.powers == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("powers", "extra", "answer"),
    [
        ([0, 100_000, -50_000, 0], {}, ACCEPTED),
        ([0, 250_000, -250_000, 0], {}, ACCEPTED),
        ([0, 250_001, 0, 0], {}, RANGE),
        ([0, -2_000_000_000, 0, 0], {}, RANGE),
        ([0, 200_000, 0, 0], {"q": [0, 200_000, 0, 0]}, RANGE),
        ([0, 200_000, 100_000, 0], {}, RANGE),  # the master cannot take 300 kW
        ([0, 1000, 0, 0], {"modes": [0, 0, 0, 0]}, RANGE),  # nobody holds the DC voltage
        ([0, 1000, 0, 0], {"modes": [1, 1, 0, 0]}, RANGE),  # two would
        ([0, 1000, 0, 0], {"modes": [0, 1, 0, 0]}, RANGE),  # not the master in force
        ([0, 1000, 0, 0], {"modes": [1, 9, 0, 0]}, RANGE),
        ([0, 1000, 0, 0], {"modes": [1, 4, 0, 0]}, RANGE),  # STATCOM carries no P
        ([0, 0, 0, 0], {"modes": [1, 3, 0, 0]}, STATE),  # V/f on a live feeder
        ([0, 0, 0, 0], {"ramp_permille_per_s": [0, 1001, 0, 0]}, RANGE),
        ([0, 0, 0, 0], {"vdc_permille": [899, 0, 0, 0]}, RANGE),
        ([0, 0, 0, 0], {"vdc_permille": [1101, 0, 0, 0]}, RANGE),
        ([0, 0, 0, 0], {"fallback_w": [0, 250_001, 0, 0]}, RANGE),
        ([0, 0, 0, 0], {"droop_permille": [0, 201, 0, 0]}, RANGE),
    ],
)
def test_select_judges_every_value_and_clips_none(rig, powers, extra, answer):
    rig.stage(powers, **extra)
    assert rig.command(SELECT) == answer
    assert rig.powers[1:] == [0, 0, 0]
    if answer != ACCEPTED:
        assert rig.command(OPERATE) == NOT_SELECTED


def test_wrong_checksum_is_refused(rig):
    rig.stage([0, 1000, 0, 0])
    assert rig.command(SELECT, crc=0x1234) == CRC


def test_same_sequence_number_acts_once(rig):
    rig.operate([0, 50_000, 0, 0])
    count = rig.firmware.counters.operate_count
    assert rig.command(OPERATE, seq=rig.seq) == EXECUTED
    assert rig.firmware.counters.operate_count == count


def test_operate_needs_the_selected_instruction_in_time(rig):
    rig.stage([0, 1000, 0, 0])
    assert rig.command(OPERATE) == NOT_SELECTED
    assert rig.command(SELECT, instr=1) == ACCEPTED
    assert rig.command(OPERATE, instr=2) == NOT_SELECTED
    assert rig.command(OPERATE, instr=1) == EXECUTED
    assert rig.command(OPERATE, instr=1) == NOT_SELECTED  # used up
    assert rig.command(SELECT) == ACCEPTED
    assert rig.command(CANCEL) == EXECUTED
    assert rig.command(OPERATE) == NOT_SELECTED
    assert rig.command(SELECT) == ACCEPTED
    rig.wait(10.1)
    assert rig.command(OPERATE) == TIMEOUT


def test_a_change_of_the_staged_block_takes_the_selection_away(rig):
    rig.stage([0, 1000, 0, 0])
    assert rig.command(SELECT) == ACCEPTED
    rig.stage([0, 1000, 0, 0])  # the same bytes do no harm
    assert rig.firmware.selection is not None
    rig.stage([0, 200_000, 0, 0])
    assert rig.command(OPERATE) == NOT_SELECTED


def test_local_mode_refuses_all_but_the_emergency_stop(rig):
    rig.firmware.local = True
    for order in (START, STOP, RESET, ENTER, EXIT, SELECT, OPERATE, CANCEL, MASTER):
        assert rig.command(order) == LOCAL
    assert rig.command(ESTOP) == EXECUTED
    assert state_of(rig) == "ESTOP"


def test_emergency_stop_latches_until_a_local_reset(rig):
    rig.operate([0, 100_000, 0, 0])
    rig.wait(5)
    assert rig.command(ESTOP) == EXECUTED
    assert rig.powers[1:] == [0, 0, 0]
    rig.wait(6)
    assert rig.command(RESET) == STATE
    assert rig.command(START) == STATE
    assert rig.sop.reset(0, local=True)
    assert rig.sop.converters[0].state.name == "STOPPED"


@pytest.mark.parametrize("failsafe", [1, 3])
def test_watchdog_takes_the_power_away_and_it_stays_away(rig, failsafe):
    rig.map.write(6, [failsafe])
    rig.operate([0, 200_000, -150_000, 100_000])
    rig.wait(12.02)
    assert abs(rig.powers[1] - 200_000) < 1
    rig.wait(4.9, heartbeat=False)
    assert abs(rig.powers[1] - 200_000) < 1
    rig.wait(0.2 if failsafe == 3 else 5.1, heartbeat=False)
    assert all(abs(p) <= ZERO for p in rig.powers[1:])
    assert rig.powers[0] == pytest.approx(-4000, abs=30)  # stand-by losses of four terminals
    rig.wait(60)  # the heartbeat is back, the power is not
    assert all(abs(p) <= ZERO for p in rig.powers[1:])
    assert rig.firmware.failsafe_active
    assert rig.map.discrete(9, 1) == [True]
    rig.stage([0, 200_000, -150_000, 100_000])
    assert rig.command(SELECT) == ACCEPTED
    rig.wait(1)
    assert all(abs(p) <= ZERO for p in rig.powers[1:])  # SELECT alone moves nothing
    assert rig.command(OPERATE) == EXECUTED
    rig.wait(6)
    assert abs(rig.powers[1] - 200_000) < 1
    assert not rig.firmware.failsafe_active


def test_failsafe_hold_lasts_until_the_end_of_the_setpoints_life(rig):
    rig.map.write(6, [0])
    rig.ttl_s = 30
    rig.operate([0, 100_000, 0, 0])
    rig.wait(25, heartbeat=False)
    assert abs(rig.powers[1] - 100_000) < 1
    rig.wait(10, heartbeat=False)
    assert abs(rig.powers[1]) <= ZERO


def test_failsafe_fallback_goes_to_the_fallback_power(rig):
    rig.map.write(6, [2])
    rig.operate([0, 100_000, 0, 0], fallback_w=[0, 20_000, 0, 0])
    rig.wait(15, heartbeat=False)
    assert abs(rig.powers[1] - 20_000) < 1


def test_a_setpoint_dies_with_its_life_although_the_heartbeat_goes_on(rig):
    rig.ttl_s = 20
    rig.operate([0, 100_000, 0, 0])
    rig.wait(19.9)
    assert abs(rig.powers[1] - 100_000) < 1
    rig.wait(3)
    assert abs(rig.powers[1]) <= ZERO
    assert rig.sop.converters[1].p_set_rx_w == 100_000
    assert rig.sop.converters[1].p_set_w == 0


def test_power_without_a_life_is_refused(rig):
    rig.ttl_s = 0
    rig.stage([0, 1000, 0, 0])
    assert rig.command(SELECT) == RANGE


def test_the_heartbeat_must_change(rig):
    rig.operate([0, 100_000, 0, 0])
    for _ in range(7):
        rig.map.write(4, [55])
        rig.wait(1, heartbeat=False)
    assert rig.firmware.comm_fault


def test_watchdog_off_means_nobody_helps(rig):
    rig.firmware.watchdog_disabled = True
    rig.operate([0, 100_000, 0, 0])
    rig.wait(60, heartbeat=False)
    assert abs(rig.powers[1] - 100_000) < 1


def test_the_lease_keeps_a_second_controller_out_while_the_first_lives(rig):
    rig.operate([0, 50_000, 0, 0])
    rig.wait(1)
    rig.stage([0, 50_000, 0, 0])
    assert rig.command(SELECT, owner=9) == LEASE
    assert rig.command(MASTER, arg=2, owner=9) == LEASE
    assert rig.command(SELECT, owner=7) == ACCEPTED
    rig.wait(5.2, heartbeat=False)
    assert rig.command(SELECT, owner=9) == ACCEPTED
    assert rig.firmware.lease_owner_id == 9


def test_anybody_may_stop(rig):
    rig.operate([0, 50_000, 0, 0])
    assert rig.command(STOP, owner=9) == EXECUTED


def test_master_hand_over_is_bumpless_and_unique(rig):
    rig.operate([0, 100_000, -30_000, 0])
    rig.wait(5)
    before = rig.powers
    assert rig.command(MASTER, arg=3) == EXECUTED
    rig.wait(0.02)
    for was, now in zip(before, rig.powers, strict=True):
        assert now == pytest.approx(was, abs=1)
    assert [c.mode.name for c in rig.sop.converters].count("VDC_Q") == 1
    assert rig.command(MASTER, arg=0) == RANGE
    assert rig.command(MASTER, arg=5) == RANGE


def test_a_lost_master_is_replaced_and_the_others_go_to_zero(rig):
    from firmware_sim.plant.converter import Fault

    rig.operate([0, 100_000, -30_000, 0])
    rig.wait(5)
    rig.sop.trip(0, Fault.INTERNAL)
    rig.wait(8)
    assert rig.sop.master_index == 1
    assert state_of(rig) == "STANDBY"
    assert rig.powers[0] == 0
    assert abs(rig.powers[2]) <= ZERO
    assert rig.command(RESET) == EXECUTED
    assert rig.sop.converters[0].state.name == "STOPPED"


def test_third_fault_in_a_quarter_hour_locks_out(rig):
    from firmware_sim.plant.converter import Fault

    for _ in range(2):
        rig.sop.trip(2, Fault.INTERNAL)
        assert rig.command(RESET) == STATE  # five seconds must pass
        rig.wait(5)
        assert rig.command(RESET) == EXECUTED
        assert rig.command(START, arg=0b100) == EXECUTED
        rig.wait(5)
    rig.sop.trip(2, Fault.INTERNAL)
    assert rig.sop.converters[2].state.name == "LOCKOUT"
    rig.wait(6)
    assert rig.command(RESET) == STATE


def test_direct_setpoint_only_while_nobody_leases(rig):
    assert rig.firmware.direct(1, p_w=10_000, q_var=None, now_us=rig.sop.t_us) == EXECUTED
    rig.operate([0, 50_000, 0, 0])
    assert rig.firmware.direct(1, p_w=10_000, q_var=None, now_us=rig.sop.t_us) == LEASE
    assert rig.firmware.direct(1, p_w=10**6, q_var=None, now_us=10**12) == RANGE


@pytest.mark.parametrize("limit", ["derate_ratio", "clip_w"])
def test_a_limit_at_zero_does_not_outlive_the_setpoint_it_holds_down(make_rig, limit):
    rig = make_rig("lv2x250")
    rig.ttl_s = 30
    assert rig.operate([0, 100_000]) == (ACCEPTED, EXECUTED)
    rig.wait(10)
    converter = rig.sop.converters[1]
    whole = getattr(converter, limit)
    setattr(converter, limit, 0.0)
    converter.apply_limits()
    rig.wait(25)
    assert rig.powers[1] == pytest.approx(0, abs=1)
    setattr(converter, limit, whole)
    converter.apply_limits()
    rig.wait(20)
    assert abs(rig.powers[1]) <= ZERO
    assert state_of(rig) == "STANDBY"
    assert rig.firmware.failsafe_active


def test_nothing_but_operate_turns_a_fail_safe_round(rig):
    rig.operate([0, 200_000, -100_000, 0])
    rig.wait(10)
    rig.wait(6, heartbeat=False)
    assert rig.firmware.failsafe_active
    assert not rig.firmware.leased(rig.sop.t_us)

    def direct(p_w):
        return rig.firmware.direct(1, p_w=p_w, q_var=0, now_us=rig.sop.t_us)

    assert direct(150_000) == STATE
    assert direct(0) == EXECUTED
    rig.wait(20, heartbeat=False)
    assert state_of(rig) == "STANDBY"
    assert abs(rig.powers[1]) <= ZERO
    assert direct(150_000) == STATE
    assert rig.operate([0, 50_000, 0, 0]) == (ACCEPTED, EXECUTED)


def test_without_a_station_controller_a_fail_safe_ends_once_at_zero(rig):
    from firmware_sim.plant.converter import Fault

    for index in range(rig.sop.n):
        rig.sop.raise_event(index, Event.EXIT_STANDBY)
    assert rig.firmware.direct(2, p_w=50_000, q_var=0, now_us=0) == EXECUTED
    rig.wait(5, heartbeat=False)
    rig.sop.trip(0, Fault.INTERNAL)
    rig.wait(0.1, heartbeat=False)
    assert rig.firmware.failsafe_active
    assert rig.firmware.direct(2, p_w=50_000, q_var=0, now_us=rig.sop.t_us) == STATE
    rig.wait(8, heartbeat=False)
    assert rig.sop.converters[2].state.name == "STANDBY"
    assert rig.firmware.direct(2, p_w=50_000, q_var=0, now_us=rig.sop.t_us) == EXECUTED


def test_a_terminal_tripped_on_its_dead_feeder_does_not_hold_up_the_others(rig):
    rig.operate([0, 100_000, 0, -100_000])
    rig.sop.converters[2].feeder_v_v = 0.0
    rig.wait(5)
    assert rig.sop.converters[2].state.name == "FAULT"
    assert rig.operate([0, 50_000, 0, -50_000]) == (ACCEPTED, EXECUTED)
    rig.stage([0, 50_000, 1000, -50_000])
    assert rig.command(SELECT) == STATE  # but it carries nothing


def test_an_island_cannot_hold_the_dc_voltage(rig):
    rig.sop.converters[2].feeder_v_v = 0.0
    rig.operate([0, 0, 0, 0], modes=[1, 0, 3, 0])
    rig.wait(1)
    assert rig.sop.converters[2].state.name == "ISLAND"
    assert rig.command(MASTER, arg=3) == STATE
    assert rig.sop.master_index == 0


def test_a_fail_safe_with_two_droop_terminals_ends_in_standby(rig):
    rig.operate([0, 100_000, -50_000, 0], modes=[2, 0, 0, 2])
    rig.wait(5)
    rig.wait(20, heartbeat=False)
    assert state_of(rig) == "STANDBY"
