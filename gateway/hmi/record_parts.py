"""The parts of the page that read the ledger: one trade's story, the latest entries, a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any
from urllib.parse import quote

from gateway.hmi import figures, history, markup, svg
from gateway.hmi.gantt import TOLERANCE_PERMILLE
from gateway.hmi.language import Words
from gateway.hmi.live_parts import Part
from gateway.hmi.markup import Cell, Column, Html
from gateway.hmi.state import TradeView

ENTRIES_SHOWN_MAX = 100
TELLING = ("trade_id", "instr_id", "authority", "outcome", "mode", "state", "code", "verb", "cause")
SAID = (
    "need", "unreadable", "bad_key", "signature", "proofs", "figures", "recomputed", "trade",
    "trade_unknown", "not_checked", "good", "failed",
)  # fmt: skip


def trade(
    trades: Sequence[TradeView],
    entries: Sequence[Mapping[str, Any]],
    trade_id: str,
    words: Words,
) -> list[Part]:
    """Return one trade's story: its rows, power set and measured at both ends, its entries."""
    rows = [t for t in trades if t.id == trade_id]
    back = f'<p><a href="/{words.language}/trades">{escape(words("trade.back"))}</a></p>'
    heading = words("trade.one", id=trade_id)
    if not rows and not entries:
        told = f"<p>{escape(words('trade.unknown'))}</p>{back}"
        return [Part(name="trade", heading=heading, html=told)]
    parts = [Part(name="trade", heading=heading, html=_facts(rows, words) + back)]
    if not entries:
        told = f"<p>{escape(words('trade.no_records'))}</p>"
        return [*parts, Part(name="power", heading=words("report.power"), html=told)]
    ends = dict.fromkeys(t for row in rows for t in (row.out_terminal, row.in_terminal))
    for entry in entries:
        if entry.get("kind") == "trade.accepted" and entry.get("trade_id") == trade_id:
            ends.update(dict.fromkeys((str(entry["out_terminal"]), str(entry["in_terminal"]))))
    for number, terminal in enumerate(ends):
        parts.append(_power(entries, terminal, f"power-{number}", rows, words))
        parts += _energies(entries, terminal, f"energy-{number}", words)
    parts.append(_entries(entries, "story", words("trade.evidence"), words))
    return parts


def _facts(rows: Sequence[TradeView], words: Words) -> str:
    blocks = []
    for row in rows:
        mark = f"{figures.MARKS.get(row.status, '?')} {words.status(row.status)}"
        delivered = "–" if row.delivered_wh is None else figures.kwh(row.delivered_wh)
        receipt: Cell = (
            Html(
                f'<a href="/receipts/{quote(row.id, safe="")}.json" download>'
                f"{escape(words('trade.download'))}</a>"
            )
            if row.receipt
            else "–"
        )
        start, end = svg.utc_text(row.start_us, "%Y-%m-%d %H:%M"), svg.utc_text(row.end_us, "%H:%M")
        facts: list[tuple[str, Cell]] = [
            (words("trade.path"), f"{row.out_terminal}→{row.in_terminal}"),
            (words("trade.interval"), f"{start}–{end}"),
            (words("trade.contracted"), figures.kwh(row.contracted_wh)),
            (
                words("trade.planned"),
                "–" if row.planned_wh is None else figures.kwh(row.planned_wh),
            ),
            (words("trade.delivered"), delivered),
            (
                words("trade.difference"),
                "–"
                if row.delivered_wh is None
                else figures.difference(row.contracted_wh, row.delivered_wh),
            ),
            (words("trade.status"), mark),
            (words("trade.reasons"), words.reasons(row.reasons) or "–"),
            (words("trade.receipt"), receipt),
        ]
        blocks.append(markup.pairs(facts))
    return "<hr>".join(blocks)


def _power(
    entries: Sequence[Mapping[str, Any]],
    terminal: str,
    name: str,
    rows: Sequence[TradeView],
    words: Words,
) -> Part:
    measured = history.power_measured(entries, terminal)
    values = [v for _, v in measured if v is not None]
    said = words("plot.power_none")
    if values:
        said = words(
            "plot.power_says",
            low=svg.signed(min(values), 1),
            high=svg.signed(max(values), 1),
            start=svg.utc_text(measured[0][0], "%H:%M:%S"),
            end=svg.utc_text(measured[-1][0], "%H:%M:%S"),
        )
    heading = words("plot.power_of", terminal=terminal)
    lines = [
        svg.Series(label=words("plot.measured"), points=measured),
        svg.Series(
            label=words("plot.set"),
            points=history.power_set(entries, terminal),
            look="set",
            step=True,
        ),
    ]
    spans = [svg.Span(label=r.id, start_us=r.start_us, end_us=r.end_us) for r in rows]
    drawn = svg.time_plot(lines, name=name, title=heading, description=said, unit="kW", spans=spans)
    return Part(name=name, heading=heading, html=markup.scrolling(drawn, caption=heading))


