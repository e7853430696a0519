"""Every byte of a ledger of 10,000 entries changed in turn: found, and placed where it is.

python tests/fault/ledger_flip.py --entries 10000 --step 1
python tests/fault/ledger_flip.py --entries 10000 --step 1 --parts index

Segments and tiles name the entry, or segment or file and offset where the byte belongs to none.
The index is compared by content (decision 0034): a changed byte is found, or every answer of the
index, asked through each of its tables and orders, is the same as before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, repeat
from multiprocessing import get_context
from pathlib import Path

import apsw
from ledger_writer import ORIGIN, signer
from typing_extensions import override

from ledger.log import canonical, derived, index, reader, record, segment, tiles, verify
from ledger.log.record import Kind
from ledger.log.verify import Fault, SegmentResult
from ledger.log.writer import LedgerWriter

BATCH = 30
PAGE_BYTES = 4096


def make(directory: Path, entries: int) -> None:
    """A closed ledger of small segments, so that one byte can be judged in its own segment."""

    async def write() -> None:
        writer = LedgerWriter.open(directory, signer=signer(), origin=ORIGIN, segment_bytes=6_000)
        for start in range(0, entries, BATCH):
            leaves = [b'{"n":%d}' % n * 5 for n in range(start, min(start + BATCH, entries))]
            await writer.append_many(leaves)
        await writer.close()

    asyncio.run(write())


def owner(records: list[record.Record], offset: int) -> record.Record | None:
    """The record a byte belongs to."""
    return next((r for r in records if r.offset <= offset < r.end_offset), None)


def flip_segment(
    path: Path, before: SegmentResult | None, after: SegmentResult | None, step: int
) -> tuple[int, list[str]]:
    """Change every ``step``-th byte of one segment; returns how many and what went unnoticed.

    A whole verification checks each segment by itself and the joints between neighbours; both are
    done here for the changed one, the unchanged others being the same every time.
    """
    vkeys = [signer().vkey]
    clean, start = path.read_bytes(), segment.first_index(path)
    header, behind = segment.parse_start(clean, start)
    records = list(record.walk(clean, behind, header.size))
    rng = random.Random(start)
    tried, missed = 0, []
    for offset in range(start % step, len(clean), step):
        data = bytearray(clean)
        data[offset] ^= rng.randrange(1, 256)
        result = verify.check_bytes(path.name, start, bytes(data), vkeys)
        fault = verify.joint_fault(before, result) or result.fault
        if fault is None and after is not None:
            fault = verify.joint_fault(result, after)
        tried += 1
        hit = owner(records, offset)
        if fault is None:
            missed.append(f"{path.name} offset {offset}: not found")
        elif hit is not None and hit.kind is Kind.LEAF and fault.index != hit.index:
            missed.append(f"{path.name} offset {offset}: entry {hit.index}, said {fault}")
        elif fault.segment is None or fault.offset is None:
            missed.append(f"{path.name} offset {offset}: no place, said {fault}")
    return tried, missed


def flip_tile(directory: Path, tile: tiles.Tile, step: int) -> tuple[int, list[str]]:
    """Change every ``step``-th byte of one published tile; the entry it belongs to is named."""
    path, clean = directory / tile.path, tile.data
    assert path.read_bytes() == clean
    ends = list(accumulate(2 + n for n in lengths(clean))) if tile.level is None else []
    rng = random.Random(tile.path)
    tried, missed = 0, []
    for offset in range(tile.index % step, len(clean), step):
        data = bytearray(clean)
        data[offset] ^= rng.randrange(1, 256)
        fault = derived.difference(tile, bytes(data)) if data != clean else None
        tried += 1
        owner = None
        if tile.level is None:
            owner = tile.index * tiles.TILE_WIDTH + bisect_right(ends, offset)
        elif tile.level == 0:
            owner = tile.index * tiles.TILE_WIDTH + offset // 32
        place = f"{tile.path} differs at offset {offset}"
        if fault is None or fault.what != place or fault.index != owner:
            missed.append(f"{tile.path} offset {offset}: entry {owner}, said {fault}")
    data = bytearray(clean)
    data[rng.randrange(len(data))] ^= 1
    path.write_bytes(data)
    if not list(derived.tile_fault(directory, tile)):
        missed.append(f"{tile.path}: not found on disk")
    path.write_bytes(clean)
    return tried, missed


def lengths(bundle: bytes) -> Iterator[int]:
    """Lengths of the entries of a bundle."""
    place = 0
    while place < len(bundle):
        yield int.from_bytes(bundle[place : place + 2], "big")
        place += 2 + int.from_bytes(bundle[place : place + 2], "big")


def flip_checkpoint(directory: Path, step: int) -> tuple[int, list[str]]:
    """Change every ``step``-th byte of the published checkpoint."""
    path = directory / tiles.CHECKPOINT
    clean = path.read_bytes()
    rng = random.Random(1)
    tried, missed = 0, []
    for offset in range(0, len(clean), step):
        data = bytearray(clean)
        data[offset] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        tried += 1
        if not isinstance(derived.published(directory), Fault):
            missed.append(f"checkpoint offset {offset}: not found")
    path.write_bytes(clean)
    assert not isinstance(derived.published(directory), Fault)
    return tried, missed


QUESTIONS = (
    "SELECT version, size, root FROM state",
    "SELECT idx, utc_us, kind FROM entries NOT INDEXED ORDER BY idx",
    "SELECT idx, utc_us FROM entries INDEXED BY by_time WHERE utc_us >= 0 ORDER BY utc_us, idx",
    "SELECT idx, kind FROM entries INDEXED BY by_kind WHERE kind >= '' ORDER BY kind, idx",
    "SELECT name, value, idx FROM names ORDER BY name, value, idx",
)
"""Every table, and every order that a query may take through it."""


def answers(directory: Path, questions: Iterable[str] = QUESTIONS) -> list[object]:
    """What the index answers, whatever way it is asked."""
    db = index.opened(directory)
    try:
        return [db.execute(question).fetchall() for question in questions]
    finally:
        db.close()


class NotedFile(apsw.VFSFile):
    """A file whose pages are written down as they are read."""

    def __init__(
        self, name: str | apsw.URIFilename | None, flags: list[int], pages: set[int]
    ) -> None:
        super().__init__("unix", name, flags)
        self.pages = pages

    @override
    def xRead(self, amount: int, offset: int) -> bytes:
        """Read, and note the pages."""
        self.pages.update(range(offset // PAGE_BYTES, (offset + amount - 1) // PAGE_BYTES + 1))
        return bytes(super().xRead(amount, offset))


class Noting(apsw.VFS):
    """SQLite's way to its files, the pages it reads noted; the default for as long as it lives."""

    def __init__(self) -> None:
        self.pages: set[int] = set()
        super().__init__("noting", "unix", makedefault=True)

    @override
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> NotedFile:
        """Open a file that notes."""
        return NotedFile(name, flags, self.pages)


