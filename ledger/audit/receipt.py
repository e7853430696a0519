"""Receipts: the evidence file of one trade, built from the ledger alone.

A receipt holds the signed trade, every entry that says what became of it, the meter readings its
energy follows from, and for each an inclusion proof to one signed checkpoint.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from ledger.audit import evidence
from ledger.audit.delivery import Counter, EntryError, bounds_ms, bracket, fold, metered
from ledger.audit.evidence import Entry, has_trade, in_force, interval_of
from ledger.audit.receipt_check import ReceiptReport, verify
from ledger.audit.trade import base64_bytes, strict_json
from ledger.log import checkpoint, derived
from ledger.log.merkle import ProofError, leaf_hash, verify_inclusion
from ledger.log.tiles import TilesMissing, TileTree
from ledger.log.treeview import TreeView

__all__ = ["SCHEMA", "ReceiptError", "ReceiptReport", "build", "verify"]

SCHEMA = "sopgw/v1/receipt"

TOLD_KINDS = frozenset({"config", "key", "trade.accepted", "plan", "delivery"})
STEP_KINDS = frozenset({"trade.received", "intent", "prepared", "commit", "abort", "outcome"})
READ_KINDS = frozenset({"reading", "time_step"})

Series = dict[str, list[Counter]]
"""Readings that count, by terminal."""

Energies = dict[str, tuple[int | None, bool]]
Bounds = tuple[int, int]

BEFORE_COUNT = 1000
"""Readings of a terminal that are kept from before the trade: steps of the clock strike some."""


class ReceiptError(Exception):
    """No receipt can be made: the trade is unknown, or its intervals are not settled yet."""


class EvidenceError(ReceiptError):
    """The ledger's entries about the trade are damaged or missing: waiting mends nothing."""


class LetGo(Exception):  # noqa: N818 - the same is done again, with all of them
    """A step of the clock made readings count again that had been let go of."""


@dataclass(slots=True)
class Told:
    """What the ledger says of one trade, but for its steps and readings."""

    accepted: list[Entry] = field(default_factory=list)
    plans: list[Entry] = field(default_factory=list)
    deliveries: list[Entry] = field(default_factory=list)
    configs: list[Entry] = field(default_factory=list)
    keys: list[Entry] = field(default_factory=list)


def build(directory: Path, trade_id: str) -> dict[str, Any]:
    """Build the receipt of a trade from a ledger directory; works beside a live writer.

    Of a long ledger no more is held than belongs to the trade.
    """
    told = told_of(directory, trade_id)
    if not told.accepted:
        raise ReceiptError(f"no accepted trade {trade_id} in this ledger")
    newest = told.accepted[-1]
    try:
        rows = list(interval_rows(trade_id, newest, told.deliveries))
        entries = {e.index: e for e in related(directory, told)}
        message = strict_json(
            base64_bytes(entries[newest.fields["received_index"]].fields["payload"])
        )
        chosen = {e.index: e.leaf for e in entries.values()}
        chosen.update(readings_for(directory, told.deliveries, told.accepted[0].index))
    except (EntryError, KeyError) as error:
        raise EvidenceError(f"the ledger's entries about {trade_id} are incomplete: {error}") from (
            error
        )
    signed, proofs = proved(directory, chosen)
    return {
        "schema": SCHEMA,
        "trade_id": trade_id,
        "intervals": rows,
        "trade": message,
        "entries": [
            {
                "index": index,
                "leaf": b64encode(chosen[index]).decode(),
                "proof": [b64encode(h).decode() for h in proofs[index]],
            }
            for index in sorted(chosen)
        ],
        "checkpoint": signed.decode(),
        "tlog": "C2SP",
    }


