"""The master carries the others' sum and every loss; what it cannot is taken back."""

from dataclasses import replace

import pytest
from fakes.core import make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.headroom import MasterLimits, master_w, within_guards, within_master
from gateway.model.limits import FeederLimit

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


def limit(low_w, high_w):
    return FeederLimit(domain="region-a", p_w_min=low_w, p_w_max=high_w, cause="")


def test_the_masters_guard_holds_by_direction_and_a_sent_limit_by_its_own_narrower_side():
    site = replace(SOP.terminal("T1"), p_w_min=-50_000, p_w_max=200_000)
    assert MasterLimits.of(site, None) == MasterLimits(out_w=50_000, in_w=200_000)
    assert MasterLimits.of(site, limit(-100_000, 120_000)) == MasterLimits(
        out_w=50_000, in_w=100_000
    )
    one_way = replace(site, p_w_min=-200_000, p_w_max=0)
    assert MasterLimits.of(one_way, limit(-150_000, 150_000)) == MasterLimits(out_w=150_000, in_w=0)


def test_a_fallback_of_the_other_direction_is_held_against_its_own_limit():
    target_w = {"T1": 0, "T2": 20_000, "T3": 0, "T4": 0}
    schedule_w = {"T1": 0, "T2": -20_000, "T3": 0, "T4": 0}
    limits = MasterLimits(out_w=5_000, in_w=5_000)
    found = within_master(SOP, target_w, schedule_w, FULL, limits)
    assert abs(sum(found.values())) <= 5_000


@given(powers, st.integers(0, 230_000), st.integers(0, 230_000))
def test_what_the_master_draws_with_every_loss_and_what_it_gives_stay_within_its_guard(
    asked_w, out_w, in_w
):
    limits = MasterLimits(out_w=out_w, in_w=in_w)
    found = within_master(SOP, {"T1": 0} | asked_w, {"T1": 0} | asked_w, FULL, limits)
    total_w = sum(found[t] for t in IDS)
    assert master_w(SOP, found) <= (out_w if total_w > 0 else in_w) + len(IDS)  # W of rounding
