"""Figures as people read them: kWh, kW and per cent, with a true minus and a sign where it tells.

Also the marks of a delivery status: a shape that needs no colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

MARKS = {
    "delivered": "●",
    "partial": "◐",
    "failed": "○",
    "refused": "✕",
    "cancelled": "–",
    "planned": "◇",
    "running": "▶",
}
ABNORMAL = frozenset({"partial", "failed", "refused"})


def kwh(energy_wh: int, digits: int = 3) -> str:
    """Return Wh as kWh; three digits lose nothing."""
    return f"{energy_wh / 1000:,.{digits}f}".replace(",", "\u202f").replace("-", "−")


def kw(power_w: int, digits: int = 1) -> str:
    """Return W as kW."""
    text = f"{power_w / 1000:.{digits}f}".replace("-", "−")
    return text.lstrip("−") if not any(c in "123456789" for c in text) else text


def difference(contracted_wh: int, delivered_wh: int, digits: int = 2) -> str:
    """Return the deviation in per cent of the contract with its sign, a dash without contract."""
    if contracted_wh == 0:
        return "–"
    return f"{100 * (delivered_wh - contracted_wh) / contracted_wh:+.{digits}f} %".replace("-", "−")


def interval_hours(row: Mapping[str, Any]) -> float | None:
    """Return the length of a row's interval in hours, None when it has none."""
    start, end = row.get("interval_start"), row.get("interval_end")
    if not isinstance(start, str) or not isinstance(end, str):
        return None
    span = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return span.total_seconds() / 3600 or None


def path(row: Mapping[str, Any]) -> str:
    """Return a trade's way and power, like ``T2→T3 150 kW``; a dash for an unreadable message."""
    seller, buyer = row.get("seller_terminal"), row.get("buyer_terminal")
    if not seller or not buyer:
        return "–"
    hours, contracted = interval_hours(row), row.get("contracted_wh")
    if hours is None or not isinstance(contracted, int):
        return f"{seller}→{buyer}"
    power = f"{contracted / 1000 / hours:.1f}".removesuffix(".0")
    return f"{seller}→{buyer} {power} kW"


def clock_span(row: Mapping[str, Any], *, with_day: bool = True) -> str:
    """Return an interval as ``2026-01-02 02:00–02:15``, or without the day."""
    start, end = row.get("interval_start"), row.get("interval_end")
    if not isinstance(start, str) or not isinstance(end, str):
        return "–"
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    day = f"{first:%Y-%m-%d} " if with_day else ""
    return f"{day}{first:%H:%M}–{last:%H:%M}"


def utc_us(instant: str) -> int:
    """Return an ISO instant as UTC microseconds."""
    return round(datetime.fromisoformat(instant).timestamp() * 1_000_000)


def row_name(row: Mapping[str, Any]) -> str:
    """Return a trade's id, for a refused message the id it speaks of or its own."""
    return str(row.get("id") or row.get("trade_id") or row.get("message_id") or "–")


def shortened(name: str, width_max: int = 18) -> str:
    """Return a long name by its two ends, which tell enough."""
    return name if len(name) <= width_max else f"{name[:8]}…{name[-6:]}"


def value(number: int | None, unit: str) -> str:
    """Return a base-unit integer with the unit people read; a dash where nothing is known."""
    if number is None:
        return "–"
    scale, digits = {
        "kW": (1000, 1), "kvar": (1000, 1), "kVA": (1000, 0), "kWh": (1000, 3), "V": (10, 1)
    }[unit]  # fmt: skip
    text = f"{number / scale:.{digits}f}".replace("-", "−")
    zero = not any(c in "123456789" for c in text)
    return f"{text.lstrip('−') if zero else text} {unit}"


def known(number: int | None, unit: str, *, stale: bool) -> str:
    """Return a value with its unit, with a question mark where it is only the last known."""
    told = value(number, unit)
    return f"? {told}" if stale and number is not None else told


def age(age_ms: int | None) -> str:
    """Return an age in the largest unit that tells it: ms, s, min, h or d."""
    if age_ms is None:
        return "–"
    for size_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if age_ms >= 2 * size_ms or (unit == "s" and age_ms >= 1_000):
            return f"{age_ms // size_ms} {unit}"
    return f"{age_ms} ms"
