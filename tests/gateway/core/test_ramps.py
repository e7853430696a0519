"""Moves of several terminals end together, so that the master meets only what both ends have."""

from dataclasses import replace

import pytest
from fakes.core import make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import ramps
from gateway.core.headroom import within_master

SOP = make_sop()
IDS = [t.id for t in SOP.slaves]
powers = st.fixed_dictionaries({t: st.integers(-230_000, 230_000) for t in IDS})
FULL = {t.id: t.s_va for t in SOP.terminals}


def position(sop, from_w, to_w, shaped, at_s):
    """Where every slave is at an instant of the way, by plain arithmetic."""
    found = {}
    for t in sop.slaves:
        gap = to_w[t.id] - from_w[t.id]
        done = shaped[t.id] * t.s_va / 1000 * at_s
        found[t.id] = (
            to_w[t.id] if done >= abs(gap) else from_w[t.id] + done * (gap > 0) - done * (gap < 0)
        )
    return found


@given(powers, powers)
def test_the_way_between_two_safe_points_is_safe(first_w, then_w):
    zero = dict.fromkeys(FULL, 0)
    from_w, to_w = (within_master(SOP, zero | p, zero, FULL) for p in (first_w, then_w))
    shaped = ramps.together(SOP, from_w=from_w, to_w=to_w, permille=200)
    longest_s = ramps.longest_ms(SOP, from_w=from_w, to_w=to_w, permille=200) / 1000
    for step in range(41):
        there = position(SOP, from_w, to_w, shaped, longest_s * step / 40)
        # Ramps are whole parts of 0.1 %/s: their rounding may use what is left free at both ends.
        assert abs(sum(there.values())) <= SOP.terminal("T1").s_va


def test_one_ramp_for_all_would_overload_the_master():
    from_w = {"T1": 0, "T2": 230_000, "T3": 100_000, "T4": -100_000}
    to_w = {"T1": 0, "T2": 0, "T3": 115_000, "T4": 115_000}
    one_for_all = dict.fromkeys(FULL, 200)
    shaped = ramps.together(SOP, from_w=from_w, to_w=to_w, permille=200)
    worst = max(sum(position(SOP, from_w, to_w, one_for_all, k / 10).values()) for k in range(50))
    ours = max(sum(position(SOP, from_w, to_w, shaped, k / 10).values()) for k in range(50))
    assert worst > 240_000
    assert ours <= 230_000 + 5_000


@given(powers, powers)
def test_all_slaves_arrive_by_the_longest_ramp_and_none_is_faster_than_the_site_allows(a, b):
    from_w, to_w = {"T1": 0} | a, {"T1": 0} | b
    shaped = ramps.together(SOP, from_w=from_w, to_w=to_w, permille=200)
    longest_ms = ramps.longest_ms(SOP, from_w=from_w, to_w=to_w, permille=200)
    for t in SOP.slaves:
        assert 10 <= shaped[t.id] <= 200
        took = ramps.duration_ms(
            move_w=to_w[t.id] - from_w[t.id], s_va=t.s_va, permille=shaped[t.id]
        )
        assert took <= longest_ms + 1


def test_who_stays_keeps_the_full_ramp():
    held = {"T1": 0, "T2": 1000, "T3": -1000, "T4": 0}
    assert set(ramps.together(SOP, from_w=held, to_w=held, permille=200).values()) == {200}


def test_a_small_move_beside_a_large_one_is_not_slower_than_the_floor():
    from_w = dict.fromkeys(FULL, 0)
    to_w = from_w | {"T2": 200_000, "T3": 1}
    assert ramps.together(SOP, from_w=from_w, to_w=to_w, permille=200)["T3"] == 10


def test_terminals_of_other_ratings_move_in_proportion_to_theirs():
    small = replace(SOP.terminal("T3"), s_va=100_000, p_w_min=-90_000, p_w_max=90_000)
    sop = make_sop(terminals=(SOP.terminal("T1"), SOP.terminal("T2"), small))
    from_w = dict.fromkeys(("T1", "T2", "T3"), 0)
    shaped = ramps.together(
        sop, from_w=from_w, to_w={"T1": 0, "T2": 100_000, "T3": 80_000}, permille=200
    )
    assert (shaped["T2"], shaped["T3"]) == (100, 200)  # 40 % of one rating, 80 % of the other


def test_a_move_begins_at_what_flows_where_the_setpoint_is_not_reached():
    held = {"T1": 0, "T2": 100_000, "T3": -100_000, "T4": 0}
    found = ramps.start_w(SOP, held_w=held, measured_w={"T2": 99_000, "T3": -20_000})
    assert found == held | {"T3": -20_000}


@pytest.mark.parametrize(
    ("measured_w", "held_w", "for_ms", "flows_w"),
    [
        (48_000, 0, 500, 23_000),  # 20 %/s of 250 kVA: 25 kW in half a second
        (48_000, 0, 1000, 0),  # and no further than what is held
        (-48_000, 0, 500, -23_000),
        (0, 100_000, 1000, 50_000),
        (48_000, 0, 0, 48_000),
    ],
)
def test_a_terminal_that_was_on_its_way_has_gone_on_since_it_was_read(
    measured_w, held_w, for_ms, flows_w
):
    held = {"T1": 0, "T2": held_w, "T3": 0, "T4": 0}
    found = ramps.moved_on(
        SOP, held_w=held, measured_w={"T2": measured_w}, permille={"T2": 200}, for_ms=for_ms
    )
    assert found == {"T2": flows_w}
