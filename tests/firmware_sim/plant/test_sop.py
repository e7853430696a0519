"""Physics of the whole: balance, losses, ramps, derating, modes, determinism."""

import math
import random

import pytest

from firmware_sim.faces.registers import Table
from firmware_sim.plant.converter import Fault, Limit
from firmware_sim.plant.ratings import LossCurve

ZERO = 0.005 * 250_000


def test_full_load_case(rig):
    rig.operate([0, 200_000, -150_000, 100_000])
    rig.wait(12)
    assert rig.powers[0] == pytest.approx(-160_010, abs=10)
    assert rig.sop.loss_w == pytest.approx(10_010, abs=10)


@pytest.mark.parametrize(
    ("i_pu", "percent"), [(0, 0.40), (0.25, 0.59), (0.5, 0.85), (0.75, 1.19), (1, 1.60)]
)
def test_loss_curve(rig, i_pu, percent):
    assert rig.sop.spec.losses.at_w(100.0, i_pu) == pytest.approx(percent, abs=0.005)


@pytest.mark.parametrize(("i_pu", "percent"), [(0, 0.0), (0.25, 0.5), (0.5, 1.0), (1, 2.0)])
def test_linear_losses_of_the_papers(i_pu, percent):
    curve = LossCurve(a_pu=0.0, b_pu=0.02, c_pu=0.0)
    assert curve.at_w(100.0, i_pu) == pytest.approx(percent)


def test_energy_balances_over_a_day(make_rig):
    rig = make_rig(bias=0.01, noise=0.002)
    rig.step_us = 4_000_000
    draw = random.Random(5)
    for _ in range(96):
        powers = [0] + [draw.randrange(-80_000, 80_000) for _ in range(3)]
        assert rig.operate(powers) == (1, 2)
        rig.wait(900)
    assert rig.sop.t_us == 86_400_000_000
    net = sum(c.injected_wh - c.absorbed_wh for c in rig.sop.converters) + rig.sop.loss_wh
    throughput = sum(c.injected_wh for c in rig.sop.converters)
    assert throughput > 1e6
    assert abs(net) <= 1e-6 * throughput


def test_ramp_of_twenty_percent_a_second(rig):
    rig.operate([0, 200_000, 0, 0])
    rig.wait(2)
    assert rig.powers[1] == pytest.approx(100_000, abs=2000)
    rig.wait(2.2)
    assert rig.powers[1] == pytest.approx(200_000, abs=10)


def test_bias_and_noise_stay_in_their_bounds(make_rig):
    rig = make_rig(bias=0.01, noise=0.002)
    rig.operate([0, 200_000, -150_000, 100_000])
    rig.wait(6)
    values = []
    rig.wait(20, each=lambda: values.append(rig.powers[1]))
    assert all(abs(v - 200_000) <= 0.01 * 200_000 + 0.002 * 250_000 + 1 for v in values)
    assert len(set(values)) > len(values) // 2
    assert len({c.bias_ratio for c in rig.sop.converters}) == 4


def test_same_seed_same_course(make_rig):
    def course(seed):
        rig = make_rig(bias=0.01, noise=0.002, seed=seed)
        rig.operate([0, 200_000, -150_000, 100_000])
        seen = []
        rig.wait(5, each=lambda: seen.append((rig.powers, rig.sop.v_dc_measured_v)))
        return seen

    assert course(3) == course(3)
    assert course(3) != course(4)


def test_heat_derates_from_85_degrees_and_is_shown(rig):
    rig.operate([0, 200_000, -150_000, 0])
    rig.wait(6)
    hot = rig.sop.converters[1]
    hot.heatsink_celsius = 95.0
    rig.wait(0.1)
    assert hot.s_va_available() == pytest.approx(125_000, rel=0.02)
    assert hot.state.name == "DERATED"
    assert hot.limits & Limit.TEMPERATURE
    assert rig.sop.station_state().name == "DERATED"
    rig.wait(3)
    assert hot.p_w < 150_000
    rig.wait(600)
    assert hot.state.name == "RUN"
    assert hot.p_w == pytest.approx(200_000, abs=10)


def test_an_overheated_terminal_trips(rig):
    rig.operate([0, 50_000, 0, 0])
    rig.sop.converters[1].heatsink_celsius = 111.0
    rig.wait(0.1)
    assert rig.sop.converters[1].state.name == "FAULT"
    assert rig.sop.converters[1].faults == Fault.OVER_TEMPERATURE


def test_external_derating_limits_and_lifts(rig):
    rig.operate([0, 200_000, -200_000, 0])
    rig.wait(6)
    rig.sop.converters[1].derate_ratio = 0.5
    rig.wait(6)
    assert rig.powers[1] == pytest.approx(125_000, abs=10)
    words = rig.map.read(Table.INPUT, 1140, 40)
    assert words[12] << 16 | words[13] == 125_000  # the active setpoint says it
    assert words[14] << 16 | words[15] == 200_000  # what was received
    assert words[29] == Limit.EXTERNAL
    rig.sop.converters[1].derate_ratio = 1.0
    rig.wait(6)
    assert rig.powers[1] == pytest.approx(200_000, abs=10)


