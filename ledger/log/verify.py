"""Verification of a whole ledger from its bytes, by segments in parallel.

Recomputes every checksum, hash, root and signature. Needs the public key and nothing else; says
what was checked, what was not, and where the first bad byte is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from zlib import crc32

from typing_extensions import override

from ledger.log import checkpoint, note, record, segment
from ledger.log.canonical import CanonicalError, decode
from ledger.log.merkle import Frontier
from ledger.log.note import Key
from ledger.log.record import Damage, Kind
from ledger.log.recovery import signed_behind
from ledger.log.segment import Header

PARALLEL_BYTES = 16 << 20
"""Below this a second process costs more than it saves."""

LOOKS_COUNT = 5
"""Beside a busy writer one look may catch a batch half written; five in a row do not each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong, and where: by entry, else by segment and offset.

    ``torn`` tells that it can be the trace of a write that runs or was interrupted: no whole
    record stands there, and nothing that the log's keys signed follows.
    """

    what: str
    index: int | None = None
    last_index: int | None = None
    segment: str | None = None
    offset: int | None = None
    torn: bool = False

    def place(self) -> str:
        """Where the fault is, in words."""
        at = f"segment {self.segment} offset {self.offset}" if self.segment else ""
        if self.index is None:
            return at or "ledger"
        if self.last_index is not None and self.last_index != self.index:
            return f"entries {self.index} to {self.last_index}" + (f" ({at})" if at else "")
        return f"entry {self.index}" + (f" ({at})" if at else "")

    @override
    def __str__(self) -> str:
        return f"{self.place()}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentResult:
    """What one segment's bytes say; the joint with its neighbours is judged by the caller.

    ``tree_end`` is the edge of the tree at its end; ``good_size`` the
    entries up to the last checkpoint that was verified; ``ending`` how the segment ends.
    """

    name: str
    header: Header | None
    tree_end: tuple[int, tuple[bytes, ...]]
    good_size: int
    newest: bytes
    newest_signed: bool
    checkpoint_count: int
    unsigned_count: int
    removed_count: int
    byte_count: int
    ending: Kind | None
    new_vkeys: tuple[str, ...]
    fault: Fault | None


@dataclass(slots=True)
class Counts:
    """Running figures while one segment is walked."""

    good_size: int
    newest: bytes
    newest_signed: bool = True
    checkpoint_count: int = 0
    unsigned_count: int = 0
    removed_count: int = 0
    new_vkeys: list[str] = field(default_factory=list)
    adopted_vkeys: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of a verification."""

    origin: str
    size: int
    good_size: int
    checkpoint: bytes
    checkpoint_count: int
    unsigned_count: int
    removed_count: int
    segment_count: int
    byte_count: int
    closed: bool
    live: bool
    in_flight_count: int
    faults: tuple[Fault, ...]
    adopted_vkeys: tuple[str, ...] = ()
    """Keys that entries under a trusted key introduced; they are trusted from there on."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.faults


def check_segment(path: Path, vkeys: Sequence[str]) -> SegmentResult:
    """Read one segment and recompute everything in it."""
    return check_bytes(path.name, segment.first_index(path), path.read_bytes(), vkeys)


def check_bytes(name: str, start: int, data: bytes, vkeys: Sequence[str]) -> SegmentResult:
    """Recompute everything in a segment's bytes, starting from its own header."""
    keys = [note.parse_vkey(v) for v in vkeys]
    header: Header | None = None
    tree = Frontier()
    counts = Counts(good_size=start, newest=b"")
    ending: Kind | None = None
    fault: Fault | None = None
    try:
        header, offset = segment.parse_start(data, start)
        tree = header.tree()
        counts.newest = header.checkpoint
        if header.size:
            check_batch(header.checkpoint, header.origin, tree, keys, counts, 0)
        while True:
            offset = walk_batch(data, offset, tree, keys, counts, header)
            kind = ending_kind(data, offset, tree.size)
            if kind is not Kind.LEAF:
                ending = kind
                break
    except BadBatch as bad:
        fault = replace(bad.fault, segment=name)
    except Damage as damage:
        fault = Fault(
            what=damage.what, index=damage.index, segment=name, offset=damage.offset,
            torn=not whole_record(data, damage.offset),
        )  # fmt: skip
    if fault is not None and fault.torn:
        fault = replace(fault, torn=header is not None and not any(
            signed_behind(data[fault.offset :], counts.good_size, keys, header.origin)
        ))  # fmt: skip
    return SegmentResult(
        name=name, header=header, tree_end=(tree.size, tree.hashes()),
        good_size=counts.good_size, newest=counts.newest, newest_signed=counts.newest_signed,
        checkpoint_count=counts.checkpoint_count, unsigned_count=counts.unsigned_count,
        removed_count=counts.removed_count, byte_count=len(data), ending=ending,
        new_vkeys=tuple(counts.adopted_vkeys), fault=fault,
    )  # fmt: skip


