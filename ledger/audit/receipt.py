"""Receipts: the evidence file of one trade, built from the ledger alone.

A receipt holds the signed trade, every entry that says what became of it, the meter readings its
energy follows from, and for each an inclusion proof to one signed checkpoint.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

KINDS = frozenset(
    {
        "config", "key", "trade.received", "trade.accepted", "plan", "intent", "prepared",
        "commit", "abort", "outcome", "delivery",
    }
)  # fmt: skip


Series = dict[str, list[Counter]]
"""Readings that count, by terminal."""

Energies = dict[str, tuple[int | None, bool]]
READ_KINDS = frozenset({"reading", "time_step"})


class ReceiptError(Exception):
    """No receipt can be made: the trade is unknown, or its intervals are not settled yet."""


def build(directory: Path, trade_id: str) -> dict[str, Any]:
    """Build the receipt of a trade from a ledger directory; works beside a live writer."""
    kept = list(evidence.read(directory, KINDS))
    accepted = [e for e in kept if e.kind == "trade.accepted" and e.fields["trade_id"] == trade_id]
    if not accepted:
        raise ReceiptError(f"no accepted trade {trade_id} in this ledger")
    deliveries = [e for e in kept if e.kind == "delivery" and has_trade(e, trade_id)]
    try:
        rows = list(interval_rows(trade_id, accepted[-1], deliveries))
        chosen = {e.index: e for e in related(trade_id, kept, accepted, deliveries)}
        chosen.update((e.index, e) for e in readings_for(directory, deliveries))
        payload = next(
            e.fields["payload"] for e in kept if e.index == accepted[-1].fields["received_index"]
        )
        message = strict_json(base64_bytes(payload))
    except (EntryError, KeyError, StopIteration) as error:
        raise ReceiptError(f"the ledger's entries about {trade_id} are incomplete: {error}") from (
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
                "leaf": b64encode(chosen[index].leaf).decode(),
                "proof": [b64encode(h).decode() for h in proofs[index]],
            }
            for index in sorted(chosen)
        ],
        "checkpoint": signed.decode(),
        "tlog": "C2SP",
    }


def proved(directory: Path, chosen: Mapping[int, Entry]) -> tuple[bytes, dict[int, list[bytes]]]:
    """A checkpoint over the chosen entries and an inclusion proof for each.

    Published tiles serve when they reach far enough, so that a long ledger is not hashed for one
    receipt; they are derived files, so every proof from them is checked before it is given out.
    """
    try:
        tiled = TileTree.open(directory)
        point = derived.published(directory)
        if tiled.size > max(chosen) and isinstance(point, checkpoint.Checkpoint):
            proofs = {index: tiled.inclusion(index, tiled.size) for index in chosen}
            for index, entry in chosen.items():
                verify_inclusion(
                    index=index, size=tiled.size, leaf=leaf_hash(entry.leaf),
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


def related(
    trade_id: str, kept: Sequence[Entry], accepted: Sequence[Entry], deliveries: Sequence[Entry]
) -> Iterator[Entry]:
    """The entries that tell a trade's story, readings aside."""
    configs = [e for e in kept if e.kind == "config"]
    received = {e.fields["received_index"] for e in accepted}
    plans = {e.index for e in kept if e.kind == "plan" and has_trade(e, trade_id)}
    settled = max((e.index for e in deliveries), default=-1)
    intents = {
        e.index
        for e in kept
        if e.kind == "intent" and e.fields.get("plan_index") in plans and e.index < settled
    }
    yield from accepted
    yield from deliveries
    wanted = received | plans | intents
    for entry in kept:
        cites = entry.fields.get("intent_index")
        if entry.index in wanted or cites in intents or entry.kind == "key":
            yield entry
    for index in (*received, *plans, *(e.index for e in deliveries)):
        config = in_force(configs, index)
        if config is not None:
            yield config


def readings_for(directory: Path, deliveries: Sequence[Entry]) -> list[Entry]:
    """The readings that each settled interval's energy follows from, and steps of the clock.

    An entry has readings of all terminals, and one that does not count in the ledger may count
    among the few alone: then everything since the first of them is taken, or all there is.
    """
    last = max((e.index for e in deliveries), default=-1)
    if last < 0:
        return []
    told = [e for e in evidence.read(directory, READ_KINDS) if e.index < last]
    few: set[int] = set()
    wanted: list[Energies] = []
    for bounds, series in at_deliveries(told, deliveries):
        few.update(c.entry_index for s in series.values() for c in bracket(s, *bounds))
        wanted.append(energies(series, bounds))
    first = min(few, default=last)
    since = [e for e in told if e.index >= first]
    least = [e for e in since if e.index in few or e.kind == "time_step"]
    for taken in (least, since):
        if [
            energies(series, bounds) for bounds, series in at_deliveries(taken, deliveries)
        ] == wanted:
            return taken
    return told


def at_deliveries(
    entries: Iterable[Entry], deliveries: Iterable[Entry]
) -> Iterator[tuple[tuple[int, int], Series]]:
    """The bounds of each delivery, and the readings that count when it was written."""
    series: Series = {}
    due = sorted(deliveries, key=lambda e: e.index)
    for entry in entries:
        while due and due[0].index < entry.index:
            yield interval_of(due.pop(0)), series
        fold(series, entry.fields, entry.index)
    for delivery in due:
        yield interval_of(delivery), series


def energies(series: Series, bounds: tuple[int, int]) -> Energies:
    """Energy of each terminal that could be read, and whether it is estimated."""
    found = {terminal: metered(counted, *bounds) for terminal, counted in series.items()}
    return {terminal: energy for terminal, energy in found.items() if energy[0] is not None}
