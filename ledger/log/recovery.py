"""Opening a ledger for writing: the normal start and the start after a crash are one path.

Reads only the last segment. Keeps every intact record, finds where the written part ends, and
refuses to go on where the damage cannot be the torn tail of an interrupted write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger.log import checkpoint, note, record, segment
from ledger.log.merkle import Frontier, leaf_hash
from ledger.log.note import Key
from ledger.log.reader import parse_batches
from ledger.log.record import Damage, Kind, Record
from ledger.log.segment import Header, LedgerCorrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Where a ledger stands: what is kept and where writing goes on.

    ``checkpoint`` is the newest one found (empty when there is none); ``signed_size`` the entries
    it covers, while ``tree`` may hold further intact ones. ``end_offset`` is where the next
    batch goes; ``torn`` tells that bytes after it must be cut; ``sealed`` that the segment is
    complete; ``closed`` that a close record stands at ``end_offset``.
    """

    path: Path
    header: Header
    tree: Frontier
    checkpoint: bytes
    signed_size: int
    end_offset: int
    torn: bool
    sealed: bool
    closed: bool


def check_note(data: bytes, *, keys: Iterable[Key], tree: Frontier, origin: str) -> None:
    """Raise NoteError unless a checkpoint is ours and over exactly this tree."""
    signed = checkpoint.parse(data)
    if not checkpoint.verified_keys(signed.note, keys):
        raise note.NoteError("it is signed by none of the expected keys")
    point = signed.checkpoint
    if (point.origin, point.size, point.root) != (origin, tree.size, tree.root()):
        raise note.NoteError("it is not over the entries before it")


def read_tail(directory: Path, *, keys: tuple[Key, ...], origin: str) -> Tail | None:
    """Find where a ledger stands; None where there is none yet.

    Raises LedgerCorrupt when going on could hide a loss: damage that is not at the very end, a
    checkpoint that does not fit the entries, a foreign key or origin.
    """
    paths = segment.segments(directory)
    if not paths:
        return None
    path = paths[-1]
    try:
        header = segment.read_header(path)
        if header.origin != origin:
            raise LedgerCorrupt(f"this ledger's origin is {header.origin}, not {origin}")
        return scan_tail(path, path.read_bytes(), header, keys)
    except (Damage, note.NoteError) as error:
        offset = error.offset if isinstance(error, Damage) else 0
        raise LedgerCorrupt(f"{path.name} offset {offset}: {error}") from None


def scan_tail(path: Path, view: bytes, header: Header, keys: tuple[Key, ...]) -> Tail:
    """Walk the last segment and judge what follows its last intact record.

    Whole batches are read in the reader's fast loop; what stands behind the last of them, record
    by record.
    """
    tree, newest, end = whole_batches(view, header)
    signed = tree.copy()
    sealed = closed = torn = False
    try:
        for item in record.walk(view, end, tree.size):
            if item.kind is Kind.LEAF:
                tree.push(leaf_hash(item.payload))
            elif item.kind is Kind.REMOVED:
                tree.push(item.payload)
            elif item.kind in (Kind.HEADER, Kind.CHECKPOINT):
                raise LedgerCorrupt(f"{path.name} offset {item.offset}: a record out of place")
            else:
                sealed, closed = item.kind is Kind.SEAL, item.kind is Kind.CLOSE
                stray = record.all_zero(view, item.end_offset)
                if stray is not None:
                    raise LedgerCorrupt(f"{path.name} offset {stray}: bytes after the end record")
                end = item.end_offset if sealed else item.offset
                break
            end = item.end_offset
    except Damage as damage:
        refuse_old_damage(view[damage.offset :], damage, signed.size, keys, header.origin)
        torn = True
    else:
        torn = not (closed or sealed) and record.all_zero(view, end) is not None
        if torn:
            gap = Damage(end, "zeros where a record was")
            refuse_old_damage(view[end:], gap, signed.size, keys, header.origin)
    following = path.with_name(f"{tree.size:020d}.new")
    if sealed and not following.exists():
        raise LedgerCorrupt(f"{path.name} is sealed and the segment after it is missing")
    if signed.size:  # the newest alone: a key change ago the header was another key's to sign
        check_note(newest, keys=keys, tree=signed, origin=header.origin)
    return Tail(
        path=path, header=header, tree=tree, checkpoint=newest, signed_size=signed.size,
        end_offset=end, torn=torn, sealed=sealed, closed=closed,
    )  # fmt: skip


def whole_batches(view: bytes, header: Header) -> tuple[Frontier, bytes, int]:
    """The tree after the last whole batch, its checkpoint, and where it ends."""
    tree, newest = header.tree(), header.checkpoint
    end = segment.parse_start(view, header.size)[1]
    try:
        for batch in parse_batches(view, header.size, header.size):
            tree.extend_hashed(
                body if removed else leaf_hash(body) for body, removed in batch.bodies
            )
            newest, end = batch.checkpoint, batch.end_offset
    except Damage:  # judged where the tail is read record by record
        pass
    return tree, newest, end


def refuse_old_damage(
    pieces: bytes, damage: Damage, signed_size: int, keys: tuple[Key, ...], origin: str
) -> None:
    """Raise the damage unless it can be the torn tail of the batch that was being written.

    A batch is written only after the one before it is durable. So when anything of a later batch
    stands behind the damaged one, the damaged one had been acknowledged, and cutting would lose
    it. Batches are recognised by checkpoints of ours, which nobody else can make. ``pieces`` is
    everything from the damaged place on, ``signed_size`` where the damaged batch begins.
    """
    for item in signed_behind(pieces, signed_size, keys, origin):
        follows = pieces[item.end_offset : item.end_offset + record.FRAME_BYTES]
        if item.index > signed_size or follows.strip(b"\0"):
            where = f"entry {damage.index}" if damage.index is not None else "a record"
            raise Damage(
                damage.offset, f"{where} is damaged although later batches follow: {damage.what}"
            )


def signed_behind(
    pieces: bytes, signed_size: int, keys: Iterable[Key], origin: str
) -> Iterator[Record]:
    """The intact records in damaged bytes that hold a checkpoint of ours.

    Only of batches from entry ``signed_size`` on: an entry may carry a copy of an older one.
    """
    prefix, place, known = origin.encode() + b"\n", 0, tuple(keys)
    while (place := pieces.find(prefix, place)) >= 0:
        start = place - record.FRAME_BYTES
        place += 1
        if start < 0:
            continue
        index = int.from_bytes(pieces[start + 8 : start + 16], "big")
        try:
            item = record.read(pieces, start, index)
            if item is None or item.kind is not Kind.CHECKPOINT or index < signed_size:
                continue
            if checkpoint.verified_keys(checkpoint.parse(item.payload).note, known):
                yield item
        except (Damage, note.NoteError):
            continue
