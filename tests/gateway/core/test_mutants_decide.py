"""Edges of one scan that only a changed program crosses: paces, clocks, who is waited for."""

from dataclasses import replace

import pytest
from fakes.core import RUNNING, Book, make_image, make_station

from gateway.core import decide, interlock
from gateway.core.decide import ChangeState, Configure, Dispatch, ReadBack, Settle, StationCommand
from gateway.model.telemetry import State as StationState

HELD = {"T2": -100_000, "T3": 100_000}
WRITTEN_US = 1_000_000  # when a Book's instructions end


def found(kind, book, **image):
    return [a for a in decide.scan(book.state, make_image(**image)).actions if isinstance(a, kind)]


def executing():
    book = Book().adopted()
    book.execute(HELD, plan_index=book.plan({"T2": -25_000, "T3": 25_000}))
    return book


def holding(**changes):
    return make_station(HELD, **({"mono_us": 2_000_000, "instruction_id": 99} | changes))


def planned():
    book = Book().adopted()
    book.plan({"T2": -25_000, "T3": 25_000})
    return book


@pytest.mark.parametrize(
    ("mono_us", "writes"),
    [(WRITTEN_US + 999_999, 0), (WRITTEN_US + 1_000_000, 1), (WRITTEN_US, 0), (WRITTEN_US - 1, 1)],
    ids=["just under a second", "a second", "at once", "the monotonic clock began anew"],
)
def test_power_is_taken_to_zero_at_the_pace_of_one_write_a_second(mono_us, writes):
    book = executing()
    book.add("mode", mode="blocked", state="EXECUTING", reasons=[])
    assert len(found(Dispatch, book, station=holding(), mono_us=mono_us)) == writes


@pytest.mark.parametrize(("after_us", "count"), [(999_999, 0), (1_000_000, 1), (-1, 1)])
def test_a_station_is_configured_at_the_pace_of_writes(after_us, count):
    book = executing()
    image = {"configured": False, "station": holding(), "mono_us": WRITTEN_US + after_us}
    assert len(found(Configure, book, **image)) == count


@pytest.mark.parametrize(("after_us", "count"), [(4_999_999, 0), (5_000_000, 1), (0, 0), (-1, 1)])
def test_a_station_in_standby_is_woken_every_five_seconds_at_most(after_us, count):
    book = planned()
    book.execute({}, authority="operator")
    standby = make_station(state=StationState.STANDBY, mono_us=9_000_000)
    woken = found(StationCommand, book, station=standby, mono_us=WRITTEN_US + after_us)
    assert len(woken) == count


def test_a_station_in_standby_is_left_there_while_no_interval_is_near():
    standby = make_station(state=StationState.STANDBY, mono_us=9_000_000)
    assert not found(StationCommand, Book().adopted(), station=standby, mono_us=9_000_000)


@pytest.mark.parametrize("ahead_ms", [30_000, 30_001])
def test_a_station_is_woken_when_the_interval_is_half_a_minute_away(ahead_ms):
    standby = make_station(state=StationState.STANDBY, mono_us=9_000_000)
    at_ms = make_image().utc_ms - ahead_ms
    woken = found(StationCommand, planned(), station=standby, mono_us=9_000_000, at_ms=at_ms)
    assert len(woken) == (ahead_ms == 30_000)


def test_a_strangers_power_that_went_to_zero_is_noted_once_and_the_site_is_free_again():
    book = Book().adopted("foreign")
    still = make_station(mono_us=2_000_000)
    (noted,) = found(ReadBack, book, station=still)
    assert noted.cause == "zero"
    book.adopted("zero")
    assert not found(ReadBack, book, station=still)
    assert not book.state.foreign


def test_a_strangers_power_is_noted_once_not_at_every_scan():
    book = Book().adopted("foreign")
    assert not found(
        ReadBack, book, station=make_station(HELD, mono_us=2_000_000, instruction_id=5)
    )


def test_a_setpoint_of_the_master_alone_is_nobodys_power():
    residual = make_station({"T1": -3_000}, mono_us=2_000_000)
    (noted,) = found(ReadBack, Book(), station=residual)
    assert noted.cause == "zero"


def test_one_terminal_that_holds_otherwise_makes_the_whole_a_strangers():
    other = make_station(HELD | {"T4": 5_000}, mono_us=2_000_000, instruction_id=5)
    (noted,) = found(ReadBack, executing(), station=other)
    assert noted.cause == "foreign"


def test_a_fail_safe_that_still_ramps_is_noted_as_one():
    ramping = holding(status_bits=RUNNING | interlock.STATUS_FAILSAFE)
    (noted,) = found(ReadBack, executing(), station=ramping)
    assert noted.cause == "failsafe"
    assert noted.active["T3"] == 100_000


@pytest.mark.parametrize(("mono_us", "noticed"), [(WRITTEN_US - 1, 0), (WRITTEN_US, 1)])
def test_telemetry_of_before_the_instruction_says_nothing_about_it(mono_us, noticed):
    book = executing()
    assert len(found(ReadBack, book, station=make_station(mono_us=mono_us))) == noticed


