"""The terminal view as lines of text: one-line diagram, curve, PQ circle, trades, alarms, ledger.

Pure functions of the status a gateway tells, each filling exactly the width it is given; the live
view puts them into boxes. No colour here: shape, number and word say everything.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Any

from gateway.hmi.braille import Canvas, plot
from gateway.hmi.svg import Point
from gateway.model.units import signed_kw_text

Fields = Mapping[str, Any]
BAR_WIDTH = 10
WIDE = 100  # columns from which on there is room for more
CIRCLE_PARTS = 180
GLYPHS = {1: "■", 2: "▼", 3: "▲", 4: "●"}
NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heights:
    """Rows of each box, its two border rows included; 0 leaves it out."""

    diagram_height: int
    plot_height: int
    trades_height: int
    alarms_height: int


def heights(*, rows_count: int, terminals_count: int) -> Heights:
    """Share a screen out: the diagram and the alarms always, the curve where there is room."""
    diagram = terminals_count + 2
    left = rows_count - 3 - diagram  # header, ledger line, footer
    alarms = 4 if left < 16 else 6
    trades = 5 if left < 20 else 7
    curve = left - alarms - trades
    if curve < 6:
        return Heights(
            diagram_height=diagram,
            plot_height=0,
            trades_height=max(3, left - alarms),
            alarms_height=alarms,
        )
    return Heights(
        diagram_height=diagram,
        plot_height=curve,
        trades_height=trades,
        alarms_height=alarms,
    )


def fitted(text: str, width: int) -> str:
    """Cut or fill a line to a width; a cut shows."""
    return text.ljust(width) if len(text) <= width else text[: max(0, width - 1)] + "…"


def header(status: Fields, width: int) -> str:
    """Return the first line: who, mode, state, time, freshness, ledger, alarms."""
    age_ms = status["station_age_ms"]
    fresh = "no telemetry" if age_ms is None else f"read {age_ms / 1000:.1f} s ago"
    parts = [
        f" {status['sop']}",
        f"mode {status['mode']}",
        status["state"] if status["armed"] else f"{status['state']} NOT ARMED",
        *(["▨ SIM"] if status["simulated"] else []),
        alarm_counts(status["alarm_rows"]),
        f"{_time(status['utc_ms'] * 1000, '%H:%M:%S')}Z {status['time_quality']}",
        fresh,
    ]
    return fitted(" │ ".join(parts), width)


def diagram(status: Fields, width: int) -> list[str]:
    """Return one line a terminal: feeder, converter, direction of power, the common DC bus."""
    rows = status["terminals"]
    if not rows:
        return [fitted("the station has not answered yet", width)]
    name_width = min(10, max(len(t["domain"]) for t in rows))
    lines = []
    for number, terminal in enumerate(rows):
        bus = "╗" if number == 0 else "╝" if number == len(rows) - 1 else "╣"
        wanted = "residual" if terminal["master"] else signed_kw_text(terminal["p_w_set"])
        p_w = terminal["p_w"]
        volts = f" {terminal['v_dv'] / 10:5.1f} V" if width >= WIDE else ""
        lines.append(
            f"{fitted(terminal['domain'], name_width)} ┃─{fitted(terminal['id'], 3)}─┤AC╱DC├"
            f"═{arrow(p_w)}═{bus} set {wanted:>9}  is {signed_kw_text(p_w):>9} "
            f"{_signed(terminal['q_var'])} kvar{volts}  {terminal['state'].lower()}"
        )
    return [fitted(line, width) for line in lines]


def bus_line(status: Fields) -> str:
    """Return what is known of the DC bus and the sign of life, for the diagram's title."""
    if status["v_dc_dv"] is None:
        return "DC –"
    watchdog = status["heartbeat_ds"]
    parts = [f"DC {status['v_dc_dv'] / 10:.1f} V", f"losses {status['loss_w'] / 1000:.1f} kW"]
    if watchdog is not None:
        parts.append(f"watchdog {watchdog / 10:.1f} s")
    return "  ".join(parts)


def arrow(p_w: int) -> str:
    """Return the direction of power: towards the feeder at the left, or away from it."""
    if abs(p_w) < 500:
        return "═"
    return "◀" if p_w > 0 else "▶"


