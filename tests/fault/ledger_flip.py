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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import accumulate, repeat
from multiprocessing import get_context
from pathlib import Path

from ledger_writer import ORIGIN, signer

from ledger.log import canonical, derived, index, reader, record, segment, tiles, verify
from ledger.log.record import Kind
from ledger.log.verify import Fault, SegmentResult
from ledger.log.writer import LedgerWriter

BATCH = 30


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


def answers(directory: Path) -> list[object]:
    """What the index answers, whatever way it is asked."""
    db = index.opened(directory)
    try:
        return [db.execute(question).fetchall() for question in QUESTIONS]
    finally:
        db.close()


def flip_index(
    folder: Path, clean: bytes, wanted: list[index.Expected], first: int, step: int
) -> tuple[int, int, list[str]]:
    """Change every ``step``-th byte of the index; one that is not found must change no answer.

    Gives how many were tried, how many were found, and what went wrong.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        directory = Path(name)
        path = directory / index.FILE
        path.write_bytes(clean)
        before, rng = answers(directory), random.Random(first)
        tried, found, missed = 0, 0, []
        descriptor = os.open(path, os.O_RDWR)
        for offset in range(first, len(clean), step):
            os.pwrite(descriptor, bytes([clean[offset] ^ rng.randrange(1, 256)]), offset)
            tried += 1
            if next(index.differences(directory, wanted), None) is not None:
                found += 1
            elif answers(directory) != before:
                missed.append(f"{index.FILE} offset {offset}: not found, answers differ")
            os.pwrite(descriptor, clean[offset : offset + 1], offset)
        os.close(descriptor)
        if list(index.differences(directory, wanted)):
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
    clean = (directory / index.FILE).read_bytes()
    wanted = list(index.expected(directory))
    parts = 64
    firsts = [step * n for n in range(parts)]
    results = list(
        pool.map(flip_index, repeat(folder), repeat(clean), repeat(wanted), firsts,
                 repeat(step * parts))
    )  # fmt: skip
    tried, found = sum(r[0] for r in results), sum(r[1] for r in results)
    print(f"index: {tried} of {len(clean)} bytes, {found} found, {tried - found} without content",
          file=sys.stderr)  # fmt: skip
    return tried, [m for r in results for m in r[2]]


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
