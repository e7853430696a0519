"""Runs seeds until their plant time adds up: ``python tests/dst/run.py --hours 100 --seed 1``."""

import argparse
import logging
import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))


def one(seed, minutes, separate):
    """Run one seed; return what a summary needs."""
    from dst.world import Setting, run

    logging.disable(logging.CRITICAL)
    outcome = run(Setting(seed=seed, minutes=minutes, separate=separate))
    return (
        seed, outcome.broken, outcome.digest, outcome.plant_s, len(outcome.entries),
        outcome.kills_count, outcome.checked_count, outcome.messages_count, len(outcome.faults),
    )  # fmt: skip


def parsed(words):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="plant hours in all")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--minutes", type=int, default=30, help="plant minutes under faults, a run")
    parser.add_argument(
        "--separate", action="store_true", help="a controller for each terminal, not one station"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--shrink", action="store_true", help="leave out faults that matter not")
    return parser.parse_args(words)


def main(words=None):
    """Run, print, return the exit code."""
    asked = parsed(words)
    began, cpu = time.monotonic(), 0.0
    total_s = entries = kills = checks = messages = faults = 0
    failed, seed = [], asked.seed
    with multiprocessing.get_context("spawn").Pool(asked.jobs, maxtasksperchild=20) as pool:
        pending = []
        while total_s < asked.hours * 3600 or pending:
            while len(pending) < asked.jobs * 2 and total_s + len(pending) * asked.minutes * 60 < (
                asked.hours * 3600
            ):
                pending.append(pool.apply_async(one, (seed, asked.minutes, asked.separate)))
                seed += 1
            got = pending.pop(0).get()
            total_s += got[3]
            entries, kills, checks = entries + got[4], kills + got[5], checks + got[6]
            messages, faults = messages + got[7], faults + got[8]
            if got[1]:
                failed.append(got[0])
                print(
                    f"seed {got[0]} digest {got[2][:16]}: {len(got[1])} broken, first {got[1][0]}"
                )
                if asked.shrink:
                    from dst.shrink import shrunk

                    for fault in shrunk(got[0], asked.minutes, separate=asked.separate):
                        print(f"    {fault}")
    took_s = time.monotonic() - began
    del cpu
    print(
        f"{total_s / 3600:.1f} plant hours in {took_s:.0f} s of {asked.jobs} processes "
        f"({total_s / took_s / asked.jobs:.0f} x a process), seeds {asked.seed}-{seed - 1}: "
        f"{faults} faults, {kills} kills, {messages} messages, {entries} entries, {checks} checks, "
        f"{len(failed)} failing seeds {failed[:10]}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
