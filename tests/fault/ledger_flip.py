"""Every byte of a ledger of 10,000 entries changed in turn: found, and placed where it is.

python tests/fault/ledger_flip.py --entries 10000 --step 1
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from ledger_writer import ORIGIN, signer

from ledger.log import record, segment, verify
from ledger.log.record import Kind
from ledger.log.verify import SegmentResult
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


def campaign(folder: Path, *, entries: int, step: int) -> tuple[int, list[str]]:
    """Flip through all segments on all cores; returns the number of flips and the missed ones."""
    directory = folder / "ledger"
    make(directory, entries)
    paths = segment.segments(directory)
    clean = [verify.check_segment(path, [signer().vkey]) for path in paths]
    neighbours = zip([None, *clean[:-1]], [*clean[1:], None], strict=True)
    befores, afters = zip(*neighbours, strict=True)
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        outcomes = list(pool.map(flip_segment, paths, befores, afters, repeat(step)))
    return sum(tried for tried, _ in outcomes), [m for _, missed in outcomes for m in missed]


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--step", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tried, missed = campaign(Path(folder), entries=given.entries, step=given.step)
    print(f"{tried} changed bytes, {len(missed)} missed or misplaced")
    print(*missed[:20], sep="\n")
    sys.exit(bool(missed) or not tried)


if __name__ == "__main__":
    main()