def whole_record(data: bytes, offset: int) -> bool:
    """Whether the bytes at an offset have a fitting checksum, whatever else is wrong with them."""
    if offset + record.FRAME_BYTES > len(data):
        return False
    checksum, length, _, _ = record.FRAME.unpack_from(data, offset)
    end = offset + record.FRAME_BYTES + length
    fits: bool = crc32(data[offset + 4 : end]) == checksum
    return fits and end <= len(data)


class BadBatch(Exception):  # noqa: N818 - a finding, not a failure of the program
    """Entries whose root is not the signed one, or none is signed; bytes where none may be."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


def walk_batch(
    data: bytes,
    offset: int,
    tree: Frontier,
    keys: list[Key],
    counts: Counts,
    header: Header,
) -> int:
    """Check the entries up to and including the next checkpoint; returns where it ends.

    The loop is written out, without objects for each record, because an auditor waits for it.
    """
    first, index, limit = tree.size, tree.size, len(data)
    unpack, frame_bytes = record.FRAME.unpack_from, record.FRAME_BYTES
    hashes: list[bytes] = []
    leaf_start, leaf, removed = offset, int(Kind.LEAF), int(Kind.REMOVED)
    while offset + frame_bytes <= limit:
        checksum, length, stated, kind = unpack(data, offset)
        if kind not in (leaf, removed):
            break
        end = offset + frame_bytes + length
        if end > limit or stated != index or crc32(data[offset + 4 : end]) != checksum:
            record.read(data, offset, index, first)
            raise Damage(offset, "a record's checksum does not fit", index)
        if kind == leaf:
            body = data[offset + frame_bytes : end]
            hashes.append(sha256(b"\x00" + body).digest())
            if b'"kind":"key"' in body:
                note_key(body, counts)
        elif length != 32:
            raise Damage(offset, "a removed entry's hash does not have 32 bytes", index)
        else:
            hashes.append(data[offset + frame_bytes : end])
            counts.removed_count += 1
        index += 1
        offset = end
    tree.extend_hashed(hashes)
    item = record.read(data, offset, index, first)
    if item is None or item.kind is not Kind.CHECKPOINT:
        if hashes:
            raise BadBatch(
                Fault(
                    what="no checkpoint covers the last entries: a write was interrupted "
                    "(recovery settles it when the ledger is next opened) or bytes were changed",
                    index=first,
                    last_index=index - 1,
                    offset=leaf_start,
                    torn=item is None,
                )
            )
        return offset
    if not hashes:
        raise Damage(offset, "a checkpoint without new entries")
    introduced, counts.new_vkeys = counts.new_vkeys, []
    check_batch(item.payload, header.origin, tree, keys, counts, offset, first)
    if counts.newest_signed:  # only a trusted key can vouch for the next one
        known = {key.vkey for key in keys}
        keys.extend(note.parse_vkey(v) for v in introduced if v not in known)
        counts.adopted_vkeys.extend(introduced)
    return item.end_offset


def note_key(body: bytes, counts: Counts) -> None:
    """Remember a verifier key that an entry introduces."""
    try:
        entry = decode(body)
        if entry.get("kind") == "key":
            counts.new_vkeys.append(note.parse_vkey(str(entry["vkey"])).vkey)
    except (CanonicalError, note.NoteError, KeyError):
        return


def check_batch(
    data: bytes,
    origin: str,
    tree: Frontier,
    keys: list[Key],
    counts: Counts,
    offset: int,
    first: int | None = None,
) -> None:
    """Check one checkpoint against the tree as it stands."""
    try:
        signed = checkpoint.parse(data)
        good = checkpoint.verified_keys(signed.note, keys)
    except note.NoteError as error:
        raise Damage(offset, f"checkpoint of size {tree.size}: {error}") from None
    if signed.checkpoint.origin != origin or signed.checkpoint.size != tree.size:
        raise Damage(offset, "a checkpoint is of another ledger or another size")
    if signed.checkpoint.root != tree.root():
        raise BadBatch(
            Fault(
                what="the recomputed root is not the signed one",
                index=first,
                last_index=tree.size - 1,
                offset=offset,
            )
        )
    counts.checkpoint_count += 1
    counts.unsigned_count += not good
    counts.newest, counts.newest_signed = data, bool(good)
    if good:
        counts.good_size = tree.size


def ending_kind(data: bytes, offset: int, size: int) -> Kind | None:
    """What stands after a batch: LEAF for another batch, SEAL, CLOSE, or None for the open end."""
    item = record.read(data, offset, size, size)
    if item is None:
        end = offset
    elif item.kind in (Kind.SEAL, Kind.CLOSE):
        end = item.end_offset
        if item.payload:
            raise Damage(offset, "an end record with a payload")
    elif item.kind is Kind.HEADER:
        raise Damage(offset, "a second header")
    else:
        return Kind.LEAF
    stray = record.all_zero(data, end)
    if stray is not None:
        raise BadBatch(
            Fault(what="bytes where only zeros may follow", offset=stray, torn=item is None)
        )
    return None if item is None else item.kind


def being_written(directory: Path) -> bool:
    """Whether a writer holds the ledger now."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def pool_for(paths: Sequence[Path]) -> Iterator[Executor | None]:
    """Worker processes when there is enough to share out."""
    total = sum(path.stat().st_size for path in paths)
    cores = len(os.sched_getaffinity(0))
    if len(paths) < 2 or total < PARALLEL_BYTES or cores < 2:
        yield None
        return
    workers = min(cores, len(paths))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool


