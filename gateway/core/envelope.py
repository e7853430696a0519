"""Envelope: what of the trades of one interval the SOP can carry, and why not the rest.

Over-limit trades are curtailed pro rata of what shares the limit, never in silence (D26). Limits
are on the energy of the interval, ramps from and to zero included, so that a planned energy can be
delivered with power that stays inside the guard.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from gateway.core import feeder
from gateway.core.netting import Leg, net
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop, Terminal

HEADROOM_PERCENT = 5  # of the master's rating, kept for losses and transients (sop.md §1.3)
RESERVE_PERMILLE = 15  # of a limit, left free so that tracking can correct a converter's bias
FAIR_ROUNDS = 500  # opposite limits may chase each other; after these a limit's trades go whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is planned of one trade; ``reasons`` is empty when that is all of it."""

    leg: Leg  # with the energy that was contracted
    planned_wh: int
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Breach:
    excess_wh: int
    weights: dict[int, int]  # index of leg -> Wh that shares the limit
    reason: Reason


def energy_limit_wh(*, p_w: int, ramp_w_per_s: int, duration_ms: int) -> int:
    """Energy of a trapezoid from zero up to ``p_w`` and back to zero inside the interval."""
    ramp_ms = 1000 * p_w // ramp_w_per_s
    if 2 * ramp_ms >= duration_ms:
        return ramp_w_per_s * duration_ms * duration_ms // 4000 // 3_600_000
    return p_w * (duration_ms - ramp_ms) // 3_600_000


def curtail(
    legs: Sequence[Leg],
    *,
    sop: Sop,
    interval: Interval,
    available_va: Mapping[str, int],
    limits: FeederLimits | None = None,
) -> tuple[Planned, ...]:
    """Reduce the trades of one interval until every limit holds.

    ``available_va`` is what each terminal can carry now (derating, outage); a terminal missing
    there counts as unavailable. ``limits`` are what a system operator sent. The order of the
    trades does not change the outcome.
    """
    sent = feeder.at_terminals(limits, sop, interval)
    order = sorted(range(len(legs)), key=lambda i: legs[i].trade_id)
    now = [legs[i] for i in order]
    reasons: list[dict[ReasonCode, Reason]] = [{} for _ in now]
    ids = [t.id for t in sop.terminals]
    for i, leg in enumerate(now):
        if not leg.within(ids):
            now[i] = replace(leg, energy_wh=0)
            reasons[i][ReasonCode.UNKNOWN_DOMAIN] = gone(leg, ids)
    for turn in itertools.count():
        breach = _first_breach(now, sop, interval, available_va, sent)
        if breach is None:
            break
        shared_wh = sum(breach.weights.values())
        left_wh = max(0, shared_wh - breach.excess_wh) if turn < FAIR_ROUNDS else 0
        for i, energy_wh in _pro_rata(breach.weights, left_wh).items():
            now[i] = replace(now[i], energy_wh=energy_wh)
            reasons[i].setdefault(breach.reason.code, breach.reason)
    return tuple(
        Planned(leg=legs[i], planned_wh=leg.energy_wh, reasons=tuple(why.values()))
        for i, leg, why in sorted(zip(order, now, reasons, strict=True))
    )


@lru_cache(maxsize=8)
def foreseen_wh(
    legs: tuple[Leg, ...], sop: Sop, interval: Interval, limits: FeederLimits | None
) -> Mapping[str, int]:
    """Signed energy of each terminal that a plan will have if every one keeps its rating.

    Asked in every scan of the same trades, so the last answers are kept.
    """
    ratings = {t.id: t.s_va for t in sop.terminals}
    planned = curtail(legs, sop=sop, interval=interval, available_va=ratings, limits=limits)
    carried = [replace(p.leg, energy_wh=p.planned_wh) for p in planned]
    return net(carried, [t.id for t in sop.terminals])


def narrowed(
    planned: Sequence[Planned],
    *,
    sop: Sop,
    interval: Interval,
    available_va: Mapping[str, int],
    limits: FeederLimits | None,
) -> dict[str, list[str]]:
    """By trade the limits that leave it less than was planned: they became narrower since."""
    before = [replace(p.leg, energy_wh=p.planned_wh) for p in planned]
    now = curtail(before, sop=sop, interval=interval, available_va=available_va, limits=limits)
    return {p.leg.trade_id: [r.code.value for r in p.reasons] for p in now if p.reasons}


def gone(leg: Leg, terminals: Sequence[str]) -> Reason:
    """Why nothing can be carried between ends of which the site no longer has one."""
    ends = [t for t in (leg.out_terminal, leg.in_terminal) if t not in terminals]
    detail = f"the site has no {' and no '.join(ends)} any more"
    return Reason(code=ReasonCode.UNKNOWN_DOMAIN, detail=detail)


