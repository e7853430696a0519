import math
import random

import pytest

from gateway.commissioning import step
from gateway.commissioning.finding import Verdict
from gateway.commissioning.step import StepLimits, StepSample, Timed

DEAD_S, RATE_PER_S, OMEGA, ZETA = 0.24, 0.8, 9.0, 0.6


def second_order(t_s):
    """Progress of a step with dead time and an underdamped second order answer."""
    t = t_s - DEAD_S
    if t <= 0:
        return 0.0
    damped = OMEGA * math.sqrt(1 - ZETA**2)
    return 1 - math.exp(-ZETA * OMEGA * t) * (
        math.cos(damped * t) + ZETA / math.sqrt(1 - ZETA**2) * math.sin(damped * t)
    )


def ramp(t_s):
    return min(1.0, max(0.0, (t_s - DEAD_S) * RATE_PER_S))


def truth(shape):
    """Crossing times of the shape itself, found on a grid of 0.1 ms."""
    grid = [k / 10_000 for k in range(60_000)]
    values = [shape(t) for t in grid]
    first = next(t for t, v in zip(grid, values, strict=True) if v >= step.START_RATIO)
    ninety = next(t for t, v in zip(grid, values, strict=True) if v >= step.RESPONSE_RATIO)
    outside = [t for t, v in zip(grid, values, strict=True) if abs(v - 1) > step.SETTLE_BAND_RATIO]
    return first, ninety, outside[-1]


def sampled(shape, *, period_s, phase_s, from_w=-40_000, to_w=-150_000, noise_w=0.0, seed=1):
    rng = random.Random(seed)
    samples, t = [], -1.0 + phase_s
    while t < 6.0:
        samples.append(
            StepSample(
                t_s=100 + t, p_w=from_w + (to_w - from_w) * shape(t) + rng.gauss(0, noise_w),
                q_var=500 + 2000 * shape(t) * (1 - shape(t)), v_dc_v=800 - 10 * shape(t),
            )
        )  # fmt: skip
        t += period_s * rng.uniform(0.8, 1.2)
    return samples


def measure(samples, from_w=-40_000, to_w=-150_000):
    return step.measure(samples, t_write_s=100.0, from_w=from_w, to_w=to_w, s_va=250_000)


@pytest.mark.parametrize("shape", [second_order, ramp])
@pytest.mark.parametrize("period_s", [0.02, 0.05, 0.2, 0.5])
def test_every_time_is_within_its_resolution_of_the_truth(shape, period_s):
    dead, response, settle = truth(shape)
    for k in range(20):
        m = measure(sampled(shape, period_s=period_s, phase_s=k / 20 * period_s, seed=k))
        for got, true in ((m.dead_time, dead), (m.response, response)):
            assert abs(got.value_s - true) <= got.resolution_s + 1e-9
            assert got.resolution_s <= 0.6 * period_s + 1e-9
        if period_s <= 0.05:  # slower polls may miss the last swing outside the band
            assert abs(m.settle.value_s - settle) <= m.settle.resolution_s + 1e-3


def test_overshoot_and_rest_are_read_from_the_curve():
    m = measure(sampled(second_order, period_s=0.02, phase_s=0))
    assert m.overshoot_pct == pytest.approx(
        100 * math.exp(-math.pi * ZETA / math.sqrt(1 - ZETA**2)), abs=0.3
    )
    assert m.error_pct < 0.1
    assert m.q_disturbance_pct == pytest.approx(100 * 500 / 250_000, abs=0.02)
    assert (m.v_dc_min_v, m.v_dc_max_v) == (pytest.approx(789, abs=1), 800)
    assert 0.018 < m.period_s < 0.022


def test_noise_before_the_step_is_not_its_beginning():
    m = measure(sampled(ramp, period_s=0.05, phase_s=0, noise_w=1500))
    assert m.dead_time.value_s > DEAD_S - 0.05


def test_a_figure_is_never_printed_finer_than_its_resolution():
    assert str(Timed(value_s=0.2437, resolution_s=0.01)) == "0.24 ±0.01 s"
    assert str(Timed(value_s=0.2437, resolution_s=0.25)) == "0.2 ±0.2 s"
    assert str(Timed(value_s=1.9, resolution_s=1.2)) == "2 ±1 s"


def test_limits_name_what_broke_them():
    good = measure(sampled(second_order, period_s=0.02, phase_s=0))
    verdict, findings = step.judge("sop1 t1", good, StepLimits(overshoot_pct=15.0))
    assert (verdict, findings) == (Verdict.OK, ())
    verdict, findings = step.judge("sop1 t1", good, StepLimits(overshoot_pct=5.0, settle_s=0.3))
    assert verdict is Verdict.FAULT
    assert {f.code for f in findings} == {"overshoot", "settling"}


def test_a_time_that_straddles_its_limit_is_undecided():
    m = measure(sampled(ramp, period_s=0.2, phase_s=0.05))
    limits = StepLimits(
        dead_time_s=m.dead_time.value_s, response_s=None, settle_s=None, overshoot_pct=None
    )
    assert step.judge("t1", m, limits)[0] is Verdict.UNDECIDED


def test_a_converter_that_does_not_move_reaches_nothing():
    m = measure(sampled(lambda _t: 0.0, period_s=0.1, phase_s=0))
    assert m.dead_time is None
    assert m.response is None
    verdict, findings = step.judge("t1", m, StepLimits())
    assert verdict is Verdict.FAULT
    assert {"dead-time", "response", "error-at-rest"} <= {f.code for f in findings}
