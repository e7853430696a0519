"""One scan at its edges: stale telemetry, paces, what is told to a blind station, when to look."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, RUNNING, Book, make_image, make_station

from gateway.core import decide, interlock
from gateway.core.decide import ChangeState, Deliver, Dispatch, ReadBack, Settle, StationCommand
from gateway.core.planning import SETTLE_MS
from gateway.model.setpoint import Command
from gateway.model.telemetry import Quality
from gateway.model.telemetry import State as StationState

HELD = {"T2": -180_000, "T3": 180_000}
LATER_US = 9_000_000  # of the monotonic clock: long after everything a Book wrote


def found(kind, book, **image):
    return [a for a in decide.scan(book.state, make_image(**image)).actions if isinstance(a, kind)]


def planned():
    book = Book().adopted()
    book.plan({"T2": -45_000, "T3": 45_000})
    return book


def executing(instr_id=99):
    book = planned()
    book.utc_us = FIRST_MS * 1000
    index = book.state.plans[FIRST_MS].index
    book.execute(HELD, plan_index=index, instr_id=instr_id)
    return book


def holding(setpoints=HELD, **changes):
    return make_station(setpoints, **({"mono_us": LATER_US, "instruction_id": 99} | changes))


def begun():
    """An instruction that was sent and of which nothing more is known."""
    book = Book().adopted()
    book.add("intent", sop="SOP-1", authority="plan", plan_index=-1, instr_id=7, setpoints=[],
             ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0)  # fmt: skip
    return book


@pytest.mark.parametrize(
    ("age_us", "stale_after_us", "settled"),
    [(3_000_000, 3_000_000, 1), (3_000_001, 3_000_000, 0), (3_000_001, 8_000_000, 1)],
)
def test_only_telemetry_that_is_not_stale_settles_an_instruction(age_us, stale_after_us, settled):
    image = {"mono_us": LATER_US, "station_age_us": age_us, "stale_after_us": stale_after_us}
    assert len(found(Settle, begun(), **image)) == settled


def far_off(p_w, held_w=100_000, missing=False):
    book = planned()
    book.execute({"T2": -held_w, "T3": held_w}, plan_index=book.state.plans[FIRST_MS].index)
    book.add("alarm", code="A-161", active=True, detail="")
    station = make_station({"T2": -held_w, "T3": p_w})
    if missing:
        station = replace(station, terminals=station.terminals[:2])
    reasons = decide.blocking(book.state, make_image(station=station))
    return [r.detail for r in reasons if r.code.value == "effect_missing"]


@pytest.mark.parametrize(
    ("p_w", "said"),
    [
        (112_500, []),  # exactly 5 % of the rating
        (112_501, ["T3 does not follow"]),
        (87_500, []),
        (87_499, ["T3 does not follow"]),
    ],
)
def test_a_terminal_that_is_off_by_more_than_five_percent_takes_all_power_away(p_w, said):
    assert far_off(p_w) == said


@pytest.mark.parametrize(("held_w", "said"), [(12_500, []), (-12_500, []), (-12_501, ["T3"])])
def test_a_terminal_the_station_does_not_speak_of_carries_nothing(held_w, said):
    found_details = far_off(0, held_w, missing=True)
    assert [d.split()[0] for d in found_details] == said


def test_without_the_alarm_nobody_judges_who_follows():
    book = executing()
    reasons = decide.blocking(book.state, make_image(station=holding({"T2": -180_000})))
    assert not [r for r in reasons if r.code.value == "effect_missing"]


@pytest.mark.parametrize(
    ("after_us", "told"),
    [(0, 0), (4_999_999, 0), (5_000_000, 1), (-1, 1)],
)
def test_power_nobody_sees_is_told_to_stop_every_five_seconds(after_us, told):
    book = executing()
    last_us = book.state.last_write_mono_us
    station = replace(holding(), quality=Quality.UNCERTAIN)
    decision = decide.scan(book.state, make_image(station=station, mono_us=last_us + after_us))
    orders = [a.command for a in decision.actions if isinstance(a, StationCommand)]
    assert orders == [Command.ENTER_STANDBY] * told
    assert decision.wake_ms == (FIRST_MS + 1) * told  # what else is due follows at once


def test_a_stop_that_was_lost_is_said_again_and_the_next_scan_looks_again():
    book = executing(instr_id=1)
    book.add("operator", user="uid:0", verb="stop", arguments={}, reason="")
    image = make_image(station=holding(instruction_id=1), mono_us=LATER_US)
    decision = decide.scan(book.state, image)
    assert decision.actions[0] == StationCommand(command=Command.ENTER_STANDBY)
    assert len(decision.actions) == 1
    assert decision.wake_ms == FIRST_MS + 1


def test_between_stops_that_are_refused_the_state_is_told_and_what_is_over_is_reported():
    book = executing(instr_id=1)
    book.add("operator", user="uid:0", verb="stop", arguments={}, reason="")
    at_ms = QUARTER.end_ms + SETTLE_MS
    for mono_us, expected in (
        (LATER_US, [StationCommand]),
        (book.state.last_write_mono_us, [ChangeState, Deliver]),
    ):
        image = make_image(at_ms=at_ms, station=holding(instruction_id=1), mono_us=mono_us)
        assert [type(a) for a in decide.scan(book.state, image).actions] == expected


def test_power_under_no_instruction_is_a_strangers_where_nothing_was_stopped():
    (noted,) = found(ReadBack, planned(), station=holding(instruction_id=0))
    assert noted.cause == "foreign"


def failed(instr_id):
    book = Book().adopted()
    plan = book.plan({"T2": -45_000, "T3": 45_000})
    book.execute(HELD, plan_index=plan, instr_id=instr_id, outcome="failed")
    return book


@pytest.mark.parametrize(("instr_id", "cause"), [(0, "foreign"), (1, "differs"), (7, "differs")])
def test_less_than_was_sent_under_the_same_instruction_differs(instr_id, cause):
    less = holding({"T2": -90_000, "T3": 90_000}, instruction_id=instr_id)
    (noted,) = found(ReadBack, failed(instr_id), station=less)
    assert (noted.cause, noted.instr_id) == (cause, instr_id)


def restarted():
    """The machine started anew while power flowed: its monotonic clock is behind the last write."""
    book = executing()
    book.boot_number, book.mono_us = 2, 5
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    return book


@pytest.mark.parametrize(
    ("station", "cause"),
    [
        (holding({}, mono_us=10), "failsafe"),
        (holding(mono_us=10, status_bits=RUNNING | interlock.STATUS_FAILSAFE), "failsafe"),
        (holding(mono_us=10), "adopt"),
    ],
    ids=["at rest", "ramps down", "as it was"],
)
def test_after_a_restart_of_the_machine_a_fail_safe_is_seen_whatever_the_clock_says(station, cause):
    (noted,) = found(ReadBack, restarted(), station=station, mono_us=10)
    assert noted.cause == cause


def test_a_write_that_takes_time_is_begun_so_much_earlier():
    at_ms = FIRST_MS - 300
    (early,) = found(Dispatch, planned(), at_ms=at_ms, lead_us=300_999, mono_us=LATER_US)
    assert (early.authority, early.act_ms) == ("plan", FIRST_MS)
    assert not found(Dispatch, planned(), at_ms=at_ms, lead_us=299_999, mono_us=LATER_US)


def short_by_meter():
    """So far into the interval that its meters ask for a correction."""
    book = executing()
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    book.read((FIRST_MS + 300_000) * 1000, T2=-14_000, T3=14_000)
    return book


@pytest.mark.parametrize(("after_us", "count"), [(0, 0), (999_999, 0), (1_000_000, 1)])
def test_a_correction_waits_for_a_second_after_the_last_write(after_us, count):
    book = short_by_meter()
    image = make_image(
        at_ms=FIRST_MS + 300_000, station=holding(),
        mono_us=book.state.last_write_mono_us + after_us,
    )  # fmt: skip
    decision = decide.scan(book.state, image)
    sent = [a for a in decision.actions if isinstance(a, Dispatch)]
    assert [d.authority for d in sent] == ["tracking"] * count
    assert decision.wake_ms > QUARTER.end_ms - 5_000, "the closing is not missed"


@pytest.mark.parametrize(("at_ms", "authority"), [(FIRST_MS, "plan"), (QUARTER.end_ms, "close")])
def test_opening_and_closing_do_not_wait_for_the_pace_of_writes(at_ms, authority):
    book = planned() if authority == "plan" else executing()
    station = make_station(mono_us=LATER_US) if authority == "plan" else holding()
    image = {"at_ms": at_ms, "mono_us": book.state.last_write_mono_us + 1, "station": station}
    (sent,) = found(Dispatch, book, **image)
    assert sent.authority == authority


def test_to_zero_is_for_no_plan_at_once_and_short_lived():
    book = executing()
    book.add("mode", mode="blocked", state="EXECUTING", reasons=[])
    image = make_image(station=holding(), mono_us=LATER_US)
    decision = decide.scan(book.state, image)
    (sent,) = [a for a in decision.actions if isinstance(a, Dispatch)]
    assert (sent.authority, sent.plan_index, sent.ttl_s, sent.act_ms) == ("failsafe", -1, 5, 0)
    assert sent.ramps == dict.fromkeys(("T1", "T2", "T3", "T4"), 200)
    assert decision.wake_ms == 0


def test_where_nothing_can_be_written_the_next_scan_comes_at_its_usual_pace():
    unread = replace(make_image(at_ms=FIRST_MS), station=None)
    assert decide.scan(planned().state, unread).wake_ms == 0
    silent = make_image(at_ms=FIRST_MS, station_age_us=3_000_001)
    assert decide.scan(executing().state, silent).wake_ms == 0
    standby = make_station(state=StationState.STANDBY, mono_us=LATER_US)
    decision = decide.scan(planned().state, make_image(station=standby, mono_us=LATER_US))
    assert [a.command for a in decision.actions if isinstance(a, StationCommand)] == [
        Command.EXIT_STANDBY
    ]
    assert decision.wake_ms == 0


def test_while_an_outcome_is_open_the_next_scan_comes_at_its_usual_pace():
    book = begun()
    same_instant = make_station(mono_us=book.mono_us)
    assert decide.scan(book.state, make_image(station=same_instant)).wake_ms == 0


def test_after_a_plan_the_next_scan_comes_at_once():
    book = Book().adopted()
    book.accept("a", "T2", "T3", 100_000)
    image = make_image()
    assert decide.scan(book.state, image).wake_ms == image.utc_ms
