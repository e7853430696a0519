"""Reading entries in order, also beside a writer at work.

Only whole batches are given out, and only after a sync of ours, so that no reader ever acts on an
entry that a power cut could take back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from ledger.log import canonical, checkpoint, note, record, segment
from ledger.log.record import Damage, Kind
from ledger.log.segment import Header, LedgerCorrupt

BLOCK_BYTES = 1 << 16
ROOM_BYTES = record.PAYLOAD_BYTES_MAX + record.FRAME_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries that were made durable together; a removed entry's body is its hash.

    ``bodies`` holds pairs of data and whether that data is only the leaf hash of a removed body;
    ``end_offset`` is where the batch ends in its segment.
    """

    first_index: int
    bodies: tuple[tuple[bytes, bool], ...]
    checkpoint: bytes
    end_offset: int = 0

    @property
    def size(self) -> int:
        """Tree size after this batch."""
        return self.first_index + len(self.bodies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The end of a batch: where to read on without reading again what stands before."""

    segment: Path
    offset: int
    size: int


def batches(directory: Path, start: int = 0, place: Place | None = None) -> Iterator[Batch]:
    """Give the durable batches that hold entries at or after ``start``, in order.

    From ``place`` on, when it is given: the end of the last batch that the caller knows.
    """
    paths = segment.segments(directory)
    for position, path in enumerate(paths):
        if position + 1 < len(paths) and segment.first_index(paths[position + 1]) <= start:
            continue
        here = place if place is not None and place.segment == path else None
        yield from segment_batches(path, start, last=position + 1 == len(paths), place=here)


def place_of(directory: Path, batch: Batch) -> Place:
    """Where a batch ends."""
    paths = segment.segments(directory)
    path = max(p for p in paths if segment.first_index(p) <= batch.first_index)
    return Place(segment=path, offset=batch.end_offset, size=batch.size)


def segment_batches(
    path: Path, start: int, *, last: bool, place: Place | None = None
) -> Iterator[Batch]:
    """Give the batches of one segment; damage in the last one's tail ends it quietly.

    What stands before ``place`` is not read: who follows a ledger does so every few seconds.
    """
    base = place.offset if place is not None else 0
    with path.open("rb") as file:
        file.seek(base)
        data = file.read() if place is None else written(file)
    if last:
        settle(path)
    try:
        if place is None:
            yield from parse_batches(data, segment.first_index(path), start)
        else:
            yield from parse_batches(data, place.size, start, 0, base)
    except Damage as damage:
        if not last:
            raise LedgerCorrupt(f"{path.name} offset {damage.offset + base}: {damage}") from None


def written(file: BinaryIO) -> bytes:
    """What was written from here on, without the zeros of the room made for what comes.

    Zeros of more than a record's length have a record's end among them, and behind that nothing.
    """
    parts: list[bytes] = []
    zeros_count = 0
    while zeros_count < ROOM_BYTES and (block := file.read(BLOCK_BYTES)):
        if block == bytes(len(block)):
            zeros_count += len(block)
        else:
            parts += (bytes(zeros_count), block)
            zeros_count = 0
    return b"".join(parts)


def parse_batches(
    data: bytes, index: int, start: int, offset: int | None = None, base: int = 0
) -> Iterator[Batch]:
    """Give the batches in a segment's bytes; raises Damage where they end badly.

    Entry ``index`` stands at ``offset``, behind the header where that is not given. The first
    byte stands at ``base`` in the segment; Damage counts from there.
    Entries are read without an object for each record: everything derived waits for this loop.
    """
    unpack, frame_bytes, limit = record.FRAME.unpack_from, record.FRAME_BYTES, len(data)
    leaf, removed = int(Kind.LEAF), int(Kind.REMOVED)
    if offset is None:
        header = record.read(data, 0, index)
        offset = header.end_offset if header else limit
    while True:
        first, bodies = index, []
        while offset + frame_bytes <= limit:
            checksum, length, stated, kind = unpack(data, offset)
            if kind not in (leaf, removed):
                break
            end = offset + frame_bytes + length
            if end > limit or stated != index or crc32(data[offset + 4 : end]) != checksum:
                record.read(data, offset, index, first)
                raise Damage(offset, "a record's checksum does not fit", index)
            bodies.append((data[offset + frame_bytes : end], kind == removed))
            index += 1
            offset = end
        item = record.read(data, offset, index, first)
        if item is None or item.kind is not Kind.CHECKPOINT:
            return
        offset = item.end_offset
        if index > start:
            yield Batch(
                first_index=first,
                bodies=tuple(bodies),
                checkpoint=item.payload,
                end_offset=base + offset,
            )


def settle(path: Path) -> None:
    """Sync a file somebody else may be writing; what was read from it before is durable then."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def entries(directory: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give ``(index, leaf)`` of the durable entries from ``start`` on.

    Entries whose body was removed after export are passed over.
    """
    for batch in batches(directory, start):
        for index, (body, removed) in enumerate(batch.bodies, batch.first_index):
            if index >= start and not removed:
                yield index, body


def last_checkpoint(directory: Path) -> bytes:
    """The newest durable signed checkpoint; empty when the ledger has none yet."""
    newest = b""
    for path in reversed(segment.segments(directory)):
        for batch in segment_batches(path, 0, last=True):
            newest = batch.checkpoint
        if newest:
            return newest
        try:
            newest = segment.read_header(path).checkpoint
        except Damage as damage:
            raise LedgerCorrupt(f"{path.name} offset {damage.offset}: {damage}") from None
        if newest:
            return newest
    return newest


def last_size(directory: Path) -> int:
    """Number of durable entries."""
    newest = last_checkpoint(directory)
    return checkpoint.parse(newest).checkpoint.size if newest else 0


def vkey_in_force(directory: Path, header: Header) -> str:
    """The verifier key that signs now, of a ledger whose newest segment has this header.

    The header's, or one that an entry named since and that signed the newest checkpoint.
    """
    named = [note.parse_vkey(header.vkey)]
    try:
        for _, leaf in entries(directory, header.size):
            if b'"kind":"key"' in leaf and (entry := canonical.decode(leaf))["kind"] == "key":
                named.append(note.parse_vkey(str(entry["vkey"])))
        newest = checkpoint.parse(last_checkpoint(directory)).note
        good = checkpoint.verified_keys(newest, named)
    except (note.NoteError, canonical.CanonicalError, KeyError, LedgerCorrupt):
        return header.vkey  # nothing is signed yet, or sopledger verify says what is wrong
    return next((key.vkey for key in reversed(named) if key in good), header.vkey)
