"""Proof of optimality by integer duality: checked by every node, without any solver.

For any integer price of energy at every node, (sum of what the loads would pay less what the
suppliers would earn less what congested arcs would earn) is a lower bound on the cost of every
flow. A flow whose cost equals the bound of the prices it comes with is optimal; both sides are
integers, so equality is exact. How the flow and the prices were found does not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.contracts.day_graph import arcs_from, graph_of, layout_of, objective_ncur

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.contracts.day_graph import Graph
    from ledger.contracts.requests import Day, DayFlows

FLAWS_MAX = 20
"""One flaw refuses the result; more than a screenful explains nothing further."""


def bound_ncur(graph: Graph, price_ncur_per_wh: Sequence[int]) -> int:
    """Lower bound that a price at every node gives."""
    bound = -sum(p * b for p, b in zip(price_ncur_per_wh, graph.supply_wh, strict=True))
    for tail, head, cost, capacity in zip(
        graph.tail_index, graph.head_index, graph.cost_ncur_per_wh, graph.capacity_wh, strict=True
    ):
        reduced = cost + price_ncur_per_wh[tail] - price_ncur_per_wh[head]
        if reduced < 0:
            bound += reduced * capacity
    return bound


def flow_flaws(graph: Graph, arc_flow_wh: Sequence[int]) -> list[str]:
    """Say where a flow breaks a capacity or a balance."""
    balance = list(graph.supply_wh)
    flaws = []
    for arc, (tail, head, capacity, energy) in enumerate(
        zip(graph.tail_index, graph.head_index, graph.capacity_wh, arc_flow_wh, strict=True)
    ):
        if not 0 <= energy <= capacity:
            flaws.append(f"arc {arc} carries {energy} Wh of {capacity}")
        balance[tail] -= energy
        balance[head] += energy
    flaws += [f"node {node} is out of balance by {wh} Wh" for node, wh in enumerate(balance) if wh]
    return flaws


def prices_to_json(day: Day, price_ncur_per_wh: Sequence[int]) -> dict[str, list[list[int]]]:
    """Write the prices: y of each user's load, z of each supplier (never above 0), s of storage.

    ``s`` has one price more than there are slots: the last is the day's end.
    """
    at = layout_of(day)
    slots = range(at.slot_count)
    return {
        "y": [[price_ncur_per_wh[at.load_node(j, t)] for t in slots] for j in range(at.user_count)],
        "z": [
            [-price_ncur_per_wh[at.supplier_node(i, t)] for t in slots]
            for i in range(at.supplier_count)
        ],
        "s": [
            [price_ncur_per_wh[at.store_node(j, t)] for t in range(at.slot_count + 1)]
            for j in range(at.user_count)
        ],
    }


def prices_from_json(day: Day, document: object) -> list[int] | None:
    """Read the prices of a certificate; None when its shape or a number is wrong."""
    at = layout_of(day)
    shapes = {
        "y": (at.user_count, at.slot_count),
        "z": (at.supplier_count, at.slot_count),
        "s": (at.user_count, at.slot_count + 1),
    }
    if not isinstance(document, dict) or set(document) != set(shapes):
        return None
    for key, (rows, columns) in shapes.items():
        table = document[key]
        if not isinstance(table, list) or len(table) != rows:
            return None
        for row in table:
            if not isinstance(row, list) or len(row) != columns:
                return None
            if any(isinstance(v, bool) or not isinstance(v, int) for v in row):
                return None
    prices = [0] * at.node_count
    for t in range(at.slot_count):
        for j in range(at.user_count):
            prices[at.load_node(j, t)] = document["y"][j][t]
        for i in range(at.supplier_count):
            prices[at.supplier_node(i, t)] = -document["z"][i][t]
    for t in range(at.slot_count + 1):
        for j in range(at.user_count):
            prices[at.store_node(j, t)] = document["s"][j][t]
    return prices


def flaws(day: Day, flows: DayFlows, document: object) -> list[str]:
    """Check a result and its certificate; an empty list means proven optimal."""
    prices = prices_from_json(day, document)
    if prices is None:
        return ["the certificate does not have the shape of the day"]
    at = layout_of(day)
    if any(
        prices[at.supplier_node(i, t)] < 0
        for i in range(at.supplier_count)
        for t in range(at.slot_count)
    ):
        return ["a supplier's z is above 0"]
    graph = graph_of(day)
    arcs = arcs_from(day, flows)
    found = flow_flaws(graph, arcs)
    cost, bound = objective_ncur(graph, arcs), bound_ncur(graph, prices)
    if not found and cost != bound:
        found.append(f"the flow costs {cost}, the prices prove only {bound}")
    return found[:FLAWS_MAX]
