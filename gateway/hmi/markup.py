"""HTML by hand: escaped text, tables and definition lists, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Html:
    """Text that is markup already; everything else is escaped when it is put in."""

    text: str


Cell = Html | str


def put(cell: Cell) -> str:
    """Return the markup of a cell."""
    return cell.text if isinstance(cell, Html) else escape(cell)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading and its class (``number``, ``word``, ``long`` or none)."""

    heading: str
    css: str = ""


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str,
    cards: bool = False,
) -> str:
    """Return a table that scrolls by itself where it is wider than the page.

    With ``cards`` a phone shows each row as a card of headings and values instead. The roles are
    written out because a browser forgets those of a table that is not laid out as one.
    """
    labels = [f' data-label="{escape(c.heading)}"' if cards else "" for c in columns]
    whole, group, line, cell_role, head_role = (
        (f' role="{r}"' if cards else "")
        for r in ("table", "rowgroup", "row", "cell", "columnheader")
    )
    head = "".join(
        f'<th scope="col"{head_role}{_css(c.css)}>{escape(c.heading)}</th>' for c in columns
    )
    body = "".join(
        f"<tr{line}>"
        + "".join(
            f"<td{cell_role}{_css(column.css)}{label}>{put(cell)}</td>"
            for column, label, cell in zip(columns, labels, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    css = ' class="cards"' if cards else ""
    html = (
        f"<table{css}{whole}><thead{group}><tr{line}>{head}</tr></thead>"
        f"<tbody{group}>{body}</tbody></table>"
    )
    return scrolling(html, caption=caption)


def scrolling(html: str, *, caption: str) -> str:
    """Return something wide in a frame that scrolls by itself, by keyboard too."""
    label = escape(caption)
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">{html}</div>'


def pairs(rows: Iterable[tuple[str, Cell]]) -> str:
    """Return a list of names and values."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{put(v)}</dd>" for k, v in rows) + "</dl>"


def _css(css: str) -> str:
    return f' class="{css}"' if css else ""
