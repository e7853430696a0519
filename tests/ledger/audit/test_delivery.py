"""Readings that count: in the ledger's order, never two for one instant, none from the future."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.audit import delivery
from ledger.audit.delivery import Counter


def reading(second: int, wh: int = 0) -> Counter:
    return Counter(utc_us=second * 1_000_000, import_wh=0, export_wh=wh, meter="m1")


def entry(*seconds: int, quality: str = "good", meter: str = "m1") -> dict[str, Any]:
    return {
        "meters": [
            {
                "meter": meter,
                "terminal": "T1",
                "utc_us": s * 1_000_000,
                "import_wh": 0,
                "export_wh": s,
                "quality": quality,
            }
            for s in seconds
        ]
    }


def test_a_reading_stamped_no_later_than_one_that_counts_does_not_count() -> None:
    found = delivery.counters([entry(1), entry(5), entry(5), entry(3), entry(9)])
    assert [c.export_wh for c in found["T1"]] == [1, 5, 9]


def test_what_is_not_good_does_not_count() -> None:
    assert delivery.counters([entry(1, quality="bad"), entry(2)])["T1"] == [reading(2, 2)]


def test_a_clock_set_back_strikes_what_was_stamped_later() -> None:
    series = [reading(1), reading(6), reading(9)]
    delivery.strike_after(series, 6_000_000)
    assert series == [reading(1), reading(6)]


@pytest.mark.parametrize("second", [2, 7])
def test_readings_of_another_meter_at_the_terminal_strike_those_before(second: int) -> None:
    found = delivery.counters([entry(1, 5), entry(second, meter="m1b"), entry(9, meter="m1b")])
    assert [(c.export_wh, c.meter) for c in found["T1"]] == [(second, "m1b"), (9, "m1b")]


def test_a_reading_that_is_not_good_exchanges_no_meter() -> None:
    found = delivery.counters([entry(1), entry(2, quality="bad", meter="m1b"), entry(3)])
    assert [c.export_wh for c in found["T1"]] == [1, 3]


@pytest.mark.parametrize(
    "series",
    [
        [reading(0, 5_000_000), reading(900, 24_000)],
        [reading(0, 1_000), reading(300, 16_000), reading(420, 0), reading(900, 24_000)],
        [reading(-5, 5_000_000), reading(5, 0), reading(900, 45_000)],
        [reading(0, 1_000), reading(895, 45_000), reading(905, 10)],
        [reading(0, 1)._replace(import_wh=7), reading(900, 45_000)._replace(import_wh=6)],
    ],
)
def test_a_counter_that_fell_is_unmetered(series: list[Counter]) -> None:
    assert delivery.metered(series, 0, 900_000) == (None, False)


def test_a_fall_outside_the_readings_that_bracket_the_interval_does_not_matter() -> None:
    series = [reading(-9, 9_000), reading(0, 1_000), reading(900, 46_000), reading(905, 3)]
    assert delivery.metered(series, 0, 900_000) == (45_000, False)


def test_a_step_of_the_clock_among_the_entries_strikes() -> None:
    step = {"kind": "time_step", "utc_us": 6_000_000}
    found = delivery.counters([entry(1), entry(6), entry(9), step, entry(7), entry(8)])
    assert [c.export_wh for c in found["T1"]] == [1, 6, 7, 8]


def test_the_readings_an_interval_needs() -> None:
    series = [reading(s) for s in (-9, -3, 5, 8, 14, 20)]
    assert [c.utc_us // 1_000_000 for c in delivery.bracket(series, 0, 10_000)] == [-3, 5, 8, 14]
    assert delivery.bracket(series, 5_000, 14_000) == series[2:5]
    assert delivery.bracket(series, -20_000, 30_000) == series
    assert delivery.bracket([], 0, 10_000) == []


@pytest.mark.parametrize(("contracted_wh", "status"), [(500, "failed"), (0, "cancelled")])
def test_a_trade_with_a_terminal_the_configuration_no_longer_has_gets_nothing(
    contracted_wh: int, status: str
) -> None:
    trades = [
        {"trade_id": "lost", "out_terminal": "T2", "in_terminal": "T3",
         "contracted_wh": contracted_wh, "planned_wh": contracted_wh},
        {"trade_id": "kept", "out_terminal": "T2", "in_terminal": "T1",
         "contracted_wh": 100, "planned_wh": 100},
    ]  # fmt: skip
    found = delivery.settle(
        config={"master": "T1", "terminals": [{"id": t, "s_va": 1000} for t in ("T1", "T2")]},
        plan={
            "interval": {"start": "1970-01-01T00:00:00Z", "end": "1970-01-01T00:15:00Z"},
            "trades": trades,
        },
        readings={"T2": [reading(0), Counter(900_000_000, 100 + contracted_wh, 0, "m1")]},
    )
    lost, kept = found.trades["lost"], found.trades["kept"]
    assert (lost.delivered_wh, lost.status, lost.unmetered) == (0, status, False)
    assert (kept.delivered_wh, kept.status) == (100, "delivered")
