import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.commissioning import sweep
from gateway.commissioning.sweep import Shift, Visited

S_VA = 250_000


def targets(**over):
    fields = {"s_va": S_VA, "p_w_min": -230_000, "p_w_max": 230_000, "angles_count": 12,
              "radii": (0.3, 0.6, 0.9)}  # fmt: skip
    return sweep.spiral(**(fields | over))


def delivered(limit_w=math.inf):
    found = []
    for t in targets():
        size = math.hypot(t.p_w, t.q_var)
        share = min(1.0, limit_w / size)
        found.append(Visited(target=t, p_w=round(t.p_w * share), q_var=round(t.q_var * share)))
    return found


def test_the_spiral_goes_outward_and_keeps_to_the_guard():
    laid = targets(radii=(0.5, 1.0))
    assert [t.radius_ratio for t in laid] == [0.5] * 12 + [1.0] * 12
    assert all(abs(t.p_w) <= 230_000 for t in laid)
    steps = [math.hypot(b.p_w - a.p_w, b.q_var - a.q_var) for a, b in itertools.pairwise(laid)]
    assert max(steps) <= 0.55 * S_VA, "no jump across the plane"


def test_what_was_delivered_becomes_the_polygon():
    capability = sweep.polygon("T1", delivered(), s_va=S_VA)
    assert len(capability.corners) == 12
    low, high = capability.p_range_w(0)
    assert (low, high) == (-225_000, 225_000)
    assert capability.admits(p_w=100_000, q_var=100_000)
    assert not capability.admits(p_w=225_000, q_var=100_000)
    assert capability.p_range_w(240_000) is None


def test_a_converter_that_gives_less_narrows_the_polygon_and_is_listed():
    visited = delivered(limit_w=180_000)
    assert sweep.polygon("T1", visited, s_va=S_VA).p_range_w(0) == (-180_000, 180_000)
    assert {v.target.radius_ratio for v in sweep.shortfalls(visited, s_va=S_VA)} == {0.9}
    assert sweep.shortfalls(delivered(), s_va=S_VA) == ()


def test_a_direction_that_was_skipped_is_not_assumed():
    visit, skipped = sweep.skip_where(
        targets(), lambda t: "predicted voltage" if t.angle_deg == 0 else ""
    )
    assert len(skipped) == 3
    done = [Visited(target=t, p_w=t.p_w, q_var=t.q_var) for t in visit] + skipped
    assert sweep.polygon("T1", done, s_va=S_VA).p_range_w(0)[1] == 0


@given(st.lists(st.integers(0, 250_000), min_size=12, max_size=12), st.integers(-200_000, 200_000))
def test_the_polygon_never_admits_more_than_the_rating(sizes, q_var):
    visited = [
        Visited(
            target=t,
            p_w=round(sizes[i % 12] * math.cos(math.radians(t.angle_deg))),
            q_var=round(sizes[i % 12] * math.sin(math.radians(t.angle_deg))),
        )
        for i, t in enumerate(targets(radii=(1.0,)))
    ]
    limits = sweep.polygon("T1", visited, s_va=S_VA).p_range_w(q_var)
    if limits is not None:
        assert math.hypot(max(map(abs, limits)), q_var) <= 1.001 * S_VA


R_OHM, X_OHM = 0.02, 0.05


def shift(p_w, q_var, *, noise_w=0.0, noise_v=0.0):
    v_v = (R_OHM * p_w + X_OHM * q_var) / 400
    return Shift(p_w=p_w + noise_w, q_var=q_var + noise_w, v_v=v_v + noise_v)


def test_a_step_of_p_and_one_of_q_tell_the_feeder():
    told = sweep.feeder(400.0, [shift(37_500, 0), shift(0, 37_500)], s_va=S_VA)
    assert told.r_ohm == (pytest.approx(R_OHM, rel=0.01),) * 2
    assert told.x_ohm == (pytest.approx(X_OHM, rel=0.01),) * 2
    low_v, high_v = sweep.predicted_v(400, p_w=200_000, q_var=100_000, feeder=told)
    assert low_v == high_v == pytest.approx(400 + 10 + 12.5, abs=0.3)


