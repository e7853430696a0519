"""The smallest figures: a watt at a boundary, a watt of room, an instruction that changed nothing."""

import pytest
from fakes.core import Book, make_sop

from gateway.core import stepped, tracking

FULL = {f"T{k}": 250_000 for k in range(1, 5)}
ZERO = dict.fromkeys(FULL, 0)


@pytest.mark.parametrize(
    ("before_w", "after_w", "boundary_w"),
    [
        (1, 5, 1),
        (5, 1, 1),
        (-1, -5, -1),
        (-5, -1, -1),
        (1, 0, 0),
        (0, 1, 0),
        (-1, 0, 0),
        (0, -1, 0),
    ],
)
def test_a_single_watt_is_power_too(before_w, after_w, boundary_w):
    assert tracking.boundary_w(before_w, after_w) == boundary_w


def executing():
    book = Book().adopted()
    plan = book.plan({"T2": -12_500, "T3": 12_500})
    book.execute({"T2": -50_000, "T3": 50_000}, plan_index=plan)
    return book, plan


@pytest.mark.parametrize("outcome", ["failed", "rejected", "expired"])
def test_an_instruction_that_was_not_executed_changes_nothing_held(outcome):
    book, plan = executing()
    held = dict(book.state.held)
    book.execute({"T2": -60_000, "T3": 60_000}, plan_index=plan, outcome=outcome, instr_id=100)
    assert book.state.held == held
    assert not book.state.open_intents


def test_a_command_without_setpoints_changes_nothing_held():
    book, _ = executing()
    held = dict(book.state.held)
    intent = book.add(
        "intent", sop="SOP-1", authority="configure", plan_index=-1, instr_id=101, setpoints=[],
        command="CONFIGURE", ramp_permille_per_s=200, ttl_s=0, staged="", expires_mono_us=0,
    )  # fmt: skip
    book.mono_us += 7
    book.add(
        "outcome", intent_index=intent, instr_id=101, outcome="executed", active={}, reasons=[]
    )
    assert book.state.held == held
    assert book.state.last_write_mono_us == book.mono_us


@pytest.mark.parametrize("sum_w", [0, 1, -1])
def test_who_moves_power_away_from_zero_is_written_last(sum_w):
    before = ZERO | {"T4": sum_w}
    after = before | {"T2": 30_000, "T3": -30_000}
    # From zero those who take power from their feeders: the losses relieve a master that feeds.
    assert stepped.writing_order(make_sop(), before, after)[:2] == (
        ["T2", "T3"] if sum_w < 0 else ["T3", "T2"]
    )