def curve(
    measured: Sequence[Point],
    wanted: Sequence[Point],
    *,
    width: int,
    height: int,
    plain: bool = False,
) -> list[str]:
    """Return measured power as a line and the set value as dots, in kW."""
    text = plot(
        measured, dotted=wanted, width=width, height=max(2, height - 2), unit="kW", ascii_only=plain
    )
    lines = text.split("\n") if text else ["", "  nothing to draw yet"]
    return [fitted(line, width) for line in lines[:height]] + [" " * width] * (height - len(lines))


def circle(terminal: Fields, *, width: int, height: int) -> list[str]:
    """Return the PQ plane of a terminal: its rating's circle cut at the limits, and where it is.

    P to the right injects into the feeder, Q upwards. ``●`` is now, ``◇`` the setpoint.
    """
    rows = max(3, height)
    columns = min(width, 2 * rows)
    canvas = Canvas(width=columns, height=rows)
    centre_x, centre_y = (2 * columns - 1) / 2, (4 * rows - 1) / 2
    radius = min(centre_x, centre_y)
    s_va = max(1, terminal["s_va"])
    right, left = terminal["p_w_max"] / s_va, terminal["p_w_min"] / s_va
    for k in range(CIRCLE_PARTS):
        angle = 2 * pi * k / CIRCLE_PARTS
        p = min(right, max(left, cos(angle)))
        canvas.dot(round(centre_x + radius * p), round(centre_y - radius * sin(angle)))
    lines = [list(row) for row in canvas.rows()]
    for sign, p_w, q_var in (
        ("◇", terminal["p_w_set"], 0),
        ("●", terminal["p_w"], terminal["q_var"]),
    ):
        x = round((centre_x + radius * p_w / s_va - 0.5) / 2)
        y = round((centre_y - radius * q_var / s_va - 1.5) / 4)
        lines[min(max(y, 0), rows - 1)][min(max(x, 0), columns - 1)] = sign
    pad = " " * ((width - columns) // 2)
    return [fitted(pad + "".join(line), width) for line in lines]


def loading(terminal: Fields) -> str:
    """Return how much of a terminal's rating is used, for the circle's title."""
    s_va = (terminal["p_w"] ** 2 + terminal["q_var"] ** 2) ** 0.5
    return (
        f"PQ {terminal['id']} {100 * s_va / max(1, terminal['s_va']):.0f} % of "
        f"{terminal['s_va'] / 1000:.0f} kVA"
    )


def trades(rows: Sequence[Fields], now_us: int, *, width: int, count: int) -> list[str]:
    """Return a table of trades: running first, then the next, then the last ones."""
    if not rows:
        return [fitted("no trade around now", width)]
    wide = width >= WIDE
    head = ["trade", "path", "window UTC", "contracted", "delivered", "diff"]
    head += ["progress", "status"] if wide else ["status"]
    widths = [12, 7, 11, 10, 10, 7] + ([BAR_WIDTH + 5] if wide else [])
    lines = [_columns(head, widths, width)]
    for row in shown_trades(rows, now_us)[: max(1, count - 1)]:
        cells = [
            row["id"],
            f"{row['out_terminal']}→{row['in_terminal']}",
            f"{_time(row['start_us'], '%H:%M')}–{_time(row['end_us'], '%H:%M')}",
            _kwh(row["contracted_wh"]),
            _kwh(row["delivered_wh"]),
            _difference(row),
        ]
        if wide:
            cells.append(progress(row))
        why = f" {row['reasons'][0].partition(':')[0]}" if row["reasons"] else ""
        lines.append(_columns([*cells, row["status"] + why], widths, width))
    return lines


def shown_trades(rows: Sequence[Fields], now_us: int) -> list[Fields]:
    """Order trades by what matters: running, coming, then those that ended last."""
    running = [r for r in rows if r["start_us"] <= now_us < r["end_us"]]
    coming = sorted((r for r in rows if r["start_us"] > now_us), key=lambda r: r["start_us"])
    ended = sorted((r for r in rows if r["end_us"] <= now_us), key=lambda r: -r["end_us"])
    return [*running, *ended[:2], *coming, *ended[2:]]


def progress(row: Fields) -> str:
    """Return a bar of delivered against contracted energy, with the percentage."""
    if row["delivered_wh"] is None or not row["contracted_wh"]:
        return "░" * BAR_WIDTH
    share = max(0.0, min(1.0, row["delivered_wh"] / row["contracted_wh"]))
    full = round(share * BAR_WIDTH)
    return f"{'█' * full}{'░' * (BAR_WIDTH - full)}{100 * share:4.0f}%"


def alarms(rows: Sequence[Fields], *, width: int, count: int, cursor: int = -1) -> list[str]:
    """Return the alarms that are not shelved, each with what to do; ``cursor`` marks one."""
    seen = listed(rows)
    if not seen:
        return [fitted("no alarm stands", width)]
    lines = []
    for number, row in enumerate(seen[:count]):
        lines.append(fitted(("▸" if number == cursor else " ") + alarm_line(row), width))
        if row["active"] and len(lines) < count and len(seen) * 2 <= count:
            lines.append(fitted(f"      do: {row['response']}", width))
    left = len(seen) - count
    if left > 0:
        lines[-1] = fitted(f" … {left + 1} more: key 4", width)
    return lines


def listed(rows: Sequence[Fields]) -> list[Fields]:
    """Return the alarms to be seen now: not those shelved, not those cleared and acknowledged."""
    return [
        r for r in rows if r["shelved_until_us"] is None and (r["active"] or not r["acknowledged"])
    ]


def alarm_line(row: Fields) -> str:
    """Write one alarm: shape and number of its priority, since when, what, its standing."""
    level = row["priority_level"]
    detail = f" ({row['detail']})" if row["detail"] else ""
    gone = "" if row["active"] else " cleared"
    mark = "" if row["acknowledged"] else " !"
    since = _time(row["since_us"], "%H:%M:%S")
    glyph = GLYPHS.get(level, "▲")
    return f"{glyph}{level}{mark} {since} {row['code']} {row['what']}{detail}{gone}"


def alarm_counts(rows: Sequence[Fields]) -> str:
    """Count the active alarms by urgency."""
    loud = [r for r in rows if r["active"] and r["shelved_until_us"] is None]
    high, medium, low = (sum(r["priority_level"] == n for r in loud) for n in (1, 2, 3))
    return f"alarms H{high} M{medium} L{low}"


def ledger_line(status: Fields, width: int) -> str:
    """Return the ledger, the market's link and who holds control, in one line."""
    ledger, control = status["ledger"], status["control"]
    anchored = "anchored" if ledger["anchored"] else "NOT ANCHORED"
    broker = "online" if status["broker_online"] else "OFFLINE"
    held = "trades" if control["holder"] == "trades" else control["holder"]
    if control["until_ms"] is not None:
        held += f" until {_time(control['until_ms'] * 1000, '%H:%M:%S')}"
    return fitted(
        f" control: {held} │ ledger {ledger['entries']} entries, {anchored} │ market {broker}, "
        f"{status['scheduled_intervals']} intervals",
        width,
    )


def entry_lines(entries: Sequence[Fields], *, width: int) -> list[str]:
    """Return the newest entries of the ledger, one a line."""
    return [
        fitted(
            f"#{e['index']:<8} {_time(e['utc_us'], '%H:%M:%S')}  {e['kind']:<15} {e['what']}", width
        )
        for e in entries
    ] or [fitted("no entry yet", width)]


def _columns(cells: Sequence[str], widths: Sequence[int], width: int) -> str:
    fixed = [fitted(c, w) for c, w in zip(cells, widths, strict=False)]
    return fitted(" ".join([*fixed, *cells[len(widths) :]]), width)


def _difference(row: Fields) -> str:
    delivered_wh, contracted_wh = row["delivered_wh"], row["contracted_wh"]
    over = row["status"] not in ("planned", "running")
    if delivered_wh is None or not contracted_wh or not over:
        return NOTHING
    return f"{100 * (delivered_wh - contracted_wh) / contracted_wh:+.1f} %"


def _kwh(energy_wh: int | None) -> str:
    return NOTHING if energy_wh is None else f"{energy_wh / 1000:.2f} kWh"


def _signed(q_var: int) -> str:
    text = f"{q_var / 1000:+.1f}"
    return f"{'0.0' if float(text) == 0 else text:>6}"


def _time(utc_us: int, pattern: str) -> str:
    return dt.datetime.fromtimestamp(utc_us / 1e6, tz=dt.UTC).strftime(pattern)
