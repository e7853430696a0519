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


def test_a_change_is_split_where_its_moves_up_exceed_the_room_by_a_watt_a_terminal_at_both_ends():
    sop, available_va = make_sop(), FULL | {"T1": 100_000}

    def steps(x_w):
        to_w = ZERO | {"T2": x_w, "T3": -x_w}
        found = stepped.plan_steps(sop, from_w=ZERO, to_w=to_w, available_va=available_va)
        return len(found.steps), stepped._most_up_w(sop, ZERO, to_w, available_va)

    near_w = steps(95_000)[1]
    splits = next(x_w for x_w in range(near_w - 300, near_w + 300) if steps(x_w)[0] == 2)
    count, room_w = steps(splits)
    before, room_before_w = steps(splits - 1)
    assert (before, count) == (1, 2)
    assert splits > room_w - 6
    assert splits - 1 <= room_before_w - 6


def test_no_move_needs_no_step():
    held = ZERO | {"T2": 10_000}
    assert stepped.plan_steps(make_sop(), from_w=held, to_w=held, available_va=FULL).steps == ()


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


@pytest.mark.parametrize(("room_w", "steps"), [(2_500, 20), (2_499, None)])
def test_a_change_takes_twenty_steps_at_most(room_w, steps):
    sop = make_sop()
    to_w = {"T1": 0, "T2": -50_000, "T3": 50_000, "T4": 0}
    # What the master has beside every loss and a watt a terminal at both ends of a step.
    losses_w = 250_000 - stepped._most_up_w(sop, ZERO, to_w, FULL)
    available_va = FULL | {"T1": room_w + losses_w + 2 * 3}
    found = stepped.plan_steps(sop, from_w=ZERO, to_w=to_w, available_va=available_va)
    if steps is None:
        assert found.detail == "21 steps, at most 20"
    else:
        assert len(found.steps) == steps


@pytest.mark.parametrize("sum_w", [0, 1, -1])
def test_who_moves_power_away_from_zero_is_written_last(sum_w):
    before = ZERO | {"T4": sum_w}
    after = before | {"T2": 30_000, "T3": -30_000}
    # From zero those who take power from their feeders: the losses relieve a master that feeds.
    assert stepped.order(make_sop(), before, after) == (["T2", "T3"] if sum_w < 0 else ["T3", "T2"])