def test_an_open_instruction_is_settled_only_by_what_was_read_after_it():
    book = Book().adopted()
    book.add("intent", sop="SOP-1", authority="plan", plan_index=-1, instr_id=7, setpoints=[],
             ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0)  # fmt: skip
    same_instant = make_station(mono_us=book.mono_us)
    assert not found(Settle, book, station=same_instant)
    (settle,) = found(Settle, book, station=make_station(mono_us=book.mono_us + 1))
    assert settle.outcome == "abort"


def test_an_instruction_of_an_earlier_start_is_settled_whatever_its_clock_said():
    book = Book().adopted()
    book.add("intent", sop="SOP-1", authority="plan", plan_index=-1, instr_id=7, setpoints=[],
             ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0)  # fmt: skip
    book.boot_number = 2
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    (settle,) = found(Settle, book, station=make_station(mono_us=1))
    assert [r.code.value for r in settle.reasons] == ["gateway_restart"]


@pytest.mark.parametrize(("age_us", "state"), [(3_000_000, "ARMED"), (3_000_001, "FAILSAFE")])
def test_telemetry_counts_for_three_seconds(age_us, state):
    book = planned()
    at_ms = make_image().utc_ms - 20_000
    (change,) = found(ChangeState, book, station_age_us=age_us, at_ms=at_ms)
    assert change.state == state


def test_the_state_is_written_when_it_or_its_reasons_change_and_not_otherwise():
    book = Book().adopted()
    (change,) = found(ChangeState, book)
    assert (change.state, change.reasons) == ("READY", ())
    book.add("mode", mode="on", state="READY", reasons=[])
    assert not found(ChangeState, book)
    (other,) = found(ChangeState, book, time_quality="invalid")
    book.add("mode", mode="on", state=other.state, reasons=[r.fields() for r in other.reasons])
    assert not found(ChangeState, book, time_quality="invalid")
    assert found(ChangeState, book)


def test_what_a_terminal_says_it_carries_never_exceeds_its_rating():
    book = Book()
    generous = make_station()
    assert decide.available_va(book.state, None) == dict.fromkeys(("T1", "T2", "T3", "T4"), 250_000)
    said = decide.available_va(book.state, generous)
    assert said == dict.fromkeys(said, 250_000)


def test_a_station_that_was_never_read_is_waited_for():
    image = replace(make_image(), station=None)
    decision = decide.scan(planned().state, image)
    (change,) = [a for a in decision.actions if isinstance(a, ChangeState)]
    assert change.state == "INIT"
    assert not [a for a in decision.actions if isinstance(a, Dispatch | Configure)]


def test_nothing_is_written_before_the_device_was_read_back():
    book = Book()
    book.plan({"T2": -25_000, "T3": 25_000})
    assert not found(Dispatch, book, station_age_us=3_000_001)
    assert not found(Configure, book, station_age_us=3_000_001, configured=False)


def test_after_a_configuration_the_next_scan_comes_at_its_usual_pace():
    decision = decide.scan(executing().state, make_image(configured=False, station=holding()))
    assert [type(a) for a in decision.actions if not isinstance(a, ChangeState)] == [Configure]
    down = make_image(configured=False, station=holding(), link_up=False)
    assert (decision.wake_ms, decide.scan(executing().state, down).wake_ms) == (0, 0)


@pytest.mark.parametrize(("after_us", "sent"), [(0, 0), (999_999, 0), (1_000_000, 1), (-1, 1)])
def test_a_lost_stop_is_sent_again_once_a_second(after_us, sent):
    book = executing()
    book.add("operator", user="uid:0", verb="stop", arguments={}, reason="")
    last_us = book.state.last_write_mono_us
    station = holding(mono_us=last_us + 2_000_000)
    again = found(StationCommand, book, station=station, mono_us=last_us + after_us)
    assert len(again) == sent


@pytest.mark.parametrize(("step_us", "blocks"), [(1_000_000, False), (-1_000_001, True)])
def test_a_clock_that_was_wrong_by_more_than_a_second_takes_power_away(step_us, blocks):
    book = executing()
    book.utc_us += step_us
    book.add("time_step", step_us=step_us)
    reasons = decide.blocking(book.state, make_image(station=holding()))
    assert any("UTC was set" in r.detail for r in reasons) is blocks


def by_hand(for_ms=60_000):
    book = Book(mode="test").adopted()
    book.utc_us = make_image().utc_us
    arguments = {"setpoints": {"T2": -5_000, "T3": 5_000}, "for_ms": for_ms}
    book.add("operator", user="uid:1", verb="setpoint", arguments=arguments, reason="try")
    return book


@pytest.mark.parametrize(("at_ms", "holds"), [(0, True), (59_999, True), (60_000, False)])
def test_a_persons_setpoint_lets_mode_test_command_until_it_ends(at_ms, holds):
    now_ms = make_image().utc_ms + at_ms
    reasons = decide.blocking(by_hand().state, make_image(at_ms=now_ms))
    assert any(r.code.value == "mode_blocked" for r in reasons) is not holds


def test_mode_test_lets_nothing_through_without_one():
    book = Book(mode="test").adopted()
    reasons = decide.blocking(book.state, make_image())
    assert "mode_blocked" in {r.code.value for r in reasons}
