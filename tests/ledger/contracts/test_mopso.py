import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.seeds import for_seeds

from ledger.contracts import mopso, mopso_numpy
from ledger.contracts.mopso import PureKernel, Settings
from ledger.contracts.requests import (
    cheapest_first,
    nearest_first,
    objectives,
    slot_problem,
    walk,
)
from ledger.contracts.requests_document import day_from

ROOT = Path(__file__).resolve().parents[3]
SMALL = Settings(particle_count=12, iteration_count=10, archive_count_max=8)

GOLDEN = "cf0fdd0522938f43cd77efc101501099d399038cc70c1528a07ed629d05c01ee"
"""Digest over the swarm on the 24 hours of the scenario, the same wherever it runs."""

SCRIPT = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from ledger.contracts import mopso
from ledger.contracts.requests import SlotProblem
text = json.load(sys.stdin)
answer = hashlib.sha256()
for slot in text:
    slot = {k: tuple(tuple(r) if isinstance(r, list) else r for r in v) if isinstance(v, list) else v
            for k, v in slot.items()}
    settings = mopso.Settings(particle_count=12, iteration_count=10, archive_count_max=8)
    x = mopso.solve(SlotProblem(**slot), prev_hash=bytes(32), settings=settings)
    answer.update(json.dumps(x).encode())
print(answer.hexdigest())
"""


def slots_of(day):
    return [
        slot_problem(
            day,
            t,
            available_wh=[s.available_wh[t] for s in day.suppliers],
            needed_wh=[u.demand_wh[t] for u in day.users],
        )
        for t in range(day.slot_count)
    ]


def digest_of(day, kernel):
    answer = hashlib.sha256()
    for problem in slots_of(day):
        flow = mopso.solve(problem, prev_hash=bytes(32), settings=SMALL, kernel=kernel)
        answer.update(json.dumps(flow).encode())
    return answer.hexdigest()


@pytest.fixture(scope="module")
def reference(scenario):
    return digest_of(day_from(scenario), PureKernel)


def test_the_digest_of_the_scenario_is_known(reference):
    assert reference == GOLDEN


def another_python(version):
    """An interpreter of that version which really starts (a version manager's shim may not)."""
    homes = (Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python")
    kept = [path for home in homes for path in home.glob(f"*{version}*/bin/python{version}")]
    for name in (f"python{version}", *map(str, sorted(kept))):
        if shutil.which(name) and subprocess.run([name, "-V"], capture_output=True).returncode == 0:
            return name
    return None


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_another_python_gives_the_same_digest(scenario, reference, version):
    name = another_python(version)
    if name is None:
        pytest.skip(f"Python {version} is not installed")
    problems = [
        {key: getattr(problem, key) for key in problem.__slots__}
        for problem in slots_of(day_from(scenario))
    ]
    run = subprocess.run(
        [name, "-I", "-c", SCRIPT, str(ROOT)],
        input=json.dumps(problems).encode(),
        capture_output=True,
        timeout=100,
        check=True,
    )
    assert run.stdout.decode().strip() == reference


def test_hash_randomisation_changes_nothing(scenario, reference):
    problems = [
        {key: getattr(problem, key) for key in problem.__slots__}
        for problem in slots_of(day_from(scenario))
    ]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ROOT)],
        input=json.dumps(problems).encode(),
        env={"PYTHONHASHSEED": "4711", "PATH": "/usr/bin"},
        capture_output=True,
        timeout=100,
        check=True,
    )
    assert run.stdout.decode().strip() == reference


@for_seeds(range(40))
def test_never_worse_than_the_requests_and_always_feasible(tight, seed):
    day = day_from(tight(seed, storage=False))
    for problem in slots_of(day)[:2]:
        for order in (nearest_first, cheapest_first):
            flow = mopso.solve(problem, prev_hash=day.prev_hash, settings=SMALL, order=order, kernel=mopso_numpy.kernel)  # fmt: skip
            bare = walk(problem, order(problem))
            assert objectives(problem, flow)[0] <= objectives(problem, bare)[0]
            for i, row in enumerate(flow):
                assert sum(row) <= problem.available_wh[i]
                assert all(0 <= x <= c for x, c in zip(row, problem.capacity_wh[i], strict=True))
            for j, need in enumerate(problem.needed_wh):
                assert sum(row[j] for row in flow) <= need


def test_the_archive_is_a_front_within_its_size(scenario):
    problem = slots_of(day_from(scenario))[5]
    archive = mopso.archive_of(problem, prev_hash=bytes(32), settings=SMALL, kernel=mopso_numpy.kernel)  # fmt: skip
    assert 1 <= len(archive) <= SMALL.archive_count_max
    assert archive == sorted(archive)
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(archive))


def test_thinning_keeps_both_ends_and_drops_the_most_crowded():
    found = [(k * k, -k, (k,)) for k in range(10)]
    kept = mopso.merge([], found, count_max=4)
    assert kept[0] == found[0]
    assert kept[-1] == found[-1]
    assert len(kept) == 4


def test_the_seed_depends_on_block_and_slot_alone():
    assert mopso.seed_bytes(b"a", 1) != mopso.seed_bytes(b"b", 1)
    assert mopso.seed_bytes(b"a", 1) != mopso.seed_bytes(b"a", 2)
    assert len(mopso.seed_bytes(b"", 0)) == 32


def test_draws_are_little_endian_and_complete():
    numbers = mopso.draw(bytes(32), 3, particles=2, dimensions=3)
    stream = hashlib.shake_256(bytes(32) + b"\0\0\0\3").digest(34)
    assert numbers.first_factor[0][0] == int.from_bytes(stream[0:2], "little")
    assert numbers.second_factor[1][2] == int.from_bytes(stream[22:24], "little")
    assert numbers.pick_bits[1] == int.from_bytes(stream[28:32], "little")
    assert list(numbers.coin_bits) == [stream[32] & 1, stream[33] & 1]
