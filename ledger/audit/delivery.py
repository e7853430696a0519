"""The published rule for delivered energy, computed from ledger entries alone.

A second implementation of ``docs/entries.md`` on purpose: the gateway settles with code of its
own, and both must reach the same integers. Powers and energies are positive when the converter
injects into its feeder.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from sys import intern
from typing import Any, NamedTuple

ESTIMATED_US = 10_000_000
"""A bracket wider than this makes the figure an estimate."""


class EntryError(Exception):
    """An entry lacks a field or has one of the wrong kind."""


class Counter(NamedTuple):
    """One good reading of one meter."""

    utc_us: int
    import_wh: int
    export_wh: int
    meter: str
    entry_index: int = -1
    """Of the entry it stands in, for whom needs that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalEnergy:
    """One terminal in one interval."""

    terminal: str
    planned_wh: int
    metered_wh: int | None
    judged_wh: int
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeEnergy:
    """One trade in one interval."""

    trade_id: str
    contracted_wh: int
    planned_wh: int
    delivered_wh: int
    status: str
    unmetered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Everything the rule says about one interval."""

    terminals: Mapping[str, TerminalEnergy]
    trades: Mapping[str, TradeEnergy]
    loss_wh: int


def instant_ms(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 instant in UTC."""
    if not text.endswith("Z"):
        raise EntryError(f"instant {text!r} is not UTC")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise EntryError(f"{text!r} is not an instant") from None
    return round(moment.timestamp() * 1000)


def bounds_ms(interval: Mapping[str, Any]) -> tuple[int, int]:
    """Start and end of an interval."""
    start, end = instant_ms(str(interval["start"])), instant_ms(str(interval["end"]))
    if not start < end:
        raise EntryError("an interval ends before it starts")
    return start, end


def counters(entries: Iterable[Mapping[str, Any]]) -> dict[str, list[Counter]]:
    """Readings that count, by terminal, from entries in the ledger's order."""
    found: dict[str, list[Counter]] = {}
    for entry in entries:
        fold(found, entry)
    return found


def fold(readings: dict[str, list[Counter]], entry: Mapping[str, Any], index: int = -1) -> None:
    """Take in one ``reading`` or ``time_step`` entry."""
    if entry.get("kind") == "time_step":
        for series in readings.values():
            strike_after(series, entry["utc_us"])
    else:
        take_in(readings, entry, index)


def take_in(readings: dict[str, list[Counter]], entry: Mapping[str, Any], index: int = -1) -> None:
    """Add the good readings of one ``reading`` entry.

    One stamped no later than one that counts already does not count; where a terminal got
    another meter, those of the one before no longer do.
    """
    for meter in entry["meters"]:
        if meter["quality"] != "good":
            continue
        utc_us, name = int(meter["utc_us"]), intern(meter["meter"])
        series = readings.setdefault(meter["terminal"], [])
        if series and series[-1].meter != name:
            series.clear()
        if not series or utc_us > series[-1].utc_us:
            imported, exported = int(meter["import_wh"]), int(meter["export_wh"])
            series.append(Counter(utc_us, imported, exported, name, index))


def strike_after(series: list[Counter], utc_us: int) -> None:
    """A clock was set back: what was stamped later than now was stamped wrong."""
    while series and series[-1].utc_us > utc_us:
        del series[-1]


def net_mwh(series: Sequence[Counter], boundary_ms: int) -> tuple[int, bool] | None:
    """Export minus import at an instant in mWh, and whether it is estimated; None unbracketed."""
    at = boundary_ms * 1000
    right = bisect_left(series, at, key=lambda counter: counter.utc_us)
    if right == len(series):
        return None
    c1 = series[right]
    if c1.utc_us == at:
        return 1000 * (c1.export_wh - c1.import_wh), False
    if right == 0:
        return None
    c0 = series[right - 1]
    span, part = c1.utc_us - c0.utc_us, at - c0.utc_us
    exported = 1000 * c0.export_wh + 1000 * (c1.export_wh - c0.export_wh) * part // span
    imported = 1000 * c0.import_wh + 1000 * (c1.import_wh - c0.import_wh) * part // span
    return exported - imported, span > ESTIMATED_US


def backwards(series: Sequence[Counter], start_ms: int, end_ms: int) -> bool:
    """Whether a counter fell between the readings that bracket an interval."""
    return any(
        c1.import_wh < c0.import_wh or c1.export_wh < c0.export_wh
        for c0, c1 in pairwise(bracket(series, start_ms, end_ms))
    )


def bracket(series: Sequence[Counter], start_ms: int, end_ms: int) -> Sequence[Counter]:
    """The readings an interval's energy follows from: those in it and those at its boundaries."""
    left = bisect_right(series, start_ms * 1000, key=lambda counter: counter.utc_us) - 1
    right = bisect_left(series, end_ms * 1000, key=lambda counter: counter.utc_us)
    return series[max(0, left) : right + 1]


