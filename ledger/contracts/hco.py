"""hco-1: the "modified highest combined offer" between the terminals of one soft open point.

Every region offers an amount for each level its terminal may run at; the contract picks the one
feasible vector of levels with the largest combined value and shares the surplus. Integers only:
every node that holds the same round computes the same bytes.

Signs: level k > 0 means that the converter injects into its feeder (the region imports). A
transfer t > 0 is paid by the region, t < 0 is paid to it.

Source: Ji et al., IEEE TII 2021 (doi 10.1109/TII.2021.3137220), and the contract its authors
published; the definition followed here, with its extensions, is in docs/papers.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

MICRO = 1000
"""Wh in a kWh: prices are per kWh, energies in Wh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Converter losses L = S(a + b·i + c·i²) with i = |P|/S, coefficients in ppm of S."""

    a_ppm: int
    b_ppm: int
    c_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """One terminal's capability at gate closure and its region's offers."""

    id: str
    s_va: int
    q_reserved_var: int
    k_level_min: int
    k_level_max: int
    k_previous_level: int
    ramp_levels: int | None
    """Largest change against the previous level; None where the ramp does not bind."""
    mask_levels: frozenset[int]
    """Levels the feeder's operator forbids."""
    offers_ucur: Mapping[int, int] = field(hash=False)
    """Value of each offered level for the whole interval; a level without an offer is not run."""

    def offer_ucur(self, level: int) -> int:
        """Value of a level; level 0 is worth nothing by definition."""
        return 0 if level == 0 else self.offers_ucur[level]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Everything that decides one interval."""

    start: str
    end: str
    interval_s: int
    quantum_w: int
    terminals: tuple[Terminal, ...]
    """In the order of their ids' bytes."""
    k_dc_level: int
    wheeling_fee_ucur_per_kwh: int
    loss_price_ucur_per_kwh: int
    share: Literal["active", "all"]
    compat: bool
    """Break ties as the published contract did: by the lexicographic order alone."""
    master: str | None
    losses: Losses | None

    def energy_wh(self, level: int) -> int:
        """Energy of a level over the interval; exact, as the quantum is chosen so."""
        return level * self.quantum_w * self.interval_s // 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen vector; all zero when no trade is worth more than nothing."""

    levels: tuple[int, ...]
    value_ucur: int
    operations_count: int
    """Transitions the dynamic programme looked at, for the bound on its cost."""


def loss_wh(round_: Round, terminal: Terminal, level: int) -> int:
    """Loss the level causes at this terminal beyond stand-by, rounded down."""
    if round_.losses is None:
        return 0
    p_w = abs(level) * round_.quantum_w
    weighted = (round_.losses.b_ppm * terminal.s_va + round_.losses.c_ppm * p_w) * p_w
    return weighted * round_.interval_s // (terminal.s_va * 1_000_000 * 3600)


