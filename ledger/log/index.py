"""A query index over a ledger's entries: SQLite, derived, rebuildable, never the truth.

Finds entries by time, kind, and by the names that stand in them (trades, devices, terminals).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import msgspec

from ledger.log import checkpoint, reader

FILE = "index.sqlite"
SCHEMA_VERSION = 1

NAMES = {
    "trade_id": "trade",
    "sop": "device",
    "device": "device",
    "meter": "device",
    "terminal": "terminal",
    "out_terminal": "terminal",
    "in_terminal": "terminal",
    "instr_id": "instruction",
}
"""Fields, at any depth of an entry, whose text is worth finding it by, and under which name."""

DEPTH_MAX = 8
BUSY_MS = 5_000
"""A comparison of a large index holds it for a while; a writer waits so long, then tries later."""

SCHEMA = """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER, size INTEGER,
  root BLOB);
CREATE TABLE entries (idx INTEGER PRIMARY KEY, utc_us INTEGER, kind TEXT);
CREATE INDEX by_time ON entries (utc_us);
CREATE INDEX by_kind ON entries (kind, idx);
CREATE TABLE names (name TEXT, value TEXT, idx INTEGER, PRIMARY KEY (name, value, idx))
  WITHOUT ROWID;
"""

_decoder = msgspec.json.Decoder()

Row = tuple[int, int | None, str | None]
Name = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for; None leaves a condition out. Times are ``[since, until)``."""

    since_us: int | None = None
    until_us: int | None = None
    kind: str | None = None
    trade: str | None = None
    device: str | None = None
    terminal: str | None = None


class IndexStale(Exception):  # noqa: N818 - a state of a derived file
    """The index is missing, damaged or does not fit the ledger; build it again."""


def facts(index: int, leaf: bytes) -> tuple[Row, list[Name]]:
    """What the index knows of one entry."""
    try:
        entry = _decoder.decode(leaf)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        entry = None
    if not isinstance(entry, dict):
        return (index, None, None), []
    stamp, kind = entry.get("utc_us"), entry.get("kind")
    row: Row = (
        index,
        stamp if isinstance(stamp, int) and abs(stamp) < 1 << 63 else None,
        kind if isinstance(kind, str) else None,
    )
    return row, [(name, value, index) for name, value in sorted(names_in(entry, 0))]


def names_in(value: Any, depth: int) -> set[tuple[str, str]]:
    """All (name, value) pairs of an entry."""
    found: set[tuple[str, str]] = set()
    if depth > DEPTH_MAX:
        return found
    if isinstance(value, list):
        for item in value:
            if isinstance(item, list | dict):
                found |= names_in(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, list | dict):
                found |= names_in(item, depth + 1)
            elif isinstance(item, str) and key in NAMES:
                found.add((NAMES[key], item))
    return found


def build(directory: Path, place: reader.Place | None = None) -> int:
    """Bring the index up to the ledger's durable size, from the beginning when it does not fit.

    ``place`` spares reading what stands before it, where the index already knows that.
    """
    try:
        return extend(directory, place)
    except (apsw.BusyError, apsw.LockedError, apsw.FullError):
        raise  # nothing is wrong with what it holds
    except (IndexStale, apsw.Error):
        drop(directory)
        create(directory / FILE)
        return extend(directory)


def drop(directory: Path) -> None:
    """Remove the index; the next build makes it again from what the ledger holds then."""
    for suffix in ("", "-wal", "-shm"):
        (directory / (FILE + suffix)).unlink(missing_ok=True)


def create(path: Path) -> None:
    """Make an empty index."""
    db = apsw.Connection(str(path))
    try:
        with db:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO state VALUES (1, ?, 0, x'')", (SCHEMA_VERSION,))
    finally:
        db.close()


def extend(directory: Path, place: reader.Place | None = None) -> int:
    """Add the entries that came since; returns the size."""
    db = opened(directory, write=True)
    try:
        size, root = state(db)
        with db:
            newest = b""
            here = place if place is not None and 0 < place.size <= size else None
            for batch in reader.batches(directory, max(0, size - 1), here):
                newest = batch.checkpoint
                if batch.size <= size:
                    if batch.size == size and checkpoint.parse(newest).checkpoint.root != root:
                        raise IndexStale("the index is of another ledger")
                    continue
                add(db, batch)
            if here is not None and not newest:
                return size
            point = checkpoint.parse(newest).checkpoint if newest else None
            if (point.size if point else 0) < size:
                raise IndexStale("the index is longer than the ledger")
            if point is not None:
                db.execute("UPDATE state SET size = ?, root = ?", (point.size, point.root))
        return point.size if point else 0
    finally:
        db.close()


def add(db: apsw.Connection, batch: reader.Batch) -> None:
    """Add one batch."""
    rows, names = [], []
    for index, (body, removed) in enumerate(batch.bodies, batch.first_index):
        row, found = ((index, None, None), []) if removed else facts(index, body)
        rows.append(row)
        names.extend(found)
    db.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
    db.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", names)


def opened(directory: Path, *, write: bool = False) -> apsw.Connection:
    """Open an existing index, for reading unless told otherwise."""
    path = directory / FILE
    if not path.exists():
        raise IndexStale("there is no index")
    flags = apsw.SQLITE_OPEN_READWRITE if write else apsw.SQLITE_OPEN_READONLY
    db = apsw.Connection(str(path), flags=flags)
    db.set_busy_timeout(BUSY_MS)
    return db


def state(db: apsw.Connection) -> tuple[int, bytes]:
    """Size and root the index stands at."""
    try:
        for version, size, root in db.execute("SELECT version, size, root FROM state"):
            if version != SCHEMA_VERSION:
                raise IndexStale(f"schema version {version}")
            return int(size), bytes(root)
    except apsw.Error as error:
        raise IndexStale(str(error)) from None
    raise IndexStale("the index has no state")


