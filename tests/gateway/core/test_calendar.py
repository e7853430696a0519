"""Summer time and leap seconds change labels for people, never an interval or its energy."""

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from fakes.core import Book

from gateway.core import decide
from gateway.core.energy import Counters, at_boundary, rounded_wh
from gateway.core.planning import plans_due
from gateway.core.tracking import mean_w
from gateway.model.interval import Interval, utc_text

BERLIN = ZoneInfo("Europe/Berlin")
QUARTER_MS = 900_000
FULL = {f"T{k}": 250_000 for k in range(1, 5)}


def quarters(day):
    """The market time units of a local day."""
    ends = [dt.datetime.combine(day + dt.timedelta(days=k), dt.time(), BERLIN) for k in (0, 1)]
    start_ms, end_ms = (round(e.timestamp() * 1000) for e in ends)
    return [Interval(at, at + QUARTER_MS) for at in range(start_ms, end_ms, QUARTER_MS)]


def local_text(interval):
    return dt.datetime.fromtimestamp(interval.start_ms / 1000, BERLIN).isoformat()


@pytest.mark.parametrize(
    ("day", "count"),
    [(dt.date(2027, 3, 28), 92), (dt.date(2027, 10, 31), 100), (dt.date(2027, 6, 1), 96)],
)
def test_every_quarter_of_a_local_day_is_one_interval_of_900_seconds(day, count):
    found = quarters(day)
    assert len(found) == count
    assert len({utc_text(i.start_ms) for i in found}) == count
    assert len({local_text(i) for i in found}) == count  # the offset tells the doubled hour apart
    assert {i.duration_ms for i in found} == {QUARTER_MS}
    assert all(a.end_ms == b.start_ms for a, b in pairwise(found))


@pytest.mark.parametrize(
    ("day", "count"), [(dt.date(2027, 3, 28), 92), (dt.date(2027, 10, 31), 100)]
)
def test_a_day_with_a_change_of_time_is_planned_quarter_by_quarter_with_its_energy(day, count):
    book = Book().adopted()
    found = quarters(day)
    for number, interval in enumerate(found):
        book.accept(f"t{number}", "T2", "T3", 40_000, interval=interval)
    plans = plans_due(book.state, utc_ms=found[-1].start_ms, available_va=FULL)
    plans = [p for p in plans if p.interval in found]
    assert len({p.interval for p in plans}) == count
    running = [p for p in plans if p.interval.end_ms > found[-1].start_ms]
    assert [p.fields["planned_wh"]["T3"] for p in running] == [10_000]
    assert {mean_w(10_000, i.duration_ms) for i in found} == {40_000}


@pytest.mark.parametrize("true_length_s", [899, 900, 901])
def test_energy_over_a_leap_second_is_what_the_counters_say(true_length_s):
    """The label says 900 s; the counters moved as long as it truly took."""
    midnight_ms = round(dt.datetime(2028, 1, 1, tzinfo=dt.UTC).timestamp() * 1000)
    interval = Interval(midnight_ms - QUARTER_MS, midnight_ms)
    leap_s = true_length_s - 900
    readings = []
    for true_s in range(920):  # every second, as near a boundary
        # A clock that repeats (or leaves out) the last second of the day.
        label_s = true_s - leap_s if true_s >= 900 + min(0, leap_s) else true_s
        utc_us = (interval.start_ms + label_s * 1000) * 1000
        if not readings or utc_us > readings[-1].utc_us:
            readings.append(Counters(utc_us=utc_us, import_wh=0, export_wh=true_s * 50, p_w=0))
    start, end = (at_boundary(readings, ms) for ms in (interval.start_ms, interval.end_ms))
    assert not end.estimated
    assert abs(rounded_wh(end.net_mwh - start.net_mwh) - true_length_s * 50) <= 1


def test_a_leap_second_by_a_step_is_recorded_and_lets_power_run():
    book = Book()
    book.add("time_step", step_us=-1_000_000)
    assert not book.state.calm(book.mono_us)
    assert abs(book.state.stepped_us(book.mono_us)) <= decide.STEP_US_MAX