def results(
    paths: Sequence[Path], vkeys: Sequence[str], advance: Callable[[int], None]
) -> Iterator[SegmentResult]:
    """Check segments, in order; keys introduced in one count for the later ones."""
    known = list(vkeys)
    with pool_for(paths) as pool:
        if pool is None:
            found: Iterator[SegmentResult] = (check_segment(p, tuple(known)) for p in paths)
        else:
            found = pool.map(check_segment, paths, [tuple(vkeys)] * len(paths))
        for path, first in zip(paths, found, strict=True):
            result = first
            if len(known) > len(vkeys) and result.unsigned_count:
                result = check_segment(path, tuple(known))
            known.extend(v for v in result.new_vkeys if v not in known)
            advance(result.byte_count)
            yield result


def joint_fault(
    before: SegmentResult | None, result: SegmentResult, *, resumed: bool = False
) -> Fault | None:
    """What is wrong between a segment and the one before it.

    A resumed verification takes its first segment's start from the signed checkpoint there.
    """
    header = result.header
    if header is None or (before is None and resumed):
        return None
    start = (header.size, header.frontier)
    if before is None:
        wrong = header.size != 0 or header.segment_seq != 0
        what = "the ledger does not begin at entry 0"
    else:
        wrong = (
            before.ending is not Kind.SEAL
            or start != before.tree_end
            or before.header is None
            or header.origin != before.header.origin
            or header.segment_seq != before.header.segment_seq + 1
            or header.checkpoint != before.newest
        )
        what = f"does not continue segment {before.name}"
    return Fault(what=what, segment=result.name, offset=0) if wrong else None


