"""Other ways to clear the same market, for comparison only; none of them settles anything.

The "-style" mechanisms are reconstructions from what others say about them, not their authors'
texts. ``high_low`` and ``double_auction`` follow the usual rules of a call auction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.contracts.hco import admissible
from ledger.contracts.requests import SlotProblem, nearest_first, slot_problem, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.contracts.hco import Round
    from ledger.contracts.requests import Day

BID_MARGIN_UCUR = 50_000
"""A user would pay 0.05 a kWh more than the delivered price of the grid."""
RELAY_FEE_UCUR = 10_000
"""What carrying a trade from one chain to another costs a kWh in the heterogeneous-chain style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One slot as an auction sees it: asks before transmission, bids for delivered energy."""

    problem: SlotProblem
    ask_ucur_per_kwh: tuple[int, ...]
    bid_ucur_per_kwh: tuple[int, ...]
    technology: tuple[str, ...]

    def transmission(self, supplier: int, user: int) -> int:
        """Cost of the way."""
        return self.problem.cost_ncur_per_wh[supplier][user] - self.ask_ucur_per_kwh[supplier]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What a mechanism made of the slot."""

    paid_ncur: int
    """By the users, transmission included."""
    renewable_wh: int
    unserved_wh: int


def market_of(day: Day, slot: int) -> Market:
    """The slot without storage: demand as it stands, the grid's price as the users' alternative."""
    problem = slot_problem(
        day,
        slot,
        available_wh=[supplier.available_wh[slot] for supplier in day.suppliers],
        needed_wh=[user.demand_wh[slot] for user in day.users],
    )
    grid = next((i for i, supplier in enumerate(day.suppliers) if supplier.technology == "grid"), 0)
    return Market(
        problem=problem,
        ask_ucur_per_kwh=tuple(s.price_ucur_per_kwh[slot] for s in day.suppliers),
        bid_ucur_per_kwh=tuple(cost + BID_MARGIN_UCUR for cost in problem.cost_ncur_per_wh[grid]),
        technology=tuple(s.technology for s in day.suppliers),
    )


def _cleared(market: Market, flow: Sequence[Sequence[int]], paid_ncur: int) -> Cleared:
    problem = market.problem
    return Cleared(
        paid_ncur=paid_ncur,
        renewable_wh=sum(
            sum(row) for row, flag in zip(flow, problem.renewable, strict=True) if flag
        ),
        unserved_wh=sum(problem.needed_wh) - sum(map(sum, flow)),
    )


def as_offered(market: Market, flow: Sequence[Sequence[int]]) -> Cleared:
    """Everybody is paid what it asked: how the proposed mechanisms settle."""
    costs = market.problem.cost_ncur_per_wh
    paid = sum(
        c * x for cs, xs in zip(costs, flow, strict=True) for c, x in zip(cs, xs, strict=True)
    )
    return _cleared(market, flow, paid)


