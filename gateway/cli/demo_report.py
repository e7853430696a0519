"""What the demo prints at its end: the table of trades and a plot, 100 columns wide at most."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from gateway.hmi import braille, figures, history
from gateway.hmi.language import Words

WIDTH_MAX = 100
HEADINGS = ("id", "path", "contracted", "delivered", "diff", "what happened")
NUMBERS = (2, 3, 4)


def table(report: Mapping[str, Any], *, language: str = "en") -> str:
    """Return the table of trades as plain text, a heading and one row (or more) a trade."""
    rows = [HEADINGS, *_rows(report, Words(language))]
    widths = [max(len(row[c]) for row in rows) for c in range(5)]
    indent = 2 + sum(widths) + 2 * 5
    story_width = max(WIDTH_MAX - indent, 16)
    lines: list[str] = []
    for row in rows:
        cells = [
            row[c].rjust(widths[c]) if c in NUMBERS else row[c].ljust(widths[c]) for c in range(5)
        ]
        story = textwrap.wrap(row[5], story_width) or [""]
        lines.append(("  " + "  ".join([*cells, story[0]])).rstrip())
        lines += [" " * indent + rest for rest in story[1:]]
    return "\n".join(lines)


def styled(report: Mapping[str, Any], *, language: str = "en") -> Text:
    """Return the same table for a screen: heading dim, abnormal rows' words bold."""
    text = Text(table(report, language=language))
    heading_end = text.plain.find("\n")
    text.stylize("dim", 0, heading_end if heading_end >= 0 else len(text.plain))
    for status in sorted(figures.ABNORMAL):
        text.highlight_words([figures.MARKS[status]], "bold")
    return text


def braille_plot(
    entries: Sequence[Mapping[str, Any]],
    terminal: str,
    width: int = 90,
    height: int = 8,
    *,
    ascii_only: bool = False,
) -> str:
    """Return power set (dotted) and measured (line) of one terminal over UTC."""
    plot = braille.plot(
        history.power_measured(entries, terminal),
        dotted=history.power_set(entries, terminal),
        width=width,
        height=height,
        unit="kW",
        ascii_only=ascii_only,
    )
    if not plot:
        return f"Power {terminal}: nothing recorded"
    cues = "set ...  measured ***" if ascii_only else "set ⠂⠂⠂  measured ⠤⠤⠤"
    return f"Power {terminal}   {cues}\n{plot}"


def _rows(report: Mapping[str, Any], words: Words) -> list[tuple[str, ...]]:
    trades = report.get("trades", [])
    repeated = Counter(figures.row_name(t) for t in trades if t.get("interval_start"))
    rows: list[tuple[str, ...]] = []
    for row in trades:
        name = figures.shortened(figures.row_name(row))
        start = row.get("interval_start")
        if isinstance(start, str) and repeated[figures.row_name(row)] > 1:
            name += f" {start[11:16]}"
        status = str(row.get("status"))
        contracted, delivered = row.get("contracted_wh"), row.get("delivered_wh")
        contracted = contracted or None if status == "refused" else contracted
        settled = status != "refused" and isinstance(contracted, int)
        story = f"{figures.MARKS.get(status, '?')} {words.status(status)}"
        told = words.reasons(row.get("reasons"))
        rows.append(
            (
                name,
                figures.path(row),
                f"{_kwh(contracted)} kWh" if isinstance(contracted, int) else "–",
                f"{_kwh(int(delivered or 0))} kWh" if settled else "–",
                figures.difference(int(contracted or 0), int(delivered or 0)) if settled else "–",
                f"{story}: {told}" if told else story,
            )
        )
    return rows


def _kwh(energy_wh: int) -> str:
    """Return kWh without digit grouping: narrow spaces are not the same width everywhere."""
    return f"{energy_wh / 1000:.2f}"
