"""requests-1: users inside one region ask suppliers for energy, nearest first.

A user whose storage covers its demand asks nobody. Otherwise it sends a cost-perception request
for what is missing, visiting the suppliers in the order of the distance matrix, and then a
storage-perception request that refills its storage without exceeding it. The same walk is the
repair operator of ``mopso``.

Source: Zeng et al., Energy Engineering 120(5), 2023; the equations followed here are listed, each
beside the sentence it stands for, in docs/papers.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONTRACT = "requests-1"

Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplier:
    """A plant, or the grid supply point, that sells inside the region."""

    id: str
    technology: str
    renewable: bool
    available_wh: tuple[int, ...]
    price_ucur_per_kwh: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A user's storage; all zero where there is none."""

    initial_wh: int = 0
    max_wh: int = 0
    target_wh: int = 0
    charge_max_wh: int = 0
    """Most energy it takes in one slot."""
    discharge_max_wh: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A buyer with its demand slot by slot."""

    id: str
    demand_wh: tuple[int, ...]
    storage: Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Everything that decides a region's day. Matrices are [supplier][user]."""

    slot_s: int
    suppliers: tuple[Supplier, ...]
    users: tuple[User, ...]
    distance_km: Matrix
    transmission_ucur_per_kwh_km: int
    capacity_wh: Matrix
    voll_ucur_per_kwh: int
    """Value of lost load: what a kWh not served counts."""
    prev_hash: bytes
    """Hash of the ledger's previous block: where every pseudo-random number comes from."""

    @property
    def slot_count(self) -> int:
        """Slots of the day."""
        return len(self.suppliers[0].available_wh)

    def cost_ncur_per_wh(self, supplier: int, user: int, slot: int) -> int:
        """Delivered price; a micro-currency a kWh is a nano-currency a Wh."""
        return (
            self.suppliers[supplier].price_ucur_per_kwh[slot]
            + self.transmission_ucur_per_kwh_km * self.distance_km[supplier][user]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotProblem:
    """One slot: who may send how much to whom, and what is needed. Matrices [supplier][user]."""

    slot_index: int
    available_wh: tuple[int, ...]
    needed_wh: tuple[int, ...]
    capacity_wh: Matrix
    """Already no more than the supplier has and the user needs."""
    cost_ncur_per_wh: Matrix
    distance_km: Matrix
    renewable: tuple[bool, ...]
    voll_ncur_per_wh: int

    @property
    def shape(self) -> tuple[int, int]:
        """Suppliers and users."""
        return len(self.available_wh), len(self.needed_wh)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFlows:
    """A method's answer: energies [slot][supplier][user] and storage at each slot's end."""

    flow_wh: tuple[Matrix, ...]
    storage_wh: Matrix
    """[user][slot]."""
    unserved_wh: Matrix
    """[user][slot]."""


def slot_problem(
    day: Day, slot: int, *, available_wh: Sequence[int], needed_wh: Sequence[int]
) -> SlotProblem:
    """Cut one slot out of the day."""
    suppliers, users = range(len(day.suppliers)), range(len(day.users))
    return SlotProblem(
        slot_index=slot,
        available_wh=tuple(available_wh),
        needed_wh=tuple(needed_wh),
        capacity_wh=tuple(
            tuple(min(day.capacity_wh[i][j], available_wh[i], needed_wh[j]) for j in users)
            for i in suppliers
        ),
        cost_ncur_per_wh=tuple(
            tuple(day.cost_ncur_per_wh(i, j, slot) for j in users) for i in suppliers
        ),
        distance_km=day.distance_km,
        renewable=tuple(supplier.renewable for supplier in day.suppliers),
        voll_ncur_per_wh=day.voll_ucur_per_kwh,
    )


def nearest_first(problem: SlotProblem) -> tuple[tuple[int, int], ...]:
    """Visiting order of the cost-perception request: distance, then supplier, then user."""
    return _order(problem, problem.distance_km)


def cheapest_first(problem: SlotProblem) -> tuple[tuple[int, int], ...]:
    """Visit by delivered price instead: not what the paper says, and better."""
    return _order(problem, problem.cost_ncur_per_wh)


def _order(problem: SlotProblem, key: Matrix) -> tuple[tuple[int, int], ...]:
    suppliers, users = problem.shape
    pairs = ((i, j) for i in range(suppliers) for j in range(users))
    return tuple(sorted(pairs, key=lambda pair: (key[pair[0]][pair[1]], *pair)))


def walk(problem: SlotProblem, order: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Answer requests in the given order: each takes what is left, up to what is missing."""
    suppliers, users = problem.shape
    flow = [[0] * users for _ in range(suppliers)]
    left, missing = list(problem.available_wh), list(problem.needed_wh)
    for i, j in order:
        taken = min(problem.capacity_wh[i][j], left[i], missing[j])
        flow[i][j] += taken
        left[i] -= taken
        missing[j] -= taken
    return flow


def objectives(problem: SlotProblem, flow: Sequence[Sequence[int]]) -> tuple[int, int]:
    """f1: cost in nano-currency with lost load at its value; f2: renewable energy sold in Wh."""
    bought = sum(
        cost * energy
        for costs, energies in zip(problem.cost_ncur_per_wh, flow, strict=True)
        for cost, energy in zip(costs, energies, strict=True)
    )
    served = sum(map(sum, flow))
    renewable = sum(sum(row) for row, flag in zip(flow, problem.renewable, strict=True) if flag)
    return bought + problem.voll_ncur_per_wh * (sum(problem.needed_wh) - served), renewable


def cost_request_wh(user: User, slot: int, level_wh: int) -> int:
    """What the user asks for: nothing where its storage suffices."""
    return user.demand_wh[slot] - _from_storage_wh(user, slot, level_wh)


def storage_request_wh(user: User, level_wh: int) -> int:
    """What refills the storage to its target, never beyond its limit or charging power."""
    storage = user.storage
    room_wh = min(storage.target_wh, storage.max_wh) - level_wh
    return max(0, min(room_wh, storage.charge_max_wh))


def _from_storage_wh(user: User, slot: int, level_wh: int) -> int:
    return min(level_wh, user.storage.discharge_max_wh, user.demand_wh[slot])


def run_day(
    day: Day,
    solve: Callable[[SlotProblem], list[list[int]]],
    order: Callable[[SlotProblem], Sequence[tuple[int, int]]] = nearest_first,
) -> DayFlows:
    """Walk through the day slot by slot without foresight, as the requests do.

    ``solve`` answers the cost-perception requests of a slot; storage-perception requests then
    take from what is left, in ``order``.
    """
    levels = [user.storage.initial_wh for user in day.users]
    flows: list[Matrix] = []
    stored: list[list[int]] = []
    unserved: list[list[int]] = []
    for slot in range(day.slot_count):
        available = [supplier.available_wh[slot] for supplier in day.suppliers]
        own = [_from_storage_wh(u, slot, s) for u, s in zip(day.users, levels, strict=True)]
        needed = [cost_request_wh(u, slot, s) for u, s in zip(day.users, levels, strict=True)]
        flow = solve(slot_problem(day, slot, available_wh=available, needed_wh=needed))
        served = [sum(row[j] for row in flow) for j in range(len(day.users))]
        levels = [level - used for level, used in zip(levels, own, strict=True)]
        refill = _refill(day, slot, flow, levels, order)
        levels = [level + sum(row[j] for row in refill) for j, level in enumerate(levels)]
        flows.append(
            tuple(
                tuple(a + b for a, b in zip(one, two, strict=True))
                for one, two in zip(flow, refill, strict=True)
            )
        )
        stored.append(list(levels))
        unserved.append([need - got for need, got in zip(needed, served, strict=True)])
    return DayFlows(
        flow_wh=tuple(flows),
        storage_wh=tuple(zip(*stored, strict=True)),
        unserved_wh=tuple(zip(*unserved, strict=True)),
    )


def _refill(
    day: Day,
    slot: int,
    flow: list[list[int]],
    levels: list[int],
    order: Callable[[SlotProblem], Sequence[tuple[int, int]]],
) -> list[list[int]]:
    left = [s.available_wh[slot] - sum(row) for s, row in zip(day.suppliers, flow, strict=True)]
    asked = [storage_request_wh(u, level) for u, level in zip(day.users, levels, strict=True)]
    problem = slot_problem(day, slot, available_wh=left, needed_wh=asked)
    room = tuple(
        tuple(
            min(capacity, whole - used)
            for capacity, whole, used in zip(capacities, wholes, row, strict=True)
        )
        for capacities, wholes, row in zip(problem.capacity_wh, day.capacity_wh, flow, strict=True)
    )
    limited = replace(problem, capacity_wh=room)
    return walk(limited, order(limited))