def metered(series: Sequence[Counter], start_ms: int, end_ms: int) -> tuple[int | None, bool]:
    """Energy over an interval in Wh, and if it is estimated.

    None when a boundary is not bracketed, or a counter was reset or exchanged between them.
    """
    start, end = net_mwh(series, start_ms), net_mwh(series, end_ms)
    if start is None or end is None or backwards(series, start_ms, end_ms):
        return None, False
    return (end[0] - start[0] + 500) // 1000, start[1] or end[1]


def share_out(deviation_wh: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Share a deviation pro rata by largest remainder, ties to the smaller trade id."""
    weighted = {trade: w for trade, w in weights.items() if w}
    total = sum(weighted.values())
    if not total:
        return {}
    units = abs(deviation_wh)
    parts = {trade: units * w // total for trade, w in weighted.items()}
    order = sorted(weighted, key=lambda trade: (-(units * weighted[trade] % total), trade))
    for trade in order[: units - sum(parts.values())]:
        parts[trade] += 1
    return parts if deviation_wh >= 0 else {trade: -part for trade, part in parts.items()}


def settle(
    *,
    config: Mapping[str, Any],
    plan: Mapping[str, Any],
    readings: Mapping[str, Sequence[Counter]],
) -> Settled:
    """Apply the rule to one interval.

    Args:
        config: The ``config`` object in force, with ``master`` and ``terminals``.
        plan: The one ``plan`` entry of the interval.
        readings: Good readings by terminal, in order of time.
    """
    start_ms, end_ms = bounds_ms(plan["interval"])
    master = config["master"]
    trades = list(plan["trades"])
    measured = {
        t["id"]: metered(readings.get(t["id"], ()), start_ms, end_ms) for t in config["terminals"]
    }
    others = {t: wh for t, (wh, _) in measured.items() if t != master}
    others_wh = sum(wh or 0 for wh in others.values())
    terminals = {
        t: TerminalEnergy(
            terminal=t,
            planned_wh=planned_at(t, trades),
            metered_wh=wh,
            judged_wh=-others_wh if t == master else wh or 0,
            estimated=estimated,
        )
        for t, (wh, estimated) in measured.items()
    }
    shares = {
        t.terminal: share_out(
            t.judged_wh - t.planned_wh,
            {x["trade_id"]: x["planned_wh"] for x in trades if t.terminal in ends(x)},
        )
        for t in terminals.values()
    }
    missing = {t for t, wh in others.items() if wh is None}
    unread = missing | ({master} if missing else set())
    ratings = {t["id"]: t["s_va"] for t in config["terminals"]}
    return Settled(
        terminals=terminals,
        trades={
            x["trade_id"]: settle_trade(
                x, shares, ratings, (end_ms - start_ms) // 1000, unmetered=bool(unread & ends(x))
            )
            if ends(x) <= ratings.keys()
            else settle_lost(x)
            for x in trades
        },
        loss_wh=-sum(wh or 0 for wh, _ in measured.values()),
    )


def settle_lost(trade: Mapping[str, Any]) -> TradeEnergy:
    """A trade gets nothing when the configuration no longer has a terminal of it."""
    return TradeEnergy(
        trade_id=trade["trade_id"],
        contracted_wh=trade["contracted_wh"],
        planned_wh=trade["planned_wh"],
        delivered_wh=0,
        status=status_of_nothing(trade["contracted_wh"]),
        unmetered=False,
    )


def status_of_nothing(contracted_wh: int) -> str:
    """Status of a trade that nothing was delivered of, or that no plan ever held."""
    return "failed" if contracted_wh else "cancelled"


def ends(trade: Mapping[str, Any]) -> set[str]:
    """The two terminals of a trade."""
    return {trade["in_terminal"], trade["out_terminal"]}


def planned_at(terminal: str, trades: Iterable[Mapping[str, Any]]) -> int:
    """Signed sum of planned energy at a terminal."""
    total = 0
    for trade in trades:
        total += trade["planned_wh"] * (trade["in_terminal"] == terminal)
        total -= trade["planned_wh"] * (trade["out_terminal"] == terminal)
    return total


def settle_trade(
    trade: Mapping[str, Any],
    shares: Mapping[str, Mapping[str, int]],
    ratings: Mapping[str, int],
    length_s: int,
    *,
    unmetered: bool,
) -> TradeEnergy:
    """What one trade got, and how it is judged."""
    name, planned, contracted = trade["trade_id"], trade["planned_wh"], trade["contracted_wh"]
    at_in = planned + shares[trade["in_terminal"]].get(name, 0)
    at_out = planned - shares[trade["out_terminal"]].get(name, 0)
    delivered = max(0, min(at_in, at_out))
    rating_va = max(ratings[t] for t in ends(trade))
    tolerance = max(contracted * 5 // 1000, 2, rating_va * length_s // 3_600_000)
    if contracted == 0 or delivered == 0:
        status = status_of_nothing(contracted)
    elif contracted - delivered <= tolerance and planned == contracted and not unmetered:
        status = "delivered"
    else:
        status = "partial"
    return TradeEnergy(
        trade_id=name,
        contracted_wh=contracted,
        planned_wh=planned,
        delivered_wh=delivered,
        status=status,
        unmetered=unmetered,
    )