def find(directory: Path, query: Query) -> list[int]:
    """Indexes of the entries a query fits, in order; the index must be built before."""
    db = opened(directory)
    try:
        state(db)
        conditions, values = conditions_of(query)
        where = " AND ".join(conditions) or "1"
        found = db.execute(f"SELECT idx FROM entries WHERE {where} ORDER BY idx", values)  # noqa: S608 - fixed texts only
        return [int(index) for (index,) in found]
    except apsw.Error as error:
        raise IndexStale(str(error)) from None
    finally:
        db.close()


def size(directory: Path) -> int:
    """How many entries the index covers; 0 when there is none that can be used."""
    try:
        db = opened(directory)
    except (IndexStale, apsw.Error):
        return 0
    try:
        return state(db)[0]
    except IndexStale:
        return 0
    finally:
        db.close()


def fits(query: Query, index: int, leaf: bytes) -> bool:
    """Whether one entry fits a query, without the index."""
    (_, stamp, kind), names = facts(index, leaf)
    found = {(name, value) for name, value, _ in names}
    wanted = {("trade", query.trade), ("device", query.device), ("terminal", query.terminal)}
    return (
        (query.since_us is None or (stamp is not None and stamp >= query.since_us))
        and (query.until_us is None or (stamp is not None and stamp < query.until_us))
        and (query.kind is None or kind == query.kind)
        and all(value is None or (name, value) in found for name, value in wanted)
    )


def conditions_of(query: Query) -> tuple[list[str], list[object]]:
    """SQL conditions and their values."""
    conditions: list[str] = []
    values: list[object] = []
    for text, value in (
        ("utc_us >= ?", query.since_us),
        ("utc_us < ?", query.until_us),
        ("kind = ?", query.kind),
    ):
        if value is not None:
            conditions.append(text)
            values.append(value)
    names: Mapping[str, str | None] = {
        "trade": query.trade, "device": query.device, "terminal": query.terminal,
    }  # fmt: skip
    for name, wanted in names.items():
        if wanted is not None:
            conditions.append("idx IN (SELECT idx FROM names WHERE name = ? AND value = ?)")
            values.extend((name, wanted))
    return conditions, values


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the index should hold of one batch, in the order in which it is read back."""

    size: int
    root: bytes
    rows: list[Row]
    names: list[tuple[int, str, str]]


def expected(directory: Path) -> Iterator[Expected]:
    """Give what the index should hold, batch by batch."""
    for batch in reader.batches(directory):
        rows: list[Row] = []
        names: list[tuple[int, str, str]] = []
        for index, (body, removed) in enumerate(batch.bodies, batch.first_index):
            row, found = ((index, None, None), []) if removed else facts(index, body)
            rows.append(row)
            names += [(index, name, value) for name, value, _ in found]
        root = checkpoint.parse(batch.checkpoint).checkpoint.root
        yield Expected(size=batch.size, root=root, rows=rows, names=names)


def differences(directory: Path, wanted: Iterable[Expected] | None = None) -> Iterator[str]:
    """Compare the index with the ledger by content; gives what differs, the first entry first.

    An index that is behind the ledger is compared as far as it goes.
    """
    try:
        db = opened(directory)
    except (IndexStale, apsw.Error) as error:
        yield str(error)
        return
    try:
        with db:  # one state of it, also beside a writer
            yield from compare(db, expected(directory) if wanted is None else wanted)
    except (IndexStale, apsw.Error, UnicodeDecodeError) as error:
        yield f"cannot be read: {error}"
    finally:
        db.close()


def compare(db: apsw.Connection, wanted: Iterable[Expected]) -> Iterator[str]:
    """Compare row by row, then let SQLite check its own structure."""
    for what in (compare_content(db, wanted), compare_structure(db)):
        for difference in what:
            yield difference
            return


def compare_content(db: apsw.Connection, wanted: Iterable[Expected]) -> Iterator[str]:
    """Compare what the tables hold with the ledger; gives the first difference."""
    size, root = state(db)
    rows = iter(db.execute("SELECT idx, utc_us, kind FROM entries ORDER BY idx"))
    names = iter(db.execute("SELECT idx, name, value FROM names ORDER BY idx, name, value"))
    reached, reached_root = 0, b""
    for part in wanted:
        if part.size > size:
            break
        reached, reached_root = part.size, part.root
        found = list(islice(rows, len(part.rows)))
        found_names = list(islice(names, len(part.names)))
        if found != part.rows or found_names != part.names:
            differing = first_difference(found, part.rows)
            first = min([*differing, *first_difference(found_names, part.names)])
            yield f"entry {first} is not indexed as it stands in the ledger"
            return
    if next(rows, None) is not None or next(names, None) is not None:
        yield "the index has rows beyond the ledger"
    elif reached != size or root != reached_root:
        yield "the index states another size or root"


def compare_structure(db: apsw.Connection) -> Iterator[str]:
    """Let SQLite check its own structure: its trees, and every order against its table."""
    for (text,) in db.execute("PRAGMA integrity_check(1)"):
        if text != "ok":
            yield str(text)


def first_difference(
    found: Sequence[tuple[object, ...]], wanted: Sequence[tuple[int, object, object]]
) -> list[int]:
    """The entry of the first row that is not as wanted; empty when all are."""
    for place, row in enumerate(wanted):
        other = found[place] if place < len(found) else row[:1]
        if other != row:
            stray = other[0]
            return [min(row[0], stray) if isinstance(stray, int) else row[0]]
    return []
