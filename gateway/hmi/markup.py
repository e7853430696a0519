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


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, caption: str) -> str:
    """Return a table that scrolls by itself where it is wider than the page."""
    head = "".join(f'<th scope="col"{_css(c.css)}>{escape(c.heading)}</th>' for c in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_css(column.css)}>{put(cell)}</td>"
            for column, cell in zip(columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def pairs(rows: Iterable[tuple[str, Cell]]) -> str:
    """Return a list of names and values."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{put(v)}</dd>" for k, v in rows) + "</dl>"


def _css(css: str) -> str:
    return f' class="{css}"' if css else ""
