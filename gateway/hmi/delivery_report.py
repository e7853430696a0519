"""The delivery report: one HTML file for people who want to see what was traded and delivered.

Made from report.json and the ledger's entries alone; inline style and SVG, no script, no outside
reference, and the same bytes from the same input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from gateway.hmi import figures, history, markup, svg
from gateway.hmi.language import Words
from gateway.hmi.markup import Cell, Column, Html

INSTRUCTIONS_MAX = 300  # about a day of quarter hours with tracking; the ledger has the rest
STATUSES = ("delivered", "partial", "failed", "cancelled", "refused")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(
    report: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    truth: Sequence[Mapping[str, Any]] | None = None,
    *,
    language: str = "en",
) -> str:
    """Return the report as one self-contained HTML file.

    Args:
        report: the object of report.json (docs: ``sopgw demo --json``).
        entries: decoded ledger entries in order, each with its ``index``.
        truth: rows of the simulator's trace, ``{"utc_us", "v_dc_dv", "p_w"}``, where there is one.
        language: en, zh, de or es.
    """
    words = Words(language)
    sections = [
        _summary(words, report, entries),
        _trades(words, report, entries),
        _energy(words, report),
        _power(words, report, entries),
        _dc(words, entries, truth),
        _faults(words, report),
        _instructions(words, entries),
        _ledger(words, report, entries),
        _verify(words, report, entries),
    ]
    style = files("gateway.hmi").joinpath("static/style.css").read_text("utf-8")
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(_heading(words, entries))}</title><style>{style}</style></head>"
        f'<body><main><header class="top"><h1>{escape(_heading(words, entries))}</h1>'
        f'<p><span class="banner"><span>{escape(words("report.simulated"))}</span></span></p>'
        f"</header>\n{chr(10).join(sections)}\n"
        f'<p class="quiet">{escape(words("report.made"))}</p></main></body></html>\n'
    )


def _heading(words: Words, entries: Sequence[history.Entry]) -> str:
    config = history.configuration(entries)
    place = " ".join(str(config[k]) for k in ("site", "sop") if config.get(k))
    return f"{words('title.report')} · {place}" if place else words("title.report")


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def _span_text(start_us: float, end_us: float) -> tuple[str, str]:
    return svg.utc_text(start_us), svg.utc_text(end_us)


def _summary(words: Words, report: Mapping[str, Any], entries: Sequence[history.Entry]) -> str:
    trades = report.get("trades", [])
    statuses = Counter(str(t.get("status")) for t in trades)
    counted = {s: statuses.get(s, 0) for s in STATUSES}
    settled = [t for t in trades if t.get("status") != "refused"]
    contracted = sum(int(t.get("contracted_wh") or 0) for t in settled)
    delivered = sum(int(t.get("delivered_wh") or 0) for t in settled)
    ok = bool(report.get("ok"))
    outcome: Cell = (
        f"✓ {words('report.ok')}"
        if ok
        else Html(f'<span class="bad">✕ {escape(words("report.not_ok"))}</span>')
    )
    rows: list[tuple[str, Cell]] = [(words("report.outcome"), outcome)]
    if entries:
        start, end = _span_text(entries[0]["utc_us"], entries[-1]["utc_us"])
        rows.append((words("report.period"), f"{start} – {end} UTC"))
    rows.append((words("report.trades"), words("report.trade_counts", **counted)))
    energy = words(
        "report.energy_of", delivered=figures.kwh(delivered), contracted=figures.kwh(contracted)
    )
    rows.append((words("report.energy"), energy))
    if isinstance(report.get("energy_balance_wh"), int):
        balance = f"{figures.kwh(report['energy_balance_wh'])} kWh"
        rows.append((words("report.balance"), balance))
    if "seed" in report:
        rows.append((words("report.seed"), str(report["seed"])))
    return _section(words("report.summary"), markup.pairs(rows))


def _trades(words: Words, report: Mapping[str, Any], entries: Sequence[history.Entry]) -> str:
    columns = [
        Column(words("trade.id")),
        Column(words("trade.path"), "word"),
        Column(words("trade.interval"), "word"),
        Column(words("trade.contracted"), "number"),
        Column(words("trade.delivered"), "number"),
        Column(words("trade.difference"), "number"),
        Column(words("trade.status"), "word"),
        Column(words("trade.reasons"), "long"),
        Column(words("trade.evidence"), "word"),
    ]
    trades = report.get("trades", [])
    days = {str(t["interval_start"])[:10] for t in trades if t.get("interval_start")}
    rows = [_trade_row(words, row, entries, with_day=len(days) > 1) for row in trades]
    if not rows:
        return _section(words("report.trades"), f"<p>{escape(words('trade.none'))}</p>")
    caption = words("report.trades")
    return _section(caption, markup.table(columns, rows, caption=caption))


def _trade_row(
    words: Words, row: Mapping[str, Any], entries: Sequence[history.Entry], *, with_day: bool
) -> list[Cell]:
    status = str(row.get("status"))
    contracted, delivered = row.get("contracted_wh"), row.get("delivered_wh")
    contracted = contracted or None if status == "refused" else contracted
    told = isinstance(contracted, int) and isinstance(delivered, int) and status != "refused"
    mark = f"{figures.MARKS.get(status, '?')} {words.status(status)}"
    shown: Cell = (
        Html(f'<span class="warn">{escape(mark)}</span>') if status in figures.ABNORMAL else mark
    )
    message = str(row.get("message_id", ""))
    name: Cell = str(row.get("id") or row.get("trade_id") or "–")
    if not row.get("id") and message:
        said = words("trade.message", id=figures.shortened(message))
        place = f"{escape(str(row['trade_id']))}<br>" if row.get("trade_id") else ""
        said = f'<span class="quiet" title="{escape(message)}">{escape(said)}</span>'
        name = Html(place + said)
    found = history.evidence(entries, str(row.get("id")), row.get("interval_start"))
    return [
        name,
        figures.path(row),
        figures.clock_span(row, with_day=with_day),
        figures.kwh(contracted) if isinstance(contracted, int) else "–",
        figures.kwh(int(delivered or 0)) if told else "–",
        figures.difference(int(contracted or 0), int(delivered or 0)) if told else "–",
        shown,
        words.reasons(row.get("reasons")),
        " ".join(f"#{i}" for i in found),
    ]


def _energy(words: Words, report: Mapping[str, Any]) -> str:
    rows = [
        svg.Bar(
            label=f"{figures.shortened(figures.row_name(row))} {figures.path(row)}",
            contracted_kwh=int(row.get("contracted_wh") or 0) / 1000,
            delivered_kwh=int(row.get("delivered_wh") or 0) / 1000,
            mark=f"{figures.MARKS.get(str(row.get('status')), '?')} "
            + figures.difference(
                int(row.get("contracted_wh") or 0), int(row.get("delivered_wh") or 0)
            ),
            abnormal=row.get("status") in figures.ABNORMAL,
        )
        for row in report.get("trades", [])
        if row.get("status") not in {"refused", "cancelled"}
    ]
    title = words("plot.energy")
    plot = svg.bars(
        rows,
        name="energy",
        title=title,
        description=words("plot.energy_says", count=len(rows), short=sum(r.abnormal for r in rows)),
        words=(words("plot.contracted"), words("plot.delivered")),
    )
    return _section(title, markup.scrolling(plot, caption=title))


def _power(words: Words, report: Mapping[str, Any], entries: Sequence[history.Entry]) -> str:
    master = history.configuration(entries).get("master")
    spans = _spans(report)
    window = (int(entries[0]["utc_us"]), int(entries[-1]["utc_us"])) if entries else None
    plots = []
    for number, terminal in enumerate(history.terminals(entries)):
        measured = history.power_measured(entries, terminal)
        values = [v for _, v in measured if v is not None]
        description = words("plot.power_none")
        if values:
            start, end = _span_text(measured[0][0], measured[-1][0])
            low, high = svg.signed(min(values), 1), svg.signed(max(values), 1)
            description = words("plot.power_says", low=low, high=high, start=start, end=end)
        title = words("plot.power_of", terminal=terminal)
        set_label = words("plot.residual" if terminal == master else "plot.set")
        lines = [
            svg.Series(label=words("plot.measured"), points=measured),
            svg.Series(
                label=set_label, points=history.power_set(entries, terminal), look="set", step=True
            ),
        ]
        plot = svg.time_plot(
            lines,
            name=f"power-{number}",
            title=title,
            description=description,
            unit="kW",
            spans=spans,
            window_us=window,
        )
        plots.append(f"<h3>{escape(title)}</h3>{markup.scrolling(plot, caption=title)}")
    body = "".join(plots) or f"<p>{escape(words('plot.power_none'))}</p>"
    return _section(words("report.power"), body)


def _spans(report: Mapping[str, Any]) -> list[svg.Span]:
    """Return the intervals that had a trade, each once."""
    seen = {
        (row["interval_start"], row["interval_end"])
        for row in report.get("trades", [])
        if isinstance(row.get("interval_start"), str) and isinstance(row.get("interval_end"), str)
    }
    return [
        svg.Span(label=start, start_us=figures.utc_us(start), end_us=figures.utc_us(end))
        for start, end in sorted(seen)
    ]


def _dc(
    words: Words,
    entries: Sequence[history.Entry],
    truth: Sequence[Mapping[str, Any]] | None,
) -> str:
    points = history.dc_voltage(entries, truth)
    values = [v for _, v in points if v is not None]
    if not values:
        return _section(words("plot.dc"), f"<p>{escape(words('plot.dc_none'))}</p>")
    start, end = _span_text(points[0][0], points[-1][0])
    description = words(
        "plot.dc_says",
        low=svg.signed(min(values), 1),
        high=svg.signed(max(values), 1),
        start=start,
        end=end,
    )
    plot = svg.time_plot(
        [svg.Series(label=words("plot.measured"), points=points)],
        name="dc",
        title=words("plot.dc"),
        description=description,
        unit="V",
    )
    from_truth = not history.dc_voltage(entries)
    note = f'<p class="quiet">{escape(words("plot.dc_truth"))}</p>' if from_truth else ""
    heading = words("plot.dc")
    return _section(heading, markup.scrolling(plot, caption=heading) + note)


def _faults(words: Words, report: Mapping[str, Any]) -> str:
    faults = report.get("faults") or []
    if not faults:
        return _section(words("report.faults"), f"<p>{escape(words('report.no_faults'))}</p>")
    items = "".join(f"<li>{escape(_fault(words, fault))}</li>" for fault in faults)
    return _section(words("report.faults"), f"<ul>{items}</ul>")


def _fault(words: Words, fault: object) -> str:
    """Return a fault as one line: its time where it has one, then its fields."""
    if not isinstance(fault, Mapping):
        return words.reason(str(fault))
    at, kind = fault.get("utc_us"), fault.get("kind") or fault.get("fault")
    parts = [f"{svg.utc_text(at)} UTC"] if isinstance(at, int) else []
    if kind:
        key = f"fault.{kind}"
        parts.append(words(key) if words.has(key) else words.reason(str(kind)))
    for name, value in fault.items():
        if name.endswith("_s"):
            parts.append(f"{value} s")
        elif name not in {"utc_us", "kind", "fault"}:
            parts.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(parts)


def _instructions(words: Words, entries: Sequence[history.Entry]) -> str:
    lines = history.instructions(entries)
    lead = words("report.instructions_count", count=len(lines))
    if len(lines) > INSTRUCTIONS_MAX:
        lead += " " + words("report.instructions_first", count=INSTRUCTIONS_MAX)
    columns = [
        Column(words("instruction.index"), "number"),
        Column(words("instruction.at"), "word"),
        Column(words("instruction.authority"), "word"),
        Column(words("instruction.setpoints"), "long"),
        Column(words("instruction.outcome"), "word"),
        Column(words("trade.reasons")),
    ]
    rows: list[list[Cell]] = [
        [
            f"#{item.index}",
            svg.utc_text(item.utc_us, "%H:%M:%S"),
            item.authority,
            ", ".join(f"{t} {figures.kw(w)}" for t, w in item.setpoints_w),
            item.outcome,
            words.reasons(item.reasons),
        ]
        for item in lines[:INSTRUCTIONS_MAX]
    ]
    caption = words("report.instructions")
    body = markup.table(columns, rows, caption=caption) if rows else ""
    return _section(caption, f"<details><summary>{escape(lead)}</summary>{body}</details>")


def _ledger(words: Words, report: Mapping[str, Any], entries: Sequence[history.Entry]) -> str:
    ledger = report.get("ledger") or {}
    verified: Cell = (
        f"✓ {words('ledger.verified_yes')}"
        if ledger.get("verified")
        else Html(f'<span class="bad">✕ {escape(words("ledger.verified_no"))}</span>')
    )
    rows: list[tuple[str, Cell]] = [
        (words("ledger.entries"), str(ledger.get("entries", len(entries)))),
        (words("ledger.checkpoint"), str(ledger.get("checkpoint_size", "–"))),
        (words("ledger.verified"), verified),
    ]
    tamper = report.get("tamper")
    if isinstance(tamper, Mapping):
        told = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in tamper.items())
        rows.append((words("ledger.tamper"), told))
    kinds = markup.table(
        [Column(words("ledger.kind"), "word"), Column(words("ledger.entries"), "number")],
        [[kind, str(count)] for kind, count in history.counts(entries)],
        caption=words("ledger.kinds"),
    )
    return _section(
        words("report.ledger"),
        f"{markup.pairs(rows)}<details><summary>{escape(words('ledger.kinds'))}</summary>"
        f"{kinds}</details>",
    )


def _verify(words: Words, report: Mapping[str, Any], entries: Sequence[history.Entry]) -> str:
    ids = [str(t["id"]) for t in report.get("trades", []) if t.get("id")]
    delivered = [str(t["id"]) for t in report.get("trades", []) if t.get("status") == "delivered"]
    receipt = (delivered or ids or ["ID"])[0]
    shown = history.of_kind(entries, "delivery") or list(entries)
    index = shown[0]["index"] if shown else 0
    commands = [
        ("verify.ledger", "sopledger verify ledger --key ledger.vkey"),
        ("verify.receipt", f"sopledger receipt verify receipts/{receipt}.json --key ledger.vkey"),
        ("verify.show", f"sopledger show ledger {index}"),
    ]
    body = "".join(
        f"<p>{escape(words(key))}</p><pre>{escape(command)}</pre>" for key, command in commands
    )
    lead = f"<p>{escape(words('report.verify_lead'))}</p>"
    end = f"<p>{escape(words('verify.exit'))}</p>"
    return _section(words("report.verify"), lead + body + end)
