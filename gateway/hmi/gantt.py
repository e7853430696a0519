"""Trades over the day: outline for the contracted window, fill for the delivered share.

The words stand in the upper half and the fill in the lower, so that they never cross; colour only
where less is delivered than should be by now, beyond the tolerance of settlement.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.hmi import figures
from gateway.hmi.language import Words
from gateway.hmi.state import TradeView
from gateway.hmi.svg import empty_plot, line, open_svg, rect, scale, text, time_ticks, utc_text

ROWS_MAX = 24  # about a screen; the trades page lists all
INTERVALS_MAX = 96  # a day of quarters: more are too narrow to be seen
TOLERANCE_PERMILLE = 5
WIDTH, LEFT, PITCH = 960, 250.0, 36


def due_wh(trade: TradeView, utc_us: int) -> int:
    """Return what should have been delivered by now, of what was planned."""
    span = max(trade.end_us - trade.start_us, 1)
    past = min(max(utc_us - trade.start_us, 0), span)
    target = trade.contracted_wh if trade.planned_wh is None else trade.planned_wh
    return target * past // span


def short(trade: TradeView, utc_us: int) -> bool:
    """Tell whether a running or past trade is behind by more than the tolerance."""
    if trade.status in figures.ABNORMAL:
        return True
    if trade.delivered_wh is None or utc_us < trade.start_us:
        return False
    allowed = max(trade.contracted_wh * TOLERANCE_PERMILLE // 1000, 2)
    span = max(trade.end_us - trade.start_us, 1)
    lag = trade.contracted_wh * 15_000_000 // span  # the meters' poll and the ramp, about 15 s
    return due_wh(trade, utc_us) - trade.delivered_wh > allowed + (
        lag if utc_us < trade.end_us else 0
    )


def shown(trades: Sequence[TradeView], utc_us: int) -> list[list[TradeView]]:
    """Return the trades nearest to now, one row of intervals each: running, next, latest past."""
    near = sorted(trades, key=lambda t: (_away_us(t, utc_us), t.start_us, t.id))
    rows: dict[str, list[TradeView]] = {}
    for trade in near[:INTERVALS_MAX]:
        if trade.id in rows or len(rows) < ROWS_MAX:
            rows.setdefault(trade.id, []).append(trade)
    for row in rows.values():
        row.sort(key=lambda t: t.start_us)
    return sorted(rows.values(), key=lambda row: (row[0].start_us, row[0].id))


def _away_us(trade: TradeView, utc_us: int) -> int:
    return max(trade.start_us - utc_us, utc_us - trade.end_us, 0)


def gantt(trades: Sequence[TradeView], utc_us: int, words: Words) -> str:
    """Draw the trades around now, one row each."""
    rows = shown(trades, utc_us)
    title = words("overview.trades")
    behind = sum(any(short(t, utc_us) for t in row) for row in rows)
    description = words("overview.trades_says", count=len(rows), short=behind)
    if not rows:
        return empty_plot(name="gantt", title=title, description=words("trade.none"), width=WIDTH)
    start = min(min(t.start_us for row in rows for t in row), utc_us)
    end = max(max(t.end_us for row in rows for t in row), utc_us + 1)
    top, bottom = 22.0, 22.0 + PITCH * len(rows)
    x = scale(start, end, LEFT, WIDTH - 14.0)
    out = [
        open_svg(
            width=WIDTH,
            height=int(bottom) + 24,
            title=title,
            description=description,
            name="gantt",
        )
    ]
    instants, pattern = time_ticks(start, end)
    for instant in instants:
        out.append(line(x(instant), top, x(instant), bottom, "grid"))
        if x(instant) < WIDTH - 36:  # a label at the very edge would be cut
            out.append(text(x(instant), top - 6, utc_text(instant, pattern), "tick", "middle"))
    for number, row in enumerate(rows):
        y = top + PITCH * number
        out.append(text(8, y + 20, _label(row, utc_us), "label"))
        for trade in row:
            ends = (x(trade.start_us), x(trade.end_us))
            out += _interval(trade, utc_us, words, x=ends, y=y, alone=len(row) == 1)
    out.append(line(x(utc_us), top - 2, x(utc_us), bottom + 4, "now-line"))
    side = "start" if x(utc_us) < WIDTH - 80 else "end"
    out.append(text(x(utc_us), bottom + 18, words("overview.now"), "label", side))
    return "".join(out) + "</svg>"


def _label(row: Sequence[TradeView], utc_us: int) -> str:
    """Return a trade's mark, name, path and power, of its interval nearest to now."""
    trade = min(row, key=lambda t: (_away_us(t, utc_us), -t.start_us))
    hours = (trade.end_us - trade.start_us) / 3_600_000_000 or 1
    return (
        f"{figures.MARKS.get(trade.status, '')} {figures.shortened(trade.id)} "
        f"{trade.out_terminal}→{trade.in_terminal} {trade.contracted_wh / 1000 / hours:.0f} kW"
    )


def _interval(
    trade: TradeView, utc_us: int, words: Words, *, x: tuple[float, float], y: float, alone: bool
) -> list[str]:
    """Draw one interval; its energy in words where there is room: in it, or beside it if alone."""
    left, right = x
    share = 0.0
    if trade.delivered_wh is not None and trade.contracted_wh:
        share = min(trade.delivered_wh / trade.contracted_wh, 1.0)
    css = "delivered abnormal" if short(trade, utc_us) else "delivered"
    said = words(
        "report.energy_of",
        delivered=f"{(trade.delivered_wh or 0) / 1000:.1f}",
        contracted=f"{trade.contracted_wh / 1000:.1f}",
    )
    roomy = right - left > 140
    told = text(left + 6, y + 14, said, "tick") if roomy else text(right + 6, y + 14, said, "tick")
    if not roomy and right > WIDTH - 150:
        told = text(left - 6, y + 14, said, "tick", "end")
    out = [
        rect(left, y + 2, right - left, 28, "contracted"),
        rect(left, y + 18, (right - left) * share, 12, css),
    ]
    if roomy or alone:
        out.append(told)
    if trade.start_us < utc_us < trade.end_us and trade.contracted_wh:
        at = left + (right - left) * min(due_wh(trade, utc_us) / trade.contracted_wh, 1.0)
        out.append(line(at, y + 16, at, y + 32, "due"))
    return out