def test_low_voltage_takes_capability_by_current(rig):
    rig.operate([0, 240_000, -200_000, 0])
    rig.wait(6)
    rig.sop.converters[1].feeder_v_v = 360.0
    rig.wait(4)
    assert rig.powers[1] == pytest.approx(225_000, abs=10)
    assert rig.sop.converters[1].limits & Limit.AC_VOLTAGE


def test_priority_of_p_or_q(rig):
    c = rig.sop.converters[1]
    c.derate_ratio = 0.5
    c.accept(100_000, 100_000)
    assert c.p_set_w == 100_000
    assert c.q_set_var == pytest.approx(75_000)
    c.q_first = True
    c.apply_limits()
    assert c.q_set_var == 100_000
    assert c.p_set_w == pytest.approx(75_000)


def test_statcom_gives_vars_without_watts(rig):
    assert rig.operate([0, 0, 0, 0], modes=[1, 4, 0, 0], q=[0, 120_000, 0, 0]) == (1, 2)
    rig.wait(4)
    assert rig.sop.converters[1].q_var == pytest.approx(120_000, abs=10)
    assert rig.powers[1] == 0
    rig.wait(11, heartbeat=False)
    assert abs(rig.sop.converters[1].q_var) <= ZERO


def test_droop_without_a_master_shares_the_losses(rig):
    assert rig.operate([20_000, -20_000, 0, 0], modes=[2, 2, 2, 2]) == (1, 2)
    rig.wait(3)
    assert sum(rig.powers) + rig.sop.loss_w == pytest.approx(0, abs=1e-3)
    assert rig.sop.link.v_v == pytest.approx(799.8, abs=0.3)
    rig.wait(15, heartbeat=False)
    band = 0.02 * 250_000
    assert all(abs(p) <= band for p in rig.powers)


def test_v_f_only_on_a_dead_feeder_and_through_a_lost_link(rig):
    island = rig.sop.converters[3]
    island.feeder_v_v = 0.0
    island.island_load_w = 30_000
    assert rig.operate([0, 20_000, 0, 0])[0] == 3  # a dead feeder takes no P_Q
    assert rig.operate([0, 20_000, 0, 0], modes=[1, 0, 0, 3]) == (1, 2)
    rig.wait(3)
    assert island.state.name == "ISLAND"
    assert island.v_ac_v == 400.0
    assert rig.powers[3] == 30_000
    rig.wait(12, heartbeat=False)
    assert island.state.name == "ISLAND"  # the island rule in force: carry the load on
    assert rig.powers[3] == 30_000
    assert abs(rig.powers[1]) <= ZERO
    island.feeder_v_v = 400.0
    assert rig.operate([0, 0, 0, 0]) == (1, 2)
    rig.wait(1)
    assert island.state.name == "RUN"


def test_v_f_blocks_where_the_island_rule_says_so(rig):
    rig.firmware.island_blocks = True
    rig.sop.converters[3].feeder_v_v = 0.0
    rig.sop.converters[3].island_load_w = 30_000
    rig.operate([0, 20_000, 0, 0], modes=[1, 0, 0, 3])
    rig.wait(3)
    rig.wait(12, heartbeat=False)
    assert rig.powers[3] == 0


@pytest.mark.parametrize("kind", ["lv2x250", "lv3x250", "mv4x3000"])
def test_other_devices_balance_too(make_rig, kind):
    rig = make_rig(kind)
    s = rig.sop.converters[0].s_va
    powers = [0, s // 2] + [-s // 4] * (rig.sop.n - 2)
    assert rig.operate(powers) == (1, 2)
    rig.wait(10)
    assert rig.powers[1] == pytest.approx(s / 2, abs=1)
    assert math.fsum(rig.powers) == pytest.approx(-rig.sop.loss_w, abs=1e-3)


def test_a_droop_terminal_carries_no_more_than_it_has_and_the_others_take_the_rest(rig):
    rig.operate([0, 90_000, 90_000, 0], modes=[2, 0, 0, 2])
    rig.wait(6)
    assert rig.powers[0] == pytest.approx(rig.powers[3], rel=0.01)
    rig.sop.converters[0].derate_ratio = 0.2
    rig.wait(2)
    assert rig.powers[0] == pytest.approx(-50_000, abs=1)
    assert sum(rig.powers) == pytest.approx(-rig.sop.loss_w, abs=1e-3)
    assert rig.powers[3] < -130_000
    assert rig.sop.link.v_v < 0.98 * 800


def test_droop_terminals_that_cannot_carry_the_link_lose_it(rig):
    rig.operate([0, 140_000, 140_000, 0], modes=[2, 0, 0, 0])
    rig.wait(10)
    assert [c.state.name for c in rig.sop.converters] == ["FAULT"] * 4
    assert rig.sop.converters[0].faults & Fault.DC_UNDERVOLTAGE
    assert rig.powers == [0, 0, 0, 0]
