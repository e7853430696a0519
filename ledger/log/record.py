"""Frames of a segment file: checksum, length, index, kind, payload.

The checksum covers everything after itself, the index included, so that a record that was
written to the wrong place does not pass.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

FRAME = struct.Struct(">IIQB")
BODY = struct.Struct(">IQB")
FRAME_BYTES = FRAME.size
ZERO_FRAME = bytes(FRAME_BYTES)

PAYLOAD_BYTES_MAX = 1 << 20
"""Leaves end at 65,535 bytes; a checkpoint with many cosignatures at about a megabyte."""


class Kind(IntEnum):
    """What a record is."""

    LEAF = 1
    CHECKPOINT = 2
    HEADER = 3
    SEAL = 4
    CLOSE = 5
    REMOVED = 6


LEAVES = (Kind.LEAF, Kind.REMOVED)
KINDS = frozenset(Kind)


class Damage(Exception):  # noqa: N818 - a state of the ledger, in its own word
    """Bytes that are no record, at an offset; ``index`` is the entry they belong to, or None."""

    def __init__(self, offset: int, what: str, index: int | None = None) -> None:
        super().__init__(what)
        self.offset = offset
        self.what = what
        self.index = index


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One intact record; ``end_offset`` is where the next one starts."""

    kind: Kind
    index: int
    payload: bytes
    offset: int
    end_offset: int


def encode(kind: Kind, index: int, payload: bytes) -> bytes:
    """The bytes of one record."""
    body = BODY.pack(len(payload), index, kind)
    return crc32(payload, crc32(body)).to_bytes(4, "big") + body + payload


def encode_leaves(first_index: int, leaves: Iterable[bytes]) -> bytes:
    """The bytes of leaf records one after another."""
    pack, kind = BODY.pack, int(Kind.LEAF)
    return b"".join(
        [
            crc32(body := pack(len(leaf), index, kind) + leaf).to_bytes(4, "big") + body
            for index, leaf in enumerate(leaves, first_index)
        ]
    )


def read(
    buffer: bytes, offset: int, next_index: int, batch_index: int | None = None
) -> Record | None:
    """Read the record at ``offset``; None where the written part ends.

    The written part ends at the end of the buffer or at a frame of zeros. A checkpoint carries
    the index of the first entry of its batch (``batch_index``), everything else ``next_index``.
    Raises Damage for bytes that are no intact record in its place.
    """
    head = buffer[offset : offset + FRAME_BYTES]
    if not head.strip(b"\0"):
        return None
    if len(head) < FRAME_BYTES:
        raise Damage(offset, "a record is cut off", None)
    checksum, length, index, kind = FRAME.unpack(head)
    entry = next_index if kind in LEAVES else None
    end = offset + FRAME_BYTES + length
    if length > PAYLOAD_BYTES_MAX or end > len(buffer):
        raise Damage(offset, "a record's length leads out of the file", entry)
    payload = buffer[offset + FRAME_BYTES : end]
    if crc32(payload, crc32(head[4:])) != checksum:
        if crc32(payload, crc32(BODY.pack(length, index, Kind.LEAF))) == checksum:
            entry = next_index
        raise Damage(offset, "a record's checksum does not fit", entry)
    if kind not in KINDS:
        raise Damage(offset, f"unknown kind of record {kind}", None)
    wanted = batch_index if kind == Kind.CHECKPOINT and batch_index is not None else next_index
    if index != wanted:
        raise Damage(offset, f"a record says index {index} where {wanted} belongs", entry)
    return Record(kind=Kind(kind), index=index, payload=payload, offset=offset, end_offset=end)


def walk(buffer: bytes, offset: int, next_index: int) -> Iterator[Record]:
    """Read the records of a segment one after another up to the end of the written part.

    Starts behind the header or behind a checkpoint, where ``next_index`` begins a batch.
    """
    batch_index = next_index
    while (record := read(buffer, offset, next_index, batch_index)) is not None:
        yield record
        offset = record.end_offset
        if record.kind in LEAVES:
            next_index += 1
        elif record.kind is Kind.CHECKPOINT:
            batch_index = next_index


def all_zero(buffer: bytes, offset: int) -> int | None:
    """Offset of the first byte that is not zero at or after ``offset``, or None."""
    step = 1 << 16
    for start in range(offset, len(buffer), step):
        chunk = buffer[start : start + step]
        rest = chunk.lstrip(b"\0")
        if rest:
            return start + len(chunk) - len(rest)
    return None
