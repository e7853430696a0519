"""What the ledger costs, beside its rivals in the same run on the same disk.

python tests/bench/bench_ledger.py [--folder DIR] [--seconds 1] [--rounds 3] [--entries 1000000]

Prints Markdown. Rounds of all rivals are interleaved and medians taken, because a shared machine
drifts; compare ratios before absolute figures.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log import checkpoint, merkle, tiles, verify
from ledger.log.keys import Signer, signer_of
from ledger.log.writer import LedgerWriter

try:
    import uvloop
except ImportError:  # the extra ``fast`` is not installed
    uvloop = None

ENTRY_BYTES = 200
PRODUCERS = (1, 10, 100, 1_000, 5_000)
BATCHES = (1, 10, 100, 1_000)
ORIGIN = "bench.example/ledger"
CPU_US: dict[int, list[float]] = {}
"""Processor time an entry cost, by number of producers: what a busy machine distorts least."""

Sample = tuple[float, float, float]  # entries a second, p50 and p99 in milliseconds


def signer() -> Signer:
    return signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), ORIGIN)


def leaf(number: int) -> bytes:
    return (b'{"n":%d,"pad":"' % number).ljust(ENTRY_BYTES - 2, b"x") + b'"}'


LEAVES = [leaf(n) for n in range(1_000)]
"""Entries made beforehand: no rival's time holds the making of its entries."""


@contextmanager
def slow_syncs(delay_s: float) -> Iterator[None]:
    """Every sync of this process takes so much longer, as on a cheaper disk."""
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        real(descriptor)
        time.sleep(delay_s)

    if delay_s:
        os.fdatasync = slow  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fdatasync = real