def _energies(
    entries: Sequence[Mapping[str, Any]], terminal: str, name: str, words: Words
) -> list[Part]:
    """Return how far metered energy was from even delivery, an interval each, and the band."""
    parts = []
    for number, (start, end, planned_wh) in enumerate(history.planned_energy(entries, terminal)):
        start_us, end_us = figures.utc_us(start), figures.utc_us(end)
        measured = history.energy(entries, terminal, start_us=start_us, end_us=end_us)
        values = [v for _, v in measured if v is not None]
        if not values:
            continue
        planned_kwh = planned_wh / 1000
        band_kwh = max(abs(planned_wh) * TOLERANCE_PERMILLE // 1000, 2) / 1000
        ahead = [
            (at, None if v is None else v - planned_kwh * (at - start_us) / (end_us - start_us))
            for at, v in measured
        ]
        lines = [svg.Series(label=words("plot.ahead"), points=ahead)]
        for edge in (-band_kwh, band_kwh):
            points = [(start_us, edge), (end_us, edge)]
            lines.append(svg.Series(label=words("plot.tolerance"), points=points, look="limit"))
        heading = words("plot.energy_of", terminal=terminal, start=start[11:16], end=end[11:16])
        said = words(
            "plot.energy_of_says",
            measured=svg.signed(values[-1], 3),
            planned=svg.signed(planned_kwh, 3),
        )
        place = f"{name}-{number}"
        plot = svg.time_plot(lines, name=place, title=heading, description=said, unit="kWh")
        html = f"<p>{escape(said)}</p>{markup.scrolling(plot, caption=heading)}"
        parts.append(Part(name=place, heading=heading, html=html))
    return parts


def _entries(entries: Sequence[Mapping[str, Any]], name: str, heading: str, words: Words) -> Part:
    columns = [
        Column(words("instruction.index"), "number"),
        Column("UTC", "word"),
        Column(words("ledger.kind"), "word"),
        Column(words("ledger.what"), "long"),
    ]
    if name == "story":  # readings would bury the rest; the plot shows them
        entries = [e for e in entries if e.get("kind") != "reading"]
    rows: list[list[Cell]] = []
    for kind, run in groupby(entries, key=lambda e: str(e.get("kind", "?"))):
        same = list(run)
        # One after the other they would bury the rest: the first of them stands for all.
        told = same[:1] if kind == "reading" else same
        more = f" ×{len(same)}" if len(same) > len(told) else ""
        rows += [
            [
                f"#{entry.get('index', '–')}",
                svg.utc_text(entry["utc_us"]),
                kind + more,
                what(entry, words),
            ]
            for entry in told
        ]
    rows = rows[:ENTRIES_SHOWN_MAX]
    html = (
        markup.table(columns, rows, caption=heading, cards=True)
        if rows
        else f"<p>{escape(words('ledger.none'))}</p>"
    )
    return Part(name=name, heading=heading, html=html)


def what(entry: Mapping[str, Any], words: Words) -> str:
    """Return an entry's telling fields in one line."""
    if entry.get("kind") == "alarm" and words.has(key := f"alarm.{entry.get('code')}"):
        state = "" if entry.get("active") else f": {words('alarm.cleared')}"
        detail = f" ({entry['detail']})" if entry.get("detail") else ""
        return f"{entry['code']} {words(key)}{detail}{state}"
    told = [
        f"{key.replace('_', ' ')} {entry[key]}" for key in TELLING if entry.get(key) is not None
    ]
    if isinstance(entry.get("interval"), Mapping):
        told.append(f"{entry['interval'].get('start')}–{entry['interval'].get('end')}")
    if entry.get("kind") in {"boot", "config"}:
        told += [str(entry[key])[:12] for key in ("version", "sha256") if entry.get(key)]
    if isinstance(entry.get("trades"), Sequence):
        told += [
            f"{t.get('trade_id', '–')} {words.status(str(t.get('status', '')))}".strip()
            for t in entry["trades"]
        ]
    if isinstance(entry.get("setpoints"), Mapping):
        told += [f"{k} {figures.kw(p_w)} kW" for k, p_w in entry["setpoints"].items()]
    if isinstance(entry.get("setpoints"), Sequence):
        told += [f"{s['terminal']} {figures.kw(s['p_w'])} kW" for s in entry["setpoints"]]
    if isinstance(entry.get("meters"), Sequence):
        told += [f"{m['terminal']} {figures.kw(m['p_w'])} kW" for m in entry["meters"]]
    if entry.get("reasons"):
        told.append(words.reasons(entry["reasons"]))
    return ", ".join(told)


def latest(entries: Sequence[Mapping[str, Any]], words: Words) -> Part:
    """Return the newest entries, newest first."""
    return _entries(list(reversed(entries)), "latest", words("ledger.latest"), words)


def check(words: Words) -> Part:
    """Return the form that checks a receipt inside the browser."""
    said = " ".join(
        f'data-{key.replace("_", "-")}="{escape(words(f"check.{key}"))}"' for key in SAID
    )
    html = (
        f"<p>{escape(words('check.lead'))}</p>"
        f'<div class="form"><label>{escape(words("check.file"))} '
        '<input type="file" id="receipt" accept=".json,application/json"></label>'
        f"<label>{escape(words('check.key'))} "
        '<input type="text" id="vkey" autocomplete="off" spellcheck="false"></label>'
        f'<button type="button" id="check">{escape(words("check.run"))}</button></div>'
        f'<div id="verdict" role="status" {said}></div>'
    )
    return Part(name="check", heading=words("check.title"), html=html)
