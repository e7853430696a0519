"""mopso-1: two-objective particle swarm on one slot, bit-identical on every node.

Integers only, in Q16: on one machine the same swarm in floating point gave three different
answers under three sets of processor features. Every random number is a SHAKE256 of the previous
block's hash, so nobody who adds a request can choose it, and any node repeats it.

The reference is the pure Python kernel here; ``mopso_numpy`` holds an integer-exact twin.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ledger.contracts.requests import nearest_first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ledger.contracts.requests import SlotProblem

VERSION = "mopso-1"
FRACTION_BITS = 16
INERTIA = 47_776
"""0.729 in Q16, with PULL 1.494: Clerc and Kennedy's constriction."""
PULL = 97_911

Order = tuple[tuple[int, int], ...]
Solution = tuple[int, int, tuple[int, ...]]
"""f1, minus f2, flattened flow: ascending order is the order of preference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Size of the swarm; part of the contract, as it decides the answer."""

    particle_count: int = 40
    iteration_count: int = 60
    archive_count_max: int = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Random numbers of one iteration."""

    first_factor: Sequence[Sequence[int]]
    second_factor: Sequence[Sequence[int]]
    pick_bits: Sequence[int]
    coin_bits: Sequence[int]


class Kernel(Protocol):
    """The arithmetic on a whole swarm; two implementations must agree on every bit."""

    def repair(self, positions: list[list[int]]) -> list[list[int]]:
        """Make each particle feasible and fill its deficits."""
        ...

    def move(
        self,
        positions: list[list[int]],
        velocities: list[list[int]],
        own: list[list[int]],
        leaders: list[list[int]],
        draw: Draw,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Give new velocities and unrepaired positions."""
        ...

    def objectives(self, positions: list[list[int]]) -> list[tuple[int, int]]:
        """Give (f1, minus f2) of each particle."""
        ...


def seed_bytes(prev_hash: bytes, slot_index: int) -> bytes:
    """Seed of a slot: previous block and slot only, so that the last request can not grind it."""
    return hashlib.sha256(
        VERSION.encode() + b"\0" + prev_hash + slot_index.to_bytes(4, "big")
    ).digest()


def draw(seed: bytes, iteration: int, *, particles: int, dimensions: int) -> Draw:
    """Random numbers of an iteration, little endian by definition."""
    cells = particles * dimensions
    stream = hashlib.shake_256(seed + iteration.to_bytes(4, "big")).digest(
        4 * cells + 5 * particles
    )

    def block(offset: int) -> list[list[int]]:
        numbers = [stream[offset + 2 * k] | stream[offset + 2 * k + 1] << 8 for k in range(cells)]
        return [numbers[p * dimensions : (p + 1) * dimensions] for p in range(particles)]

    tail = 4 * cells
    return Draw(
        first_factor=block(0),
        second_factor=block(2 * cells),
        pick_bits=[
            int.from_bytes(stream[tail + 4 * p : tail + 4 * p + 4], "little")
            for p in range(particles)
        ],
        coin_bits=[byte & 1 for byte in stream[tail + 4 * particles :]],
    )


