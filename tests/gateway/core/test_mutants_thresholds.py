"""Each alarm on both sides of the figure it is named after."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_station

from gateway.core.alarm_conditions import (
    CERTIFICATE_US,
    CHECKPOINT_US,
    CONDITIONS,
    DISK_FREE_PPM_MIN,
    LIMIT_AC_VOLTAGE,
    LIMIT_TEMPERATURE,
    Seen,
)
from gateway.core.alarms import AlarmBook, Rule, gaps_s, refusal, statistics, step

NOW_US = FIRST_MS * 1000
MINUTE_US = 60_000_000
DAY_US = 86_400_000_000


def told(code, book=None, station=None, **changes):
    fields = {"utc_us": NOW_US, "station": station or make_station(), "station_age_us": 100_000}
    return CONDITIONS[code]((book or Book().adopted()).state, Seen(**(fields | changes)))


def test_the_figures_are_those_of_the_manual():
    assert CHECKPOINT_US == 5 * MINUTE_US
    assert CERTIFICATE_US == 30 * DAY_US
    assert DISK_FREE_PPM_MIN == 200_000
    assert (LIMIT_TEMPERATURE, LIMIT_AC_VOLTAGE) == (8, 32)


@pytest.mark.parametrize(
    ("p_w", "text"),
    [
        (5_000, None),  # exactly 2 % of the rating
        (5_001, "T2 +5.0 kW"),
        (-5_001, "T2 -5.0 kW"),
        (-123_456, "T2 -123.5 kW"),
    ],
)
def test_more_than_two_percent_is_power(p_w, text):
    assert told("A-103", meter_p_w={"T2": p_w}) == text


def held(setpoints, at_us=NOW_US):
    book = Book().adopted()
    book.utc_us = at_us
    book.execute(setpoints)
    return book


def test_power_of_ours_is_no_alarm_while_the_station_is_seen():
    book = held({"T2": -50_000, "T3": 50_000})
    assert told("A-103", book, meter_p_w={"T2": -50_000}) is None
    at_rest = held({"T2": 0})
    assert told("A-103", at_rest, meter_p_w={"T2": -50_000}) == "T2 -50.0 kW"


@pytest.mark.parametrize(
    ("age_us", "stale_after_us", "text"),
    [
        (3_000_000, 3_000_000, None),
        (3_000_001, 3_000_000, "silent for 3 s"),
        (7_999_999, 3_000_000, "silent for 7 s"),
        (7_999_999, 8_000_000, None),
    ],
)
def test_a_station_is_lost_when_it_is_stale_and_says_for_how_long(age_us, stale_after_us, text):
    assert told("A-120", station_age_us=age_us, stale_after_us=stale_after_us) == text


def test_a_station_that_was_never_read_is_not_lost():
    assert CONDITIONS["A-120"](Book().state, Seen(utc_us=NOW_US, station_age_us=DAY_US)) is None


@pytest.mark.parametrize(
    ("age_us", "text"),
    [
        (None, None),
        (CHECKPOINT_US - 1, None),
        (CHECKPOINT_US, "none for 5 min"),
        (11 * MINUTE_US + 59_000_000, "none for 11 min"),
    ],
)
def test_a_checkpoint_may_be_five_minutes_old(age_us, text):
    assert told("A-141", checkpoint_age_us=age_us) == text


@pytest.mark.parametrize(
    ("left_us", "text"),
    [
        (CERTIFICATE_US + 1, None),
        (CERTIFICATE_US, "a.pem ends in 30 days"),
        (2 * DAY_US - 1, "a.pem ends in 1 days"),
        (1, "a.pem ends in 0 days"),
        (0, "a.pem has ended"),
        (-DAY_US, "a.pem has ended"),
    ],
)
def test_a_certificate_is_told_in_days(left_us, text):
    assert told("A-181", certificate=("a.pem", NOW_US + left_us)) == text


@pytest.mark.parametrize(
    ("free_ppm", "text"), [(200_000, None), (199_999, "20 % free"), (50_000, "5 % free")]
)
def test_a_fifth_of_the_disk_is_enough(free_ppm, text):
    assert told("A-180", disk_free_ppm=free_ppm) == text


def limited(bits, names=("T2", "T4")):
    station = make_station()
    rows = tuple(replace(t, limit_bits=bits if t.id in names else 0) for t in station.terminals)
    return replace(station, terminals=rows)


@pytest.mark.parametrize(("code", "bit"), [("A-170", 32), ("A-190", 8)])
def test_limits_of_the_station_are_told_with_their_terminals_and_only_their_bit(code, bit):
    assert told(code, station=limited(bit)) == "T2, T4"
    assert told(code, station=limited(0xFFFF & ~bit)) is None
    assert told(code, station=limited(bit), station_age_us=DAY_US) is None


@pytest.mark.parametrize(
    ("p_w", "after_us", "text"),
    [
        (47_499, 12_000_000, "T3 is 2.5 kW off its setpoint"),
        (47_500, 12_000_000, None),  # exactly 1 %
        (52_501, 12_000_000, "T3 is 2.5 kW off its setpoint"),
        (0, 2_999_999, None),  # its ramp of a second, and two to settle
        (0, 3_000_000, "T3 is 50.0 kW off its setpoint"),
    ],
)
def test_a_terminal_follows_within_one_percent_after_its_ramp(p_w, after_us, text):
    book = held({"T2": -50_000, "T3": 50_000})
    station = make_station({"T2": -50_000, "T3": p_w})
    assert told("A-161", book, station, utc_us=NOW_US + after_us) == text


def small(s_va):
    book = held({"T2": -50_000, "T3": 50_000})
    state = book.state
    rows = tuple(replace(t, s_va=s_va) for t in state.site.sop.terminals)
    state.site = replace(state.site, sop=replace(state.site.sop, terminals=rows))
    return book


@pytest.mark.parametrize(("p_w", "follows"), [(48_000, True), (47_999, False)])
def test_of_a_small_converter_two_kilowatts_are_let_pass(p_w, follows):
    station = make_station({"T2": -50_000, "T3": p_w})
    found = told("A-161", small(60_000), station, utc_us=NOW_US + 20_000_000)
    assert (found is None) is follows


def lacking(done_wh, *, target_wh=25_000, at_s=600, p_w=0):
    """So far into a quarter of an hour with so much of its energy delivered by meter."""
    book = Book().adopted()
    book.plan({"T2": -target_wh, "T3": target_wh})
    for second in (0, at_s):
        net_wh = done_wh * second // at_s
        book.utc_us = NOW_US + second * 10**6
        book.read(book.utc_us, T1=0, T2=-target_wh * second // 900, T3=net_wh, T4=0)
    return told("A-130", book, utc_us=NOW_US + at_s * 10**6)


@pytest.mark.parametrize(
    ("done_wh", "at_s", "text"),
    [
        # 230 kW for the last minute are 3,833 Wh; 125 Wh are within the tolerance
        (25_000 - 3_833 - 125, 840, None),
        (25_000 - 3_833 - 127, 840, "T3 will lack 0.1 kWh"),
        (25_000 - 3_833 - 1_125, 840, "T3 will lack 1.1 kWh"),
        (0, 300, None),  # ten minutes are left: 38 kWh
    ],
)
def test_what_full_power_can_no_longer_bring_is_told_before_the_end(done_wh, at_s, text):
    assert lacking(done_wh, at_s=at_s) == text


def test_of_a_terminal_that_absorbs_likewise():
    assert lacking(-(25_000 - 3_833 - 125), target_wh=-25_000, at_s=840) is None
    assert lacking(-(25_000 - 3_833 - 1_125), target_wh=-25_000, at_s=840) == "T3 will lack 1.1 kWh"


def test_outside_an_interval_nothing_can_be_missed():
    book = Book().adopted()
    book.plan({"T2": -25_000, "T3": 25_000})
    assert told("A-130", book, utc_us=QUARTER.end_ms * 1000) is None


RULE = Rule(
    code="A", what="a", cause="c", consequence="c", response="r", respond_s=60, priority_level=2,
    delay_ms=0, clear_delay_ms=0, unless=(),
)  # fmt: skip


def counted(times_us, **changes):
    book = AlarmBook()
    book.raised = [(at_us, "A") for at_us in times_us]
    return statistics(book, [replace(RULE, **changes)], utc_us=NOW_US, days_count=1)


@pytest.mark.parametrize(("count", "in_flood"), [(10, 0), (11, 11)])
def test_more_than_ten_in_ten_minutes_are_a_flood(count, in_flood):
    start_us = NOW_US - 600_000_000
    times = [start_us + 600_000_000 * n // (count - 1) for n in range(count)]
    found = counted(times)
    assert (found.peak_count, found.flood_count) == (count, in_flood)
    stretched = [start_us - 1, *times[1:]]
    assert counted(stretched).flood_count == 0


@pytest.mark.parametrize(("span_us", "chatters"), [(MINUTE_US, ("A",)), (MINUTE_US + 1, ())])
def test_three_within_a_minute_chatter(span_us, chatters):
    assert counted([NOW_US - span_us, NOW_US - 5, NOW_US]).chattering == chatters
    assert counted([NOW_US - 5, NOW_US]).chattering == ()


def test_an_alarm_nobody_rated_counts_as_one_of_the_third_priority():
    assert counted([NOW_US], code="B").by_priority == {3: 1}
    assert counted([NOW_US], priority_level=1).by_priority == {1: 1}


@pytest.mark.parametrize(("stood_us", "named"), [(DAY_US, ()), (DAY_US + 1, ("A",))])
def test_what_stands_for_more_than_a_day_is_named(stood_us, named):
    book = AlarmBook()
    entry = {"kind": "alarm", "code": "A", "active": True, "detail": "d"}
    book.take(0, entry | {"utc_us": NOW_US - stood_us})
    assert statistics(book, [RULE], utc_us=NOW_US, days_count=7).long_standing == named
    book.take(1, entry | {"utc_us": NOW_US, "active": False})
    assert statistics(book, [RULE], utc_us=NOW_US, days_count=7).long_standing == named


def test_gaps_are_whole_seconds_of_one_code():
    book = AlarmBook()
    book.raised = [(0, "A"), (500_000, "B"), (1_999_999, "A"), (4_000_000, "A")]
    assert gaps_s(book, "A") == [1, 2]
    assert gaps_s(book, "B") == []


@pytest.mark.parametrize(
    ("for_s", "word"),
    [(1, None), (0, "1 s"), (86_400, None), (86_401, "24 h"), ("9", "24 h"), (None, "24 h")],
)
def test_a_shelf_is_for_a_second_to_a_day(for_s, word):
    book = AlarmBook()
    book.take(0, {"kind": "alarm", "code": "A", "active": True, "detail": "", "utc_us": 0})
    said = refusal(book, [RULE], "shelve", {"code": "A", "for_s": for_s, "reason": "known"})
    assert said is None if word is None else word in said


@pytest.mark.parametrize(("after_us", "comes"), [(1_999_999, False), (2_000_000, True)])
def test_a_delay_is_held_to_the_microsecond(after_us, comes):
    rule = replace(RULE, delay_ms=2_000, clear_delay_ms=2_000)
    for active, found in ((set(), {"A": "d"}), ({"A"}, {})):
        changes, pending = step([rule], active=active, found=found, pending={}, mono_us=7)
        assert (changes, pending) == ((), {"A": 7})
        changes, left = step(
            [rule], active=active, found=found, pending=pending, mono_us=7 + after_us
        )
        assert [c.active for c in changes] == ([not active] if comes else [])
        assert left == ({} if comes else {"A": 7})


def test_the_rate_is_told_to_a_ten_thousandth():
    assert counted([NOW_US]).per_ten_minutes_ratio == 0.0069
