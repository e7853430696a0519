"""Checking a receipt offline: proofs, signatures, and the energy computed again.

Collects every fault with its place instead of stopping at the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from ledger.audit import delivery, evidence, trade
from ledger.audit.delivery import EntryError
from ledger.audit.evidence import Entry, has_trade, in_force, interval_of
from ledger.log import checkpoint, note
from ledger.log.merkle import ProofError, leaf_hash, verify_inclusion
from ledger.log.note import Key, NoteError

RECEIPT_BYTES_MAX = 256 << 20
"""A year of one-minute readings stays below; a larger file is not a receipt."""

ENDS = ("out_terminal", "in_terminal")

CHECKED = (
    "every enclosed entry is in the ledger that the checkpoint commits to",
    "the checkpoint is signed by the given key",
    "the trade's signatures, and that site, SOP, direction and energies are the accepted ones",
    "each interval's energy, computed again from the enclosed readings",
)
NOT_CHECKED = (
    "whether the ledger holds further entries about this trade",
    "whether the ledger as a whole is free of faults (sopledger verify)",
    "whether the meters told the truth",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFault:
    """One thing that is wrong with a receipt, and where."""

    place: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptReport:
    """The outcome of checking a receipt."""

    trade_id: str
    origin: str
    tree_size: int
    entry_count: int
    intervals: tuple[Mapping[str, Any], ...]
    faults: tuple[ReceiptFault, ...]
    checked: tuple[str, ...] = CHECKED
    not_checked: tuple[str, ...] = NOT_CHECKED

    @property
    def ok(self) -> bool:
        """Whether the receipt proves what it says."""
        return not self.faults


class RowShape(msgspec.Struct, forbid_unknown_fields=True):
    """One interval of a receipt."""

    start: str
    end: str
    contracted_wh: int
    delivered_wh: int
    status: str
    reasons: list[Any]


class EntryShape(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of a receipt with its proof."""

    index: int
    leaf: str
    proof: list[str]


class SignatureShape(msgspec.Struct, forbid_unknown_fields=True):
    """One signature of the trade."""

    keyid: str
    sig: str


class MessageShape(msgspec.Struct, forbid_unknown_fields=True):
    """The signed trade."""

    payloadType: str  # noqa: N815 - the field's name in DSSE
    payload: str
    signatures: list[SignatureShape]


class ReceiptShape(msgspec.Struct, forbid_unknown_fields=True):
    """The whole receipt."""

    schema: str
    trade_id: str
    intervals: list[RowShape]
    trade: MessageShape
    entries: list[EntryShape]
    checkpoint: str
    tlog: str


class Faults:
    """Faults as they are found."""

    def __init__(self) -> None:
        self.found: list[ReceiptFault] = []

    def add(self, place: str, what: str) -> None:
        """Note one fault."""
        self.found.append(ReceiptFault(place=place, what=what))


def verify(receipt: bytes, *, vkey: str, more_vkeys: Sequence[str] = ()) -> ReceiptReport:
    """Check a receipt with nothing but the ledger's public key.

    Args:
        receipt: The file's bytes.
        vkey: The log's verifier key.
        more_vkeys: Keys of witnesses, and of the log before or after its key was changed. One key
            of the log must have signed; the checkpoint may carry signatures of the given keys
            and of further keys of the log, and no others.

    Raises:
        NoteError: A given key is not a verifier key.
    """
    key = note.parse_vkey(vkey)
    more = [note.parse_vkey(v) for v in more_vkeys]
    faults = Faults()
    try:
        shape = parse(receipt)
    except (EntryError, msgspec.ValidationError) as error:
        faults.add("receipt", str(error))
        return ReceiptReport(
            trade_id="", origin="", tree_size=0, entry_count=0, intervals=(),
            faults=tuple(faults.found),
        )  # fmt: skip
    point = check_checkpoint(shape.checkpoint, key, more, faults)
    entries = list(check_entries(shape.entries, point, faults))
    if not faults.found:
        Story(shape, entries, faults).check()
    return ReceiptReport(
        trade_id=shape.trade_id,
        origin=point.origin if point else "",
        tree_size=point.size if point else 0,
        entry_count=len(entries),
        intervals=tuple(msgspec.to_builtins(r) for r in shape.intervals),
        faults=tuple(faults.found),
    )


