import pytest

from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import steps
from gateway.commissioning.runs.steps import StepOrder, SweepOrder

pytestmark = pytest.mark.alone  # times are compared: a busy neighbour is a fault here


async def test_a_step_is_measured_against_the_known_ramp(bench):
    async with bench(factor=4) as b:
        order = StepOrder(terminal="T2", to_w=25_000, hold_s=4.0, back=True)
        measured = await steps.run_step(b.rack, order)
        outcome = steps.step_outcome("T2", measured, steps.default_limits(b.rack, order))
        assert all(abs(p) < 2500 for p in b.powers_w[1:])
    there, back = measured
    assert (there.from_w, there.to_w, back.from_w, back.to_w) == (0, 25_000, 25_000, 0)
    # the firmware ramps at 20 %/s of 250 kVA behind a first order lag of 20 ms
    for m in measured:
        true_s = 0.9 * 25_000 / 50_000 + 0.02
        assert abs(m.metrics.response.value_s - true_s) <= m.metrics.response.resolution_s + 0.06
        assert m.metrics.dead_time.value_s - m.metrics.dead_time.resolution_s < 0.1
        assert m.metrics.overshoot_pct < 6
        assert m.metrics.v_dc_min_v > 750
    assert outcome.verdict is not Verdict.FAULT, outcome.findings
    assert "polled every" in outcome.note


async def test_a_limit_that_is_not_kept_is_named(bench):
    async with bench(factor=4) as b:
        order = StepOrder(terminal="T3", to_w=-20_000, hold_s=3.0)
        measured = await steps.run_step(b.rack, order)
    limits = steps.StepLimits(response_s=0.05, settle_s=None, overshoot_pct=None, error_pct=None)
    outcome = steps.step_outcome("T3", measured, limits)
    assert [f.code for f in outcome.findings] == ["response"]


async def test_a_sweep_finds_the_polygon_and_ends_at_zero(bench):
    async with bench(factor=40) as b:
        order = SweepOrder(terminal="T2", angles_count=4, radii=(0.3, 0.6))
        capability, visited = await steps.run_sweep(b.rack, order)
        assert all(abs(p) < 2500 for p in b.powers_w[1:])
    assert len(visited) == 8
    low, high = capability.p_range_w(0)
    assert (low, high) == (pytest.approx(-150_000, rel=0.05), pytest.approx(150_000, rel=0.05))
    outcome = steps.sweep_outcome(capability, visited)
    assert outcome.verdict is Verdict.OK
    assert outcome.rows[0].value_text == "8, 0 skipped"


async def test_a_derated_converter_narrows_its_polygon(bench):
    async with bench(factor=40) as b:
        b.site.device.sop.converters[1].derate_ratio = 0.4
        order = SweepOrder(terminal="T2", angles_count=4, radii=(0.3, 0.6))
        capability, visited = await steps.run_sweep(b.rack, order)
    assert capability.p_range_w(0)[1] < 120_000
    assert {f.code for f in steps.sweep_outcome(capability, visited).findings} == {"shortfall"}
