"""A small writer of Parquet files: whole numbers, text and instants, plain pages, gzip.

Only what the exports need, so that no large library has to run on the edge. Layout and numbers:
the Apache Parquet format's thrift definitions (FileMetaData, RowGroup, ColumnChunk, PageHeader),
written in the compact protocol.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

MAGIC = b"PAR1"
GROUP_ROWS_MAX = 65_536  # one row group in memory at a time
INT64, BYTE_ARRAY = 2, 6
UTF8, TIMESTAMP_MICROS = 0, 10
PLAIN, RLE, GZIP, OPTIONAL = 0, 3, 2, 1
I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12  # types of the compact protocol

Kind = Literal["number", "text", "instant"]
Cell = int | str | None
Field = tuple[int, int, object]  # number, type and value of one field of a struct


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name and what it holds; every column may have empty cells."""

    name: str
    kind: Kind = "number"


def write(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> bytes:
    """Return a Parquet file of the rows; the same rows give the same bytes."""
    out = bytearray(MAGIC)
    groups: list[list[Field]] = []
    total = 0
    waiting = iter(rows)
    while group := list(islice(waiting, GROUP_ROWS_MAX)):
        groups.append(_group(out, columns, group))
        total += len(group)
    footer = _struct(
        [
            (1, I32, 1),
            (2, LIST, (STRUCT, [_root(columns), *map(_element, columns)])),
            (3, I64, total),
            (4, LIST, (STRUCT, groups)),
            (6, BINARY, b"sop-gateway"),
        ]
    )
    out += footer + struct.pack("<I", len(footer)) + MAGIC
    return bytes(out)


def _root(columns: Sequence[Column]) -> list[Field]:
    return [(4, BINARY, b"schema"), (5, I32, len(columns))]


def _element(column: Column) -> list[Field]:
    fields: list[Field] = [
        (1, I32, BYTE_ARRAY if column.kind == "text" else INT64),
        (3, I32, OPTIONAL),
        (4, BINARY, column.name.encode()),
    ]
    if column.kind != "number":
        fields.append((6, I32, UTF8 if column.kind == "text" else TIMESTAMP_MICROS))
    return fields


def _group(
    out: bytearray, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]
) -> list[Field]:
    """Append one row group's pages and return what the footer says of it."""
    chunks: list[list[Field]] = []
    size = 0
    for place, column in enumerate(columns):
        start = len(out)
        plain = _page(column, [row[place] for row in rows])
        packed = gzip.compress(plain, mtime=0)
        header = _struct(
            [
                (1, I32, 0),
                (2, I32, len(plain)),
                (3, I32, len(packed)),
                (5, STRUCT, [(1, I32, len(rows)), (2, I32, PLAIN), (3, I32, RLE), (4, I32, RLE)]),
            ]
        )
        out += header + packed
        size += len(header) + len(plain)
        meta: list[Field] = [
            (1, I32, BYTE_ARRAY if column.kind == "text" else INT64),
            (2, LIST, (I32, [PLAIN, RLE])),
            (3, LIST, (BINARY, [column.name.encode()])),
            (4, I32, GZIP),
            (5, I64, len(rows)),
            (6, I64, len(header) + len(plain)),
            (7, I64, len(header) + len(packed)),
            (9, I64, start),
        ]
        chunks.append([(2, I64, start), (3, STRUCT, meta)])
    return [(1, LIST, (STRUCT, chunks)), (2, I64, size), (3, I64, len(rows))]


def _page(column: Column, cells: Sequence[Cell]) -> bytes:
    """Return one data page: which cells are filled, then their values."""
    filled = bytearray((len(cells) + 7) // 8)
    for place, cell in enumerate(cells):
        if cell is not None:
            filled[place // 8] |= 1 << place % 8
    levels = _varint(len(filled) << 1 | 1) + bytes(filled)
    values = bytearray()
    for cell in cells:
        match cell:
            case None:
                pass
            case int() if column.kind != "text":
                values += struct.pack("<q", cell)
            case str() if column.kind == "text":
                text = cell.encode()
                values += struct.pack("<I", len(text)) + text
            case _:
                raise TypeError(f"{cell!r} in the {column.kind} column {column.name}")
    return struct.pack("<I", len(levels)) + levels + bytes(values)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _struct(fields: Iterable[Field]) -> bytes:
    """Return a struct in the compact protocol; field numbers must grow."""
    out = bytearray()
    last = 0
    for number, kind, value in fields:
        out.append((number - last) << 4 | kind)
        out += _value(kind, value)
        last = number
    return bytes(out) + b"\0"


def _value(kind: int, value: object) -> bytes:
    match value:
        case int():
            return _varint(value << 1 if value >= 0 else (-value << 1) - 1)
        case bytes():
            return _varint(len(value)) + value
        case (int(item), list(items)):
            size = len(items)
            head = bytes([size << 4 | item]) if size < 15 else bytes([0xF0 | item]) + _varint(size)
            return head + b"".join(_value(item, each) for each in items)
        case list():
            return _struct(value)
        case _:
            raise TypeError(f"no value of compact type {kind}: {value!r}")
