"""Readings and settlements out of the ledger as tables: CSV for people, Parquet for programs.

Whole numbers in base units, UTC, the index of the entry in each row: whoever doubts a row can ask
the ledger for its proof.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gateway.hmi import parquet
from gateway.hmi.figures import utc_us
from gateway.hmi.parquet import Cell, Column
from gateway.hmi.svg import utc_text

Entry = Mapping[str, Any]

READINGS = (
    Column(name="entry_index"),
    Column(name="utc", kind="instant"),
    Column(name="meter", kind="text"),
    Column(name="terminal", kind="text"),
    Column(name="import_wh"),
    Column(name="export_wh"),
    Column(name="p_w"),
    Column(name="quality", kind="text"),
    Column(name="age_ms"),
)
SETTLEMENTS = (
    Column(name="entry_index"),
    Column(name="interval_start", kind="instant"),
    Column(name="interval_end", kind="instant"),
    Column(name="trade_id", kind="text"),
    Column(name="contracted_wh"),
    Column(name="planned_wh"),
    Column(name="delivered_wh"),
    Column(name="status", kind="text"),
    Column(name="reasons", kind="text"),
)


def readings(entries: Iterable[Entry]) -> Iterator[tuple[Cell, ...]]:
    """Return one row for each meter of each reading."""
    for entry in entries:
        if entry.get("kind") != "reading":
            continue
        for m in entry["meters"]:
            yield (
                entry["index"],
                m["utc_us"],
                m["meter"],
                m.get("terminal"),
                m.get("import_wh"),
                m.get("export_wh"),
                m.get("p_w"),
                m.get("quality"),
                m.get("age_ms"),
            )


def settlements(entries: Iterable[Entry]) -> Iterator[tuple[Cell, ...]]:
    """Return one row for each trade of each delivery."""
    for entry in entries:
        if entry.get("kind") != "delivery":
            continue
        start, end = (utc_us(entry["interval"][edge]) for edge in ("start", "end"))
        for t in entry["trades"]:
            yield (
                entry["index"],
                start,
                end,
                t["trade_id"],
                t.get("contracted_wh"),
                t.get("planned_wh"),
                t.get("delivered_wh"),
                t.get("status"),
                " ".join(_word(r) for r in t.get("reasons", ())),
            )


TABLES: dict[
    str, tuple[tuple[Column, ...], Callable[[Iterable[Entry]], Iterator[tuple[Cell, ...]]]]
]
TABLES = {"readings": (READINGS, readings), "settlements": (SETTLEMENTS, settlements)}


def csv_lines(table: str, entries: Iterable[Entry]) -> Iterator[str]:
    """Return a table as lines of CSV (RFC 4180), heading first; instants in ISO 8601 UTC."""
    columns, rows = TABLES[table]
    yield _line([c.name for c in columns])
    for row in rows(entries):
        yield _line([_said(c, cell) for c, cell in zip(columns, row, strict=True)])


def parquet_file(table: str, entries: Iterable[Entry]) -> bytes:
    """Return a table as a Parquet file."""
    columns, rows = TABLES[table]
    return parquet.write(columns, rows(entries))


def _said(column: Column, cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, int):
        return utc_text(cell, "%Y-%m-%dT%H:%M:%S.%fZ") if column.kind == "instant" else str(cell)
    # A leading sign would be run as a formula by a spreadsheet.
    return f"'{cell}" if cell[:1] in set("=+-@\t\r") else cell


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def _word(reason: object) -> str:
    return str(reason.get("code", "")) if isinstance(reason, Mapping) else str(reason)
