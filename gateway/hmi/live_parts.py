"""The parts of the page that follow the site: each is a name, a heading and its HTML.

A part is made from one view and the trend alone, so that every reader of the same tick gets the
same bytes and only parts that changed travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from gateway.hmi import figures, markup, svg
from gateway.hmi.diagrams import capability, one_line
from gateway.hmi.gantt import gantt, short
from gateway.hmi.language import Words
from gateway.hmi.markup import Cell, Column, Html
from gateway.hmi.state import (
    POLL_BOUNDS_MS,
    AlarmView,
    DeviceView,
    SiteView,
    TradeView,
    poll_quantile,
)
from gateway.hmi.trend import Trend

DAY_US = 86_400_000_000
STEP_MARKS = {"passed": "✓", "failed": "✕", "open": "!", "next": "▶", "waiting": "·"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One panel of a page."""

    name: str
    heading: str
    html: str
    wide: bool = True
    live: str = ""  # aria-live politeness, empty when changes are not announced


def overview(view: SiteView, trend: Trend, words: Words) -> list[Part]:
    """Return the overview: one-line, figures, capability, trades, DC trend, alarms, ledger."""
    stale = view.station_stale
    circles = "".join(capability(t, words, stale=stale) for t in view.terminals)
    return [
        Part(
            name="one-line",
            heading=words("overview.one_line"),
            html=markup.scrolling(one_line(view, words), caption=words("overview.one_line")),
        ),
        Part(
            name="capability",
            heading=words("overview.capabilities"),
            html=f'<div class="circles">{circles}</div>',
            wide=False,
        ),
        trades_now(view, words),
        *feeder(view, words),
        Part(name="dc", heading=words("plot.dc"), html=_dc(view, trend, words), wide=False),
        alarms(view, words, heading=words("nav.alarms")),
        Part(
            name="ledger",
            heading=words("report.ledger"),
            html=ledger_facts(view, words),
            wide=False,
        ),
        Part(name="values", heading=words("overview.values"), html=_values(view, words)),
    ]


def trades_now(view: SiteView, words: Words) -> Part:
    """Return the chart of the trades around now."""
    heading = words("overview.trades")
    drawn = gantt(view.trades, view.utc_us, words)
    return Part(
        name="gantt",
        heading=heading,
        html=markup.scrolling(drawn, caption=heading),
    )


def feeder(view: SiteView, words: Words) -> list[Part]:
    """Return what the network operator allows now; nothing where he never said anything."""
    if not view.feeder:
        return []
    keys = ("region", "terminals", "least", "most", "cause", "valid")
    columns = [
        Column(words(f"feeder.{k}"), "number" if k in {"least", "most"} else "word") for k in keys
    ]
    rows: list[list[Cell]] = []
    for limit in view.feeder:
        ends = svg.utc_text(limit.end_us, "%m-%d %H:%M")
        valid: Cell = f"{svg.utc_text(limit.start_us, '%m-%d %H:%M')}–{ends}"
        if view.utc_us >= limit.end_us:
            told = escape(f"! {valid} {words('feeder.over')}")
            valid = Html(f'<span class="warn">{told}</span>')
        rows.append(
            [
                limit.domain,
                ", ".join(limit.terminals) or "–",
                f"{figures.kw(limit.p_w_min)} kW",
                f"{figures.kw(limit.p_w_max)} kW",
                limit.cause.replace("_", " "),
                valid,
            ]
        )
    heading = words("feeder.heading")
    return [Part(name="feeder", heading=heading, html=markup.table(columns, rows, caption=heading))]


def _dc(view: SiteView, trend: Trend, words: Words) -> str:
    points = trend.dc_voltage()
    values = [v for _, v in points if v is not None]
    if len(values) < 2:
        now = figures.known(view.v_dc_dv, "V", stale=view.station_stale)
        return f"<p>{escape(words('value.dc'))}: {now}</p>"
    start, end = points[0][0], points[-1][0]
    limits = [
        svg.Series(label=words("plot.limit"), points=[(start, v / 10), (end, v / 10)], look="limit")
        for v in (view.v_dc_dv_min, view.v_dc_dv_max)
        if v is not None
    ]
    return svg.time_plot(
        [svg.Series(label=words("plot.measured"), points=points), *limits],
        name="dc-plot",
        title=words("plot.dc"),
        description=words(
            "plot.dc_says",
            low=svg.signed(min(values), 1),
            high=svg.signed(max(values), 1),
            start=svg.utc_text(start, "%H:%M:%S"),
            end=svg.utc_text(end, "%H:%M:%S"),
        ),
        unit="V",
        width=400,
        height=200,
    )


