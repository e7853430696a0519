"""Separate controllers: whatever subset has applied a step, the master carries it."""

import itertools
import random
from dataclasses import replace

import pytest
from fakes.core import make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import stepped
from gateway.core.setpoints import within_master
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import LossCurve

SOP = make_sop()
S_VA = SOP.terminal("T1").s_va


def sop_of(slaves):
    """A SOP of so many slaves beside its master."""
    model = SOP.terminals[1]
    more = tuple(
        replace(model, id=f"T{k}", index=k - 1, domain=f"r{k}", meter=f"m{k}")
        for k in range(2, slaves + 2)
    )
    return make_sop(terminals=(SOP.terminals[0], *more))


def full(sop):
    return {t.id: t.s_va for t in sop.terminals}


def flow_w(sop, powers):
    """What truly flows at the master: it absorbs what the others inject, and every loss."""
    sum_w = sum(powers[t.id] for t in sop.slaves)
    loss_w = sum(sop.losses.loss_w(p_w=powers[t.id], s_va=t.s_va) for t in sop.slaves)
    loss_w += sop.losses.loss_w(p_w=min(abs(sum_w), S_VA), s_va=S_VA)
    return abs(sum_w + loss_w)


def safe(sop, powers):
    zero = {t.id: 0 for t in sop.terminals}
    return within_master(sop, zero | powers, zero, full(sop))


@st.composite
def changes(draw):
    sop = sop_of(draw(st.integers(2, 6)))
    ids = [t.id for t in sop.slaves]
    powers = st.fixed_dictionaries({t: st.integers(-230_000, 230_000) for t in ids})
    return sop, safe(sop, draw(powers)), safe(sop, draw(powers))


def subsets(before, after, ids):
    moving = [t for t in ids if after[t] != before[t]]
    for size in range(len(moving) + 1):
        for chosen in itertools.combinations(moving, size):
            yield before | {t: after[t] for t in chosen}


def walked(sop, from_w, to_w, available_va):
    """Every step of a change, or the reason why it does not go on."""
    held, steps = dict(from_w), []
    while any(held[t.id] != to_w[t.id] for t in sop.slaves) and len(steps) < 60:
        step = stepped.next_step(sop, from_w=held, to_w=to_w, available_va=available_va)
        if isinstance(step, Reason):
            return step
        steps.append(step)
        held |= step
    return steps


def test_at_once_some_subset_would_overload_the_master():
    from_w = {"T1": 0, "T2": 200_000, "T3": -200_000, "T4": 0}
    to_w = {"T1": 0, "T2": -200_000, "T3": 200_000, "T4": 0}
    assert max(flow_w(SOP, p) for p in subsets(from_w, to_w, ["T2", "T3", "T4"])) > S_VA
    assert len(walked(SOP, from_w, to_w, full(SOP))) == 2


