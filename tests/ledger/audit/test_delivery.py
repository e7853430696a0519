"""Readings that count: in the ledger's order, never two for one instant, none from the future."""

from __future__ import annotations

from typing import Any

from ledger.audit import delivery
from ledger.audit.delivery import Counter


def reading(second: int, wh: int = 0) -> Counter:
    return Counter(utc_us=second * 1_000_000, import_wh=0, export_wh=wh)


def entry(*seconds: int, quality: str = "good") -> dict[str, Any]:
    return {
        "meters": [
            {
                "meter": "m1",
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
    assert [c.export_wh for c in found["m1"]] == [1, 5, 9]


def test_what_is_not_good_does_not_count() -> None:
    assert delivery.counters([entry(1, quality="bad"), entry(2)])["m1"] == [reading(2, 2)]


def test_a_clock_set_back_strikes_what_was_stamped_later() -> None:
    series = [reading(1), reading(6), reading(9)]
    delivery.strike_after(series, 6_000_000)
    assert series == [reading(1), reading(6)]
