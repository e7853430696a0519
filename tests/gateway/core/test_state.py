"""The state is the fold of the entries: the same for a running and a restarted gateway."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_site, span
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.energy import at_boundary
from gateway.core.state import READINGS_MAX, State
from gateway.model.reason import ReasonCode


def refold(book):
    state = State(make_site())
    for index, entry in enumerate(book.entries):
        state.fold(index, entry)
    return state


def full_book():
    book = Book().adopted()
    book.accept("a", "T2", "T3", 100_000)
    plan = book.plan({"T2": -25_000, "T3": 25_000})
    book.execute({"T2": -100_000, "T3": 100_000}, plan_index=plan)
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    return book


def test_a_restart_folds_to_the_same_state():
    book = full_book()
    assert refold(book).__reduce_ex__(2)[2] == book.state.__reduce_ex__(2)[2]


def test_entries_are_folded_without_a_gap():
    with pytest.raises(AssertionError, match="entry 5 folded after 2"):
        Book().state.fold(5, {"kind": "alarm"})


def test_a_message_is_open_until_its_last_trade_is_decided():
    book = Book()
    index = book.add("trade.received", topic="t", retain=False, size=1, sha256="x", payload="YQ==")
    for trade_id, last in (("a", False), ("b", True)):
        assert index in book.state.received
        book.add("trade.refused", received_index=index, sha256="x", trade_id=trade_id, revision=1,
                 reasons=[], last=last)  # fmt: skip
    assert book.state.received == {}


def test_a_revision_moves_the_trade_and_leaves_nothing_behind():
    book = Book()
    book.accept("a", "T2", "T3", 100_000)
    book.accept("a", "T2", "T3", 40_000, revision=2)
    assert [leg.energy_wh for leg in book.state.schedule[QUARTER].values()] == [10_000]
    assert book.state.known["a"].revision_number == 2


def test_settled_sums_are_of_every_trade_in_every_delivery():
    book = full_book()
    for contracted_wh, status in ((100, "delivered"), (30, "partial"), (50, "delivered")):
        trade = {"trade_id": "a", "contracted_wh": contracted_wh, "planned_wh": contracted_wh,
                 "delivered_wh": contracted_wh - 5, "status": status, "reasons": []}  # fmt: skip
        book.add("delivery", sop="SOP-1", interval=span(QUARTER), terminals=[], trades=[trade] * 2)
    assert book.state.settled == {"delivered": (4, 300, 280), "partial": (2, 60, 50)}


def test_an_executed_instruction_is_what_the_station_holds():
    book = full_book()
    assert book.state.held == {"T1": 0, "T2": -100_000, "T3": 100_000, "T4": 0}
    assert book.state.open_intents == []


def test_an_unknown_outcome_stays_open_and_changes_nothing_held():
    book = full_book()
    book.execute({"T2": -50_000, "T3": 50_000}, instr_id=100, outcome="unknown")
    assert book.state.held["T3"] == 100_000
    assert [i.instr_id for i in book.state.open_intents] == [100]


def test_a_fail_safe_disarms_a_manual_site_and_not_an_automatic_one():
    for rearm, armed in (("manual", False), ("auto", True)):
        book = Book(rearm=rearm)
        book.adopted("failsafe")
        assert book.state.armed is armed
        assert book.state.active is None


def test_arming_is_an_operators_word():
    book = Book()
    book.adopted("failsafe")
    book.add("operator", user="uid:0", verb="arm", arguments={}, reason="")
    assert book.state.armed


def test_a_boot_forgets_what_was_seen_of_the_device_and_keeps_what_was_written():
    book = full_book()
    book.add("boot", version="0", site="bench", sop="SOP-1", previous_boot_index=0, clean=False)
    assert not book.state.adopted
    assert book.state.held["T3"] == 100_000


def test_readings_that_do_not_follow_in_time_or_are_not_good_are_left_out():
    book = Book()
    book.read(1_000_000, T2=5)
    book.read(1_000_000, T2=6)
    book.add(
        "reading", meters=[{"meter": "m2", "terminal": "T2", "utc_us": 2_000_000, "quality": "bad"}]
    )
    assert len(book.state.readings["T2"]) == 1


@given(st.integers(1, 3))
def test_memory_of_readings_is_bounded(times):
    book = Book()
    for k in range(READINGS_MAX * times + 5):
        book.state.fold(
            book.state.size,
            {"kind": "reading", "utc_us": k, "mono_us": k, "meters": [{"meter": "m2", "terminal": "T2", "utc_us": k, "quality": "good",
             "import_wh": 0, "export_wh": k, "p_w": 0}]},
        )  # fmt: skip
    assert READINGS_MAX // 2 <= len(book.state.readings["T2"]) <= READINGS_MAX


@pytest.mark.parametrize("poll_ms", [200, 300, 1000])
def test_an_open_interval_keeps_the_readings_it_is_settled_with(poll_ms):
    """At the fastest poll a site file may ask for, of the longest interval there is."""
    book = Book()
    for n in range(3000):
        book.read(FIRST_MS * 1000 - (3000 - n) * poll_ms * 1000, T2=0)
    book.accept("a", "T3", "T2", 100_000)
    book.plan({"T2": 25_000, "T3": -25_000})
    for at_ms in range(FIRST_MS, FIRST_MS + 900_001, poll_ms):
        book.read(at_ms * 1000, T2=(at_ms - FIRST_MS) // 36)
    track = book.state.readings["T2"]
    start, end = at_boundary(track, FIRST_MS), at_boundary(track, FIRST_MS + 900_000)
    assert end.net_mwh - start.net_mwh == 25_000_000
    assert len(track) <= 2 * READINGS_MAX


def test_an_interval_that_never_closes_keeps_no_more_than_twice_as_many():
    book = Book()
    book.plan({})
    for n in range(READINGS_MAX * 3):
        book.read(FIRST_MS * 1000 + n * 1000, T2=n)
    assert READINGS_MAX < len(book.state.readings["T2"]) <= 2 * READINGS_MAX


def test_a_trade_of_a_terminal_that_the_site_no_longer_has_is_folded():
    """A new site file has the whole ledger folded again: an old trade must not stop the start."""
    book = full_book()
    site = make_site()
    kept = tuple(t for t in site.sop.terminals if t.id != "T3")
    state = State(replace(site, sop=replace(site.sop, terminals=kept)))
    for index, entry in enumerate(book.entries):
        state.fold(index, entry)
    assert state.known["a"].trade.out_domain == "region-b"
    assert state.known["a"].trade.in_domain == ""
    assert state.schedule.keys() == book.state.schedule.keys()


def test_the_causes_of_an_interval_are_the_reasons_that_held_during_it():
    book = Book()
    moments = [(-100, []), (100, ["link_lost"]), (300, ["not_armed"]), (500, []), (2000, ["estop"])]
    for second, codes in moments:
        book.utc_us = FIRST_MS * 1000 + second * 1_000_000
        book.add("mode", mode="on", state="X", reasons=[{"code": c, "detail": ""} for c in codes])
    assert [r.code for r in book.state.reasons_during(QUARTER)] == [
        ReasonCode.LINK_LOST,
        ReasonCode.NOT_ARMED,
    ]


def restart(book, *, mono_us, utc_us=None):
    """A new life of the gateway at the given instants."""
    book.mono_us = mono_us
    book.utc_us = book.utc_us if utc_us is None else utc_us
    book.boot_number += 1
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)


def test_the_calm_after_a_step_survives_a_restart():
    book = Book()
    book.mono_us = 100_000_000
    book.add("time_step", step_us=-7_000_000)
    restart(book, mono_us=130_000_000)
    assert book.state.stepped_us(159_999_999) == -7_000_000
    assert book.state.stepped_us(160_000_000) == 0


def test_after_a_restart_of_the_machine_the_calm_begins_anew():
    book = Book()
    book.mono_us = 100_000_000
    book.add("time_step", step_us=7_000_000)
    book.mono_us = 140_000_000
    book.add("mode", mode="on", state="READY", reasons=[])
    restart(book, mono_us=20_000_000)
    assert book.state.stepped_us(79_999_999) == 7_000_000
    assert book.state.stepped_us(80_000_000) == 0


def test_a_calm_that_was_over_is_not_begun_again_by_a_restart_of_the_machine():
    book = Book()
    book.mono_us = 100_000_000
    book.add("time_step", step_us=7_000_000)
    book.mono_us = 160_000_000
    book.add("mode", mode="on", state="READY", reasons=[])
    restart(book, mono_us=20_000_000)
    assert book.state.stepped_us(30_000_000) == 0


def test_a_step_that_nobody_saw_stays_visible_and_slow_drift_does_not():
    book = Book()
    before_us = book.state.offset_us
    for _ in range(20):  # 8 s of drift in all
        book.mono_us += 1_000_000
        book.utc_us += 1_400_000
        book.add("mode", mode="on", state="READY", reasons=[])
    assert book.state.offset_us == before_us + 8_000_000
    restart(book, mono_us=book.mono_us + 1_000_000, utc_us=book.utc_us + 6_000_000)
    assert book.state.offset_us == before_us + 8_000_000  # the scan will see the difference


def test_a_clock_set_back_strikes_what_was_stamped_later():
    book = Book()
    now_us = FIRST_MS * 1000
    for second in (0, 5, 10):
        book.read(now_us + second * 1_000_000, T2=second)
    book.utc_us = now_us + 6_000_000
    book.add("time_step", step_us=-4_000_000)
    book.read(now_us + 4_000_000, T2=100)  # not later than what counts: does not count
    book.read(now_us + 7_000_000, T2=11)
    assert [r.net_wh for r in book.state.readings["T2"]] == [0, 5, 11]


def test_a_step_there_and_back_leaves_the_clock_uncalm_though_nothing_is_left_of_it():
    book = Book()
    for step_us in (900_000, -900_000):
        book.mono_us += 5_000_000
        book.add("time_step", step_us=step_us)
    assert book.state.stepped_us(book.mono_us + 1) == 0
    assert not book.state.calm(book.mono_us + 59_999_999)
    assert book.state.calm(book.mono_us + 60_000_000)


def test_an_entry_stamped_by_a_clock_that_was_set_for_a_moment_is_remembered():
    book = Book()
    book.utc_us += 54_000_000
    book.add("mode", mode="on", state="READY", reasons=[])
    book.utc_us -= 54_000_000
    book.add("mode", mode="on", state="READY", reasons=[])
    assert book.state.glitch_us == 54_000_000
    book.add("time_step", step_us=-54_000_000)
    assert book.state.glitch_us == 0


def test_history_is_folded_with_the_rearm_of_its_time():
    book = Book(rearm="manual")  # since today: for months it was automatic
    book.add("config", sha256="", config={"rearm": "auto"})
    book.adopted("failsafe")
    assert book.state.armed
    book.add("config", sha256="", config={"rearm": "manual"})
    book.adopted("failsafe")
    assert not book.state.armed
