"""The fold at its edges: an empty ledger, memory that stays bounded, the clock's half second."""

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_site

from gateway.core.energy import Counters
from gateway.core.state import HISTORY_MAX, State


def test_an_empty_ledger_means_that_nothing_ever_happened():
    fresh = State(make_site())
    whole = {n: getattr(fresh, n) for n in State.__slots__ if type(getattr(fresh, n)) is int}
    assert {n: v for n, v in whole.items() if not n.endswith("_index")} == {
        n: 0 for n in whole if not n.endswith("_index")
    }
    assert {v for n, v in whole.items() if n.endswith("_index")} == {-1}
    assert (fresh.mode, fresh.clean, fresh.armed, fresh.adopted) == ("off", True, True, False)
    assert fresh.held == {"T1": 0, "T2": 0, "T3": 0, "T4": 0}


def moments(count):
    book = Book()
    for number in range(count - len(book.state.moments)):
        book.add("mode", mode="on", state=f"S{number}", reasons=[])
    return book.state.moments


def test_as_many_state_changes_are_kept_as_promised_then_the_older_half_goes():
    assert len(moments(HISTORY_MAX)) == HISTORY_MAX
    book = Book()
    for number in range(HISTORY_MAX - len(book.state.moments) + 1):
        book.add("mode", mode="on", state=f"S{number}", reasons=[])
    assert len(book.state.moments) == HISTORY_MAX // 2 + 1
    assert book.state.moments[-1].state == f"S{HISTORY_MAX - 2}"


@pytest.mark.parametrize(
    ("moved_us", "seen_us"), [(500_000, 0), (500_001, 500_001), (-500_001, -500_001)]
)
def test_a_clock_may_drift_by_half_a_second_between_two_entries(moved_us, seen_us):
    book = Book()
    book.utc_us += moved_us
    book.add("alarm", code="x", active=True, detail="")
    assert book.state.glitch_us == seen_us


def test_a_read_back_of_a_manual_site_disarms_and_forgets_what_was_held():
    book = Book(rearm="manual").adopted()
    book.execute({"T2": -50_000, "T3": 50_000}, plan_index=book.plan({"T2": -12_500, "T3": 12_500}))
    assert book.state.held_since_open
    book.adopted("failsafe")
    assert (book.state.armed, book.state.active, book.state.held_since_open) == (False, None, [])


def test_what_was_held_since_the_opening_begins_anew_with_every_plan():
    book = Book().adopted()
    first = book.plan({"T2": -12_500, "T3": 12_500})
    book.execute({"T2": -50_000, "T3": 50_000}, plan_index=first)
    book.execute({"T2": -51_000, "T3": 51_000}, plan_index=first, authority="tracking")
    assert [held["T3"] for _, held in book.state.held_since_open] == [50_000, 51_000]
    second = book.plan({"T2": -10_000, "T3": 10_000})
    book.execute({"T2": -40_000, "T3": 40_000}, plan_index=second)
    assert [held["T3"] for _, held in book.state.held_since_open] == [40_000]


def test_a_delivery_closes_its_interval_and_lifts_the_high_water_mark_and_never_lowers_it():
    book = Book().adopted()
    book.accept("a", "T2", "T3", 60_000)
    book.plan({"T2": -15_000, "T3": 15_000})
    span = {"start": "2027-01-15T08:00Z", "end": "2027-01-15T08:15Z"}
    book.add("delivery", sop="SOP-1", interval=span, terminals=[], trades=[])
    assert (book.state.plans, book.state.schedule) == ({}, {})
    assert book.state.high_water_ms == QUARTER.end_ms
    early = {"start": "2027-01-15T07:00Z", "end": "2027-01-15T07:15Z"}
    book.add("delivery", sop="SOP-1", interval=early, terminals=[], trades=[])
    assert book.state.high_water_ms == QUARTER.end_ms


def test_a_second_reading_of_one_instant_is_left_out_the_next_microsecond_is_not():
    book = Book()
    for utc_us, wh in ((FIRST_MS * 1000, 1), (FIRST_MS * 1000, 5), (FIRST_MS * 1000 + 1, 2)):
        book.read(utc_us, T2=wh)
    assert [c.export_wh for c in book.state.readings["T2"]] == [100_001, 100_002]
    assert isinstance(book.state.readings["T2"][0], Counters)


def test_the_reasons_of_an_interval_begin_and_end_with_its_instants():
    book = Book()
    for at_ms, reasons in (
        (QUARTER.start_ms - 1000, [{"code": "link_lost", "detail": ""}]),
        (QUARTER.start_ms, [{"code": "local", "detail": ""}]),
        (QUARTER.end_ms, [{"code": "estop", "detail": ""}]),
    ):
        book.utc_us = at_ms * 1000
        book.add("mode", mode="on", state="X", reasons=reasons)
    assert [r.code.value for r in book.state.reasons_during(QUARTER)] == ["local"]


@pytest.mark.parametrize(("later_us", "kept"), [(0, 1), (1, 0)])
def test_a_clock_set_back_strikes_what_is_stamped_later_and_not_what_is_stamped_now(later_us, kept):
    book = Book()
    book.read(book.utc_us + later_us, T2=5)
    book.add("time_step", step_us=-3_600_000_000)
    assert len(book.state.readings["T2"]) == kept
