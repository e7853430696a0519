"""Terminals with controllers of their own: safe steps, each after the ramp of the one before."""

import dataclasses

import pytest
from fakes.core import QUARTER, RUNNING, Book, make_image, make_station

from gateway.core import decide, interlock
from gateway.core.decide import Dispatch, ReadBack, Settle, StationCommand
from gateway.core.readback import Confirmed, Differed, judge
from gateway.model.setpoint import Command

OPEN = {"T2": -230_000, "T3": 130_000, "T4": 130_000}
WH = {"T2": -57_400, "T3": 32_400, "T4": 32_400, "T1": -7_400}


def separate(**setting):
    book = Book(**setting)
    book.state.site = dataclasses.replace(book.state.site, separate=True)
    return book.adopted()


def found(book, **image):
    return decide.scan(book.state, make_image(**image)).actions


def of(kind, actions):
    return [a for a in actions if isinstance(a, kind)]


def stepping(held, toward, **more):
    """A site on its way: so much is held, and there are steps to come."""
    book = separate(rearm="auto")
    plan = book.plan(WH)
    send(book, held, plan_index=plan, toward=toward, **more)
    return book


def send(book, setpoints, *, active=None, outcome="executed", toward=None, plan_index=-1):
    zero = {f"T{k}": 0 for k in range(1, 5)}
    rows = [
        {"terminal": t, "mode": "P_Q", "p_w": p, "q_var": 0, "ramp_permille_per_s": 200}
        for t, p in (zero | setpoints).items()
    ]
    fields = {"toward": zero | toward} if toward else {}
    intent = book.add(
        "intent", sop="SOP-1", authority="plan", plan_index=plan_index, instr_id=99,
        setpoints=rows, ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0, **fields,
    )  # fmt: skip
    book.add("prepared", intent_index=intent, instr_id=99)
    book.add("commit", intent_index=intent, instr_id=99, reasons=[])
    shown = zero | (setpoints if active is None else active)
    book.add("outcome", intent_index=intent, instr_id=99, outcome=outcome, active=shown, reasons=[])
    return intent


def reading(setpoints, *, mono_us, **changes):
    return make_station(setpoints, mono_us=mono_us, **({"instruction_id": 99} | changes))


def test_a_change_that_is_too_large_for_one_step_begins_with_a_safe_one():
    book = separate()
    book.plan(WH)
    (first,) = of(Dispatch, found(book))
    assert first.authority == "plan"
    step = first.setpoints
    assert 0 < step["T3"] < first.toward["T3"]
    assert first.toward["T2"] < step["T2"] < 0
    assert step["T3"] + step["T4"] < 240_000 < first.toward["T3"] + first.toward["T4"]
    assert set(first.ramps.values()) == {200}, "a step is safe whoever arrives first"


def test_one_controller_gets_the_whole_change_at_once():
    book = Book().adopted()
    book.plan(WH)
    (whole,) = of(Dispatch, found(book))
    assert not whole.toward
    assert whole.setpoints["T3"] >= 129_000


def test_the_next_step_waits_for_the_ramp_of_the_last_and_not_for_the_next_correction():
    held = {"T2": -100_000, "T3": 100_000}
    book = stepping(held, OPEN)
    under_way = reading({"T2": -60_000, "T3": 60_000}, mono_us=2_500_000)
    rows = tuple(
        dataclasses.replace(row, p_w_set_active=held.get(row.id, 0)) for row in under_way.terminals
    )
    under_way = dataclasses.replace(under_way, terminals=rows)
    assert not of(Dispatch, found(book, station=under_way, mono_us=2_500_000))
    there = reading(held, mono_us=3_200_000)
    (second,) = of(Dispatch, found(book, station=there, mono_us=3_300_000))
    assert second.authority == "tracking"
    assert second.setpoints["T3"] > 100_000


def test_a_reading_from_before_the_step_says_nothing_of_its_ramp():
    held = {"T2": -100_000, "T3": 100_000}
    book = stepping(held, OPEN)
    old = reading(held, mono_us=book.mono_us - 1)
    assert not of(Dispatch, found(book, station=old, mono_us=2_100_000))


def test_who_never_arrives_is_not_waited_for_for_ever():
    held = {"T2": -100_000, "T3": 100_000}
    book = stepping(held, OPEN)
    stuck = reading(held, mono_us=5_000_000)
    rows = tuple(
        dataclasses.replace(row, p_w=0) if row.id == "T3" else row for row in stuck.terminals
    )
    stuck = dataclasses.replace(stuck, terminals=rows)
    assert not of(Dispatch, found(book, station=stuck, mono_us=4_900_000))
    assert of(Dispatch, found(book, station=stuck, mono_us=5_100_000))


def test_the_fail_safe_goes_by_safe_steps_too():
    book = separate(rearm="auto")
    book.mono_us = 1_000_000
    send(book, OPEN, plan_index=book.plan(WH))
    book.add("mode", mode="blocked", state="EXECUTING", reasons=[])
    image = {"station": reading(OPEN, mono_us=8_900_000), "mono_us": 9_000_000}
    (first,) = of(Dispatch, found(book, **image))
    assert first.authority == "failsafe"
    assert 0 < first.setpoints["T3"] < 130_000
    assert first.toward == dict.fromkeys(first.toward, 0)