def from_size(paths: Sequence[Path], verified_size: int) -> list[Path]:
    """The segments that hold anything behind what was verified before."""
    later = [p for p in paths if segment.first_index(p) <= verified_size]
    return list(paths[max(0, len(later) - 1) :])


def verify(
    directory: Path,
    vkeys: Sequence[str],
    advance: Callable[[int], None] = lambda _done: None,
    *,
    verified_size: int = 0,
    reached: Callable[[bytes], None] = lambda _checkpoint: None,
) -> Report:
    """Verify every byte of a ledger's segments against the given verifier keys.

    Args:
        directory: The ledger.
        vkeys: Verifier keys that are trusted.
        advance: Told how many bytes were checked, for a progress bar.
        verified_size: Entries an earlier, interrupted run has verified; the segments before them
            are passed over.
        reached: Told the newest verified checkpoint after each segment, so that a run can go on
            after an interruption.
    """
    live = being_written(directory)
    paths = from_size(segment.segments(directory), verified_size)
    done: list[SegmentResult] = []
    faults: list[Fault] = []
    in_flight = 0
    if not paths:
        faults.append(Fault(what=f"no segments in {directory}"))
    before: SegmentResult | None = None
    for path, result in zip(paths, results(paths, vkeys, advance), strict=True):
        fault = joint_fault(before, result, resumed=verified_size > 0)
        if fault is None and result.fault is not None and live and path == paths[-1]:
            known = dict.fromkeys([*vkeys, *(v for r in done for v in r.new_vkeys)])
            result = look_again(path, result, tuple(known))
            if result.fault is not None and result.fault.torn:
                in_flight = result.tree_end[0] - result.good_size
                result = replace(result, fault=None)
        fault = fault or result.fault
        done.append(result)
        if fault is not None:
            faults.append(fault)
            break
        before = result
        if result.newest and result.newest_signed:
            reached(result.newest)
    newest = done[-1] if done else None
    if newest is not None and not faults:
        faults.extend(end_faults(directory, newest, vkeys, live=live))
    return Report(
        origin=newest.header.origin if newest and newest.header else "",
        size=newest.tree_end[0] if newest else 0,
        good_size=max((r.good_size for r in done), default=0),
        checkpoint=newest.newest if newest else b"",
        checkpoint_count=sum(r.checkpoint_count for r in done),
        unsigned_count=sum(r.unsigned_count for r in done),
        removed_count=sum(r.removed_count for r in done),
        segment_count=len(done),
        byte_count=sum(r.byte_count for r in done),
        closed=newest is not None and newest.ending is Kind.CLOSE,
        live=live,
        in_flight_count=in_flight,
        faults=tuple(faults),
        adopted_vkeys=tuple(dict.fromkeys(v for r in done for v in r.new_vkeys)),
    )


def look_again(path: Path, seen: SegmentResult, vkeys: Sequence[str]) -> SegmentResult:
    """Read the last segment once more, for it was read while somebody may be writing it.

    What was in flight at one look is whole at the next; what two looks find alike is there.
    """
    for _ in range(LOOKS_COUNT):
        again = check_segment(path, vkeys)
        if again.fault is None or again.fault.torn or again.fault == seen.fault:
            return again
        seen = again
    return seen


def end_faults(
    directory: Path, newest: SegmentResult, vkeys: Sequence[str], *, live: bool
) -> Iterator[Fault]:
    """What is wrong with the ledger's end: unsigned, or cut off at a segment's border."""
    if not newest.newest and newest.header and newest.header.vkey not in vkeys:
        yield Fault(what="the ledger has no checkpoint yet and is made for another key")
    if newest.newest and not newest.newest_signed:
        yield Fault(
            what=f"the last checkpoint, of size {newest.tree_end[0]}, is not signed by the given "
            "key",
        )
    if newest.ending is Kind.SEAL and not live:
        following = segment.segment_path(directory, newest.tree_end[0]).with_suffix(".new")
        if not following.exists():
            yield Fault(what="is sealed, and the segment after it is missing",
                        segment=newest.name, offset=0)  # fmt: skip
