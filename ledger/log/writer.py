"""The one writer of a ledger: group commit, acknowledged only after the disk has it.

A thread takes whatever waits, writes entries and the signed checkpoint over them in one call,
syncs once and answers. The first error of the disk latches: nothing more is written, and the next
start judges from the bytes on disk, because after a failed sync the page cache proves nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ledger.log import record, recovery, reserve, segment
from ledger.log.anchor import kept, own_points, points_of, refuse_contradictions, refuse_loss
from ledger.log.canonical import LEAF_BYTES_MAX
from ledger.log.head import HeadSigner
from ledger.log.keys import Signer
from ledger.log.merkle import Frontier
from ledger.log.record import Kind
from ledger.log.reserve import LedgerFull
from ledger.log.segment import Header, LedgerCorrupt
from ledger.log.waiting import Batch, Bell

LOCK = "lock"

PENDING_COUNT_MAX = 100_000
PENDING_BYTES_MAX = 64 << 20
"""What may wait for the disk; more means that it does not keep up and callers must know."""

BATCH_COUNT_MAX = 4_096
BATCH_BYTES_MAX = 8 << 20
"""One sync carries at most this, so that nobody waits for somebody else's flood."""


class LedgerFailed(Exception):  # noqa: N818 - a state of the ledger, in its own word
    """The ledger has stopped for good in this process; only a new start may go on."""