def coalition_style(market: Market) -> Cleared:
    """Two-layer coalition style (Luo): nearest first, price midway between ask and bid."""
    flow = walk(market.problem, nearest_first(market.problem))
    paid = 0
    for i, row in enumerate(flow):
        for j, energy in enumerate(row):
            way = market.transmission(i, j)
            bid = max(market.bid_ucur_per_kwh[j] - way, market.ask_ucur_per_kwh[i])
            paid += ((bid + market.ask_ucur_per_kwh[i]) // 2 + way) * energy
    return _cleared(market, flow, paid)


def chains_style(market: Market) -> Cleared:
    """Heterogeneous chains style (Li): a chain a technology, one price in each, a relay fee."""
    problem = market.problem
    suppliers, users = problem.shape
    flow = [[0] * users for _ in range(suppliers)]
    missing, paid = list(problem.needed_wh), 0
    for technology in ("wind", "photovoltaic", *sorted(set(market.technology))):
        members = [
            i for i in range(suppliers) if market.technology[i] == technology and not any(flow[i])
        ]
        members.sort(key=lambda i: (market.ask_ucur_per_kwh[i], i))
        used = []
        for i in members:
            left = problem.available_wh[i]
            for j in sorted(range(users), key=lambda j, i=i: (problem.distance_km[i][j], j)):  # type: ignore[misc]
                taken = min(problem.capacity_wh[i][j], left, missing[j])
                flow[i][j] += taken
                left -= taken
                missing[j] -= taken
            if any(flow[i]):
                used.append(i)
        uniform = max((market.ask_ucur_per_kwh[i] for i in used), default=0)
        paid += sum(
            (uniform + market.transmission(i, j) + RELAY_FEE_UCUR) * energy
            for i in used
            for j, energy in enumerate(flow[i])
        )
    return _cleared(market, flow, paid)


def bargaining_style(market: Market, flow: Sequence[Sequence[int]]) -> Cleared:
    """Nash bargaining style (Rui): given the cheapest flow, every party gains the same."""
    problem = market.problem
    worth = cost = 0
    for i, row in enumerate(flow):
        for j, energy in enumerate(row):
            bid = max(market.bid_ucur_per_kwh[j], problem.cost_ncur_per_wh[i][j])
            worth += bid * energy
            cost += problem.cost_ncur_per_wh[i][j] * energy
    buyers = sum(any(row[j] for row in flow) for j in range(problem.shape[1]))
    parties = buyers + sum(any(row) for row in flow)
    gain = (worth - cost) * buyers // parties if parties else 0
    return _cleared(market, flow, worth - gain)


def double_auction(market: Market) -> Cleared:
    """Uniform price at the marginal pair; the network is not looked at, the way is paid on top."""
    return _auction(market, uniform=True)


def call_auction(market: Market) -> Cleared:
    """High–low matching: dearest bid with cheapest ask, each pair at its own middle price."""
    return _auction(market, uniform=False)


def _auction(market: Market, *, uniform: bool) -> Cleared:
    problem = market.problem
    suppliers, users = problem.shape
    bids = sorted(
        range(users), key=lambda j: (-market.bid_ucur_per_kwh[j], -problem.needed_wh[j], j)
    )
    asks = sorted(
        range(suppliers), key=lambda i: (market.ask_ucur_per_kwh[i], -problem.available_wh[i], i)
    )
    left, missing = list(problem.available_wh), list(problem.needed_wh)
    flow = [[0] * users for _ in range(suppliers)]
    middle, pairs = 0, []
    for j in bids:
        for i in asks:
            if market.bid_ucur_per_kwh[j] < market.ask_ucur_per_kwh[i]:
                break
            taken = min(left[i], missing[j], problem.capacity_wh[i][j])
            if taken:
                flow[i][j] += taken
                left[i] -= taken
                missing[j] -= taken
                middle = half_even(market.bid_ucur_per_kwh[j] + market.ask_ucur_per_kwh[i])
                pairs.append((i, j, taken, middle))
    paid = sum(
        ((middle if uniform else own) + market.transmission(i, j)) * taken
        for i, j, taken, own in pairs
    )
    return _cleared(market, flow, paid)


def half_even(total: int) -> int:
    """Half of a sum, a half unit rounded to the even side."""
    half, odd = divmod(total, 2)
    return half + (odd and half & 1)


def high_low(round_: Round) -> tuple[int, ...]:
    """Match the terminals' next levels pairwise, dearest bid with cheapest ask.

    Each offer curve is read as blocks of one level: the value of importing one level more is a
    bid, the value lost by exporting one more an ask. Equal to hco-1 for concave offers; where
    offers are not concave it stops at the first hill.
    """
    allowed = [set(admissible(round_, terminal)) for terminal in round_.terminals]
    levels = [0] * len(allowed)
    fee = round_.wheeling_fee_ucur_per_kwh * round_.energy_wh(1) // 1000

    def step(index: int, direction: int) -> int | None:
        """Value of one level more in a direction; None where it is not to be had."""
        level = levels[index] + direction
        if levels[index] * direction < 0 or level not in allowed[index]:
            return None
        terminal = round_.terminals[index]
        return terminal.offer_ucur(level) - terminal.offer_ucur(levels[index])

    while sum(k for k in levels if k > 0) < round_.k_dc_level:
        bids = [(-value, i) for i in range(len(levels)) if (value := step(i, 1)) is not None]
        asks = [(-value, i) for i in range(len(levels)) if (value := step(i, -1)) is not None]
        pairs = [
            (bid + ask, bid, buyer, seller)
            for bid, buyer in bids
            for ask, seller in asks
            if buyer != seller
        ]
        if not pairs:
            break
        cost, _, buyer, seller = min(pairs)
        if cost + fee >= 0:
            break
        levels[buyer] += 1
        levels[seller] -= 1
    return tuple(levels)
