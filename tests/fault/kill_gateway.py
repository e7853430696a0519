"""SIGKILL of the real gateway against a real broker and real Modbus, while it trades by the minute.

python tests/fault/kill_gateway.py --kills 1000 --sites 3 --results kills.jsonl

Several sites run at once, each with its own broker, devices and ledger, at one to three times real time.
Every round has a seed of its own, and one line in the results; a campaign that is started again
with the same results goes on after the last seed. The totals are those of the whole file.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes.killing import Outcome, kill_round, launcher, note
from fakes.rig import Rig

FACTORS = (3, 1, 2)  # by seed: how much faster than real
REAL_EVERY = 5  # each fifth round starts the program as anybody would, by a new interpreter


async def one(seed, *, intervals, kills_max, separate=False):
    """One round with its outcome; the folder of a broken one is kept."""
    rng = random.Random(seed)
    outcome = Outcome(seed=seed)
    folder = Path(tempfile.mkdtemp(prefix=f"kill-{seed}-"))
    launch = None if seed % REAL_EVERY == 0 else launcher()
    factor = FACTORS[seed % len(FACTORS)]
    rig = Rig(
        folder, factor=factor, launch=launch, to_minute_ms=6_000 + 5_000 * factor, separate=separate
    )
    try:
        await kill_round(rig, rng, outcome, intervals=intervals, kills_max=kills_max)
    except Exception as error:  # noqa: BLE001 - whatever ends a round is a finding of it
        what = f"the round did not end: {error!r}"
        if outcome.kills or not isinstance(error, TimeoutError):
            outcome.broken.append(what)
        else:
            note(f"seed {seed} is void, the machine is too busy: {what}")
    if outcome.broken:
        note(f"seed {seed}: kept {folder}")
    else:
        shutil.rmtree(folder)
    return outcome


class Results:
    """One line a round, on disk before the next round begins."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        if path.exists():
            self.lines = [json.loads(line) for line in path.read_text().splitlines() if line]

    def add(self, outcome):
        self.lines.append(outcome.fields())
        with self.path.open("a") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def next_seed(self, first):
        return max([first - 1, *(line["seed"] for line in self.lines)]) + 1

    def total(self, name):
        return sum(line[name] for line in self.lines)

    def text(self):
        resumed, aims = Counter(), Counter()
        for line in self.lines:
            resumed.update(line["resumed"])
            aims.update(line["aims"])
        broken = sum(len(line["broken"]) for line in self.lines)
        return (
            f"{self.total('kills')} kills in {len(self.lines)} rounds, "
            f"{self.total('accepted')} trades accepted, {self.total('deliveries')} reported, "
            f"{self.total('intents')} instructions operated, {self.total('late')} verdicts after "
            f"more than 2 s, {broken} broken promises\n"
            f"aims {dict(aims)}\nfound after a start {dict(resumed)}"
        )


async def campaign(given, results):
    """Rounds on several sites at once until the number of kills is reached."""
    wanted = results.total("kills") + given.kills
    seeds = iter(range(results.next_seed(given.seed), 1 << 31))

    async def site():
        while results.total("kills") < wanted:
            outcome = await one(
                next(seeds), intervals=given.intervals, kills_max=1_000, separate=given.separate
            )
            results.add(outcome)
            note(f"seed {outcome.seed}: {outcome.kills} kills, total {results.total('kills')}")
            for line in outcome.broken[:10]:
                note(f"seed {outcome.seed}: {line}")

    async with asyncio.TaskGroup() as group:
        for _ in range(given.sites):
            group.create_task(site())


def main():
    """Run the campaign and print the totals of its results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="further ones")
    parser.add_argument("--sites", type=int, default=3, help="at once")
    parser.add_argument("--intervals", type=int, default=6, help="minutes of trading in a round")
    parser.add_argument(
        "--separate", action="store_true", help="a controller for each terminal, not one station"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--results", type=Path, default=Path("kill-gateway.jsonl"))
    given = parser.parse_args()
    results = Results(given.results)
    note(f"first seed {results.next_seed(given.seed)}, {results.total('kills')} kills so far")
    asyncio.run(campaign(given, results))
    print(results.text())
    sys.exit(any(line["broken"] for line in results.lines))


if __name__ == "__main__":
    main()
