"""The core's fixed figures as its documents give them, and what is assumed of what nobody saw."""

import pytest
from fakes.core import FIRST_MS, Book, make_station

from gateway.core import (
    alarm_conditions,
    alarms,
    decide,
    energy,
    envelope,
    headroom,
    interlock,
    planning,
    ramps,
    reactive,
    readback,
    setpoints,
    standing,
    state,
    stepped,
    tracking,
    verify,
)
from gateway.core.alarm_conditions import CONDITIONS, Seen, conditions
from gateway.core.alarms import AlarmBook, Rule, refusal, statistics
from gateway.core.records import Active, IntentRecord, Received

SECOND_US = 1_000_000
FIGURES = {
    alarm_conditions: {
        "NEAR_ZERO_PERCENT": 2, "DISAGREE_PERMILLE": 15, "BUSY_PERCENT": 10, "FOLLOWS_PERCENT": 1,
        "FOLLOWS_W_MIN": 2_000, "SETTLE_US": 2 * SECOND_US, "REFUSED_US": 600 * SECOND_US,
    },
    alarms: {
        "RAISED_MAX": 20_000, "SHELVE_S_MAX": 86_400, "FLOOD_US": 600 * SECOND_US,
        "FLOOD_COUNT": 10, "CHATTER_US": 60 * SECOND_US, "CHATTER_COUNT": 3,
        "STANDING_US": 86_400 * SECOND_US, "PRIORITY_SHARES_PCT": {1: 5, 2: 15, 3: 80},
    },
    decide: {
        "WRITE_GAP_US": SECOND_US, "COMMAND_GAP_US": 5 * SECOND_US, "FAR_PERCENT": 5,
        "STEP_US_MAX": SECOND_US,
    },
    energy: {
        "FROZEN_US": 30 * SECOND_US, "FROZEN_PERCENT": 5, "FROZEN_WH": 50,
        "FROZEN_COUNTER_WH": 1_500, "ESTIMATED_AFTER_US": 10 * SECOND_US,
    },
    envelope: {"HEADROOM_PERCENT": 5, "RESERVE_PERMILLE": 15, "FAIR_ROUNDS": 500},
    headroom: {"SPARE_PERCENT": 2},
    interlock: {"STALE_US": 3 * SECOND_US},
    planning: {"ARM_MS": 30_000, "SETTLE_MS": 60_000},
    ramps: {"FLOOR_PARTS": 20, "FOLLOWS_PERCENT": 3},
    reactive: {"CHANGE_PERMILLE": 10},
    readback: {"CLOSE_PERCENT": 2},
    setpoints: {
        "METER_STALE_US": 20 * SECOND_US, "CLOSE_MS_MIN": 1_000, "ROUNDS": 5, "SMALL_PERCENT": 2,
        "BEYOND_PERCENT": 1, "TTL_MARGIN_S": 5, "STEP_PAUSE_MS": 1_500,
    },
    standing: {"GROWS": 2},
    state: {
        "READINGS_MAX": 4096, "STEP_US": SECOND_US // 2, "STEADY_US": 60 * SECOND_US,
        "HISTORY_MAX": 512,
    },
    stepped: {"STEPS_MAX": 20, "SMALL_PARTS": 5},
    tracking: {
        "STEP_MS": 5_000, "FREEZE_MS": 15_000, "BAND_PERCENT": 10, "BAND_FLOOR_PERCENT": 2,
        "DEAD_BAND_PARTS": 2_000, "FINE_DEAD_BAND_PARTS": 10_000, "FINE_MS": 60_000,
        "GAIN_MIN": 970_000, "GAIN_MAX": 1_030_000, "GAIN_SETTLE_US": 15 * SECOND_US,
        "GAIN_SPAN_US": 60 * SECOND_US,
    },
}  # fmt: skip