def parse(receipt: bytes) -> ReceiptShape:
    """Read a receipt's shape; unknown and repeated fields are refused."""
    if len(receipt) > RECEIPT_BYTES_MAX:
        raise EntryError("too large for a receipt")
    shape = msgspec.convert(trade.strict_json(receipt), ReceiptShape)
    if shape.schema != "sopgw/v1/receipt" or shape.tlog != "C2SP":
        raise EntryError(f"schema {shape.schema}, tlog {shape.tlog}: not a receipt known here")
    return shape


def check_checkpoint(
    text: str, key: Key, more: Sequence[Key], faults: Faults
) -> checkpoint.Checkpoint | None:
    """Check the checkpoint's signatures; every line must be one that a given key can check.

    But for the log's own: right after a key change the old key and the new one have both signed,
    and one of them that is given is enough.
    """
    try:
        signed = checkpoint.parse(text.encode())
        good = checkpoint.verified_keys(signed.note, [key, *more])
    except (NoteError, UnicodeEncodeError) as error:
        faults.add("checkpoint", str(error))
        return None
    origin = signed.checkpoint.origin
    logs = [k for k in (key, *more) if k.algorithm_code == note.ED25519 and k.name == origin]
    signed_by_log = any(k in good for k in logs)
    if not logs:
        faults.add("checkpoint", f"is of {origin}, the key of {key.name}")
    elif not signed_by_log:
        names = " or ".join(f"{k.name}+{k.key_hash.hex()}" for k in logs)
        faults.add("checkpoint", f"not signed by {names}")
    checked = {(k.name, k.key_hash) for k in good}
    rest = [s for s in signed.note.signatures if (s.name, s.key_hash) not in checked]
    if any(s.name != origin or not signed_by_log for s in rest):
        faults.add("checkpoint", "carries a signature that no given key can check")
    return signed.checkpoint


def check_entries(
    shapes: Sequence[EntryShape], point: checkpoint.Checkpoint | None, faults: Faults
) -> Iterator[Entry]:
    """Check each entry's inclusion proof and decode it."""
    previous = -1
    for position, shape in enumerate(shapes):
        place = f"entries[{position}] (index {shape.index})"
        if shape.index <= previous:
            faults.add(place, "entries are not in order")
        previous = shape.index
        try:
            leaf = note.strict_base64(shape.leaf)
            proof = [note.strict_base64(h) for h in shape.proof]
            if point is not None:
                verify_inclusion(
                    index=shape.index, size=point.size, leaf=leaf_hash(leaf), proof=proof,
                    root=point.root,
                )  # fmt: skip
        except (NoteError, ProofError) as error:
            faults.add(place, str(error))
            continue
        yield evidence.decoded(shape.index, leaf)