def _values(view: SiteView, words: Words) -> str:
    columns = [
        Column(words("value.terminal")),
        *(Column(words(f"value.{k}"), "word") for k in ("region", "state")),
        *(Column(words(f"value.{k}"), "number") for k in ("set", "converter", "meter")),
        *(Column(words(f"value.{k}"), "number") for k in ("q", "v", "available")),
        Column(words("value.faults")),
    ]
    silent, station = set(view.stale), view.station_stale
    rows: list[list[Cell]] = [
        [
            t.id + (f" ({words('value.master')})" if t.master else ""),
            t.domain,
            t.state,
            _known(t.set_p_w, "kW", stale=station),
            _known(t.p_w, "kW", stale=station),
            _known(t.meter_p_w, "kW", stale=t.meter in silent),
            _known(t.q_var, "kvar", stale=station),
            _known(t.v_dv, "V", stale=station),
            _known(t.s_va_available, "kVA", stale=station),
            ", ".join((*t.faults, *t.limits)).replace("_", " ") or "–",
        ]
        for t in view.terminals
    ]
    return markup.table(columns, rows, caption=words("overview.values"), cards=True)


def _known(number: int | None, unit: str, *, stale: bool) -> Cell:
    told = figures.known(number, unit, stale=stale)
    return Html(f'<span class="stale">{told}</span>') if told.startswith("?") else told


def alarms(view: SiteView, words: Words, *, heading: str) -> Part:
    """Return the alarms, highest priority first, each with what to do."""
    shelved = {a.code for a in view.alarms if a.shelved_until_us is not None}
    rows = sorted(
        view.alarms,
        key=lambda a: (a.code in shelved, a.priority_level, not a.active, -a.since_us, a.code),
    )
    if not rows:
        html = f"<p>{escape(words('alarm.none'))}</p>"
    else:
        columns = [
            Column(words("alarm.priority")),
            Column(words("alarm.since"), "word"),
            Column(words("alarm.what"), "long"),
            Column(words("alarm.do"), "long"),
            Column(words("alarm.state"), "word"),
        ]
        html = _urgent(rows, words)
        html += markup.table(
            columns, [_alarm(a, view.utc_us, words) for a in rows], caption=heading, cards=True
        )
    return Part(name="alarms", heading=heading, html=html, live="polite")


def _urgent(alarms: Sequence[AlarmView], words: Words) -> str:
    """Return the words of unacknowledged high alarms, spoken at once where pages are read out."""
    told = [
        escape(words(f"alarm.{a.code}") if words.has(f"alarm.{a.code}") else a.code)
        for a in alarms
        if a.priority_level == 1 and a.stands and not a.acknowledged
    ]
    return f'<p role="alert" class="bad">{"; ".join(told)}</p>' if told else ""


def _alarm(alarm: AlarmView, utc_us: int, words: Words) -> list[Cell]:
    level = min(max(alarm.priority_level, 1), 4)
    known = words.has(f"alarm.{alarm.code}")
    what = words(f"alarm.{alarm.code}") if known else alarm.what or words.reason(alarm.code)
    about, _, last = alarm.detail.rpartition(": ")
    told = f"{about}: {words.reason(last)}" if words.has(f"reason.{last}") else alarm.detail
    detail = f" ({told})" if told else ""
    standing = "acknowledged" if alarm.acknowledged else "unacknowledged"
    state = words("alarm.cleared") if not alarm.active else words(f"alarm.{standing}")
    fresh = " gone" if not alarm.stands else "" if alarm.acknowledged else " fresh"
    if alarm.shelved_until_us is not None:
        state = words("alarm.shelved", time=svg.utc_text(alarm.shelved_until_us, "%H:%M"))
    said = escape(words(f"level.{level}"))
    today = alarm.since_us // DAY_US == utc_us // DAY_US
    return [
        Html(
            f'<span class="priority p{level}{fresh}" role="img" aria-label="{said}">{level}</span>'
        ),
        svg.utc_text(alarm.since_us, "%H:%M:%S" if today else "%m-%d %H:%M"),
        f"{alarm.code} {what}{detail}",
        words(f"alarm.{alarm.code}.do") if known else alarm.response or "–",
        state,
    ]


def ledger_facts(view: SiteView, words: Words) -> str:
    """Return size, checkpoint, root and checks of the ledger."""
    ledger = view.ledger
    at = (
        f" · {svg.utc_text(ledger.checkpoint_us, '%H:%M:%S')} UTC"
        if ledger.checkpoint_us is not None
        else ""
    )
    checked: Cell = words("ledger.never")
    if ledger.checked_us is not None:
        when = svg.utc_text(ledger.checked_us)
        good = ledger.checked_ok is True
        told = f"{words('ledger.verified_yes' if good else 'ledger.verified_no')}, {when} UTC"
        checked = f"✓ {told}" if good else Html(f'<span class="bad">✕ {escape(told)}</span>')
    bare = Html(f'<span class="bad">✕ {escape(words("ledger.not_anchored"))}</span>')
    rows: list[tuple[str, Cell]] = [
        (words("ledger.origin"), ledger.origin or "–"),
        (words("ledger.entries"), str(ledger.size)),
        (words("ledger.checkpoint"), f"{ledger.checkpoint_size}{at}"),
        (words("ledger.root"), ledger.root or "–"),
        (words("ledger.anchored"), words("word.yes") if ledger.anchored else bare),
        (words("ledger.checked"), checked),
    ]
    return markup.pairs(rows)


