"""exact-1: the optimum of a region's day, found by HiGHS and proven by an integer certificate.

The solver is not trusted: its answer is rounded to integers and must pass ``certificate``, which
every node repeats without it. A solver that differs between two machines is therefore harmless.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ledger.contracts import certificate
from ledger.contracts.day_graph import flows_from, graph_of, layout_of, objective_ncur

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.contracts.day_graph import Graph
    from ledger.contracts.requests import Day, DayFlows


class NotProven(Exception):  # noqa: N818 - names what is missing
    """The solver gave an answer whose optimality the certificate does not prove."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """An optimal flow on the graph with the node prices that prove it."""

    arc_flow_wh: tuple[int, ...]
    price_ncur_per_wh: tuple[int, ...]
    objective_ncur: int


def solve_graph(graph: Graph) -> Optimum:
    """Find and prove the cheapest flow; raise NotProven when the proof fails."""
    flow, prices = _highs(graph)
    arcs = tuple(round(x) for x in flow)
    found = certificate.flow_flaws(graph, arcs)
    if found:
        raise NotProven(f"rounded flow: {found[0]}")
    cost = objective_ncur(graph, arcs)
    root = prices[0]
    for candidate in (tuple(round(p - root) for p in prices), _potentials(graph, arcs)):
        if candidate is not None and certificate.bound_ncur(graph, candidate) == cost:
            return Optimum(arc_flow_wh=arcs, price_ncur_per_wh=candidate, objective_ncur=cost)
    raise NotProven("no integer prices prove the flow")


def solve(day: Day) -> tuple[DayFlows, dict[str, list[list[int]]], Optimum]:
    """Optimum of the day with storage, its certificate, and the flow behind both."""
    optimum = solve_graph(graph_of(day))
    flows = flows_from(day, optimum.arc_flow_wh)
    document = certificate.prices_to_json(day, _scarcity_only(day, optimum.price_ncur_per_wh))
    found = certificate.flaws(day, flows, document)
    if found:
        raise NotProven(found[0])
    return flows, document, optimum


def _scarcity_only(day: Day, prices: tuple[int, ...]) -> list[int]:
    """Raise a supplier's negative price to zero: energy nobody buys is worth nothing.

    Unsold energy leaves at no cost, so the bound the prices prove stays the same.
    """
    at = layout_of(day)
    raised = list(prices)
    for slot in range(at.slot_count):
        for supplier in range(at.supplier_count):
            node = at.supplier_node(supplier, slot)
            raised[node] = max(0, raised[node])
    return raised


def front(day: Day, *, points_max: int = 64) -> list[tuple[int, int]]:
    """Pareto front of (cost in nano-currency, renewable Wh): its ends and its corners.

    Both objectives are linear, so the front is a polygon line, and a bonus on renewable energy
    walks its corners. The bonus moves in steps of one micro-currency a kWh, the unit of prices.
    """
    plain = graph_of(day)
    with_bonus = graph_of(day, renewable_bonus_ncur_per_wh=1)
    pairs = zip(plain.cost_ncur_per_wh, with_bonus.cost_ncur_per_wh, strict=True)
    renewable = tuple(cost - less for cost, less in pairs)

    def corner(*, scale: int = 1, bonus: int) -> tuple[int, int]:
        pairs = zip(plain.cost_ncur_per_wh, renewable, strict=True)
        costs = tuple(scale * cost - bonus * flag for cost, flag in pairs)
        flow = solve_graph(replace(plain, cost_ncur_per_wh=costs)).arc_flow_wh
        sold = sum(x * flag for x, flag in zip(flow, renewable, strict=True))
        return objective_ncur(plain, flow), sold

    # The thousandth of a unit decides among equals at the cheap end; no cycle is longer.
    low = corner(scale=1000, bonus=1)
    high = corner(bonus=1 + 2 * max(plain.cost_ncur_per_wh))
    points = {low, high}
    work = [(low, high)]
    while work and len(points) < points_max:
        (cost_a, sold_a), (cost_b, sold_b) = work.pop()
        if sold_b <= sold_a or cost_b <= cost_a:
            continue
        bonus = (cost_b - cost_a) // (sold_b - sold_a)
        cost_c, sold_c = corner(bonus=bonus)
        worth = cost_c - bonus * sold_c
        if worth < min(cost_a - bonus * sold_a, cost_b - bonus * sold_b):
            points.add((cost_c, sold_c))
            work.append(((cost_a, sold_a), (cost_c, sold_c)))
            work.append(((cost_c, sold_c), (cost_b, sold_b)))
    return sorted(points)


def _highs(graph: Graph) -> tuple[list[float], list[float]]:
    """Solve the flow as a linear programme; give arc flows and node prices, not yet integer."""
    # Only a solving node has the solver; checking needs neither.
    import highspy  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    nodes, arcs = len(graph.supply_wh), len(graph.tail_index)
    program: Any = highspy.HighsLp()
    program.num_col_, program.num_row_ = arcs, nodes
    program.col_cost_ = np.array(graph.cost_ncur_per_wh, dtype=np.float64)
    program.col_lower_ = np.zeros(arcs)
    program.col_upper_ = np.array(graph.capacity_wh, dtype=np.float64)
    program.row_lower_ = program.row_upper_ = np.array(graph.supply_wh, dtype=np.float64)
    matrix = program.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kColwise
    matrix.start_ = np.arange(0, 2 * arcs + 1, 2, dtype=np.int32)
    matrix.index_ = np.array([graph.tail_index, graph.head_index], dtype=np.int32).T.ravel()
    matrix.value_ = np.tile(np.array([1.0, -1.0]), arcs)
    solver: Any = highspy.Highs()
    solver.setOptionValue("output_flag", False)  # noqa: FBT003 - the solver's own interface
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("solver", "simplex")
    solver.passModel(program)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise NotProven(f"the solver ended with {solver.getModelStatus()}")
    solution = solver.getSolution()
    return list(solution.col_value), [-dual for dual in solution.row_dual]


def _potentials(graph: Graph, arcs: Sequence[int]) -> tuple[int, ...] | None:
    """Node prices from the flow alone: shortest distances in its residual graph.

    None when a cycle of negative cost shows that the flow is not optimal.
    """
    residual = []
    for tail, head, cost, capacity, energy in zip(
        graph.tail_index,
        graph.head_index,
        graph.cost_ncur_per_wh,
        graph.capacity_wh,
        arcs,
        strict=True,
    ):
        if energy < capacity:
            residual.append((tail, head, cost))
        if energy > 0:
            residual.append((head, tail, -cost))
    prices = [0] * len(graph.supply_wh)
    for _ in range(len(prices) + 1):
        changed = False
        for tail, head, cost in residual:
            if prices[tail] + cost < prices[head]:
                prices[head] = prices[tail] + cost
                changed = True
        if not changed:
            return tuple(price - prices[0] for price in prices)
    return None
