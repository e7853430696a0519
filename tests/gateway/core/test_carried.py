"""What is active after an instruction: all of it, or the part of a step that was applied."""

from dataclasses import replace

import pytest
from fakes.core import make_site

from gateway.core.carried import active_of, half_applied, refusals_of_zero
from gateway.core.records import IntentRecord

HELD = {"T1": 0, "T2": 0, "T3": 50_000, "T4": 0}
SENT = {"T1": 0, "T2": -100_000, "T3": 100_000, "T4": 0}
ENTRY = {"utc_us": 7, "mono_us": 9, "boot": 3}
SITE = make_site()
SEPARATE = replace(SITE, separate=True)


def intent(**changes):
    fields = {
        "index": 1, "instr_id": 99, "authority": "plan", "plan_index": 5, "setpoints": SENT,
        "command": None, "mono_us": 1, "boot_number": 3, "ramps": {"T2": 200, "T3": 100},
        "q_var": {"T4": 10},
    }  # fmt: skip
    return IntentRecord(**(fields | changes))


def test_an_instruction_is_active_from_its_outcome_on_with_its_longest_ramp():
    active = active_of(SITE, HELD, intent(), ENTRY)
    assert active.setpoints == SENT
    assert (active.instr_id, active.plan_index, active.boot_number) == (99, 5, 3)
    assert (active.utc_us, active.mono_us) == (7, 9)
    assert active.ramp_ms == 2000  # 100 kW at 20 %/s, 50 kW at 10 %/s
    assert active.ramps == {"T2": 200, "T3": 100, "T4": 200}
    assert active.slowed
    assert active.q_var == {"T4": 10}
    assert not active.stepping
    assert not active_of(SITE, HELD, intent(ramps={}), ENTRY).slowed


def test_a_step_says_that_more_follow():
    assert active_of(SEPARATE, HELD, intent(toward=SENT), ENTRY).stepping


@pytest.mark.parametrize(
    "shown",
    [SENT, HELD, SENT | {"T3": 50_000}, HELD | {"T3": 100_000}, SENT | {"T1": 12_345}],
)
def test_a_part_of_a_step_is_what_each_slave_shows(shown):
    half = half_applied(SEPARATE, HELD, intent(), ENTRY | {"active": shown})
    assert half is not None
    assert {t: half.setpoints[t] for t in ("T2", "T3", "T4")} == {
        t: shown[t] for t in ("T2", "T3", "T4")
    }
    assert half.setpoints["T1"] == 0
    assert half.stepping


def test_anything_else_is_no_part_of_it():
    other = SENT | {"T3": 60_000}
    assert half_applied(SEPARATE, HELD, intent(), ENTRY | {"active": other}) is None
    assert half_applied(SEPARATE, HELD, intent(), ENTRY | {"active": {}}) is None
    assert half_applied(SEPARATE, HELD, intent(), ENTRY) is None
    assert half_applied(SITE, HELD, intent(), ENTRY | {"active": SENT}) is None


@pytest.mark.parametrize(
    ("code", "authority", "count"),
    [
        ("select_failed", "failsafe", 3),
        ("device_rejected", "failsafe", 3),
        ("readback_differs", "failsafe", 3),
        ("link_lost", "failsafe", 0),  # it did not answer: a command would not arrive either
        ("expired", "failsafe", 0),
        ("select_failed", "plan", 0),
    ],
)
def test_only_a_zero_that_the_device_answered_and_refused_is_counted(code, authority, count):
    ended = ENTRY | {"kind": "abort", "reasons": [{"code": code, "detail": ""}]}
    assert refusals_of_zero(2, intent(authority=authority), ended) == count


def test_a_zero_without_answer_counts_once_the_device_was_read_to_hold_another():
    read = ENTRY | {"kind": "readback", "cause": "reconcile", "active": SENT}
    assert refusals_of_zero(2, intent(authority="failsafe"), read | {"outcome": "failed"}) == 3
    assert refusals_of_zero(2, intent(authority="failsafe"), read | {"outcome": "executed"}) == 0


def test_a_zero_that_was_taken_ends_the_count_and_a_stop_in_vain_lets_a_zero_be_tried_again():
    taken = ENTRY | {"kind": "outcome", "outcome": "executed", "reasons": []}
    assert refusals_of_zero(2, intent(authority="failsafe"), taken) == 0
    stop = intent(command="ENTER_STANDBY", setpoints={})
    assert refusals_of_zero(3, stop, taken) == 3
    assert refusals_of_zero(3, stop, taken | {"outcome": "rejected"}) == 2
    assert refusals_of_zero(0, stop, taken | {"outcome": "rejected"}) == 0
    assert refusals_of_zero(3, stop, ENTRY | {"kind": "abort", "reasons": []}) == 2
    other = intent(command="CONFIGURE", setpoints={})
    assert refusals_of_zero(3, other, taken | {"outcome": "rejected"}) == 3
