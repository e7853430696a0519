import dataclasses
import random

import pytest
from fakes.seeds import for_seeds

from ledger.contracts import mopso, mopso_numpy
from ledger.contracts.mopso import PureKernel, Settings
from ledger.contracts.requests import SlotProblem, nearest_first

SMALL = Settings(particle_count=10, iteration_count=8, archive_count_max=6)


def random_problem(seed, *, size):
    rng = random.Random(seed)
    n, m = rng.randint(1, 6), rng.randint(1, 5)
    available = tuple(rng.choice([0, rng.randint(0, size)]) for _ in range(n))
    needed = tuple(rng.choice([0, rng.randint(0, size)]) for _ in range(m))
    return SlotProblem(
        slot_index=seed,
        available_wh=available,
        needed_wh=needed,
        capacity_wh=tuple(
            tuple(min(rng.randint(0, size), a, needed[j]) for j in range(m)) for a in available
        ),
        cost_ncur_per_wh=tuple(tuple(rng.randint(0, 10**6) for _ in range(m)) for _ in range(n)),
        distance_km=tuple(tuple(rng.randint(0, 9) for _ in range(m)) for _ in range(n)),
        renewable=tuple(rng.random() < 0.5 for _ in range(n)),
        voll_ncur_per_wh=10_000_000,
    )


@pytest.mark.parametrize("size", [3, 1_000, 300_000_000])
@for_seeds(range(12))
def test_the_twin_agrees_with_the_reference_on_every_bit(seed, size):
    problem = random_problem(seed, size=size)
    answers = [
        mopso.archive_of(problem, prev_hash=b"x", settings=SMALL, kernel=kernel)
        for kernel in (PureKernel, mopso_numpy.NumpyKernel)
    ]
    assert answers[0] == answers[1]


@for_seeds(range(10))
def test_each_step_agrees(seed):
    problem = random_problem(seed, size=5_000)
    rng = random.Random(seed)
    order = nearest_first(problem)
    one, two = PureKernel(problem, order), mopso_numpy.NumpyKernel(problem, order)
    cells = problem.shape[0] * problem.shape[1]
    swarm = [[rng.randint(-6_000, 6_000) for _ in range(cells)] for _ in range(7)]
    assert one.repair(swarm) == two.repair(swarm)
    assert one.objectives(one.repair(swarm)) == two.objectives(two.repair(swarm))
    draw = mopso.draw(bytes(32), seed, particles=7, dimensions=cells)
    shuffled = [rng.sample(swarm, 7) for _ in range(3)]
    assert one.move(swarm, *shuffled, draw) == two.move(swarm, *shuffled, draw)


def test_numbers_too_wide_for_64_bits_go_to_the_reference():
    problem = random_problem(1, size=1_000)
    assert isinstance(mopso_numpy.kernel(problem, nearest_first(problem)), mopso_numpy.NumpyKernel)
    wide = dataclasses.replace(problem, available_wh=(10**18,) * problem.shape[0])
    assert isinstance(mopso_numpy.kernel(wide, nearest_first(wide)), PureKernel)