def trades_table(view: SiteView, words: Words) -> Part:
    """Return today's trades as a table with links to each and to its receipt."""
    columns = [
        Column(words("trade.id"), "word"),
        Column(words("trade.path"), "word"),
        Column(words("trade.interval"), "word"),
        Column(words("trade.contracted"), "number"),
        Column(words("trade.planned"), "number"),
        Column(words("trade.delivered"), "number"),
        Column(words("trade.difference"), "number"),
        Column(words("trade.status"), "word"),
        Column(words("trade.reasons"), "long"),
        Column(words("trade.receipt"), "word"),
    ]
    ordered = sorted(view.trades, key=lambda t: (t.start_us, t.id))
    rows = [_trade(t, view.utc_us, words) for t in ordered]
    heading = words("report.trades")
    html = (
        markup.table(columns, rows, caption=heading, cards=True)
        if rows
        else f"<p>{escape(words('trade.none'))}</p>"
    )
    if view.unlisted_us is not None:
        at = svg.utc_text(view.unlisted_us, "%Y-%m-%d %H:%M")
        html += f'<p class="warn">{escape(words("trade.unlisted", time=at))}</p>'
    return Part(name="trades", heading=heading, html=html)


def refused(view: SiteView, words: Words) -> Part:
    """Return the latest refused trades and why."""
    heading = words("trade.refused")
    columns = [Column("UTC", "word"), Column(words("trade.id"), "word")]
    columns.append(Column(words("trade.reasons"), "long"))
    rows: list[list[Cell]] = [
        [svg.utc_text(r.utc_us), r.id or "–", _once(r.reasons, words)] for r in view.refused
    ]
    html = (
        markup.table(columns, rows, caption=heading, cards=True)
        if rows
        else f"<p>{escape(words('trade.none'))}</p>"
    )
    return Part(name="refused", heading=heading, html=html)


def _once(reasons: Sequence[str], words: Words) -> str:
    """Return reasons in words, one that stands at many places once and how often."""
    first: dict[str, list[str]] = {}
    for reason in reasons:
        first.setdefault(reason.partition(":")[0], []).append(reason)
    return "; ".join(
        words.reason(same[0]) + (f" ×{len(same)}" if len(same) > 1 else "")
        for same in first.values()
    )


def _trade(trade: TradeView, utc_us: int, words: Words) -> list[Cell]:
    place = quote(trade.id, safe="")
    mark = f"{figures.MARKS.get(trade.status, '?')} {words.status(trade.status)}"
    status: Cell = (
        Html(f'<span class="warn">{escape(mark)}</span>') if short(trade, utc_us) else mark
    )
    over = utc_us >= trade.end_us and trade.delivered_wh is not None
    hours = (trade.end_us - trade.start_us) / 3_600_000_000 or 1
    power = f"{trade.contracted_wh / 1000 / hours:.1f}".removesuffix(".0")
    said = escape(f"{words('trade.download')}: {trade.id}")
    receipt: Cell = (
        Html(
            f'<a href="/receipts/{place}.json" download aria-label="{said}">'
            f"{escape(words('trade.download'))}</a>"
        )
        if trade.receipt
        else "–"
    )
    return [
        Html(f'<a href="/{words.language}/trades/{place}">{escape(trade.id)}</a>'),
        f"{trade.out_terminal}→{trade.in_terminal} {power} kW",
        f"{svg.utc_text(trade.start_us, '%m-%d %H:%M')}–{svg.utc_text(trade.end_us, '%H:%M')}",
        figures.kwh(trade.contracted_wh),
        "–" if trade.planned_wh is None else figures.kwh(trade.planned_wh),
        "–" if trade.delivered_wh is None else figures.kwh(trade.delivered_wh),
        figures.difference(trade.contracted_wh, trade.delivered_wh or 0) if over else "–",
        status,
        words.reasons(trade.reasons),
        receipt,
    ]