def _pro_rata(weights: Mapping[int, int], left_wh: int) -> dict[int, int]:
    """Share what is left in proportion, to the last Wh: never less than the limit allows."""
    total_wh = sum(weights.values())
    parts = {i: w * left_wh // total_wh for i, w in weights.items()}
    by_remainder = sorted(weights, key=lambda i: (-(weights[i] * left_wh % total_wh), i))
    for i in by_remainder[: left_wh - sum(parts.values())]:
        parts[i] += 1
    return parts


def _first_breach(
    legs: Sequence[Leg],
    sop: Sop,
    interval: Interval,
    available_va: Mapping[str, int],
    sent: Mapping[str, FeederLimit],
) -> _Breach | None:
    position_wh = net(legs, [t.id for t in sop.terminals])
    for terminal in sop.terminals:
        limit = sent.get(terminal.id)
        breach = _terminal_breach(terminal, legs, position_wh, sop, interval, available_va, limit)
        if breach:
            return breach
    through_wh = sum(e for e in position_wh.values() if e > 0)
    limit_wh = sop.throughput_w * interval.duration_ms // 3_600_000
    if through_wh > limit_wh:
        weights = {i: leg.energy_wh for i, leg in enumerate(legs) if leg.energy_wh}
        # Opposite trades cancel before they cross the DC bus: scale all by the same factor.
        total_wh = sum(weights.values())
        excess_wh = -(-total_wh * (through_wh - limit_wh) // through_wh)
        detail = f"DC throughput {sop.throughput_w / 1000:.1f} kW"
        return _Breach(
            excess_wh=excess_wh,
            weights=weights,
            reason=Reason(code=ReasonCode.THROUGHPUT, detail=detail),
        )
    return None


def _terminal_breach(
    terminal: Terminal,
    legs: Sequence[Leg],
    position_wh: Mapping[str, int],
    sop: Sop,
    interval: Interval,
    available_va: Mapping[str, int],
    sent: FeederLimit | None,
) -> _Breach | None:
    for sign in (1, -1):
        limit_w, reason = _power_limit(terminal, sop, sign, available_va)
        sent_w = _sent_w(terminal, sop, sent, sign, available_va)
        if sent is not None and sent_w is not None and sent_w < limit_w:
            limit_w, reason = sent_w, feeder.reason(sent, sign, terminal.id)
        limit_wh = energy_limit_wh(
            p_w=limit_w * (1000 - RESERVE_PERMILLE) // 1000,
            ramp_w_per_s=terminal.ramp_w_per_s,
            duration_ms=interval.duration_ms,
        )
        over_wh = sign * position_wh[terminal.id] - limit_wh
        if over_wh > 0:
            weights = {
                i: leg.energy_wh
                for i, leg in enumerate(legs)
                if leg.sign_at(terminal.id) == sign and leg.energy_wh
            }
            return _Breach(excess_wh=over_wh, weights=weights, reason=reason)
    return None


def _sent_w(
    terminal: Terminal,
    sop: Sop,
    sent: FeederLimit | None,
    sign: int,
    available_va: Mapping[str, int],
) -> int | None:
    """What a system operator allows in this direction; the master draws every loss besides."""
    if sent is None:
        return None
    if terminal.id != sop.master:
        return sent.p_w_max if sign > 0 else -sent.p_w_min
    # Its power is a residual that tracking moves both ways: the narrower side holds.
    return max(0, min(sent.p_w_max, -sent.p_w_min) - worst_loss_w(sop, available_va))


def _power_limit(
    terminal: Terminal,
    sop: Sop,
    sign: int,
    available_va: Mapping[str, int],
) -> tuple[int, Reason]:
    """Return the smallest of the limits on |P| in this direction, and its name."""
    available = available_va.get(terminal.id, 0)
    guard_w = terminal.p_w_max if sign > 0 else -terminal.p_w_min
    # The master also draws every loss from its feeder: that adds to what it absorbs.
    loss_w = worst_loss_w(sop, available_va) if terminal.id == sop.master and sign < 0 else 0
    options = [(max(0, guard_w - loss_w), ReasonCode.GUARD_P)]
    if available < terminal.s_va:
        options.append((available, ReasonCode.DERATED))
    else:
        options.append((terminal.s_va, ReasonCode.RATING))
    if terminal.id == sop.master:
        room_w = available - terminal.s_va * HEADROOM_PERCENT // 100 - loss_w
        options.append((max(0, room_w), ReasonCode.MASTER_HEADROOM))
    limit_w, code = min(options)
    detail = f"{terminal.id} limited to {sign * limit_w / 1000:+.1f} kW"
    return limit_w, Reason(code=code, detail=detail)


def worst_loss_w(sop: Sop, available_va: Mapping[str, int]) -> int:
    """Upper bound of the losses: every terminal at what it can carry, within its guard."""
    return sum(
        sop.losses.loss_w(
            p_w=min(available_va.get(t.id, 0), max(t.p_w_max, -t.p_w_min)), s_va=t.s_va
        )
        for t in sop.terminals
    )