def told_of(directory: Path, trade_id: str) -> Told:
    """Read what is said of a trade, and every configuration and key."""
    told = Told()
    for entry in evidence.read(directory, TOLD_KINDS):
        match entry.kind:
            case "config":
                told.configs.append(entry)
            case "key":
                told.keys.append(entry)
            case "trade.accepted" if entry.fields.get("trade_id") == trade_id:
                told.accepted.append(entry)
            case "plan" if has_trade(entry, trade_id):
                told.plans.append(entry)
            case "delivery" if has_trade(entry, trade_id):
                told.deliveries.append(entry)
            case _:
                pass
    return told


def proved(directory: Path, chosen: Mapping[int, bytes]) -> tuple[bytes, dict[int, list[bytes]]]:
    """A checkpoint over the chosen entries and an inclusion proof for each.

    Published tiles serve when they reach far enough, so that a long ledger is not hashed for one
    receipt; they are derived files, so every proof from them is checked before it is given out.
    """
    try:
        tiled = TileTree.open(directory)
        point = derived.published(directory)
        if tiled.size > max(chosen) and isinstance(point, checkpoint.Checkpoint):
            proofs = {index: tiled.inclusion(index, tiled.size) for index in chosen}
            for index, leaf in chosen.items():
                verify_inclusion(
                    index=index, size=tiled.size, leaf=leaf_hash(leaf),
                    proof=proofs[index], root=point.root,
                )  # fmt: skip
            return tiled.checkpoint, proofs
    except (TilesMissing, ProofError):
        pass  # behind or damaged: the segments say it themselves
    tree = TreeView.open(directory)
    return tree.checkpoint, {index: tree.inclusion(index, tree.size) for index in chosen}


def interval_rows(
    trade_id: str, accepted: Entry, deliveries: Sequence[Entry]
) -> Iterator[dict[str, Any]]:
    """One row an interval: settled ones from their delivery, withdrawn ones as cancelled."""
    seen: set[tuple[int, int]] = set()
    rows: list[tuple[tuple[int, int], dict[str, Any]]] = []
    for entry in deliveries:
        seen.add(interval_of(entry))
        for trade in entry.fields["trades"]:
            if trade["trade_id"] == trade_id:
                rows.append((interval_of(entry), row(entry.fields["interval"], trade)))
    for position in accepted.fields["positions"]:
        bounds = bounds_ms(position["interval"])
        if bounds in seen:
            continue
        if position["energy_wh"] != 0:
            start = position["interval"]["start"]
            raise ReceiptError(f"the interval from {start} is not settled yet")
        nothing = {"contracted_wh": 0, "delivered_wh": 0, "status": "cancelled", "reasons": []}
        rows.append((bounds, row(position["interval"], nothing)))
    yield from (r for _, r in sorted(rows, key=lambda pair: pair[0]))


