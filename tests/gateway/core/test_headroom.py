"""The master carries the others' sum and every loss; what it cannot is taken back."""

import pytest
from fakes.core import make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.headroom import within_guards, within_master

SOP = make_sop()
IDS = [t.id for t in SOP.slaves]
powers = st.fixed_dictionaries({t: st.integers(-230_000, 230_000) for t in IDS})
FULL = {t.id: t.s_va for t in SOP.terminals}


@given(powers)
def test_what_the_master_cannot_carry_is_taken_back_towards_the_schedule(asked_w):
    target_w = {"T1": 0} | asked_w
    schedule_w = {"T1": 0, "T2": 60_000, "T3": -20_000, "T4": 10_000}
    found = within_master(SOP, target_w, schedule_w, FULL)
    total_w = sum(found[t] for t in IDS)
    assert -245_000 <= total_w <= 245_000
    for t in IDS:
        low, high = sorted((target_w[t], schedule_w[t]))
        assert low <= found[t] <= high


@pytest.mark.parametrize("available_va", [0, 5_000, 40_000, 200_000])
def test_a_master_derated_after_the_plan_scales_all_alike(available_va):
    target_w = {"T1": 0, "T2": 150_000, "T3": 75_000, "T4": 0}
    found = within_master(SOP, target_w, target_w, FULL | {"T1": available_va})
    assert abs(sum(found.values())) <= available_va
    assert abs(found["T2"] - 2 * found["T3"]) <= 2


@pytest.mark.parametrize(("p_w", "within"), [(230_000, True), (-230_000, True), (230_001, False)])
def test_what_the_last_guard_refuses_is_not_within_the_guards(p_w, within):
    assert within_guards(SOP, {"T2": 0, "T3": p_w, "T4": 0}) is within