def points(view: SiteView, words: Words) -> Part:
    """Return every value as read, with raw registers, quality and age, and a search field."""
    keys = ("device", "point", "value", "quality", "age", "raw")
    columns = [
        Column(words(f"point.{k}"), "number" if k in {"value", "age"} else "word") for k in keys
    ]
    rows: list[list[Cell]] = [
        [
            p.device,
            p.point,
            f"{p.value} {p.unit}".strip(),
            _quality("stale" if p.quality == "good" and view.old(p) else p.quality, words),
            figures.age(p.age_ms),
            Html(f"<code>{escape(p.raw)}</code>"),
        ]
        for p in view.points
    ]
    heading = words("nav.points")
    if not rows:
        return Part(name="points", heading=heading, html=f"<p>{escape(words('point.none'))}</p>")
    label = escape(words("point.search"))
    search = f'<p><label>{label} <input type="search" id="search" autocomplete="off"></label></p>'
    table = markup.table(columns, rows, caption=heading)
    return Part(name="points", heading=heading, html=f'{search}<div id="searched">{table}</div>')


def _quality(quality: str, words: Words) -> Cell:
    key = "reason.stale" if quality == "stale" else f"quality.{quality}"
    said = words(key) if words.has(key) else quality
    return said if quality == "good" else Html(f'<span class="warn">? {escape(said)}</span>')


def commissioning(view: SiteView, words: Words) -> Part:
    """Return the open commissioning run, step by step."""
    heading = words("nav.commissioning")
    if not view.steps:
        return Part(name="steps", heading=heading, html=f"<p>{escape(words('step.none'))}</p>")
    columns = [
        Column(words("step.number"), "word"),
        Column(words("step.title"), "long"),
        Column(words("step.status"), "word"),
        Column(words("step.detail"), "long"),
    ]
    rows: list[list[Cell]] = []
    for step in view.steps:
        said = words(f"step.{step.status}") if words.has(f"step.{step.status}") else step.status
        mark = f"{STEP_MARKS.get(step.status, '?')} {said}"
        bad = step.status in {"failed", "open"}
        shown: Cell = Html(f'<span class="warn">{escape(mark)}</span>') if bad else mark
        rows.append([step.number, step.title, shown, step.detail])
    return Part(name="steps", heading=heading, html=markup.table(columns, rows, caption=heading))


def system(view: SiteView, words: Words) -> Sequence[Part]:
    """Return the gateway itself and the links to its devices."""
    quality = f"quality.{view.time_quality}"
    mark = "? " if view.station_stale else ""
    facts: list[tuple[str, Cell]] = [
        (words("report.site"), f"{view.site} {view.sop} {view.name}".strip()),
        (words("system.version"), view.version or "–"),
        (words("system.config"), Html(f"<code>{escape(view.config_sha256 or '–')}</code>")),
        (
            words("system.started"),
            svg.utc_text(view.started_us) if view.started_us is not None else "–",
        ),
        (words("system.time"), words(quality) if words.has(quality) else view.time_quality),
        (words("system.reasons"), words.reasons(view.reasons) or "–"),
        (
            words("system.watchdog"),
            "–" if view.heartbeat_ds is None else f"{mark}{view.heartbeat_ds / 10:.1f} s",
        ),
    ]
    return [
        Part(name="gateway", heading=words("system.gateway"), html=markup.pairs(facts)),
        Part(name="devices", heading=words("system.devices"), html=_devices(view, words)),
    ]


def _polls(device: DeviceView, words: Words) -> Cell:
    """Return how long a device's polls take: two bounds, and the histogram as small bars."""
    counts = device.poll_counts
    if not any(counts):
        return "–"
    last = POLL_BOUNDS_MS[-1]
    half, most = (
        f"> {last} ms" if bound is None else f"≤ {bound} ms"
        for bound in (poll_quantile(counts, 50), poll_quantile(counts, 99))
    )
    said = words("device.polls_says", count=str(sum(counts)), half=half, most=most)
    bars = svg.small_bars(counts, title=said)
    return Html(f"<span>{bars} {escape(half)}, {escape(most)}</span>")


def _devices(view: SiteView, words: Words) -> str:
    if not view.devices:
        return f"<p>{escape(words('device.none'))}</p>"
    columns = [
        Column(words("point.device"), "word"),
        Column(words("device.kind"), "word"),
        Column(words("device.address"), "word"),
        Column(words("device.connected"), "word"),
        Column(words("point.age"), "number"),
        Column(words("device.requests"), "number"),
        Column(words("device.errors"), "number"),
        Column(words("device.polls"), "number"),
        Column(words("device.last_error"), "long"),
    ]
    stale = set(view.stale)
    rows: list[list[Cell]] = []
    for device in view.devices:
        answers = words("word.yes" if device.connected else "word.no")
        shown: Cell = (
            Html(f'<span class="warn">? {escape(answers)}</span>')
            if device.name in stale
            else f"✓ {answers}"
        )
        rows.append(
            [
                device.name,
                device.kind,
                device.address,
                shown,
                figures.age(device.age_ms),
                str(device.request_count),
                str(device.error_count),
                _polls(device, words),
                device.last_error or "–",
            ]
        )
    return markup.table(columns, rows, caption=words("system.devices"), cards=True)
