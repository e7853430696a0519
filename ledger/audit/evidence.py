"""Ledger entries sorted by what they say: the common ground of receipts and audits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ledger.audit.delivery import EntryError, bounds_ms
from ledger.log import canonical, reader

UNUSABLE = (EntryError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What using the fields of an entry raises when they are missing or odd: strangers write them."""

_decoder = msgspec.json.Decoder(dict[str, Any])


@dataclass(slots=True, eq=False)
class Entry:
    """One decoded entry with its place and its exact bytes; made for every entry of a ledger."""

    index: int
    leaf: bytes
    fields: Mapping[str, Any]
    misshapen: str
    """Why the bytes are not in canonical form; empty when they are."""
    kind: str = field(init=False)
    """The entry's kind; empty for entries that state none."""

    def __post_init__(self) -> None:
        self.kind = str(self.fields.get("kind", ""))


def decoded(index: int, leaf: bytes) -> Entry:
    """Decode one leaf; leaves that are no JSON object become entries without fields."""
    try:
        return Entry(index, leaf, canonical.decode(leaf), "")
    except canonical.CanonicalError as error:
        misshapen = str(error)
    try:
        return Entry(index, leaf, _decoder.decode(leaf), misshapen)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Entry(index, leaf, {}, misshapen)


def read(directory: Path, kinds: frozenset[str], start: int = 0) -> Iterable[Entry]:
    """Entries of some kinds from ``start`` on, in order; the others are not decoded."""
    marks = [b'"kind":"%s"' % kind.encode() for kind in sorted(kinds)]
    for index, leaf in reader.entries(directory, start):
        if any(mark in leaf for mark in marks):
            entry = decoded(index, leaf)
            if entry.kind in kinds:
                yield entry


def has_trade(entry: Entry, trade_id: str) -> bool:
    """Whether a plan or delivery speaks of a trade."""
    return any(t.get("trade_id") == trade_id for t in entry.fields.get("trades", ()))


def interval_of(entry: Entry) -> tuple[int, int]:
    """Start and end in ms of the interval a plan or delivery is for."""
    try:
        return bounds_ms(entry.fields["interval"])
    except (KeyError, TypeError) as error:
        raise EntryError(f"entry {entry.index} has no interval: {error}") from None


def in_force(configs: Iterable[Entry], index: int) -> Entry | None:
    """The last configuration before an index."""
    found = None
    for entry in configs:
        if entry.index < index:
            found = entry
    return found