class PureKernel:
    """The reference: Python integers and nothing else."""

    def __init__(self, problem: SlotProblem, order: Order) -> None:
        suppliers, users = problem.shape
        self._available = problem.available_wh
        self._needed = problem.needed_wh
        self._users = users
        self._suppliers = suppliers
        self._capacity = [cap for row in problem.capacity_wh for cap in row]
        self._cost = [cost for row in problem.cost_ncur_per_wh for cost in row]
        self._voll = problem.voll_ncur_per_wh
        self._renewable = [flag for flag in problem.renewable for _ in range(users)]
        self._order = [(i, j, i * users + j) for i, j in order]

    def repair(self, positions: list[list[int]]) -> list[list[int]]:
        """Clip, scale rows then columns down, fill deficits in the order of the requests."""
        return [self._repaired(position) for position in positions]

    def _repaired(self, position: list[int]) -> list[int]:
        users = self._users
        x = [max(0, min(v, cap)) for v, cap in zip(position, self._capacity, strict=True)]
        for i, available in enumerate(self._available):
            total = sum(x[i * users : (i + 1) * users])
            if total > available:
                for k in range(i * users, (i + 1) * users):
                    x[k] = x[k] * available // total
        for j, needed in enumerate(self._needed):
            total = sum(x[j::users])
            if total > needed:
                for k in range(j, len(x), users):
                    x[k] = x[k] * needed // total
        left = [a - sum(x[i * users : (i + 1) * users]) for i, a in enumerate(self._available)]
        missing = [n - sum(x[j::users]) for j, n in enumerate(self._needed)]
        for i, j, k in self._order:
            added = min(self._capacity[k] - x[k], left[i], missing[j])
            x[k] += added
            left[i] -= added
            missing[j] -= added
        return x

    def move(
        self,
        positions: list[list[int]],
        velocities: list[list[int]],
        own: list[list[int]],
        leaders: list[list[int]],
        draw: Draw,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Pull towards the own best and the leader; shifts round towards minus infinity."""
        limits = [max(1, cap >> 1) for cap in self._capacity]
        new_positions, new_velocities = [], []
        for x, v, mine, lead, one, two in zip(
            positions, velocities, own, leaders, draw.first_factor, draw.second_factor, strict=True
        ):
            moved = [
                max(
                    -limit,
                    min(
                        limit,
                        (
                            INERTIA * vk
                            + ((PULL * a) >> FRACTION_BITS) * (mk - xk)
                            + ((PULL * b) >> FRACTION_BITS) * (lk - xk)
                        )
                        >> FRACTION_BITS,
                    ),
                )
                for xk, vk, mk, lk, a, b, limit in zip(
                    x, v, mine, lead, one, two, limits, strict=True
                )
            ]
            new_velocities.append(moved)
            new_positions.append([xk + vk for xk, vk in zip(x, moved, strict=True)])
        return new_positions, new_velocities

    def objectives(self, positions: list[list[int]]) -> list[tuple[int, int]]:
        """Cost with lost load, and minus the renewable energy."""
        whole = sum(self._needed)
        return [
            (
                sum(c * v for c, v in zip(self._cost, x, strict=True))
                + self._voll * (whole - sum(x)),
                -sum(v for v, flag in zip(x, self._renewable, strict=True) if flag),
            )
            for x in positions
        ]


def merge(archive: list[Solution], found: list[Solution], *, count_max: int) -> list[Solution]:
    """Non-inferior set of both, thinned where it is most crowded; the end points stay."""
    kept: list[Solution] = []
    for solution in sorted(archive + found):
        if not kept or solution[1] < kept[-1][1]:
            kept.append(solution)
    while len(kept) > count_max:
        cost_range = max(1, kept[-1][0] - kept[0][0])
        energy_range = max(1, kept[0][1] - kept[-1][1])
        crowding = [
            ((kept[k + 1][0] - kept[k - 1][0]) << 20) // cost_range
            + ((kept[k - 1][1] - kept[k + 1][1]) << 20) // energy_range
            for k in range(1, len(kept) - 1)
        ]
        del kept[1 + crowding.index(min(crowding))]
    return kept


def _dominates(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def archive_of(
    problem: SlotProblem,
    *,
    prev_hash: bytes,
    settings: Settings | None = None,
    order: Callable[[SlotProblem], Order] = nearest_first,
    kernel: Callable[[SlotProblem, Order], Kernel] = PureKernel,
) -> list[Solution]:
    """Run the swarm; give its archive of non-inferior solutions, cheapest first.

    Particle 0 starts from nothing, which the repair turns into the bare request mechanism: the
    swarm is never worse than it.
    """
    settings = settings or Settings()
    arithmetic = kernel(problem, order(problem))
    suppliers, users = problem.shape
    dimensions, particles = suppliers * users, settings.particle_count
    capacity = [cap for row in problem.capacity_wh for cap in row]
    seed = seed_bytes(prev_hash, problem.slot_index)
    start = draw(seed, 0, particles=particles, dimensions=dimensions)
    positions = [
        [number * (cap + 1) >> FRACTION_BITS for number, cap in zip(numbers, capacity, strict=True)]
        for numbers in start.first_factor
    ]
    positions[0] = [0] * dimensions
    positions = arithmetic.repair(positions)
    velocities = [[0] * dimensions for _ in range(particles)]
    scores = arithmetic.objectives(positions)
    own, own_scores = list(positions), list(scores)
    archive = merge([], _solutions(positions, scores), count_max=settings.archive_count_max)
    for iteration in range(1, settings.iteration_count + 1):
        numbers = draw(seed, iteration, particles=particles, dimensions=dimensions)
        leaders = [list(archive[pick % len(archive)][2]) for pick in numbers.pick_bits]
        positions, velocities = arithmetic.move(positions, velocities, own, leaders, numbers)
        positions = arithmetic.repair(positions)
        scores = arithmetic.objectives(positions)
        for p, score in enumerate(scores):
            better = _dominates(score, own_scores[p])
            if better or (numbers.coin_bits[p] and not _dominates(own_scores[p], score)):
                own[p], own_scores[p] = positions[p], score
        archive = merge(
            archive, _solutions(positions, scores), count_max=settings.archive_count_max
        )
    return archive


def _solutions(positions: list[list[int]], scores: list[tuple[int, int]]) -> list[Solution]:
    return [(f1, f2, tuple(x)) for x, (f1, f2) in zip(positions, scores, strict=True)]


def solve(
    problem: SlotProblem,
    *,
    prev_hash: bytes,
    settings: Settings | None = None,
    order: Callable[[SlotProblem], Order] = nearest_first,
    kernel: Callable[[SlotProblem, Order], Kernel] = PureKernel,
) -> list[list[int]]:
    """The cheapest non-inferior flow; [supplier][user]."""
    archive = archive_of(
        problem, prev_hash=prev_hash, settings=settings, order=order, kernel=kernel
    )
    users = problem.shape[1]
    x = archive[0][2]
    return [list(x[k : k + users]) for k in range(0, len(x), users)]
