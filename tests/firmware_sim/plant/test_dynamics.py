"""The fast model against the figures worked out beforehand for ``lv4x250``, within 2 %."""

import pytest

from firmware_sim.plant.converter import Fault
from firmware_sim.plant.dynamics import Dynamics, inertia_s, time_to_level_s
from firmware_sim.plant.ratings import SPECS
from firmware_sim.plant.sop import Sop


def running(**kw):
    sop = Sop(SPECS["lv4x250"], seed=1, bias_ratio_max=0.0, noise_ratio=0.0, state="run", **kw)
    dynamics = Dynamics(sop)
    dynamics.start_from([0.0, 0.0, 0.0])
    return sop, dynamics


@pytest.mark.parametrize(
    ("ramp", "dip_v", "seconds"), [(500, 798.9, 1.7), (5000, 790.6, 0.6), (50_000, 780.0, 0.4)]
)
def test_dip_of_the_dc_voltage_by_ramp(ramp, dip_v, seconds):
    sop, dynamics = running()
    for converter, p_w in zip(sop.converters[1:], (200_000, -150_000, 100_000), strict=True):
        converter.ramp_permille_per_s = ramp
        converter.accept(p_w, 0)
    for _ in range(round(seconds * 50)):
        dynamics.run(20_000)
    assert 800.0 - dynamics.v_min_v == pytest.approx(800.0 - dip_v, rel=0.05)
    assert dynamics.v_min_v == pytest.approx(dip_v, rel=0.001)


def test_steady_state_of_the_fast_model_is_the_quasi_static_one():
    sop, dynamics = running()
    dynamics.start_from([200_000.0, -150_000.0, 100_000.0])
    for _ in range(50):
        dynamics.run(20_000)
    assert sop.master.p_w == pytest.approx(-160_014.6, abs=1)
    assert sop.loss_w == pytest.approx(10_014.6, abs=1)
    assert sop.link.v_v == pytest.approx(800, abs=0.01)


def test_master_trip_is_taken_over_after_five_milliseconds():
    sop, dynamics = running()
    dynamics.start_from([200_000.0, -150_000.0, 100_000.0])
    sop.trip(0, Fault.INTERNAL)
    for _ in range(50):
        dynamics.run(20_000)
    assert dynamics.v_max_v == pytest.approx(839, abs=2)
    assert sop.link.v_v == pytest.approx(800, abs=0.1)
    assert sop.master_index == 1


def test_without_anybody_to_take_over_the_link_collapses_and_all_trip():
    sop, dynamics = running()
    dynamics.start_from([100_000.0, 0.0, 0.0])
    sop.master.derate_ratio = 0.0
    sop.master.rated = sop.master.rated.__class__(s_va=1, v_ac_nominal_v=400.0, c_dc_f=0.015)
    for _ in range(50):
        dynamics.run(20_000)
    assert all(c.state.name == "FAULT" for c in sop.converters)
    assert all(c.faults & Fault.DC_UNDERVOLTAGE for c in sop.converters)


def test_inertia_and_time_to_overvoltage():
    assert inertia_s(0.015, 800.0, 250_000) == pytest.approx(0.0192)
    assert time_to_level_s(0.015, 800.0, 250_000, 1.15) == pytest.approx(0.0062, abs=0.0005)


def test_droop_alone_settles_beside_the_nominal_voltage():
    sop, dynamics = running()
    from firmware_sim.plant.converter import Mode

    for converter in sop.converters:
        converter.mode = Mode.VDC_DROOP
    sop.droop_only = True
    for converter, p_w in zip(sop.converters, (-100_000, 150_000, -150_000, 160_000), strict=True):
        converter.ramp_permille_per_s = 5000
        converter.accept(p_w, 0)
    sop.master_index = 3
    for _ in range(100):
        dynamics.run(20_000)
    assert 780 < sop.link.v_v < 800


def test_the_chopper_holds_an_overvoltage_below_the_trip():
    sop, dynamics = running()
    dynamics.start_from([-100_000.0, 0.0, 0.0])
    sop.link.v_v = 885.0
    sop.master.block()
    dynamics.run(1000)
    assert sop.link.chopper_on
    for _ in range(100):
        dynamics.run(20_000)
    assert not sop.link.chopper_on
    assert sop.link.v_v == pytest.approx(800, abs=0.5)
    assert all(c.energised for c in sop.converters)