def test_without_room_for_any_step_power_goes_to_zero_at_once():
    held = {"T2": -100_000, "T3": 100_000}
    book = separate(rearm="auto")
    send(book, held, plan_index=book.plan(WH))
    station = reading(held, mono_us=8_900_000)
    rows = tuple(
        dataclasses.replace(row, s_va_available=0) if row.id == "T1" else row
        for row in station.terminals
    )
    station = dataclasses.replace(station, terminals=rows)
    (only,) = of(Dispatch, found(book, station=station, mono_us=9_000_000))
    assert only.authority == "failsafe"
    assert not any(only.setpoints.values())
    assert not only.toward


@pytest.mark.parametrize("shown", [{"T2": -100_000, "T3": 0}, {"T2": 0, "T3": 0}])
def test_of_a_half_applied_step_the_next_begins_where_each_terminal_is(shown):
    sent = {"T2": -100_000, "T3": 100_000}
    book = stepping(sent, OPEN, active=shown, outcome="failed")
    state = book.state
    assert state.failed is None
    assert {t: state.held[t] for t in shown} == shown
    there = reading(shown, mono_us=3_900_000)
    actions = found(book, station=there, mono_us=4_000_000)
    assert not of(ReadBack, actions), "it is ours"
    (again,) = of(Dispatch, actions)
    assert again.setpoints["T3"] > 0


def test_what_was_taken_late_after_all_is_where_the_next_step_begins():
    sent = {"T2": -100_000, "T3": 100_000}
    book = stepping(sent, OPEN, active={"T2": -100_000, "T3": 0}, outcome="failed")
    late = reading(sent, mono_us=3_900_000)
    (told,) = of(ReadBack, found(book, station=late, mono_us=4_000_000))
    assert (told.cause, told.active["T3"]) == ("adopt", 100_000)
    one = Book(rearm="auto").adopted()
    send(one, sent, plan_index=one.plan(WH))
    cut = reading({"T2": -100_000, "T3": 60_000}, mono_us=3_900_000)
    assert not of(ReadBack, found(one, station=cut, mono_us=4_000_000)), "one station has an id"


def test_what_is_neither_before_nor_after_a_step_is_not_ours():
    sent = {"T2": -100_000, "T3": 100_000}
    book = stepping(sent, OPEN, active={"T2": -100_000, "T3": 60_000}, outcome="failed")
    assert book.state.failed is not None
    shown = reading({"T2": -100_000, "T3": 60_000}, mono_us=2_900_000)
    assert of(ReadBack, found(book, station=shown, mono_us=3_000_000))[0].cause == "differs"


def test_one_that_fell_to_its_fail_safe_takes_the_others_along():
    held = {"T2": -100_000, "T3": 100_000}
    book = separate(rearm="auto")
    send(book, held, plan_index=book.plan(WH))
    alone = reading(
        {"T2": -100_000}, mono_us=8_900_000, status_bits=RUNNING | interlock.STATUS_FAILSAFE
    )
    actions = found(book, station=alone, mono_us=9_000_000)
    assert [a.command for a in of(StationCommand, actions)] == [Command.ENTER_STANDBY]
    fallen = reading({}, mono_us=9_900_000)
    assert of(ReadBack, found(book, station=fallen, mono_us=10_000_000))[0].cause == "failsafe"


def test_controllers_that_keep_no_id_are_judged_by_their_set_values():
    sent = {"T1": 0, "T2": -100_000, "T3": 100_000, "T4": 0}
    common = {"setpoints": sent, "instr_id": 99, "master": "T1"}
    none = make_station(sent, instruction_id=0)
    assert isinstance(judge(station=none, separate=True, **common), Confirmed)
    assert isinstance(judge(station=none, **common), Differed)
    other = make_station(sent, instruction_id=98)
    assert isinstance(judge(station=other, separate=True, **common), Differed)


def test_after_a_restart_a_committed_step_is_settled_by_its_set_values():
    sent = {"T2": -100_000, "T3": 100_000}
    book = separate(rearm="auto")
    zero = {f"T{k}": 0 for k in range(1, 5)}
    rows = [
        {"terminal": t, "mode": "P_Q", "p_w": p, "q_var": 0, "ramp_permille_per_s": 200}
        for t, p in (zero | sent).items()
    ]
    intent = book.add(
        "intent", sop="SOP-1", authority="plan", plan_index=book.plan(WH), instr_id=99,
        setpoints=rows, ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0,
    )  # fmt: skip
    book.add("prepared", intent_index=intent, instr_id=99)
    book.add("commit", intent_index=intent, instr_id=99, reasons=[])
    book.boot_number = 2
    book.add("boot", version="0", site="bench", sop="SOP-1", previous_boot_index=0, clean=False)
    (settle,) = of(Settle, found(book, station=make_station(sent, mono_us=2_000_000)))
    assert settle.outcome == "executed"
    (half,) = of(Settle, found(book, station=make_station({"T2": -100_000}, mono_us=2_000_000)))
    assert half.outcome == "failed"
    assert half.active["T2"] == -100_000


def test_the_closing_ramp_begins_so_much_earlier_as_there_are_steps():
    wakes = []
    for is_separate in (False, True):
        book = Book(rearm="auto").adopted()
        book.state.site = dataclasses.replace(book.state.site, separate=is_separate)
        held = OPEN
        send(book, held, plan_index=book.plan(WH))
        at_ms = QUARTER.end_ms - 14_500  # frozen: nothing is corrected any more
        station = reading(held, mono_us=2_000_000)
        wakes.append(decide.scan(book.state, make_image(at_ms=at_ms, station=station)).wake_ms)
    whole_ms, stepped_ms = wakes
    assert QUARTER.end_ms - 6_000 < whole_ms < QUARTER.end_ms
    assert whole_ms - 8_000 < stepped_ms < whole_ms