class LedgerBusy(Exception):  # noqa: N818 - a state of the ledger, in its own word
    """Another process writes this ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """The last state that is on disk."""

    size: int
    root: bytes
    checkpoint: bytes


class LedgerWriter:
    """Appends to one ledger directory; open it with ``LedgerWriter.open``."""

    def __init__(
        self,
        directory: Path,
        lock: int,
        signers: Sequence[Signer],
        origin: str,
        *,
        segment_bytes: int,
        mono_us: Callable[[], int] | None,
    ) -> None:
        self.directory = directory
        self.origin = origin
        self._held_lock = lock
        self._signers = tuple(signers)
        self._segment_bytes = segment_bytes
        self._mono_us = mono_us
        self._last_us = 0
        self._heads = HeadSigner(origin, self._signers)
        self._lock = threading.Lock()
        self._wake = threading.Lock()
        """Held while the writer's thread has work or may sleep; released to wake it."""
        self._wake.acquire()
        self._idle = False
        self._bells: dict[asyncio.AbstractEventLoop, Bell] = {}
        self._waiting: deque[Batch] = deque()
        self._open: Batch | None = None
        """The batch that waits last, as long as single entries may join it."""
        self._closing = False
        self._failure: BaseException | None = None
        self._descriptor = -1
        self._offset = 0
        self._allocated = 0
        self._segment_seq = 0
        self._segment_start = 0
        self._tree = Frontier()
        self._durable = Durable(size=0, root=b"", checkpoint=b"")
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        signer: Signer,
        origin: str,
        also: Sequence[Signer] = (),
        segment_bytes: int = segment.SEGMENT_BYTES,
        mono_us: Callable[[], int] | None = None,
        known: Iterable[bytes] = (),
        vouched: Iterable[bytes] = (),
    ) -> LedgerWriter:
        """Open a ledger for writing, making it when there is none, and recover its tail.

        Args:
            directory: Where the ledger lives.
            signer: The log key; its name is the origin.
            origin: The ledger's name, first line of every checkpoint.
            also: Further keys that sign too, such as the old one while keys change over.
            segment_bytes: Size at which a new segment begins.
            mono_us: A monotonic clock; when it steps back the ledger stops.
            known: Checkpoints of this log that others kept: witnesses, receipts. They count where
                a key given here signed; those kept in the folder are looked at in any case.
            vouched: Checkpoints that count whatever key signed them: the key may have been
                changed since the ledger was as it is here.

        Raises:
            LedgerBusy: Another process holds the ledger.
            LedgerCorrupt: The files cannot be continued without hiding a loss, or somebody
                knows a longer or a different tree.
        """
        if signer.name != origin:
            raise ValueError(f"the log key is named {signer.name}, the origin is {origin}")
        (directory / segment.FOLDER).mkdir(parents=True, exist_ok=True)
        lock = take_lock(directory)
        writer = cls(
            directory, lock, (signer, *also), origin, segment_bytes=segment_bytes, mono_us=mono_us
        )
        try:
            points = own_points([*kept(directory), *known], [s.key for s in writer._signers])
            points |= points_of(vouched, origin)
            writer._recover(points)
            refuse_contradictions(directory, points)
        except BaseException:
            writer._release()
            raise
        writer._thread.start()
        return writer

    def size(self) -> int:
        """Number of durable entries."""
        return self._durable.size

    def root(self) -> bytes:
        """Root hash of the durable entries."""
        return self._durable.root

    def checkpoint(self) -> bytes:
        """The last durable signed checkpoint."""
        return self._durable.checkpoint

    async def append(self, leaf: bytes, *, urgent: bool = False) -> int:
        """Append one entry; returns its index once it is durable.

        ``urgent`` entries, those of a safe stop, may use the disk's reserve.
        """
        if len(leaf) > LEAF_BYTES_MAX:
            raise ValueError(f"an entry has {len(leaf)} bytes, at most {LEAF_BYTES_MAX}")
        held = record.FRAME_BYTES + len(leaf)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        with self._lock:
            batch = self._open
            if (
                batch is None
                or batch.loop is not loop
                or batch.urgent is not urgent
                or len(batch.leaves) >= batch.count_max
                or batch.held_bytes + held > batch.bytes_max
            ):
                batch = self._room(loop, 1, held, urgent=urgent)
            batch.leaves.append(leaf)
            batch.answers.append(answer)
            batch.held_bytes += held
            if self._idle:
                self._idle = False
                self._wake.release()
        return await answer

    async def append_many(self, leaves: Sequence[bytes], *, urgent: bool = False) -> list[int]:
        """Append entries that stand together in one batch; returns their indexes."""
        if not leaves:
            return []
        longest = max(map(len, leaves))
        if longest > LEAF_BYTES_MAX:
            raise ValueError(f"an entry has {longest} bytes, at most {LEAF_BYTES_MAX}")
        count = len(leaves)
        held = record.FRAME_BYTES * count + sum(map(len, leaves))
        if held > BATCH_BYTES_MAX:
            raise ValueError(f"{held} bytes together, at most {BATCH_BYTES_MAX}")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        with self._lock:
            batch = self._room(loop, count, held, urgent=urgent)
            batch.leaves += leaves
            batch.answers.append(answer)
            batch.answers += [None] * (count - 1)
            batch.held_bytes += held
            if self._idle:
                self._idle = False
                self._wake.release()
        first = await answer
        return list(range(first, first + count))

    def _room(
        self, loop: asyncio.AbstractEventLoop, count: int, held: int, *, urgent: bool
    ) -> Batch:
        """The batch that takes so many more entries; with the lock held.

        Raises:
            LedgerFull: Too much waits for the disk.
            LedgerFailed: The ledger is stopped.
        """
        if self._failure is not None or self._closing:
            raise LedgerFailed("the ledger is stopped") from self._failure
        spare_count, spare_bytes = BATCH_COUNT_MAX, BATCH_BYTES_MAX
        if not urgent:
            spare_count = PENDING_COUNT_MAX - sum(len(batch.leaves) for batch in self._waiting)
            spare_bytes = PENDING_BYTES_MAX - sum(batch.held_bytes for batch in self._waiting)
            if count > spare_count or held > spare_bytes:
                raise LedgerFull("too many entries wait for the disk")
        batch = self._open
        if (
            batch is None
            or batch.loop is not loop
            or batch.urgent is not urgent
            or len(batch.leaves) + count > BATCH_COUNT_MAX
            or batch.held_bytes + held > BATCH_BYTES_MAX
        ):
            self._open = batch = Batch(self._bell(loop), loop, urgent)
            self._waiting.append(batch)
        batch.count_max = min(BATCH_COUNT_MAX, len(batch.leaves) + spare_count)
        batch.bytes_max = min(BATCH_BYTES_MAX, batch.held_bytes + spare_bytes)
        return batch

    def _bell(self, loop: asyncio.AbstractEventLoop) -> Bell:
        """What calls this loop; kept until the writer ends, so that none is rung too late."""
        bell = self._bells.get(loop)
        if bell is None:
            try:
                bell = Bell(loop)
            except OSError as error:
                raise LedgerFull(f"no descriptor to answer by: {error.strerror}") from error
            self._bells[loop] = bell
        return bell

    async def close(self) -> None:
        """Write what waits, then the close record, and release the ledger."""
        self._take_no_more()
        await asyncio.to_thread(self._thread.join)
        if self._failure is not None:
            raise LedgerFailed("the ledger stopped before it was closed") from self._failure

    def _take_no_more(self) -> None:
        """Let the writer's thread end behind what waits."""
        with self._lock:
            self._closing = True
            self._open = None
            if self._idle:
                self._idle = False
                self._wake.release()

    def _run(self) -> None:
        batch: Batch | None = None
        failure: BaseException | None = RuntimeError("the writer's thread has died")
        try:
            while (batch := self._next_batch()) is not None:
                try:
                    self._commit(batch)
                except LedgerFull as full:
                    batch.bell.ring(batch, full)
            self._write_close()
            failure = None
        except (OSError, LedgerFailed) as error:
            failure = error
        finally:  # also after a defect of ours nobody waits for ever
            if failure is not None:
                self._fail([batch] if batch is not None else [], failure)
            self._release()

    def _next_batch(self) -> Batch | None:
        """Take what has waited longest; None when the ledger closes."""
        while True:
            with self._lock:
                if self._waiting:
                    batch = self._waiting.popleft()
                    if batch is self._open:
                        self._open = None
                    return batch
                if self._closing:
                    return None
                self._idle = True
            self._wake.acquire()

    def _fail(self, batches: Sequence[Batch], error: BaseException) -> None:
        """Latch the failure and tell everybody who waits."""
        with self._lock:
            self._failure = error
            batches = [*batches, *self._waiting]
            self._waiting.clear()
            self._open = None
        failure = LedgerFailed(f"the ledger has stopped: {error}")
        failure.__cause__ = error
        for batch in batches:
            batch.bell.ring(batch, failure)

    def _commit(self, batch: Batch) -> None:
        """Make one batch durable and answer its callers."""
        self._check_clock()
        first = self._durable.size
        self._write_batch(batch.leaves, urgent=batch.urgent)
        batch.bell.ring(batch, first)

    def _check_clock(self) -> None:
        if self._mono_us is None:
            return
        now_us = self._mono_us()
        if now_us < self._last_us:
            raise LedgerFailed(f"the clock went back by {self._last_us - now_us} µs")
        self._last_us = now_us

    def _write_batch(self, leaves: Sequence[bytes], *, urgent: bool) -> None:
        tree = self._tree.copy()
        first = self._durable.size
        tree.extend(leaves)
        point = self._sign(tree)
        data = b"".join(
            (
                record.encode_leaves(first, leaves),
                record.encode(Kind.CHECKPOINT, first, point.checkpoint),
            )
        )
        self._make_room(len(data), urgent=urgent)
        segment.write_all(self._descriptor, data, self._offset)
        os.fdatasync(self._descriptor)
        self._offset += len(data)
        self._tree = tree
        self._durable = point

    def _sign(self, tree: Frontier) -> Durable:
        root = tree.root()
        return Durable(size=tree.size, root=root, checkpoint=self._heads.signed(tree.size, root))

    def _make_room(self, count: int, *, urgent: bool) -> None:
        """Have ``count`` bytes and an end record allocated before anything is written."""
        needed = self._offset + count + record.FRAME_BYTES
        if needed > self._segment_bytes and self._durable.size > self._segment_start:
            self._next_segment(urgent=urgent)
            needed = self._offset + count + record.FRAME_BYTES
        if needed <= self._allocated:
            return
        extents = -(-needed // segment.EXTENT_BYTES)
        reserve.allocate(
            self.directory,
            lambda: os.posix_fallocate(self._descriptor, 0, extents * segment.EXTENT_BYTES),
            urgent=urgent,
        )
        self._allocated = extents * segment.EXTENT_BYTES
        reserve.keep(self.directory)

    def _next_segment(self, *, urgent: bool) -> None:
        """Make the following segment first, then seal the full one, so that room is certain."""
        header = self._header()
        path = segment.segment_path(self.directory, header.size)
        reserve.allocate(
            self.directory, lambda: segment.prepare(self.directory, header), urgent=urgent
        )
        seal = record.encode(Kind.SEAL, self._durable.size, b"")
        segment.write_all(self._descriptor, seal, self._offset)
        os.ftruncate(self._descriptor, self._offset + len(seal))
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        segment.publish(self.directory, header)
        self._use(path, header, len(header.encode()))

    def _header(self) -> Header:
        return Header(
            format_version=segment.FORMAT_VERSION,
            origin=self.origin,
            vkey=self._signers[0].vkey,
            segment_seq=self._segment_seq + 1,
            size=self._durable.size,
            frontier=self._tree.hashes(),
            checkpoint=self._durable.checkpoint if self._durable.size else b"",
        )

    def _use(self, path: Path, header: Header, offset: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR)
        self._segment_seq = header.segment_seq
        self._segment_start = header.size
        self._offset = offset
        self._allocated = os.fstat(self._descriptor).st_size

    def _recover(self, points: set[tuple[int, bytes]]) -> None:
        """Continue behind the last intact record; the same path after every kind of stop.

        What the known checkpoints say is lost is refused before a byte is changed.
        """
        keys = tuple(signer.key for signer in self._signers)
        tail = recovery.read_tail(self.directory, keys=keys, origin=self.origin)
        tree = tail.tree if tail is not None else self._tree
        torn_at = f"{tail.path.name} offset {tail.end_offset}" if tail and tail.torn else ""
        refuse_loss(points, tree, torn_at=torn_at)
        reserve.keep(self.directory)
        if tail is None:
            self._segment_seq = -1
            self._durable = self._sign(self._tree)
            header = self._header()
            segment.prepare(self.directory, header)
            path = segment.publish(self.directory, header)
            segment.sync_directory(self.directory)
            self._use(path, header, len(header.encode()))
            return
        following = segment.segment_path(self.directory, tail.tree.size).with_suffix(".new")
        for leftover in (self.directory / segment.FOLDER).glob("*.new"):
            if leftover != following:
                leftover.unlink()
        self._tree = tail.tree
        self._use(tail.path, tail.header, tail.end_offset)
        if tail.torn or tail.closed:
            os.ftruncate(self._descriptor, self._offset)
            os.fsync(self._descriptor)
            self._allocated = self._offset
        if tail.signed_size < tail.tree.size:
            self._sign_kept(tail.signed_size)
        elif tail.signed_size:
            self._durable = Durable(
                size=tail.signed_size, root=tail.tree.root(), checkpoint=tail.checkpoint
            )
        else:
            self._durable = self._sign(self._tree)
        if tail.sealed:
            self._continue_sealed()

    def _sign_kept(self, signed_size: int) -> None:
        """Sign for entries that were written before a stop but whose checkpoint was not."""
        point = self._sign(self._tree)
        data = record.encode(Kind.CHECKPOINT, signed_size, point.checkpoint)
        segment.write_all(self._descriptor, data, self._offset)
        os.fdatasync(self._descriptor)
        self._offset += len(data)
        self._durable = point

    def _continue_sealed(self) -> None:
        header = self._header()
        segment.prepare(self.directory, header)
        os.close(self._descriptor)
        path = segment.publish(self.directory, header)
        self._use(path, header, len(header.encode()))

    def _write_close(self) -> None:
        data = record.encode(Kind.CLOSE, self._durable.size, b"")
        segment.write_all(self._descriptor, data, self._offset)
        os.ftruncate(self._descriptor, self._offset + len(data))
        os.fsync(self._descriptor)

    def _release(self) -> None:
        for descriptor in (self._descriptor, self._held_lock):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
        self._descriptor = self._held_lock = -1
        for bell in self._bells.values():
            bell.put_away()


def take_lock(directory: Path) -> int:
    """Hold the ledger for this process alone; the kernel frees it when the process ends."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LedgerBusy(f"{directory} is being written by another process") from None
    return descriptor


__all__ = [
    "LedgerBusy",
    "LedgerCorrupt",
    "LedgerFailed",
    "LedgerFull",
    "LedgerWriter",
]