def row(interval: Mapping[str, Any], trade: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a receipt's intervals."""
    return {
        "start": interval["start"],
        "end": interval["end"],
        "contracted_wh": trade["contracted_wh"],
        "delivered_wh": trade["delivered_wh"],
        "status": trade["status"],
        "reasons": trade["reasons"],
    }


def related(directory: Path, told: Told) -> Iterator[Entry]:
    """The entries that tell a trade's story, readings aside."""
    received = {e.fields["received_index"] for e in told.accepted}
    plans = {e.index for e in told.plans}
    settled = max((e.index for e in told.deliveries), default=-1)
    yield from told.accepted
    yield from told.plans
    yield from told.deliveries
    yield from told.keys
    intents: set[int] = set()
    for entry in evidence.read(directory, STEP_KINDS, min(received | plans)):
        if entry.kind == "intent":
            if entry.fields.get("plan_index") in plans and entry.index < settled:
                intents.add(entry.index)
                yield entry
        elif entry.index in received or entry.fields.get("intent_index") in intents:
            yield entry
    decided = (e.index for e in (*told.accepted, *told.deliveries))
    for index in (*received, *plans, *decided):
        config = in_force(told.configs, index)
        if config is not None:
            yield config


def readings_for(
    directory: Path, deliveries: Sequence[Entry], accepted_index: int
) -> dict[int, bytes]:
    """The readings that each settled interval's energy follows from, and steps of the clock.

    What stood before the trade was accepted is read only where the energies that the deliveries
    state do not follow from what came since. An entry has readings of all terminals, and one that
    does not count in the ledger may count among the few alone: then everything since the first of
    them is taken, or all there is.
    """
    last = max((e.index for e in deliveries), default=-1)
    if last < 0:
        return {}

    def told(start: int) -> Iterator[Entry]:
        return takewhile(lambda e: e.index < last, evidence.read(directory, READ_KINDS, start))

    wanted, few = needed(lambda: told(accepted_index), deliveries)
    if [{t: wh for t, (wh, _) in found.items()} for found in wanted] != stated(deliveries):
        wanted, few = needed(lambda: told(0), deliveries)
    first = min(few, default=last)

    def least() -> Iterator[Entry]:
        return (e for e in told(first) if e.index in few or e.kind == "time_step")

    for taken in (least, lambda: told(first)):
        if needed(taken, deliveries)[0] == wanted:
            return {e.index: e.leaf for e in taken()}
    return {e.index: e.leaf for e in told(0)}


def stated(deliveries: Iterable[Entry]) -> list[dict[str, int]]:
    """The energy of each terminal that could be read, as each delivery states it."""
    try:
        told = [e.fields["terminals"] for e in sorted(deliveries, key=lambda e: e.index)]
        return [
            {t["terminal"]: t["metered_wh"] for t in rows if t["metered_wh"] is not None}
            for rows in told
        ]
    except (KeyError, TypeError):
        return []


def needed(
    told: Callable[[], Iterator[Entry]], deliveries: Sequence[Entry]
) -> tuple[list[Energies], set[int]]:
    """The energies that each delivery follows from, and the entries they were read from."""
    for kept_count in (BEFORE_COUNT, None):
        found: list[Energies] = []
        few: set[int] = set()
        try:
            for bounds, series in at_deliveries(told(), deliveries, kept_count):
                few.update(c.entry_index for s in series.values() for c in bracket(s, *bounds))
                found.append(energies(series, bounds))
        except LetGo:
            continue
        return found, few
    raise AssertionError("nothing is let go of the second time")


def at_deliveries(
    entries: Iterable[Entry], deliveries: Iterable[Entry], kept_count: int | None
) -> Iterator[tuple[Bounds, Series]]:
    """The bounds of each delivery, and the readings that count when it was written.

    Of those from before the first interval about ``kept_count`` a terminal are kept; None for all.
    """
    series: Series = {}
    trimmed: set[str] = set()
    due = sorted(deliveries, key=lambda e: e.index)
    every = [interval_of(e) for e in due]
    span_us = min(start for start, _ in every) * 1000, max(end for _, end in every) * 1000
    for entry in entries:
        while due and due[0].index < entry.index:
            yield interval_of(due.pop(0)), series
        fold(series, entry.fields, entry.index)
        if kept_count is None:
            continue
        for terminal, counted in series.items():
            if not counted and terminal in trimmed:
                raise LetGo
            if trim(counted, span_us, kept_count):
                trimmed.add(terminal)
    for delivery in due:
        yield interval_of(delivery), series


def trim(counted: list[Counter], span_us: Bounds, kept_count: int) -> bool:
    """Let go of readings far from the trade; tell whether some were from before it.

    Behind the end the first one brackets it and the last one says which later ones count.
    """
    start_us, end_us = span_us
    if len(counted) > 2 and counted[-3].utc_us >= end_us:
        del counted[-2]
    if len(counted) > 2 * kept_count and counted[kept_count].utc_us < start_us:
        del counted[:kept_count]
        return True
    return False


def energies(series: Series, bounds: Bounds) -> Energies:
    """Energy of each terminal that could be read, and whether it is estimated."""
    found = {terminal: metered(counted, *bounds) for terminal, counted in series.items()}
    return {terminal: energy for terminal, energy in found.items() if energy[0] is not None}
