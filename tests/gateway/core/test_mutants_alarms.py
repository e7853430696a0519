"""Alarms at their thresholds, and how often they came."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, Book, make_station

from gateway.core.alarm_conditions import CONDITIONS, REFUSED_US, Seen
from gateway.core.alarms import AlarmBook, Rule, statistics

NOW_US = FIRST_MS * 1000
DAY_US = 86_400_000_000


def seen(told_w=0, **changes):
    station = make_station({"T2": told_w})
    fields = {"utc_us": NOW_US, "station": station, "station_age_us": 100_000}
    return Seen(**(fields | changes))


def told(code, **changes):
    return CONDITIONS[code](Book().adopted().state, seen(**changes))


@pytest.mark.parametrize(
    ("told_w", "meter_w", "text"),
    [
        (100_000, 101_500, None),  # exactly 1.5 %
        (100_000, 101_501, "m2 is 1.5 % off T2"),
        (100_000, 90_000, "m2 is 10.0 % off T2"),
        (-100_000, -110_000, "m2 is 10.0 % off T2"),
        (25_000, 50_000, "m2 is 100.0 % off T2"),  # a tenth of the rating is enough to compare
        (24_999, 50_000, None),
    ],
)
def test_meter_and_converter_may_differ_by_one_and_a_half_percent(told_w, meter_w, text):
    assert told("A-160", told_w=told_w, meter_p_w={"T2": meter_w}) == text


def test_a_meter_that_is_late_is_compared_with_nothing():
    late = {"meter_age_us": {"T2": 10_000_001}, "meter_stale_us": 10_000_000}
    assert told("A-160", told_w=100_000, meter_p_w={"T2": 0}, **late) is None
    assert told("A-160", told_w=100_000, meter_p_w={"T2": 0}, **(late | {"meter_age_us": {}}))


@pytest.mark.parametrize(("age_us", "stands"), [(REFUSED_US - 1, True), (REFUSED_US, False)])
def test_a_refusal_is_shown_for_its_time(age_us, stands):
    found = told("A-131", refused=((NOW_US - age_us, "trd-1: late"),))
    assert found == ("trd-1: late" if stands else None)


def test_several_refusals_are_counted():
    refused = tuple((NOW_US - n, f"trd-{n}: late") for n in (3, 2, 1))
    assert told("A-131", refused=refused) == "trd-1: late and 2 more"


def test_faults_are_told_by_their_bits_and_who_has_them():
    station = make_station(fault_bits=0x12)
    rows = tuple(replace(t, fault_bits=0x80) if t.id == "T3" else t for t in station.terminals)
    book = Book().adopted().state
    fields = {"utc_us": NOW_US, "station_age_us": 0}
    both = Seen(station=replace(station, terminals=rows), **fields)
    assert CONDITIONS["A-110"](book, both) == "station 0x12, T3 0x80"
    one = Seen(station=replace(make_station(), terminals=rows), **fields)
    assert CONDITIONS["A-110"](book, one) == "T3 0x80"
    assert CONDITIONS["A-110"](book, Seen(station=make_station(), **fields)) is None


def test_every_meter_that_is_late_is_named():
    late = {"meter_age_us": {"T1": 11, "T3": 11, "T4": 10}, "meter_stale_us": 10}
    assert told("A-121", **late) == "m1, m3"


RULE = Rule(
    code="A", what="a", cause="c", consequence="c", response="r", respond_s=60, priority_level=2,
    delay_ms=0, clear_delay_ms=0, unless=(),
)  # fmt: skip


def counted(times_us, days_count=1):
    book = AlarmBook()
    book.raised = [(at_us, "A") for at_us in times_us]
    return statistics(book, [RULE], utc_us=NOW_US, days_count=days_count)


def test_alarms_are_counted_by_ten_minutes_of_the_days_asked_for():
    one_each = [NOW_US - DAY_US + n * 600_000_000 for n in range(144)]
    found = counted(one_each)
    assert (found.raised_count, found.per_ten_minutes_ratio) == (144, 1.0)
    assert counted(one_each, days_count=2).per_ten_minutes_ratio == 0.5


def test_a_day_begins_at_its_first_microsecond():
    assert counted([NOW_US - DAY_US]).raised_count == 1
    assert counted([NOW_US - DAY_US - 1]).raised_count == 0
    assert counted([NOW_US - 2 * DAY_US], days_count=2).raised_count == 1