def pages_read(work: Callable[[], object]) -> frozenset[int]:
    """The pages of the index that a piece of work reads.

    The work depends on those bytes alone, so a byte in any other page cannot change its outcome.
    """
    noting = Noting()
    try:
        work()
    finally:
        noting.unregister()
    return frozenset(noting.pages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """An index, what it should hold, and which pages what it holds and its answers depend on."""

    clean: bytes
    wanted: list[index.Expected]
    content: frozenset[int]
    questions: dict[str, frozenset[int]]

    @classmethod
    def of(cls, directory: Path) -> Indexed:
        """Look at the index of a ledger."""
        wanted = list(index.expected(directory))
        clean = (directory / index.FILE).read_bytes()
        assert int.from_bytes(clean[16:18], "big") == PAGE_BYTES
        return cls(
            clean=clean,
            wanted=wanted,
            content=pages_read(
                lambda: checked(directory, lambda d: index.compare_content(d, wanted))
            ),
            questions={q: pages_read(lambda q=q: answers(directory, [q])) for q in QUESTIONS},  # type: ignore[misc]
        )

    def found(self, directory: Path, offset: int) -> bool:
        """Whether the comparison finds a change at an offset; the parts that do not read it rest."""
        if offset // PAGE_BYTES in self.content:
            return next(index.differences(directory, self.wanted), None) is not None
        return checked(directory, index.compare_structure)

    def asked(self, offset: int) -> list[str]:
        """The questions whose answers may depend on an offset."""
        return [q for q, pages in self.questions.items() if offset // PAGE_BYTES in pages]


def checked(directory: Path, check: Callable[[apsw.Connection], Iterator[str]]) -> bool:
    """Whether one part of the comparison finds a difference, or cannot read the index."""
    try:
        db = index.opened(directory)
    except apsw.Error:
        return True
    try:
        return next(check(db), None) is not None
    except (index.IndexStale, apsw.Error, UnicodeDecodeError):
        return True
    finally:
        db.close()


def flip_index(folder: Path, whole: Indexed, first: int, step: int) -> tuple[int, int, list[str]]:
    """Change every ``step``-th byte of the index; one that is not found must change no answer.

    Gives how many were tried, how many were found, and what went wrong.
    """
    clean = whole.clean
    with tempfile.TemporaryDirectory(dir=folder) as name:
        directory = Path(name)
        path = directory / index.FILE
        path.write_bytes(clean)
        rng = random.Random(first)
        before = {q: answers(directory, [q]) for q in QUESTIONS}
        tried, found, missed = 0, 0, []
        descriptor = os.open(path, os.O_RDWR)
        for offset in range(first, len(clean), step):
            os.pwrite(descriptor, bytes([clean[offset] ^ rng.randrange(1, 256)]), offset)
            tried += 1
            if whole.found(directory, offset):
                found += 1
            elif any(answers(directory, [q]) != before[q] for q in whole.asked(offset)):
                missed.append(f"{index.FILE} offset {offset}: not found, answers differ")
            os.pwrite(descriptor, clean[offset : offset + 1], offset)
        os.close(descriptor)
        if path.read_bytes() != clean:
            missed.append(f"{index.FILE}: the comparison has written to it")
        if list(index.differences(directory, whole.wanted)):
            missed.append(f"{index.FILE}: refused although unchanged")
    return tried, found, missed


def make_indexed(directory: Path, entries: int) -> None:
    """A ledger whose entries have times, kinds and names, and its index."""

    async def write() -> None:
        writer = LedgerWriter.open(directory, signer=signer(), origin=ORIGIN)
        for start in range(0, entries, 1_000):
            numbers = range(start, min(start + 1_000, entries))
            await writer.append_many([indexed(n) for n in numbers])
        await writer.close()

    asyncio.run(write())
    index.build(directory)


def indexed(number: int) -> bytes:
    """An entry; every twentieth names a trade."""
    entry: dict[str, object] = {"kind": "ab"[number % 2], "utc_us": number * 1_000}
    if number % 20 == 0:
        entry["trade_id"] = f"t{number % 7}"
    return canonical.encode(entry)


Outcome = tuple[int, list[str]]


def segments_part(pool: Executor, folder: Path, entries: int, step: int) -> Outcome:
    """Every byte of every segment."""
    directory = folder / "ledger"
    make(directory, entries)
    paths = segment.segments(directory)
    clean = [verify.check_segment(path, [signer().vkey]) for path in paths]
    befores, afters = [None, *clean[:-1]], [*clean[1:], None]
    return gather(pool.map(flip_segment, paths, befores, afters, repeat(step)))


def tiles_part(pool: Executor, folder: Path, entries: int, step: int) -> Outcome:
    """Every byte of every tile and of the checkpoint file."""
    directory = folder / "published"
    make(directory, entries)
    tiles.materialise(directory)
    builder = tiles.Builder()
    made = [
        tile for batch in reader.batches(directory) for tile in builder.feed(batch.bodies)
    ] + list(builder.partials())
    assert not list(derived.faults(directory))
    tried, missed = gather(pool.map(flip_tile, repeat(directory), made, repeat(step)))
    more, also = flip_checkpoint(directory, step)
    return tried + more, missed + also


def index_part(pool: Executor, folder: Path, entries: int, step: int) -> Outcome:
    """Every byte of the index."""
    directory = folder / "indexed"
    make_indexed(directory, entries)
    whole = Indexed.of(directory)
    parts = 64
    firsts = [step * n for n in range(parts)]
    tried, found = 0, 0
    missed: list[str] = []
    for part in pool.map(flip_index, repeat(folder), repeat(whole), firsts, repeat(step * parts)):
        tried, found, missed = tried + part[0], found + part[1], missed + part[2]
        print(f"index: {tried} of {len(whole.clean)} bytes, {found} found, "
              f"{tried - found} without content, {len(missed)} missed",
              file=sys.stderr, flush=True)  # fmt: skip
    return tried, missed


PARTS = {"segments": segments_part, "tiles": tiles_part, "index": index_part}


def gather(outcomes: Iterable[Outcome]) -> Outcome:
    """Add up."""
    found = list(outcomes)
    return sum(tried for tried, _ in found), [m for _, missed in found for m in missed]


def campaign(
    folder: Path, *, entries: int, step: int, parts: Sequence[str] = tuple(PARTS)
) -> Outcome:
    """Flip through everything on all cores; returns the number of flips and the missed ones."""
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        return gather([PARTS[part](pool, folder, entries, step) for part in parts])


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tried, missed = campaign(
            Path(folder), entries=given.entries, step=given.step, parts=given.parts
        )
    print(f"{tried} changed bytes, {len(missed)} missed or misplaced")
    print(*missed[:20], sep="\n")
    sys.exit(bool(missed) or not tried)


if __name__ == "__main__":
    main()