@given(st.lists(st.floats(-100, 100), min_size=16, max_size=16))
def test_noise_where_p_stood_still_is_not_taken_for_resistance(noise_w):
    points = [shift(37_500, 0), shift(0, 37_500)]
    points += [shift(t.p_w, t.q_var) for t in targets(angles_count=8, radii=(0.3, 0.6))]
    seen = [dataclasses.replace(p, p_w=p.p_w + n) for p, n in zip(points, noise_w, strict=False)]
    for count in range(2, len(seen) + 1):
        told = sweep.feeder(400.0, seen[:count], s_va=S_VA)
        assert told.r_ohm[0] == told.r_ohm[1] == pytest.approx(R_OHM, rel=0.1)
        assert told.x_ohm[0] == told.x_ohm[1] == pytest.approx(X_OHM, rel=0.1)


def test_what_was_not_measured_is_taken_for_a_weak_feeder():
    unknown = sweep.feeder(400.0, [], s_va=S_VA)
    low_v, high_v = sweep.predicted_v(400, p_w=0, q_var=S_VA, feeder=unknown)
    assert (low_v, high_v) == (400, pytest.approx(440))
    only_p = sweep.feeder(400.0, [shift(75_000, 100)], s_va=S_VA)
    assert only_p.r_ohm[0] == only_p.r_ohm[1] == pytest.approx(R_OHM, rel=0.02)
    assert only_p.x_ohm == unknown.x_ohm, "100 var tell nothing of the reactance"
    only_q = sweep.feeder(400.0, [shift(60, 75_000)], s_va=S_VA)
    assert only_q.x_ohm[0] == only_q.x_ohm[1] == pytest.approx(X_OHM, rel=0.02)
    assert only_q.r_ohm == unknown.r_ohm
    assert sweep.feeder(400.0, [shift(60_000, 60_000)], s_va=S_VA) == unknown, "which of the two?"


@pytest.mark.parametrize(("v0_v", "sign"), [(395.0, 1), (415.0, -1)])
def test_the_first_steps_are_small_and_go_towards_the_middle_of_the_limits(v0_v, sign):
    limits = {"v_mid_v": 400.0, "s_va": S_VA, "p_w_min": -230_000, "p_w_max": 230_000}
    p, q = sweep.first_steps(v0_v=v0_v, radius_ratio_max=0.9, **limits)
    assert [(t.p_w, t.q_var) for t in (p, q)] == [(sign * 37_500, 0), (0, sign * 37_500)]
    p, q = sweep.first_steps(v0_v=v0_v, radius_ratio_max=0.1, **limits)
    assert (p.p_w, q.q_var) == (sign * 25_000, sign * 25_000), "no more than was agreed to"


def test_a_direction_without_a_visit_is_named():
    visit, skipped = sweep.skip_where(targets(), lambda t: "too high" if t.angle_deg == 90 else "")
    done = [Visited(target=t, p_w=t.p_w, q_var=t.q_var) for t in visit]
    assert sweep.never_visited([*done, *skipped]) == (90,)
    assert sweep.never_visited([*done, skipped[2], *delivered()[:12]]) == ()


@pytest.mark.parametrize("s_va", [100_000, 250_000, 400_000, 500_000])
@pytest.mark.parametrize("angles_count", [4, 8, 12, 16, 24])
def test_no_point_on_the_circle_lies_beyond_the_rating(s_va, angles_count):
    targets = sweep.spiral(
        s_va=s_va, p_w_min=-s_va, p_w_max=s_va, angles_count=angles_count, radii=(0.5, 1.0)
    )
    assert all(t.p_w**2 + t.q_var**2 <= s_va**2 for t in targets)
