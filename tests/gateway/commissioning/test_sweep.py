import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.commissioning import sweep
from gateway.commissioning.sweep import Visited

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


def test_the_voltage_of_a_point_is_predicted_from_one_small_step():
    r_ohm = sweep.impedance_from(400.0, 401.0, p0_w=0, p1_w=10_000)
    assert r_ohm == pytest.approx(0.04, abs=0.001)
    assert sweep.predicted_v(400, p_w=200_000, q_var=0, r_ohm=r_ohm, x_ohm=0.02) > 419
    assert sweep.impedance_from(400, 401, p0_w=0, p1_w=0) is None
