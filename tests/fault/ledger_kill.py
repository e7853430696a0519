"""SIGKILL at random moments, again and again on one ledger: nothing acknowledged may be lost.

python tests/fault/ledger_kill.py --kills 5000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from ledger_check import Promises, broken_promises
from ledger_writer import work

from ledger.log import segment

LEDGER_RUNS = 25
"""Kills on one ledger before a new one begins: long enough to grow several segments."""


def run_and_kill(directory: Path, rng: random.Random, run: int) -> list[bytes]:
    """Fork a writer, kill it after a random time or number of lines; returns its lines."""
    incoming, outgoing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(incoming)
        try:
            asyncio.run(
                work(directory, outgoing, run=run, producers=rng.choice((1, 3, 12)), count=500,
                     size=rng.choice((20, 200, 900)), segment_bytes=20_000)
            )  # fmt: skip
        finally:
            os._exit(0)
    os.close(outgoing)
    data, lines, delay_s = b"", rng.randrange(0, 60), rng.random() * 0.004
    while data.count(b"\n") < lines:
        more = os.read(incoming, 1 << 16)
        if not more:
            break
        data += more
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    while more := os.read(incoming, 1 << 16):
        data += more
    os.close(incoming)
    os.waitpid(pid, 0)
    return data.splitlines(keepends=True)


def campaign(*, kills: int, seed: int, folder: Path) -> tuple[int, list[str]]:
    """Kill so many times; returns acknowledged entries and every broken promise."""
    segment.EXTENT_BYTES = 8_192
    rng = random.Random(seed)
    acknowledged, broken = 0, []
    for start in range(0, kills, LEDGER_RUNS):
        directory, promises = folder / f"ledger{start}", Promises()
        for run in range(start, min(start + LEDGER_RUNS, kills)):
            acknowledged += promises.hear(run_and_kill(directory, rng, run))
            broken += [f"seed {seed} kill {run}: {b}" for b in broken_promises(directory, promises)]
        shutil.rmtree(directory)
    return acknowledged, broken


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        count, broken = campaign(kills=given.kills, seed=given.seed, folder=Path(folder))
    print(f"{given.kills} kills, {count} acknowledged entries, {len(broken)} broken promises")
    print(*broken[:20], sep="\n")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
