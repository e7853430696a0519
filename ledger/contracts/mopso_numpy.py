"""NumPy twin of the swarm's arithmetic: 64-bit integers, no floating point, the same bits.

Only add, multiply, compare, floor division and arithmetic shift are used; sums of integers do not
depend on their order. Where a product could pass 2**62 the pure kernel takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ledger.contracts.mopso import FRACTION_BITS, INERTIA, PULL, Draw, Kernel, PureKernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ledger.contracts.mopso import Order
    from ledger.contracts.requests import SlotProblem

PRODUCT_MAX = 2**62


def kernel(problem: SlotProblem, order: Order) -> Kernel:
    """Give the twin where 64 bits are certainly enough, else the reference."""
    widest = max((cap for row in problem.capacity_wh for cap in row), default=0)
    total = max(sum(problem.needed_wh), sum(problem.available_wh), 1)
    dearest = max(problem.voll_ncur_per_wh, *(max(row) for row in problem.cost_ncur_per_wh), 1)
    largest = max(total * (widest + 1), 4 * PULL * (widest + 1), dearest * total)
    return NumpyKernel(problem, order) if largest < PRODUCT_MAX else PureKernel(problem, order)


class NumpyKernel:
    """The same arithmetic on whole arrays [particle][supplier][user]."""

    def __init__(self, problem: SlotProblem, order: Order) -> None:
        self._shape = problem.shape
        self._available = np.array(problem.available_wh, dtype=np.int64)
        self._needed = np.array(problem.needed_wh, dtype=np.int64)
        self._capacity = np.array(problem.capacity_wh, dtype=np.int64)
        self._cost = np.array(problem.cost_ncur_per_wh, dtype=np.int64)
        self._voll = problem.voll_ncur_per_wh
        self._renewable = np.array(problem.renewable, dtype=np.int64)
        self._order = order

    def _cube(self, positions: list[list[int]]) -> NDArray[np.int64]:
        return np.array(positions, dtype=np.int64).reshape(-1, *self._shape)

    def repair(self, positions: list[list[int]]) -> list[list[int]]:
        """Clip, scale rows then columns down, fill deficits in the order of the requests."""
        x = np.clip(self._cube(positions), 0, self._capacity)
        rows = x.sum(axis=2)
        over = rows > self._available
        scaled = x * self._available[None, :, None] // np.maximum(rows, 1)[:, :, None]
        x = np.where(over[:, :, None], scaled, x)
        columns = x.sum(axis=1)
        over = columns > self._needed
        scaled = x * self._needed[None, None, :] // np.maximum(columns, 1)[:, None, :]
        x = np.where(over[:, None, :], scaled, x)
        left = self._available - x.sum(axis=2)
        missing = self._needed - x.sum(axis=1)
        for i, j in self._order:
            added = np.minimum(
                np.minimum(self._capacity[i, j] - x[:, i, j], left[:, i]), missing[:, j]
            )
            x[:, i, j] += added
            left[:, i] -= added
            missing[:, j] -= added
        flat: list[list[int]] = x.reshape(len(positions), -1).tolist()
        return flat

    def move(
        self,
        positions: list[list[int]],
        velocities: list[list[int]],
        own: list[list[int]],
        leaders: list[list[int]],
        draw: Draw,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Pull towards the own best and the leader; shifts round towards minus infinity."""
        x = np.array(positions, dtype=np.int64)
        limit = np.maximum(1, self._capacity.reshape(-1) >> 1)
        first = PULL * np.array(draw.first_factor, dtype=np.int64) >> FRACTION_BITS
        second = PULL * np.array(draw.second_factor, dtype=np.int64) >> FRACTION_BITS
        moved = (
            INERTIA * np.array(velocities, dtype=np.int64)
            + first * (np.array(own, dtype=np.int64) - x)
            + second * (np.array(leaders, dtype=np.int64) - x)
        ) >> FRACTION_BITS
        moved = np.clip(moved, -limit, limit)
        return (x + moved).tolist(), moved.tolist()

    def objectives(self, positions: list[list[int]]) -> list[tuple[int, int]]:
        """Cost with lost load, and minus the renewable energy."""
        x = self._cube(positions)
        bought = (x * self._cost).sum(axis=(1, 2))
        lost = self._needed.sum() - x.sum(axis=(1, 2))
        renewable = (x.sum(axis=2) * self._renewable).sum(axis=1)
        return [
            (int(f1), -int(f2))
            for f1, f2 in zip(bought + self._voll * lost, renewable, strict=True)
        ]
