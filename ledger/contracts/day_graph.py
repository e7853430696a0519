"""A region's day as a min-cost flow on the time-expanded graph.

Suppliers, users and storages of every slot are nodes; energy, storage held, lost load and unsold
energy are arcs. Every capacity and supply is an integer, so the optimum and its prices are
integers too: that is what makes the proof in ``certificate`` exact. Lossless by definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.contracts.requests import DayFlows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.contracts.requests import Day


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes by number with their supply; arcs as parallel columns."""

    supply_wh: tuple[int, ...]
    """Energy that enters at a node; negative where it leaves. Sums to zero."""
    tail_index: tuple[int, ...]
    head_index: tuple[int, ...]
    cost_ncur_per_wh: tuple[int, ...]
    capacity_wh: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a node or an arc of the day stands in its graph."""

    supplier_count: int
    user_count: int
    slot_count: int

    def supplier_node(self, supplier: int, slot: int) -> int:
        """Node of a supplier in a slot."""
        return 1 + slot * self.supplier_count + supplier

    def load_node(self, user: int, slot: int) -> int:
        """Node of a user's demand in a slot."""
        return 1 + self.supplier_count * self.slot_count + slot * self.user_count + user

    def store_node(self, user: int, slot: int) -> int:
        """Node of a user's storage in a slot; the slot after the last is the day's end."""
        return self.load_node(user, self.slot_count) + slot * self.user_count

    @property
    def node_count(self) -> int:
        """All nodes, the root at 0 included."""
        return self.store_node(0, self.slot_count) + self.user_count

    def flow_arc(self, supplier: int, user: int, slot: int) -> int:
        """Arc that carries a supplier's energy to a user."""
        return (slot * self.supplier_count + supplier) * self.user_count + user

    def user_arcs(self, user: int, slot: int) -> int:
        """First of a user's four arcs of a slot: lost load, charge, discharge, hold."""
        flows = self.supplier_count * self.user_count * self.slot_count
        return flows + 4 * (slot * self.user_count + user)

    def missed_arc(self, user: int) -> int:
        """Arc that carries what a user's storage lacks of its target at the day's end."""
        return self.user_arcs(0, self.slot_count) + 2 * user + 1


def layout_of(day: Day) -> Layout:
    """Sizes of the day's graph."""
    return Layout(
        supplier_count=len(day.suppliers), user_count=len(day.users), slot_count=day.slot_count
    )


def graph_of(day: Day, *, renewable_bonus_ncur_per_wh: int = 0) -> Graph:
    """Build the graph; the bonus makes renewable energy cheaper, which walks the Pareto front."""
    at = layout_of(day)
    supply = [0] * at.node_count
    arcs: list[tuple[int, int, int, int]] = []
    for slot in range(at.slot_count):
        for i, supplier in enumerate(day.suppliers):
            supply[at.supplier_node(i, slot)] = supplier.available_wh[slot]
            bonus = renewable_bonus_ncur_per_wh if supplier.renewable else 0
            arcs.extend(
                (
                    at.supplier_node(i, slot),
                    at.load_node(j, slot),
                    day.cost_ncur_per_wh(i, j, slot) - bonus,
                    day.capacity_wh[i][j],
                )
                for j in range(at.user_count)
            )
    lost = day.voll_ucur_per_kwh
    for slot in range(at.slot_count):
        for j, user in enumerate(day.users):
            load, store = at.load_node(j, slot), at.store_node(j, slot)
            supply[load] = -user.demand_wh[slot]
            arcs.append((0, load, lost, user.demand_wh[slot]))
            arcs.append((load, store, 0, user.storage.charge_max_wh))
            arcs.append((store, load, 0, user.storage.discharge_max_wh))
            arcs.append((store, at.store_node(j, slot + 1), 0, user.storage.max_wh))
    for j, user in enumerate(day.users):
        end = at.store_node(j, at.slot_count)
        supply[at.store_node(j, 0)] += user.storage.initial_wh
        supply[end] -= user.storage.target_wh
        arcs.append((end, 0, 0, user.storage.max_wh))
        arcs.append((0, end, lost, user.storage.target_wh))
    for slot in range(at.slot_count):
        for i, supplier in enumerate(day.suppliers):
            arcs.append((at.supplier_node(i, slot), 0, 0, supplier.available_wh[slot]))
    supply[0] = -sum(supply)
    tails, heads, costs, capacities = zip(*arcs, strict=True)
    return Graph(
        supply_wh=tuple(supply),
        tail_index=tails,
        head_index=heads,
        cost_ncur_per_wh=costs,
        capacity_wh=capacities,
    )


def flows_from(day: Day, arc_flow_wh: Sequence[int]) -> DayFlows:
    """Read a flow on the graph as energies, storage and lost load."""
    at = layout_of(day)
    slots, users = range(at.slot_count), range(at.user_count)
    return DayFlows(
        flow_wh=tuple(
            tuple(
                tuple(arc_flow_wh[at.flow_arc(i, j, slot)] for j in users)
                for i in range(at.supplier_count)
            )
            for slot in slots
        ),
        storage_wh=tuple(
            tuple(arc_flow_wh[at.user_arcs(j, slot) + 3] for slot in slots) for j in users
        ),
        unserved_wh=tuple(
            tuple(arc_flow_wh[at.user_arcs(j, slot)] for slot in slots) for j in users
        ),
    )


def arcs_from(day: Day, flows: DayFlows) -> list[int]:
    """Put a day's answer back on the graph; what storage takes or gives follows from its level.

    Whether the result is a flow at all, within every capacity, is for the certificate to say.
    """
    at = layout_of(day)
    slots, users = range(at.slot_count), range(at.user_count)
    arcs = [energy for slot in slots for row in flows.flow_wh[slot] for energy in row]
    before = [user.storage.initial_wh for user in day.users]
    for slot in slots:
        for j in users:
            change = flows.storage_wh[j][slot] - before[j]
            before[j] = flows.storage_wh[j][slot]
            arcs += [flows.unserved_wh[j][slot], max(change, 0), max(-change, 0), before[j]]
    for user, level in zip(day.users, before, strict=True):
        over = level - user.storage.target_wh
        arcs += [max(over, 0), max(-over, 0)]
    for slot in slots:
        for supplier, row in zip(day.suppliers, flows.flow_wh[slot], strict=True):
            arcs.append(supplier.available_wh[slot] - sum(row))
    return arcs


def objective_ncur(graph: Graph, arc_flow_wh: Sequence[int]) -> int:
    """Cost of a flow, lost load and a missed storage target at their value."""
    return sum(c * x for c, x in zip(graph.cost_ncur_per_wh, arc_flow_wh, strict=True))
