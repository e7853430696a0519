import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.capability import Capability

SQUARE = Capability(
    terminal="T2",
    s_va=250_000,
    corners=((100_000, 0), (0, 90_000), (-80_000, 0), (0, -90_000)),
)


def test_limits_are_narrowed_never_widened():
    assert SQUARE.narrowed(-230_000, 230_000) == (-80_000, 100_000)
    assert SQUARE.narrowed(-50_000, 60_000) == (-50_000, 60_000)


def test_a_polygon_that_leaves_out_zero_leaves_only_zero():
    away = Capability(terminal="T2", s_va=1, corners=((5, 5), (9, 5), (9, 9), (5, 9)))
    assert away.narrowed(-230_000, 230_000) == (0, 0)
    beside = Capability(terminal="T2", s_va=1, corners=((50, -5), (90, -5), (90, 5), (50, 5)))
    assert beside.narrowed(-230, 230) == (0, 90)


@given(
    radii=st.lists(st.integers(0, 250_000), min_size=4, max_size=36),
    low=st.integers(-230_000, 0),
    high=st.integers(0, 230_000),
)
def test_what_is_left_lies_in_the_guard_and_in_the_polygon(radii, low, high):
    turn = 2 * math.pi / len(radii)
    corners = tuple(
        (round(r * math.cos(k * turn)), round(r * math.sin(k * turn))) for k, r in enumerate(radii)
    )
    found = Capability(terminal="T", s_va=250_000, corners=corners)
    least, most = found.narrowed(low, high)
    assert low <= least <= 0 <= most <= high
    for p_w in (least, most):
        assert p_w == 0 or found.admits(p_w=p_w, q_var=0)
