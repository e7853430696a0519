"""The protection table, row by row: trips in time, holds before, resets with the cause."""

import pytest

from firmware_sim.plant.converter import Fault


@pytest.mark.parametrize(
    ("field", "value", "delay_s", "fault"),
    [
        ("feeder_v_v", 1.16 * 400, 0.1, Fault.AC_OVERVOLTAGE),
        ("feeder_v_v", 0.84 * 400, 2.0, Fault.AC_UNDERVOLTAGE),
        ("feeder_v_v", 0.49 * 400, 0.2, Fault.AC_UNDERVOLTAGE),
        ("f_hz", 51.6, 0.5, Fault.OVER_FREQUENCY),
        ("f_hz", 47.4, 0.5, Fault.UNDER_FREQUENCY),
    ],
)
def test_trips_after_its_delay_and_not_before(rig, field, value, delay_s, fault):
    rig.operate([0, 1000, 0, 0])
    rig.wait(2)
    converter = rig.sop.converters[1]
    setattr(converter, field, value)
    rig.wait(delay_s - 0.02)
    assert converter.state.name == "RUN"
    rig.wait(0.08)
    assert converter.state.name == "FAULT"
    assert converter.faults == fault
    assert rig.sop.station_state().name == "RUN"  # the other three go on


def test_a_short_disturbance_is_ridden_through(rig):
    rig.operate([0, 1000, 0, 0])
    rig.wait(2)
    for _ in range(5):
        rig.sop.converters[1].f_hz = 51.6
        rig.wait(0.4)
        rig.sop.converters[1].f_hz = 50.0
        rig.wait(0.1)
    assert rig.sop.converters[1].state.name == "RUN"


def test_a_short_circuit_trips_by_current_at_once(rig):
    rig.operate([0, 100_000, 0, 0])
    rig.wait(5)
    rig.sop.converters[1].feeder_v_v = 20.0
    rig.wait(0.04)
    assert rig.sop.converters[1].faults & Fault.OVER_CURRENT


def test_overload_of_an_island_trips_after_ten_seconds(rig):
    island = rig.sop.converters[3]
    island.feeder_v_v = 0.0
    rig.operate([0, -100_000, 0, 0], modes=[1, 0, 0, 3])
    rig.wait(5)
    island.island_load_w = 1.15 * 250_000
    rig.wait(9)
    assert island.state.name == "ISLAND"
    rig.wait(1.5)
    assert island.faults == Fault.OVER_CURRENT


def test_the_residual_beyond_the_master_loses_the_link(rig):
    rig.operate([0, 200_000, 0, 0])
    rig.wait(6)
    rig.sop.converters[0].derate_ratio = 0.3
    rig.wait(0.1)
    assert all(c.faults & Fault.DC_UNDERVOLTAGE for c in rig.sop.converters)
    assert rig.powers == [0, 0, 0, 0]
    rig.wait(60)
    assert rig.sop.station_state().name in ("FAULT", "LOCKOUT")  # nothing restarts by itself


def test_precharge_times_out(make_rig):
    rig = make_rig(state="stopped")
    rig.sop.precharge_fault = True
    rig.command(1)
    rig.wait(11)
    assert all(c.faults == Fault.PRECHARGE_TIMEOUT for c in rig.sop.converters)


def test_an_open_door_blocks_the_start(make_rig):
    rig = make_rig(state="stopped")
    rig.sop.door_open = True
    assert rig.command(1) == 3
    rig.sop.door_open = False
    assert rig.command(1) == 2


def test_a_dead_feeder_gives_no_lock_to_the_pll(make_rig):
    rig = make_rig(state="stopped")
    rig.sop.converters[2].feeder_v_v = 0.0
    rig.command(1)
    rig.wait(15)
    assert rig.sop.converters[2].faults == Fault.PLL_LOSS
    assert rig.sop.converters[0].state.name == "STANDBY"


def test_an_earth_fault_locks_out_at_once(rig):
    rig.sop.trip(2, Fault.EARTH_FAULT)
    assert rig.sop.converters[2].state.name == "LOCKOUT"
    assert rig.sop.reset(2, local=True)
    assert rig.sop.converters[2].state.name == "STOPPED"


def test_a_breaker_that_does_not_open_is_noticed_after_200_ms(rig):
    rig.operate([0, 1000, 0, 0])
    rig.wait(2)
    rig.sop.breaker_stuck.add(1)
    rig.sop.trip(1, Fault.INTERNAL)
    rig.wait(0.18)
    assert rig.sop.converters[1].state.name == "FAULT"
    rig.wait(0.06)
    assert rig.sop.converters[1].state.name == "LOCKOUT"
    assert rig.sop.converters[1].faults & Fault.BREAKER_FAIL


def test_without_its_fan_a_loaded_terminal_derates(rig):
    rig.operate([0, 240_000, -240_000, 0])
    rig.sop.fan_failed = True
    rig.wait(300)
    hot = rig.sop.converters[1]
    assert hot.state.name == "DERATED"
    assert 100_000 < hot.p_w < 240_000
    assert 85 < hot.heatsink_celsius < 105
