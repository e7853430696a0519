"""What single entries do to the state, and what they leave alone."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_sop

from gateway.core.energy import Counters
from gateway.core.state import READINGS_MAX, STEADY_US

HELD = {"T2": -100_000, "T3": 100_000}


def words(moment):
    return [r.code.value for r in moment.reasons]


def restart(book, **changes):
    book.boot_number += 1
    fields = {"version": "0", "site": "b", "sop": "SOP-1", "previous_boot_index": 0,
              "clean": False}  # fmt: skip
    return book.add("boot", **(fields | changes))


def executing(instr_id=99):
    book = Book().adopted()
    book.execute(HELD, plan_index=book.plan({"T2": -25_000, "T3": 25_000}), instr_id=instr_id)
    return book


def test_only_a_start_on_a_ledger_that_already_says_something_is_a_restart():
    book = Book()
    assert words(book.state.moments[0]) == []
    restart(book)
    assert words(book.state.moments[-1]) == ["gateway_restart"]
    assert book.state.moments[-1].state == "INIT"


def test_a_start_forgets_what_only_a_running_gateway_knows():
    book = Book(mode="test").adopted("foreign")
    arguments = {"setpoints": {"T2": -5_000}, "for_ms": 60_000}
    book.add("operator", user="uid:1", verb="setpoint", arguments=arguments, reason="")
    book.mono_us += 9
    index = restart(book, clean=True)
    state = book.state
    assert (state.adopted, state.adopt_pending, state.foreign, state.manual) == (
        False, False, False, None
    )  # fmt: skip
    assert (state.last_write_mono_us, state.boot_mono_us) == (0, book.mono_us)
    assert (state.previous_boot_index, state.boot_number, state.clean) == (index, 2, True)


@pytest.mark.parametrize(("mode", "kept"), [("test", True), ("on", False)])
def test_another_mode_ends_a_persons_setpoint(mode, kept):
    book = Book(mode="test").adopted()
    arguments = {"setpoints": {"T2": -5_000}, "for_ms": 60_000}
    book.add("operator", user="uid:1", verb="setpoint", arguments=arguments, reason="")
    assert book.state.manual.until_ms == book.utc_us // 1000 + 60_000
    book.add("mode", mode=mode, state="READY", reasons=[])
    assert (book.state.manual is not None) is kept


@pytest.mark.parametrize(("count", "kept"), [(4_096, 4_096), (4_097, 2_049)])
def test_as_many_readings_of_a_meter_are_kept_as_promised_then_the_older_half_goes(count, kept):
    book = Book()
    assert READINGS_MAX == 4_096
    book.state.readings["T2"] = [
        Counters(utc_us=n, import_wh=0, export_wh=n, p_w=0) for n in range(count - 1)
    ]
    book.read(FIRST_MS * 1000, T2=7)
    track = book.state.readings["T2"]
    assert (len(track), track[-1].export_wh) == (kept, 100_007)
    assert track[0].utc_us == count - kept


def test_readings_that_are_not_good_are_left_out():
    book = Book()
    meter = {"meter": "m2", "terminal": "T2", "age_ms": 0, "import_wh": 1, "export_wh": 2,
             "p_w": -3, "registers": []}  # fmt: skip
    for at_us, quality in ((5, "uncertain"), (6, "good"), (7, "bad")):
        book.add("reading", meters=[meter | {"utc_us": at_us, "quality": quality}])
    assert book.state.readings["T2"] == [Counters(utc_us=6, import_wh=1, export_wh=2, p_w=-3)]


@pytest.mark.parametrize(
    ("outcome", "remembered"), [("failed", True), ("rejected", False), ("expired", False)]
)
def test_only_what_failed_may_still_be_held_by_the_device(outcome, remembered):
    book = Book().adopted()
    book.execute(HELD, instr_id=5, outcome=outcome)
    assert (book.state.failed is not None) is remembered
    if remembered:
        assert book.state.failed.instr_id == 5
        assert book.state.failed.setpoints["T3"] == 100_000


def command(book, outcome):
    intent = book.add(
        "intent", sop="SOP-1", authority="configure", plan_index=-1, instr_id=101, setpoints=[],
        command="CONFIGURE", ramp_permille_per_s=200, ttl_s=0, staged="", expires_mono_us=0,
    )  # fmt: skip
    book.add("outcome", intent_index=intent, instr_id=101, outcome=outcome, active={}, reasons=[])
    return intent


def test_a_command_that_failed_is_no_setpoint_that_may_be_held():
    book = Book().adopted()
    command(book, "failed")
    assert book.state.failed is None


def reconcile(book, intent, outcome="executed"):
    book.add("readback", sop="SOP-1", instr_id=99, active=HELD, state="RUN", cause="reconcile",
             intent_index=intent, outcome=outcome)  # fmt: skip


@pytest.mark.parametrize(("outcome", "held_w"), [("executed", 100_000), ("failed", 0)])
def test_an_unknown_instruction_ends_as_the_device_was_read(outcome, held_w):
    book = Book().adopted()
    intent = book.execute(HELD, instr_id=99, outcome="unknown")
    reconcile(book, intent, outcome)
    assert book.state.held["T3"] == held_w
    assert book.state.intents == {}


def test_an_interrupted_instruction_is_not_ended_by_its_read_back_but_by_its_outcome():
    book = Book().adopted()
    intent = book.add(
        "intent", sop="SOP-1", authority="plan", plan_index=-1, instr_id=99, setpoints=[],
        ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0,
    )  # fmt: skip
    reconcile(book, intent)
    assert list(book.state.intents) == [intent]
    assert book.state.adopted


def test_what_a_read_back_of_a_fail_safe_says_is_not_a_setpoint_that_was_cut():
    book = executing()
    book.execute({"T2": -50_000}, instr_id=5, outcome="failed")
    book.add("readback", sop="SOP-1", instr_id=5, active={}, state="RUN", cause="failsafe")
    assert book.state.stopped_id == 0
    assert book.state.active is None


@pytest.mark.parametrize(("held_w", "armed"), [(100_000, True), (99_999, False)])
def test_what_came_late_is_stopped_and_what_was_cut_disarms_too(held_w, armed):
    book = Book(rearm="auto").adopted()
    book.execute(HELD, instr_id=5, outcome="failed")
    active = {"T1": -700, "T2": -100_000, "T3": held_w, "T4": 0}
    book.add("readback", sop="SOP-1", instr_id=5, active=active, state="RUN", cause="differs")
    assert (book.state.stopped_id, book.state.armed, book.state.adopted) == (5, armed, True)


def test_a_stop_is_remembered_until_somebody_arms():
    book = executing(instr_id=42)
    book.add("operator", user="uid:1", verb="stop", arguments={}, reason="")
    assert (book.state.stopped_id, book.state.armed, book.state.active) == (42, False, None)
    assert book.state.busy == {}
    book.add("operator", user="uid:1", verb="stop", arguments={}, reason="")
    assert book.state.stopped_id == 42, "a second stop forgets nothing"
    book.add("operator", user="uid:1", verb="arm", arguments={}, reason="")
    assert (book.state.stopped_id, book.state.armed) == (0, True)


def limited(book, name, low_w, high_w, verb="limits"):
    book.add("operator", user="uid:1", verb=verb, reason="",
             arguments={"terminal": name, "p_w_min": low_w, "p_w_max": high_w})  # fmt: skip
    found = {t.id: (t.p_w_min, t.p_w_max) for t in book.state.site.sop.terminals}
    return {t: span for t, span in found.items() if span != (-230_000, 230_000)}


def test_limits_of_a_terminal_change_that_terminal_alone():
    assert limited(Book(), "T3", -10_000, 20_000) == {"T3": (-10_000, 20_000)}


def test_limits_of_a_terminal_that_is_not_there_any_more_change_nothing():
    assert limited(Book(), "T9", -10_000, 20_000) == {}


def test_other_words_of_a_person_change_no_limit():
    assert limited(Book(), "T3", -10_000, 20_000, verb="limits.propose") == {}


def test_no_order_goes_beyond_the_site_file():
    book = Book()
    book.state.bounds = make_sop()
    assert limited(book, "T3", -900_000, 900_000) == {}
    assert limited(book, "T3", -5_000, 900_000) == {"T3": (-5_000, 230_000)}
    assert limited(book, "T3", -230_000, 230_000) == {}, "up to it again"


def test_bounds_name_the_terminals_that_may_be_limited():
    book = Book()
    two = make_sop(terminals=make_sop().terminals[:2])
    book.state.bounds = two
    assert limited(book, "T3", -10_000, 20_000) == {}


def test_reasons_end_where_the_next_state_begins_even_long_before_the_interval():
    book = Book()
    for before_us, code in ((2_000, "link_lost"), (1_000, "local")):
        book.utc_us = QUARTER.start_ms * 1000 - before_us
        book.add("mode", mode="on", state="X", reasons=[{"code": code, "detail": ""}])
    assert [r.code.value for r in book.state.reasons_during(QUARTER)] == ["local"]


def test_a_reason_is_told_once_with_its_first_detail():
    book = Book()
    for at_ms, detail in ((0, "first"), (1_000, "second")):
        book.utc_us = (QUARTER.start_ms + at_ms) * 1000
        book.add("mode", mode="on", state="X", reasons=[{"code": "fault", "detail": detail}])
    assert [r.detail for r in book.state.reasons_during(QUARTER)] == ["first"]


@pytest.mark.parametrize(("p_w", "ramp_ms"), [(-50_000, 1_000), (0, 0)])
def test_an_instruction_that_names_no_ramp_goes_by_the_sites(p_w, ramp_ms):
    book = Book().adopted()
    intent = book.add(
        "intent", sop="SOP-1", authority="plan", plan_index=-1, instr_id=9, ramp_permille_per_s=200,
        ttl_s=10, staged="", expires_mono_us=0,
        setpoints=[{"terminal": "T2", "mode": "P_Q", "p_w": p_w, "q_var": 3}],
    )  # fmt: skip
    book.add("prepared", intent_index=intent, instr_id=9)
    book.add("commit", intent_index=intent, instr_id=9, reasons=[])
    book.add("outcome", intent_index=intent, instr_id=9, outcome="executed", active={}, reasons=[])
    active = book.state.active
    assert active.ramps == {"T2": 200, "T3": 200, "T4": 200}
    assert (active.slowed, active.ramp_ms, active.q_var) == (False, ramp_ms, {"T2": 3})


def test_a_slowed_ramp_is_remembered_with_how_long_it_takes():
    book = Book().adopted()
    ramps = {"T1": 200, "T2": 199, "T3": 100, "T4": 200}
    book.execute({"T2": -50_000, "T3": 50_000}, ramps=ramps)
    assert (book.state.active.slowed, book.state.active.ramp_ms) == (True, 2_000)
    book.execute({"T2": -50_000, "T3": 75_000}, ramps=ramps | {"T2": 200, "T3": 200})
    assert (book.state.active.slowed, book.state.active.ramp_ms) == (False, 500)


@pytest.mark.parametrize(("after_us", "calm"), [(STEADY_US - 1, False), (STEADY_US, True)])
def test_a_clock_is_calm_a_minute_after_its_step(after_us, calm):
    book = Book()
    book.utc_us += 7_000_000
    book.add("time_step", step_us=7_000_000)
    at_us = book.mono_us + after_us
    assert (book.state.calm(at_us), book.state.stepped_us(at_us)) == (
        calm,
        0 if calm else 7_000_000,
    )


def test_steps_add_up_until_the_clock_was_calm():
    book = Book()
    for step_us, gap_us in ((7_000_000, 1), (-2_000_000, STEADY_US), (500, 0)):
        book.utc_us += step_us
        book.add("time_step", step_us=step_us)
        said_us = book.state.step_us
        book.mono_us, book.utc_us = book.mono_us + gap_us, book.utc_us + gap_us
    assert said_us == 500
    assert book.state.stepped_us(book.mono_us) == 500


def test_a_revision_to_another_interval_leaves_the_first_one_empty():
    book = Book()
    later = replace(QUARTER, start_ms=QUARTER.end_ms, end_ms=QUARTER.end_ms + 900_000)
    book.accept("a", "T2", "T3", 100_000)
    book.accept("b", "T2", "T3", 40_000)
    book.accept("a", "T2", "T3", 60_000, interval=later, revision=2)
    found = {i: {t: leg.energy_wh for t, leg in legs.items()}
             for i, legs in book.state.schedule.items()}  # fmt: skip
    assert found == {QUARTER: {"b": 10_000}, later: {"a": 15_000}}
    book.accept("b", "T2", "T3", 40_000, interval=later, revision=2)
    assert list(book.state.schedule) == [later]