@pytest.mark.parametrize("module", FIGURES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_the_figures_are_those_of_the_design(module):
    assert {name: getattr(module, name) for name in FIGURES[module]} == FIGURES[module]


def test_ten_thousand_trades_may_be_open_unless_the_site_says_otherwise():
    policy = verify.MarketPolicy(gate_ms=1, horizon_ms=1, over_limit="curtail")
    assert policy.open_count_max == 10_000


def test_what_nobody_looked_at_raises_no_alarm():
    quiet = Seen(utc_us=FIRST_MS * 1000)
    assert conditions(Book().adopted().state, quiet) == {}


def test_what_an_entry_of_an_older_ledger_does_not_say_is_nothing():
    message = Received(
        index=0, utc_us=1, size=1, sha256="", payload=b"", retain=False, topic="t"
    )  # fmt: skip
    assert (message.mono_us, message.boot_number, message.decided) == (0, 0, frozenset())
    held = Active(instr_id=1, setpoints={}, plan_index=-1, utc_us=1, mono_us=1, boot_number=1)
    assert (held.ramp_ms, held.ramps, held.slowed, held.q_var) == (0, {}, False, {})
    sent = IntentRecord(
        index=0, instr_id=1, authority="plan", plan_index=-1, setpoints={}, command=None,
        mono_us=1, boot_number=1,
    )  # fmt: skip
    assert (sent.ramps, sent.q_var) == ({}, {})


def told(code, **changes):
    fields = {"utc_us": FIRST_MS * 1000, "station": make_station()} | changes
    return CONDITIONS[code](Book().adopted().state, Seen(**fields))


@pytest.mark.parametrize(("age_us", "compared"), [(15_000_000, True), (15_000_001, False)])
def test_a_meter_is_compared_with_its_converter_for_fifteen_seconds(age_us, compared):
    station = make_station({"T2": 100_000})
    found = told("A-160", station=station, meter_p_w={"T2": 90_000}, meter_age_us={"T2": age_us})
    assert (found is not None) is compared
    assert (told("A-121", meter_age_us={"T2": age_us}) is None) is compared


@pytest.mark.parametrize(
    ("meter_w", "text"),
    [(98_500, None), (98_499, "m2 is 1.5 % off T2"), (50_000, "m2 is 50.0 % off T2")],
)
def test_meter_and_converter_may_be_one_and_a_half_percent_apart(meter_w, text):
    assert told("A-160", station=make_station({"T2": 100_000}), meter_p_w={"T2": meter_w}) == text


@pytest.mark.parametrize(("p_w", "compared"), [(25_000, True), (24_999, False), (-25_000, True)])
def test_below_a_tenth_of_the_rating_a_difference_says_nothing(p_w, compared):
    found = told("A-160", station=make_station({"T2": p_w}), meter_p_w={"T2": 0})
    assert (found is not None) is compared


@pytest.mark.parametrize(("free_ppm", "text"), [(15_000, "2 % free"), (199_999, "20 % free")])
def test_the_disk_is_told_in_percent(free_ppm, text):
    assert told("A-180", disk_free_ppm=free_ppm) == text


def test_how_far_a_terminal_is_off_is_told_in_kilowatts():
    book = Book().adopted()
    book.utc_us = FIRST_MS * 1000
    book.execute({"T2": -150_000, "T3": 150_000})
    station = make_station({"T2": -150_000})
    seen = Seen(utc_us=FIRST_MS * 1000 + 60_000_000, station=station)
    assert CONDITIONS["A-161"](book.state, seen) == "T3 is 150.0 kW off its setpoint"


def lacking(target_wh, done_wh, at_s):
    """What is told of T3 so far into its quarter of an hour with so much energy by meter."""
    book = Book().adopted()
    book.plan({"T2": -target_wh, "T3": target_wh})
    for second, wh in ((0, 0), (at_s, done_wh)):
        book.read((FIRST_MS + second * 1000) * 1000, T3=wh)
    at_us = (FIRST_MS + at_s * 1000) * 1000
    return CONDITIONS["A-130"](book.state, Seen(utc_us=at_us))


def test_what_will_lack_is_told_to_a_tenth_of_a_kilowatt_hour():
    left_wh = 2_300  # 230 kW for the last 36 s
    assert lacking(30_000, 30_000 - left_wh - 750, 864) == "T3 will lack 0.8 kWh"
    assert lacking(57_000, 57_000 - left_wh - 50_051, 864) == "T3 will lack 50.1 kWh"


@pytest.mark.parametrize(("short_wh", "text"), [(1_500, None), (1_501, "T3 will lack 1.5 kWh")])
def test_half_a_percent_of_a_large_energy_may_be_missed(short_wh, text):
    assert lacking(300_000, 300_000 - 2_300 - short_wh, 864) == text


@pytest.mark.parametrize("target_wh", [1, -1])
def test_more_than_a_single_watt_hour_that_was_asked_for_lacks_nothing(target_wh):
    assert lacking(target_wh, 1_000 * target_wh, 899) is None
    assert lacking(target_wh, -1_000 * target_wh, 899) == "T3 will lack 0.9 kWh"


RULE = Rule(
    code="A", what="a", cause="c", consequence="c", response="r", respond_s=60, priority_level=2,
    delay_ms=0, clear_delay_ms=0, unless=(),
)  # fmt: skip


def test_a_day_without_alarms_has_no_peak():
    quiet = statistics(AlarmBook(), [RULE], utc_us=FIRST_MS * 1000, days_count=1)
    assert (quiet.raised_count, quiet.peak_count, quiet.flood_count) == (0, 0, 0)
    assert quiet.per_ten_minutes_ratio == 0.0


def test_a_count_of_no_days_is_one_of_ten_minutes():
    book = AlarmBook()
    book.raised = [(FIRST_MS * 1000, "A")]
    found = statistics(book, [RULE], utc_us=FIRST_MS * 1000, days_count=0)
    assert found.per_ten_minutes_ratio == 1.0


@pytest.mark.parametrize(("before_us", "named"), [(0, ("A",)), (1, ())])
def test_what_stood_for_long_is_named_if_it_went_within_the_days_asked_for(before_us, named):
    book, day_us = AlarmBook(), 86_400_000_000
    now_us = FIRST_MS * 1000
    went_us = now_us - day_us - before_us
    book.spans = [("A", went_us - 2 * day_us, went_us)]
    assert statistics(book, [RULE], utc_us=now_us, days_count=1).long_standing == named


def test_the_active_alarms_are_those_that_came_and_did_not_go():
    book = AlarmBook()
    for index, (code, active) in enumerate((("A", True), ("B", True), ("A", False))):
        book.take(
            index, {"kind": "alarm", "code": code, "active": active, "detail": "", "utc_us": 1}
        )
    assert book.active == {"B"}


def test_a_word_about_no_alarm_or_a_wrong_one_says_which():
    book = AlarmBook()
    assert refusal(book, [RULE], "ack", {}) == "no code: there is no such alarm"
    assert refusal(book, [RULE], "ack", {"code": "Z"}) == "Z: there is no such alarm"
    assert refusal(book, [RULE], "ack", {"code": "A"}) == "A: it does not stand now"
