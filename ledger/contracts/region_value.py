"""What an exchange is worth to a region: the join of the two papers.

Inside a region the exact solution says what the interval costs when k levels flow in through the
soft open point; V(k) = C(0) − C(k) *is* the region's offer to ``hco``. V is concave, so a region
that bids it bids its true marginal values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ledger.contracts.day_graph import graph_of, layout_of
from ledger.contracts.exact import solve_graph
from ledger.contracts.requests import Storage, Supplier, User

if TYPE_CHECKING:
    from ledger.contracts.requests import Day

NCUR_PER_UCUR = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One interval of a region and the lines between its terminal and its parties."""

    day: Day
    """One slot long, as long as the round's interval."""
    to_user_km: tuple[int, ...]
    from_supplier_km: tuple[int, ...]
    line_capacity_wh: int
    """Energy the terminal can exchange with any one party in the interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What the interval costs with an exchange, and what it leaves unserved or unstored."""

    cost_ncur: int
    unserved_wh: int


def with_terminal(region: Region, energy_wh: int) -> Day:
    """The region's day with its terminal, where energy enters (positive) or leaves (negative).

    The terminal is a supplier and a user at once with a free arc between the two, wide enough
    for everything the region has. So energy may also pass by the terminal from one party to
    another, and the cost of the day is one convex function of the exchange.
    """
    day = region.day
    room_wh = sum(supplier.available_wh[0] for supplier in day.suppliers)
    entering = Supplier(
        id="-terminal",
        technology="terminal",
        renewable=False,
        available_wh=(room_wh + max(energy_wh, 0),),
        # Cheaper than anything by more than anything can cost: it is taken, it is not a choice.
        price_ucur_per_kwh=(-_dominant(region),),
    )
    leaving = User(id="-terminal", demand_wh=(room_wh + max(-energy_wh, 0),), storage=Storage())
    columns = zip(day.distance_km, region.from_supplier_km, strict=True)
    line = region.line_capacity_wh
    return replace(
        day,
        suppliers=(*day.suppliers, entering),
        users=(*day.users, leaving),
        distance_km=(*((*row, km) for row, km in columns), (*region.to_user_km, 0)),
        capacity_wh=(
            *((*row, line) for row in day.capacity_wh),
            (*((line,) * len(day.users)), room_wh),
        ),
    )


def exchange(region: Region, energy_wh: int) -> Exchange | None:
    """Cost with an import (positive) or export (negative); None when the region can not do it."""
    day = with_terminal(region, energy_wh)
    optimum = solve_graph(graph_of(day))
    at = layout_of(day)
    flow = optimum.arc_flow_wh
    users = range(at.user_count)
    entered = sum(flow[at.flow_arc(at.supplier_count - 1, j, 0)] for j in users)
    if entered < day.suppliers[-1].available_wh[0]:
        return None
    return Exchange(
        cost_ncur=optimum.objective_ncur + _dominant(region) * entered,
        unserved_wh=sum(flow[at.user_arcs(j, 0)] + flow[at.missed_arc(j)] for j in users),
    )


def _dominant(region: Region) -> int:
    longest = max((*region.to_user_km, *region.from_supplier_km), default=0)
    farthest = max((max(row) for row in region.day.distance_km), default=0)
    ways = region.day.transmission_ucur_per_kwh_km * (longest + farthest)
    prices = max(max(supplier.price_ucur_per_kwh) for supplier in region.day.suppliers)
    return 2 * (region.day.voll_ucur_per_kwh + ways + prices) + 1


def offers_ucur(region: Region, *, level_wh: int, k_min: int, k_max: int) -> dict[int, int]:
    """Offer list of a region: the value of each level it can carry, in micro-currency.

    Rounded down, so that a region never bids more than the exchange is worth. A level that would
    leave somebody unserved who is served without it is not offered.
    """
    idle = exchange(region, 0)
    assert idle is not None, "a region can always do without"
    offers = {0: 0}
    for direction, last in ((1, k_max), (-1, -k_min)):
        for step in range(1, last + 1):
            found = exchange(region, direction * step * level_wh)
            # What a region can not carry at one level it can not carry beyond it either.
            if found is None or found.unserved_wh > idle.unserved_wh:
                break
            value = (idle.cost_ncur - found.cost_ncur) // NCUR_PER_UCUR
            offers[direction * step] = value
    return dict(sorted(offers.items()))
