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
from gateway.core.stepped import Stepped, master_w, plan_steps
from gateway.model.reason import Reason, ReasonCode

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


@given(changes())
def test_every_subset_of_every_step_is_safe(change):
    sop, from_w, to_w = change
    found = plan_steps(sop, from_w=from_w, to_w=to_w, available_va=full(sop))
    if isinstance(found, Reason):
        return
    before = {t.id: from_w[t.id] for t in sop.slaves}
    for after in found.steps:
        for powers in subsets(before, dict(after), list(before)):
            assert master_w(sop, powers) <= S_VA
        before = dict(after)
    assert before == {t.id: to_w[t.id] for t in sop.slaves}


def test_at_once_some_subset_would_overload_the_master():
    from_w = {"T1": 0, "T2": 200_000, "T3": -200_000, "T4": 0}
    to_w = {"T1": 0, "T2": -200_000, "T3": 200_000, "T4": 0}
    assert max(master_w(SOP, p) for p in subsets(from_w, to_w, ["T2", "T3", "T4"])) > S_VA
    found = plan_steps(SOP, from_w=from_w, to_w=to_w, available_va=full(SOP))
    assert isinstance(found, Stepped)
    assert 2 <= len(found.steps) <= 5


def test_most_changes_that_are_safe_at_both_ends_take_few_steps():
    draw = random.Random(7)
    counts, refused = [], 0
    for _ in range(2000):
        ends = []
        while len(ends) < 2:  # 5 % of headroom at the end points, as plans keep it
            p = {f"T{k}": draw.randint(-230_000, 230_000) for k in (2, 3, 4)} | {"T1": 0}
            if master_w(SOP, p) <= S_VA * 95 // 100:
                ends.append(p)
        found = plan_steps(SOP, from_w=ends[0], to_w=ends[1], available_va=full(SOP))
        if isinstance(found, Reason):
            refused += 1
        else:
            counts.append(len(found.steps))
    counts.sort()
    assert counts[len(counts) // 2] <= 6
    assert refused < 2000 // 4


@pytest.mark.parametrize(
    ("available_va", "code"), [(0, ReasonCode.MASTER_HEADROOM), (113_000, ReasonCode.INFEASIBLE)]
)
def test_without_room_a_change_is_refused_by_name(available_va, code):
    from_w = {"T1": 0, "T2": 100_000, "T3": 0, "T4": 0}
    to_w = {"T1": 0, "T2": 0, "T3": 100_000, "T4": 0}
    found = plan_steps(SOP, from_w=from_w, to_w=to_w, available_va=full(SOP) | {"T1": available_va})
    assert isinstance(found, Reason)
    assert found.code is code


def test_no_change_is_no_step():
    held = {"T1": 0, "T2": 5, "T3": -5, "T4": 0}
    assert plan_steps(SOP, from_w=held, to_w=held, available_va={}) == Stepped(steps=())


def test_who_relieves_the_master_is_written_first():
    before = {"T2": 100_000, "T3": 50_000, "T4": 0}
    after = {"T2": 110_000, "T3": 20_000, "T4": 0}
    assert stepped.order(SOP, before, after) == ["T3", "T2"]
    mirrored = ({t: -p for t, p in one.items()} for one in (before, after))
    assert stepped.order(SOP, *mirrored) == ["T3", "T2"]


@given(changes(), st.integers(0, 10**6), st.integers(0, 63))
def test_a_step_that_some_never_applied_is_undone_by_safe_subsets(change, which, mask):
    sop, from_w, to_w = change
    found = plan_steps(sop, from_w=from_w, to_w=to_w, available_va=full(sop))
    if isinstance(found, Reason) or not found.steps:
        return
    k = which % len(found.steps)
    before = dict(found.steps[k - 1]) if k else {t.id: from_w[t.id] for t in sop.slaves}
    after = dict(found.steps[k])
    applied = [t for i, t in enumerate(before) if mask >> i & 1]
    there = before | {t: after[t] for t in applied}
    for powers in subsets(there, there | stepped.back(before, applied), list(before)):
        assert master_w(sop, powers) <= S_VA
    assert there | stepped.back(before, applied) == before