class Story:
    """What the enclosed entries say about the trade, checked against each other."""

    def __init__(self, shape: ReceiptShape, entries: Sequence[Entry], faults: Faults) -> None:
        self.shape = shape
        self.faults = faults
        self.by_index = {e.index: e for e in entries}
        self.by_kind: dict[str, list[Entry]] = {}
        for entry in entries:
            self.by_kind.setdefault(entry.kind, []).append(entry)

    def check(self) -> None:
        """Run every check; a field that is missing or odd becomes a fault too."""
        for place, check in (
            ("trade", self.check_trade),
            ("intervals", self.check_rows),
            ("entries", self.check_intents),
        ):
            try:
                check()
            except evidence.UNUSABLE as error:
                self.faults.add(place, f"an enclosed entry cannot be used: {error!r}")

    def of(self, kind: str) -> list[Entry]:
        """Enclosed entries of a kind."""
        return self.by_kind.get(kind, [])

    def accepted(self) -> list[Entry]:
        """The acceptances of this trade."""
        return [e for e in self.of("trade.accepted") if e.fields["trade_id"] == self.shape.trade_id]

    def contracted_at(self, bounds: tuple[int, int], index: int) -> int:
        """Energy that was accepted for an interval when entry ``index`` was written."""
        known = [e for e in self.accepted() if e.index < index]
        positions = known[-1].fields["positions"] if known else ()
        found = (p["energy_wh"] for p in positions if delivery.bounds_ms(p["interval"]) == bounds)
        return next(found, 0)

    def check_trade(self) -> None:
        """The signed message is the one received, and says what was accepted."""
        accepted = self.accepted()
        if not accepted:
            self.faults.add("trade", f"no enclosed entry accepts {self.shape.trade_id}")
            return
        for entry in accepted:
            received = self.by_index.get(entry.fields["received_index"])
            if received is None or received.kind != "trade.received":
                self.faults.add("trade", f"entry {entry.index} cites a message not enclosed")
                continue
            self.check_message(entry, received, newest=entry is accepted[-1])

    def check_message(self, accepted: Entry, received: Entry, *, newest: bool) -> None:
        """One received message: its bytes, its signatures, its terms.

        It was judged when it was decided, perhaps a start after it came.
        """
        payload = trade.base64_bytes(received.fields["payload"])
        place = f"trade (entry {received.index})"
        if sha256(payload).hexdigest() != received.fields["sha256"]:
            self.faults.add(place, "the payload does not have the hash the entry states")
        message = trade.strict_json(payload)
        if newest and message != msgspec.to_builtins(self.shape.trade):
            self.faults.add("trade", "differs from the message in the ledger")
        entry = in_force(self.of("config"), accepted.index)
        if entry is None:
            self.faults.add(place, "no configuration before it is enclosed")
            return
        config = entry.fields["config"]
        body, names = trade.signers_of(message, config["signers"])
        required = config["required"]
        if len(names) < required:
            self.faults.add(place, f"{len(names)} known signatures, {required} are required")
        signed = trade.signed_terms(body, self.shape.trade_id)
        what = trade.differing(signed, trade.accepted_terms(accepted.fields, config))
        if what is not None:
            self.faults.add(place, what)

    def check_rows(self) -> None:
        """Each interval's figures follow from the readings and stand so in the ledger."""
        positions = {
            delivery.bounds_ms(p["interval"]): p["energy_wh"]
            for e in self.accepted()
            for p in e.fields["positions"]
        }
        newest = self.accepted()[-1:]
        wanted = {delivery.bounds_ms(p["interval"]) for e in newest for p in e.fields["positions"]}
        seen: set[tuple[int, int]] = set()
        for number, row in enumerate(self.shape.intervals):
            place = f"intervals[{number}]"
            bounds = delivery.bounds_ms({"start": row.start, "end": row.end})
            if bounds in seen:
                self.faults.add(place, "stands twice")
            seen.add(bounds)
            if bounds not in positions:
                self.faults.add(place, "is not an interval of this trade")
            self.check_row(place, bounds, row, positions.get(bounds, 0))
        if wanted - seen:
            self.faults.add("intervals", f"{len(wanted - seen)} intervals of the trade are missing")

    def check_row(
        self, place: str, bounds: tuple[int, int], row: RowShape, accepted_wh: int
    ) -> None:
        """One interval against its delivery entry, and that against the rule."""
        settled = [
            e
            for e in self.of("delivery")
            if interval_of(e) == bounds and has_trade(e, self.shape.trade_id)
        ]
        if not settled:
            nothing = (0, 0, "cancelled")
            if accepted_wh or (row.contracted_wh, row.delivered_wh, row.status) != nothing:
                self.faults.add(place, "no enclosed delivery entry settles it")
            return
        if len(settled) > 1:
            self.faults.add(place, "settled by more than one delivery entry")
        stated = next(
            t for t in settled[0].fields["trades"] if t["trade_id"] == self.shape.trade_id
        )
        if (row.start, row.end) != tuple(
            settled[0].fields["interval"][k] for k in ("start", "end")
        ):
            self.faults.add(place, "start or end is not written as in the ledger")
        for name in ("contracted_wh", "delivered_wh", "status", "reasons"):
            if getattr(row, name) != stated[name]:
                self.faults.add(
                    f"{place}.{name}",
                    f"{getattr(row, name)!r} here, {stated[name]!r} in entry {settled[0].index}",
                )
        plans = [
            e
            for e in self.of("plan")
            if interval_of(e) == bounds
            and e.index < settled[0].index
            and has_trade(e, self.shape.trade_id)
        ]
        wanted_wh = self.contracted_at(bounds, (plans or settled)[0].index)
        if row.contracted_wh != wanted_wh:
            self.faults.add(f"{place}.contracted_wh", f"{wanted_wh} Wh were accepted")
        if plans:
            self.check_plan(place, plans)
            self.recompute(place, row, settled[0], plans[0])
        elif row.delivered_wh or row.status != delivery.status_of_nothing(wanted_wh):
            self.faults.add(place, "no enclosed plan entry is for it")

    def check_plan(self, place: str, plans: Sequence[Entry]) -> None:
        """One plan, between the terminals of the trade, of no more than was contracted."""
        rows = [
            t for p in plans for t in p.fields["trades"] if t["trade_id"] == self.shape.trade_id
        ]
        if len(rows) > 1:
            self.faults.add(place, "planned more than once")
        accepted = [e for e in self.accepted() if e.index < plans[0].index]
        for one in rows:
            if not 0 <= one["planned_wh"] <= one["contracted_wh"]:
                self.faults.add(place, f"{one['planned_wh']} Wh planned")
            if any(a.fields[end] != one[end] for a in accepted[-1:] for end in ENDS):
                self.faults.add(place, "planned between other terminals than was accepted")

    def recompute(self, place: str, row: RowShape, settled: Entry, plan: Entry) -> None:
        """Compute the energy again from the enclosed readings."""
        config = in_force(self.of("config"), settled.index)
        if config is None:
            self.faults.add(place, "no configuration before its delivery is enclosed")
            return
        told = sorted([*self.of("reading"), *self.of("time_step")], key=lambda e: e.index)
        readings = [e.fields for e in told if e.index < settled.index]
        found = delivery.settle(
            config=config.fields["config"],
            plan=plan.fields,
            readings=delivery.counters(readings),
        ).trades[self.shape.trade_id]
        if row.contracted_wh != found.contracted_wh:
            self.faults.add(
                f"{place}.contracted_wh",
                f"{row.contracted_wh} Wh stated, {found.contracted_wh} Wh in the plan",
            )
        if row.delivered_wh != found.delivered_wh:
            self.faults.add(
                f"{place}.delivered_wh",
                f"{row.delivered_wh} Wh stated, {found.delivered_wh} Wh follow from the readings",
            )
        if row.status != found.status:
            self.faults.add(
                f"{place}.status", f"{row.status} stated, {found.status} follows from the readings"
            )

    def check_intents(self) -> None:
        """Each enclosed intent belongs to an enclosed plan and ends once: by outcome or abort.

        Only the last one may still be without, when the receipt was made while it was under way.
        """
        plans = {e.index for e in self.of("plan")}
        ends: dict[int, int] = {}
        for entry in (*self.of("outcome"), *self.of("abort")):
            index = entry.fields["intent_index"]
            ends[index] = ends.get(index, 0) + 1
        for entry in self.of("intent"):
            place = f"entries (index {entry.index})"
            if entry.fields["plan_index"] not in plans:
                self.faults.add(place, "an intent without its plan")
            count = ends.get(entry.index, 0)
            under_way = count == 0 and entry is self.of("intent")[-1]
            if count != 1 and not under_way:
                self.faults.add(place, f"an intent with {count} ends")