def headroom_w(round_: Round, terminal: Terminal) -> int:
    """Largest active power of a terminal: rating less reserved reactive power.

    The master carries the residual of the DC link, so its schedule also leaves room for all
    losses and 5 % of its rating.
    """
    room_w = isqrt(max(0, terminal.s_va**2 - terminal.q_reserved_var**2))
    if terminal.id != round_.master:
        return room_w
    losses = round_.losses
    ppm = 0 if losses is None else losses.a_ppm + losses.b_ppm + losses.c_ppm
    loss_w = sum(-(-t.s_va * ppm // 1_000_000) for t in round_.terminals)
    return max(0, min(room_w, terminal.s_va - terminal.s_va // 20 - loss_w))


def admissible(round_: Round, terminal: Terminal) -> tuple[int, ...]:
    """Levels the terminal may run at, ascending.

    0 is always one of them, ramp or not: a terminal that trades nothing goes there in any case, and
    one region without an offer must not stop the others.
    """
    capability = headroom_w(round_, terminal) // round_.quantum_w
    low = max(terminal.k_level_min, -capability)
    high = min(terminal.k_level_max, capability)
    if terminal.ramp_levels is not None:
        low = max(low, terminal.k_previous_level - terminal.ramp_levels)
        high = min(high, terminal.k_previous_level + terminal.ramp_levels)
    offered = {0, *terminal.offers_ucur}
    return tuple(k for k in sorted(offered - terminal.mask_levels) if k == 0 or low <= k <= high)


def fees_ucur(round_: Round, levels: tuple[int, ...]) -> tuple[int, int]:
    """Wheeling fee and price of the transfer losses, each rounded down once."""
    through_wh = round_.energy_wh(sum(k for k in levels if k > 0))
    lost_wh = sum(loss_wh(round_, t, k) for t, k in zip(round_.terminals, levels, strict=True))
    return (
        round_.wheeling_fee_ucur_per_kwh * through_wh // MICRO,
        round_.loss_price_ucur_per_kwh * lost_wh // MICRO,
    )


def value_ucur(round_: Round, levels: tuple[int, ...]) -> int:
    """Combined offer of a vector less the fees it causes."""
    offers = sum(t.offer_ucur(k) for t, k in zip(round_.terminals, levels, strict=True))
    return offers - sum(fees_ucur(round_, levels))


def rank(round_: Round, levels: tuple[int, ...]) -> tuple[int, ...]:
    """Total order on feasible vectors; the smallest one is chosen.

    Larger value, then less throughput, then less change of levels, then lexicographic by id;
    the published contract knew only the first and the last.
    """
    value = value_ucur(round_, levels)
    if round_.compat:
        return (-value, *levels)
    through = sum(k for k in levels if k > 0)
    return (-value, through, _churn(round_, levels), *levels)


def _churn(round_: Round, levels: tuple[int, ...]) -> int:
    pairs = zip(round_.terminals, levels, strict=True)
    return sum(abs(k - t.k_previous_level) for t, k in pairs)


State = tuple[int, int]
"""Sum of positive levels, sum of negative levels, both as magnitudes."""
Label = tuple[int, int, int]
"""1000 × minus the value before throughput fees, change of levels, code of the prefix."""


def choose(round_: Round) -> Choice:
    """Find the best feasible vector exactly, by a dynamic programme over (imports, exports).

    A label is a prefix of levels. The price of losses is rounded down over the whole vector, so
    two prefixes less than one micro-currency apart can change places later: both are kept. Where
    no loss is priced each state keeps a single label. Cost: at most n·(K+1)²·(2B+1) transitions
    a label, K the DC throughput and 2B+1 the levels of a terminal.
    """
    allowed = [admissible(round_, terminal) for terminal in round_.terminals]
    zero = (0,) * len(allowed)
    spread = 1 + 2 * max(max(-levels[0], levels[-1], 0) for levels in allowed)
    states: dict[State, list[Label]] = {(0, 0): [(0, 0, 0)]}
    count = 0
    for place, terminal in enumerate(round_.terminals):
        rest = allowed[place + 1 :]
        states, looked_at = _advance(
            round_,
            states,
            _steps(round_, terminal, allowed[place], spread=spread),
            spread=spread,
            net_min=-sum(levels[-1] for levels in rest),
            net_max=-sum(levels[0] for levels in rest),
        )
        count += looked_at
    found = [
        _decode(label[2], len(allowed), spread)
        for (imports, exports), labels in states.items()
        if imports == exports
        for label in labels
    ]
    best = min(found, key=lambda levels: rank(round_, levels), default=zero)
    value = value_ucur(round_, best)
    if value <= 0:
        return Choice(levels=zero, value_ucur=0, operations_count=count)
    return Choice(levels=best, value_ucur=value, operations_count=count)


def _advance(
    round_: Round,
    states: dict[State, list[Label]],
    steps: list[tuple[int, int, int, int]],
    *,
    spread: int,
    net_min: int,
    net_max: int,
) -> tuple[dict[State, list[Label]], int]:
    """Lengthen every prefix by one terminal; give the new states and the transitions looked at.

    Only prefixes are kept whose net import the terminals still to come can bring back to zero.
    """
    single = round_.losses is None or round_.loss_price_ucur_per_kwh == 0
    following: dict[State, list[Label]] = {}
    count = 0
    for (imports, exports), labels in states.items():
        net = imports - exports
        for level, cost, churn, digit in steps:
            if not net_min <= net + level <= net_max:
                continue
            state = (imports + level, exports) if level > 0 else (imports, exports - level)
            if state[0] > round_.k_dc_level or state[1] > round_.k_dc_level:
                continue
            count += len(labels)
            kept = following.get(state)
            if kept is None:
                kept = following[state] = []
            for before, changed, code in labels:
                new = (before + cost, changed + churn, code * spread + digit)
                if not single:
                    _keep(kept, new)
                elif not kept:
                    kept.append(new)
                elif new < kept[0]:
                    kept[0] = new
    return following, count


def _steps(
    round_: Round, terminal: Terminal, levels: tuple[int, ...], *, spread: int
) -> list[tuple[int, int, int, int]]:
    """Per level: the level, 1000 × its cost, its change, its digit in the code of a prefix."""
    price = round_.loss_price_ucur_per_kwh
    return [
        (
            k,
            price * loss_wh(round_, terminal, k) - MICRO * terminal.offer_ucur(k),
            0 if round_.compat else abs(k - terminal.k_previous_level),
            k + spread // 2,
        )
        for k in levels
    ]


def _keep(kept: list[Label], new: Label) -> None:
    """Add a prefix unless another one is at least as good whatever follows; drop what it beats."""
    if not kept:
        kept.append(new)
        return
    cost, tie = new[0], new[1:]
    for old in kept:
        if old[0] + MICRO <= cost or (old[0] <= cost and old[1:] <= tie):
            return
    kept[:] = [
        old for old in kept if not (cost + MICRO <= old[0] or (cost <= old[0] and tie <= old[1:]))
    ]
    kept.append(new)


def _decode(code: int, count: int, spread: int) -> tuple[int, ...]:
    levels = []
    for _ in range(count):
        code, digit = divmod(code, spread)
        levels.append(digit - spread // 2)
    return tuple(reversed(levels))
