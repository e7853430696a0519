"""Segment files: their names, their header, how one is made so that it survives a power cut.

A ledger's truth is ``segments/<first index, 20 digits>.seg``, each a header record, batches and
an end. A batch is one or more leaves and the signed checkpoint over the tree up to them.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ledger.log import checkpoint, note, record
from ledger.log.merkle import HASH_BYTES, Frontier
from ledger.log.owner import adopt
from ledger.log.record import Damage, Kind, Record

FORMAT_VERSION = 1
SEGMENT_BYTES = 64 << 20
"""Recovery reads one segment; at 200-byte entries that is 300,000 of them, under a second."""

EXTENT_BYTES = 4 << 20
"""A segment grows by this much at a time, so that most syncs move data and no metadata."""

FOLDER = "segments"
SUFFIX = ".seg"


class LedgerCorrupt(Exception):  # noqa: N818 - a state of the ledger, in its own word
    """The files are not a ledger that may be continued; says the segment and the offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """First record of a segment: enough to go on from here without the segments before it.

    ``checkpoint`` is the last signed checkpoint before the segment (empty for the first one); its
    root is the root of ``frontier``.
    """

    format_version: int
    origin: str
    vkey: str
    segment_seq: int
    size: int
    frontier: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """The header's record."""
        payload = msgspec.json.encode(
            {
                "checkpoint": self.checkpoint.decode(),
                "format": self.format_version,
                "frontier": [h.hex() for h in self.frontier],
                "origin": self.origin,
                "segment": self.segment_seq,
                "size": self.size,
                "vkey": self.vkey,
            },
            order="sorted",
        )
        return record.encode(Kind.HEADER, self.size, payload)

    def tree(self) -> Frontier:
        """The tree as it stood when the segment began."""
        return Frontier(self.size, self.frontier)


class HeaderShape(msgspec.Struct, forbid_unknown_fields=True):
    """JSON shape of a header."""

    checkpoint: str
    format: int
    frontier: list[str]
    origin: str
    segment: int
    size: int
    vkey: str


_headers = msgspec.json.Decoder(HeaderShape)


def parse_header(first: Record) -> Header:
    """Read a header record; raise Damage when it is not one this program understands."""
    if first.kind is not Kind.HEADER:
        raise Damage(first.offset, "a segment does not begin with a header")
    try:
        shape = _headers.decode(first.payload)
        frontier = tuple(bytes.fromhex(h) for h in shape.frontier)
        note.parse_vkey(shape.vkey)
    except (msgspec.MsgspecError, ValueError, note.NoteError, RecursionError) as error:
        raise Damage(first.offset, f"a segment header cannot be read: {error}") from None
    if shape.format != FORMAT_VERSION:
        raise Damage(first.offset, f"format version {shape.format} is not known here")
    if shape.size != first.index or len(frontier) != max(shape.size, 0).bit_count():
        raise Damage(first.offset, "a segment header contradicts itself")
    if any(len(h) != HASH_BYTES for h in frontier):
        raise Damage(first.offset, "a segment header has a hash of the wrong length")
    header = Header(
        format_version=shape.format,
        origin=shape.origin,
        vkey=shape.vkey,
        segment_seq=shape.segment,
        size=shape.size,
        frontier=frontier,
        checkpoint=shape.checkpoint.encode(),
    )
    if header.encode()[record.FRAME_BYTES :] != first.payload:
        raise Damage(first.offset, "a segment header is not in canonical form")
    check_start(header, first.offset)
    return header


def check_start(header: Header, offset: int) -> None:
    """Raise Damage unless the header's checkpoint is over exactly the header's frontier."""
    if header.size == 0:
        if header.checkpoint:
            raise Damage(offset, "the first segment header carries a checkpoint")
        return
    try:
        before = checkpoint.parse(header.checkpoint).checkpoint
    except note.NoteError as error:
        raise Damage(offset, f"a segment header's checkpoint cannot be read: {error}") from None
    if (before.origin, before.size) != (header.origin, header.size):
        raise Damage(offset, "a segment header's checkpoint is not the one before it")
    if before.root != header.tree().root():
        raise Damage(offset, "a segment header's hashes do not lead to its checkpoint")


def segments(directory: Path) -> list[Path]:
    """The segment files of a ledger in order."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix == SUFFIX and len(path.stem) == 20 and path.stem.isdigit()
    )


def first_index(path: Path) -> int:
    """The index of the first entry of a segment, from its name."""
    return int(path.stem)


def segment_path(directory: Path, index: int) -> Path:
    """Where the segment that starts at ``index`` lives."""
    return directory / FOLDER / f"{index:020d}{SUFFIX}"


def read_header(path: Path) -> Header:
    """Read the header of a segment file; raise Damage when it is damaged."""
    with path.open("rb") as file:
        head = file.read(record.FRAME_BYTES)
        length = int.from_bytes(head[4:8], "big")
        if length <= record.PAYLOAD_BYTES_MAX:
            head += file.read(length)
    return parse_start(head, first_index(path))[0]


def parse_start(data: bytes, index: int) -> tuple[Header, int]:
    """Read the header at the start of a segment's bytes, and the offset behind it."""
    first = record.read(data, 0, index)
    if first is None:
        raise Damage(0, "a segment is empty")
    return parse_header(first), first.end_offset


def sync_directory(path: Path) -> None:
    """Make a creation, rename or removal in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prepare(directory: Path, header: Header) -> None:
    """Write the next segment under a temporary name, with room allocated, and sync it."""
    temporary = segment_path(directory, header.size).with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o644)
    try:
        adopt(descriptor, temporary.parent)
        os.posix_fallocate(descriptor, 0, EXTENT_BYTES)
        write_all(descriptor, header.encode(), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(temporary.parent)


def publish(directory: Path, header: Header) -> Path:
    """Give a prepared segment its name; it appears complete or not at all."""
    path = segment_path(directory, header.size)
    path.with_suffix(".new").rename(path)
    sync_directory(path.parent)
    return path


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write at an offset; a short write is an error, never something to go on from."""
    written = os.pwrite(descriptor, data, offset)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"short write: {written} of {len(data)} bytes")