def test_changes_that_are_safe_at_both_ends_take_few_steps():
    draw = random.Random(7)
    counts = []
    for _ in range(2000):
        ends = []
        while len(ends) < 2:  # 5 % of headroom at the end points, as plans keep it
            p = {f"T{k}": draw.randint(-230_000, 230_000) for k in (2, 3, 4)} | {"T1": 0}
            if max(flow_w(SOP, p), abs(sum(p.values()))) <= S_VA * 95 // 100:
                ends.append(p)
        counts.append(len(walked(SOP, *ends, full(SOP))))
    counts.sort()
    assert counts[len(counts) // 2] <= 2
    assert counts[len(counts) * 99 // 100] <= 8
    assert counts[-1] <= stepped.STEPS_MAX


@pytest.mark.parametrize("available_va", [0, 5_000])
def test_without_room_a_change_is_refused_by_name(available_va):
    from_w = {"T1": 0, "T2": 0, "T3": 0, "T4": 0}
    to_w = {"T1": 0, "T2": 0, "T3": 100_000, "T4": 0}
    found = walked(SOP, from_w, to_w, full(SOP) | {"T1": available_va})
    assert isinstance(found, Reason)
    assert found.code is ReasonCode.MASTER_HEADROOM


@given(changes())
def test_step_by_step_every_change_between_safe_ends_arrives(change):
    sop, held, to_w = change
    ids = [t.id for t in sop.slaves]
    for _ in range(stepped.STEPS_MAX):
        step = stepped.next_step(sop, from_w=held, to_w=to_w, available_va=full(sop))
        assert not isinstance(step, Reason), step
        before = {t: held[t] for t in ids}
        for powers in subsets(before, step, ids):
            assert flow_w(sop, powers) <= S_VA
        assert all(min(held[t], to_w[t]) <= step[t] <= max(held[t], to_w[t]) for t in ids)
        held = held | step
        if all(held[t] == to_w[t] for t in ids):
            return
    raise AssertionError(f"{held} after so many steps, not {to_w}")


def test_where_the_master_is_full_those_who_relieve_it_go_first():
    held = {"T1": 0, "T2": 230_000, "T3": 0, "T4": 0}
    to_w = {"T1": 0, "T2": 0, "T3": 230_000, "T4": 0}
    first = stepped.next_step(SOP, from_w=held, to_w=to_w, available_va=full(SOP))
    assert first == {"T2": 0, "T3": 0, "T4": 0}
    then = stepped.next_step(SOP, from_w=held | first, to_w=to_w, available_va=full(SOP))
    assert then == {"T2": 0, "T3": 230_000, "T4": 0}


def test_a_master_without_any_room_lets_nothing_move_by_steps():
    held = {"T1": 0, "T2": 100_000, "T3": -100_000, "T4": 0}
    zero = dict.fromkeys(held, 0)
    step = stepped.next_step(SOP, from_w=held, to_w=zero, available_va=full(SOP) | {"T1": 0})
    assert isinstance(step, Reason)


def test_every_terminal_is_written_once_and_those_that_move_first():
    before = {"T1": 0, "T2": 100_000, "T3": 50_000, "T4": 0}
    after = before | {"T2": 110_000, "T3": 20_000}
    assert stepped.writing_order(SOP, before, after) == ["T3", "T2", "T1", "T4"]


def test_a_half_applied_step_is_known_by_values_before_and_after():
    before = {"T1": 0, "T2": 0, "T3": 0, "T4": 0}
    sent = {"T1": 0, "T2": 40_000, "T3": -40_000, "T4": 0}
    assert stepped.half_applied(SOP, before=before, sent=sent, held=sent | {"T3": 0})
    assert stepped.half_applied(SOP, before=before, sent=sent, held=before)
    assert not stepped.half_applied(SOP, before=before, sent=sent, held=sent | {"T3": -1})
    assert not stepped.half_applied(SOP, before=before, sent=sent, held={"T2": 40_000})


def test_no_change_is_no_step():
    held = {"T1": 0, "T2": 5, "T3": -5, "T4": 0}
    assert stepped.next_step(SOP, from_w=held, to_w=held, available_va={}) == {
        "T2": 5, "T3": -5, "T4": 0,
    }  # fmt: skip
    course = stepped.course(SOP, from_w=held, to_w=held, permille=200, pause_ms=1_500)
    assert (course.steps_count, course.whole_ms, set(course.own_ms.values())) == (0, 0, {0})


def test_the_course_of_one_step_is_the_ramp_of_each_terminal():
    held = {"T1": 0, "T2": 0, "T3": 0, "T4": 0}
    to_w = held | {"T2": 100_000, "T3": -25_000}
    course = stepped.course(SOP, from_w=held, to_w=to_w, permille=200, pause_ms=1_500)
    assert course.steps_count == 1
    assert course.whole_ms == 2_000  # 50 kW a second
    assert course.own_ms == {"T2": 2_000, "T3": 500, "T4": 0}


def test_what_moves_in_a_later_step_is_like_a_ramp_that_is_half_done_then():
    # One way first, then the other: 4.6 s of ramp, a pause, 4.6 s.
    sop = make_sop(losses=LossCurve(a_ppm=0, b_ppm=0, c_ppm=0))
    held = {"T1": 0, "T2": 230_000, "T3": 10_000, "T4": 0}
    to_w = {"T1": 0, "T2": 0, "T3": 240_000, "T4": 0}
    course = stepped.course(sop, from_w=held, to_w=to_w, permille=200, pause_ms=1_500)
    assert course.steps_count == 2
    assert course.whole_ms == 2 * 4_600 + 1_500
    assert course.own_ms == {"T2": 4_600, "T3": 2 * (4_600 + 1_500) + 4_600, "T4": 0}


def test_a_course_is_worth_what_its_steps_are():
    held = {"T1": 0, "T2": -28_000, "T3": 91_000, "T4": -224_000}
    zero = dict.fromkeys(held, 0)
    course = stepped.course(SOP, from_w=held, to_w=zero, permille=200, pause_ms=1_500)
    steps = walked(SOP, held, zero, full(SOP))
    assert course.steps_count == len(steps) == 2
    at_ms, now, done_wms = 0, dict(held), dict.fromkeys(("T2", "T3", "T4"), 0)
    for step in steps:  # where each is on the way, once a millisecond
        ramp_ms = max(abs(step[t] - now[t]) for t in step) // 50
        for ms in range(ramp_ms + 1_500 if step is not steps[-1] else course.whole_ms - at_ms):
            for t in step:
                far_w = min(abs(step[t] - now[t]), 50 * ms)
                done_wms[t] += now[t] + (far_w if step[t] > now[t] else -far_w)
        at_ms += ramp_ms + 1_500
        now |= step
    for t, own_ms in course.own_ms.items():
        assert abs(done_wms[t] - held[t] * own_ms / 2) < abs(held[t]) * 5


def test_who_relieves_the_master_is_written_first():
    before = {"T1": 0, "T2": 100_000, "T3": 50_000, "T4": 0}
    after = {"T1": 0, "T2": 110_000, "T3": 20_000, "T4": 0}
    assert stepped.writing_order(SOP, before, after)[:2] == ["T3", "T2"]
    mirrored = ({t: -p for t, p in one.items()} for one in (before, after))
    assert stepped.writing_order(SOP, *mirrored)[:2] == ["T3", "T2"]