def summary(latencies_s: list[float], count: int, passed_s: float) -> Sample:
    latencies_s.sort()
    at = len(latencies_s)
    return (
        count / passed_s,
        latencies_s[at // 2] * 1e3,
        latencies_s[min(at - 1, at * 99 // 100)] * 1e3,
    )


def timed(commit: Callable[[int], None], batch: int, seconds: float) -> Sample:
    latencies, done, start = [], 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        commit(done)
        done += batch
        latencies.append(time.perf_counter() - now)
    return summary(latencies, done, time.perf_counter() - start)


def bare(folder: Path, batch: int, seconds: float) -> Sample:
    """Preallocated file, one write of the entries, one sync; no checksum, no hash, no signature."""
    data = leaf(0) * batch
    descriptor = os.open(folder / "bare", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.posix_fallocate(descriptor, 0, 256 << 20)
    os.fsync(descriptor)
    place = 0

    def commit(_done: int) -> None:
        nonlocal place
        os.pwrite(descriptor, data, place)
        os.fdatasync(descriptor)
        place = (place + len(data)) % (200 << 20)

    try:
        return timed(commit, batch, seconds)
    finally:
        os.close(descriptor)
        (folder / "bare").unlink()


def sqlite(folder: Path, batch: int, seconds: float, delay_s: float) -> Sample:
    """SQLite through apsw, WAL, synchronous FULL, one transaction a batch."""
    path = folder / "rival.sqlite"
    db = apsw.Connection(str(path))
    for text in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE e (n INTEGER PRIMARY KEY, b BLOB)",
    ):
        list(db.execute(text))

    def commit(done: int) -> None:
        rows = [(done + k, LEAVES[k]) for k in range(batch)]
        with db:
            db.executemany("INSERT INTO e VALUES (?, ?)", rows)
        if delay_s:
            time.sleep(delay_s)

    try:
        return timed(commit, batch, seconds)
    finally:
        db.close()
        for file in folder.glob("rival.sqlite*"):
            file.unlink()


async def producers(folder: Path, count: int, seconds: float) -> Sample:
    """So many tasks, each waiting for its own acknowledgement before it appends again."""
    directory = folder / "ledger"
    writer = LedgerWriter.open(directory, signer=signer(), origin=ORIGIN)
    latencies: list[float] = []
    clock = time.perf_counter
    stop = clock() + seconds

    async def produce(name: int) -> None:
        entry, now = LEAVES[name % len(LEAVES)], clock()
        while True:
            await writer.append(entry)
            before, now = now, clock()
            latencies.append(now - before)
            if now >= stop:
                return

    start, cpu_s = clock(), time.process_time()
    await asyncio.gather(*(produce(name) for name in range(count)))
    passed, cpu_s = clock() - start, time.process_time() - cpu_s
    await writer.close()
    shutil.rmtree(directory)
    CPU_US.setdefault(count, []).append(cpu_s / len(latencies) * 1e6)
    return summary(latencies, len(latencies), passed)


def on_uvloop(folder: Path, count: int, seconds: float) -> Sample:
    """The same producers on the event loop that the extra ``fast`` brings."""
    sample = uvloop.run(producers(folder, count, seconds))
    CPU_US[count].pop()
    return sample


def median(samples: list[Sample]) -> Sample:
    return tuple(statistics.median(column) for column in zip(*samples, strict=True))  # type: ignore[return-value]


def cell(sample: Sample) -> str:
    rate, p50, p99 = sample
    return f"{rate:,.0f}/s, {p50:.3f} / {p99:.3f}"


def appends(folder: Path, seconds: float, rounds: int, delay_s: float) -> None:
    """Print the table of appends."""
    ours: dict[int, list[Sample]] = {n: [] for n in PRODUCERS}
    fast: dict[int, list[Sample]] = {n: [] for n in PRODUCERS}
    raw: dict[int, list[Sample]] = {n: [] for n in BATCHES}
    rival: dict[int, list[Sample]] = {n: [] for n in BATCHES}
    with slow_syncs(delay_s):
        for _ in range(rounds):
            for n in PRODUCERS:
                if n in raw:
                    raw[n].append(bare(folder, n, seconds / 2))
                    rival[n].append(sqlite(folder, n, seconds / 2, delay_s))
                ours[n].append(asyncio.run(producers(folder, n, seconds)))
                if uvloop is not None:
                    fast[n].append(on_uvloop(folder, n, seconds))
    title = f", {delay_s * 1e3:.0f} ms added to each sync" if delay_s else ""
    print(f"\nAppends of {ENTRY_BYTES} bytes{title}: entries a second, p50 / p99 in ms\n")
    print(
        "| producers, or batch of the rivals | signed ledger, acknowledged | CPU an entry | the same on uvloop | bare write + fdatasync | SQLite WAL FULL (apsw) | p50 over bare |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for n in PRODUCERS:
        own = median(ours[n])
        cpu = f"{statistics.median(CPU_US.pop(n)):.1f} µs"
        quick = cell(median(fast[n])) if fast[n] else ""
        if n in raw:
            base, other = median(raw[n]), median(rival[n])
            print(
                f"| {n:,} | {cell(own)} | {cpu} | {quick} | {cell(base)} | {cell(other)} | {own[1] / base[1]:.2f} |"
            )
        else:
            print(f"| {n:,} | {cell(own)} | {cpu} | {quick} | | | |")


async def fill(directory: Path, entries: int) -> float:
    """Write a large ledger in batches of 1,000; returns the seconds."""
    writer = LedgerWriter.open(directory, signer=signer(), origin=ORIGIN)
    start = time.perf_counter()
    for first in range(0, entries, 1_000):
        await writer.append_many([leaf(n) for n in range(first, min(entries, first + 1_000))])
    passed = time.perf_counter() - start
    await writer.close()
    return passed


def reopen(directory: Path) -> float:
    """Open after a stop without close: what recovery costs."""
    start = time.perf_counter()
    writer = LedgerWriter.open(directory, signer=signer(), origin=ORIGIN)
    passed = time.perf_counter() - start
    asyncio.run(writer.close())
    return passed


def long_work(folder: Path, entries: int) -> None:
    """Print the table of verification, tiles, proofs and recovery."""
    directory = folder / "long"
    filled = asyncio.run(fill(directory, entries))
    memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = reopen(directory)
    start = time.perf_counter()
    report = verify.verify(directory, [signer().vkey])
    verified = time.perf_counter() - start
    assert report.ok
    start = time.perf_counter()
    tiles.materialise(directory)
    materialised = time.perf_counter() - start
    proofs = []
    root = report.checkpoint
    point = checkpoint.parse(root).checkpoint
    for index in range(0, entries, max(1, entries // 500)):
        start = time.perf_counter()
        view = tiles.TileTree.open(directory)
        proof = view.inclusion(index, entries)
        proofs.append(time.perf_counter() - start)
        merkle.verify_inclusion(
            index=index,
            size=entries,
            leaf=merkle.leaf_hash(leaf(index)),
            proof=proof,
            root=point.root,
        )
    proofs.sort()
    print(f"\nA ledger of {entries:,} entries\n\n| what | figure |\n|---|---:|")
    print(f"| append_many in batches of 1,000 | {entries / filled:,.0f} entries/s |")
    print(f"| start (recovery of the last segment) | {opened:.2f} s |")
    print(f"| verify, {len(os.sched_getaffinity(0))} cores | {entries / verified:,.0f} entries/s |")
    print(f"| tiles materialised and synced | {entries / materialised:,.0f} entries/s |")
    print(
        f"| inclusion proof from tiles, no cache of ours, p50 / p99 | {proofs[len(proofs) // 2] * 1e3:.2f} / {proofs[len(proofs) * 99 // 100] * 1e3:.2f} ms |"
    )
    print(f"| peak memory after writing | {memory_kib / 1024:.0f} MiB |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to write; the system's own by default")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3, help="0 leaves the appends out")
    parser.add_argument("--entries", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for delay_s in (0.0, 0.005) if given.rounds else ():
            appends(folder, given.seconds, given.rounds, delay_s)
        if given.entries:
            long_work(folder, given.entries)


if __name__ == "__main__":
    main()
