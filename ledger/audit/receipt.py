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
from ledger.audit.delivery import EntryError, bounds_ms
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
    """Readings inside the settled intervals and those that bracket their boundaries.

    Only readings that stood in the ledger before the delivery count for it.
    """
    if not deliveries:
        return []
    chosen: dict[int, Entry] = {}
    readings = list(evidence.read(directory, frozenset({"reading"})))
    for delivery in deliveries:
        start, end = (ms * 1000 for ms in interval_of(delivery))
        known = [e for e in readings if e.index < delivery.index]
        chosen.update((e.index, e) for e in window(known, start, end))
    return list(chosen.values())


def window(readings: Iterable[Entry], start_us: int, end_us: int) -> Iterator[Entry]:
    """Readings in ``[start, end]``, and for each meter the nearest good ones outside."""
    before: dict[str, tuple[int, Entry]] = {}
    after: dict[str, tuple[int, Entry]] = {}
    for entry in readings:
        for meter in entry.fields["meters"]:
            at, name = meter["utc_us"], meter["meter"]
            if start_us <= at <= end_us:
                yield entry
            elif meter["quality"] != "good":
                continue
            elif at < start_us and (name not in before or before[name][0] < at):
                before[name] = (at, entry)
            elif at > end_us and (name not in after or after[name][0] > at):
                after[name] = (at, entry)
    yield from (entry for _, entry in (*before.values(), *after.values()))
