"""Delivery: what each trade of an interval got, from meter readings and the plan alone.

The rule stands in ``docs/entries.md``; the auditor computes it a second time with code of its own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.energy import Counters, at_boundary, bracketing, fell, rounded_wh
from gateway.core.envelope import Planned
from gateway.model.interval import Interval
from gateway.model.terminal import Sop


class Status(enum.StrEnum):
    """How a trade ended in one interval."""

    DELIVERED = "delivered"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """One terminal in one interval.

    ``metered_wh`` is None when its boundaries were not read or a counter fell between them.
    """

    terminal: str
    planned_wh: int
    metered_wh: int | None
    judged_wh: int
    estimated: bool

    @property
    def flags(self) -> tuple[str, ...]:
        """Words for what is uncertain about the figure."""
        words = []
        if self.metered_wh is None:
            words.append("unmetered")
        if self.estimated:
            words.append("estimated")
        return tuple(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One trade in one interval."""

    trade_id: str
    contracted_wh: int
    planned_wh: int
    delivered_wh: int
    status: Status
    unmetered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Everything that is reported about one interval."""

    interval: Interval
    terminals: tuple[Metered, ...]
    trades: tuple[Delivered, ...]
    loss_wh: int
    unscheduled_wh: int


def report(
    *,
    sop: Sop,
    interval: Interval,
    planned: Sequence[Planned],
    readings: Mapping[str, Sequence[Counters]],
) -> Delivery:
    """Settle one interval; ``readings`` by terminal, in order of time, good ones only."""
    terminals = meter(sop=sop, interval=interval, planned=planned, readings=readings)
    by_id = {t.terminal: t for t in terminals}
    shares = {t.terminal: share_out(t, planned) for t in terminals}
    trades = []
    for p in planned:
        if not p.leg.within(by_id):
            trades.append(_of_a_lost_terminal(p))
            continue
        at_in = p.planned_wh + shares[p.leg.in_terminal].get(p.leg.trade_id, 0)
        at_out = p.planned_wh - shares[p.leg.out_terminal].get(p.leg.trade_id, 0)
        ends = (p.leg.in_terminal, p.leg.out_terminal)
        unmetered = any(_unmetered(by_id, t, sop.master) for t in ends)
        delivered_wh = max(0, min(at_in, at_out))
        rating = max(sop.terminal(t).s_va for t in ends)
        trades.append(
            Delivered(
                trade_id=p.leg.trade_id,
                contracted_wh=p.leg.energy_wh,
                planned_wh=p.planned_wh,
                delivered_wh=delivered_wh,
                status=status(p, delivered_wh, rating, interval, unmetered=unmetered),
                unmetered=unmetered,
            )
        )
    busy = {t for p in planned for t in (p.leg.in_terminal, p.leg.out_terminal)} | {sop.master}
    return Delivery(
        interval=interval,
        terminals=terminals,
        trades=tuple(trades),
        loss_wh=-sum(t.metered_wh or 0 for t in terminals),
        unscheduled_wh=sum(abs(t.metered_wh or 0) for t in terminals if t.terminal not in busy),
    )


def _of_a_lost_terminal(planned: Planned) -> Delivered:
    """Nothing is carried, and nothing is read, where the site no longer has an end of it."""
    contracted_wh = planned.leg.energy_wh
    return Delivered(
        trade_id=planned.leg.trade_id,
        contracted_wh=contracted_wh,
        planned_wh=planned.planned_wh,
        delivered_wh=0,
        status=Status.FAILED if contracted_wh else Status.CANCELLED,
        unmetered=False,
    )


def meter(
    *,
    sop: Sop,
    interval: Interval,
    planned: Sequence[Planned],
    readings: Mapping[str, Sequence[Counters]],
) -> tuple[Metered, ...]:
    """Metered and judged energy of every terminal; the master is judged on the others."""
    measured: dict[str, tuple[int | None, bool]] = {}
    for terminal in sop.terminals:
        track = readings.get(terminal.id, ())
        start = at_boundary(track, interval.start_ms)
        end = at_boundary(track, interval.end_ms)
        read = bracketing(track, start_ms=interval.start_ms, end_ms=interval.end_ms)
        if start is None or end is None or read is None or fell(read):
            measured[terminal.id] = (None, False)
        else:
            mwh = end.net_mwh - start.net_mwh
            measured[terminal.id] = (rounded_wh(mwh), start.estimated or end.estimated)
    others_wh = sum(wh or 0 for t, (wh, _) in measured.items() if t != sop.master)
    return tuple(
        Metered(
            terminal=t.id,
            planned_wh=sum(p.leg.sign_at(t.id) * p.planned_wh for p in planned),
            metered_wh=measured[t.id][0],
            judged_wh=-others_wh if t.id == sop.master else measured[t.id][0] or 0,
            estimated=measured[t.id][1],
        )
        for t in sop.terminals
    )


def share_out(terminal: Metered, planned: Sequence[Planned]) -> dict[str, int]:
    """Share a terminal's deviation over its trades pro rata to planned energy, largest remainder.

    The shares sum to the deviation exactly; trades with nothing planned get none.
    """
    weights = {
        p.leg.trade_id: p.planned_wh
        for p in planned
        if p.leg.sign_at(terminal.terminal) and p.planned_wh
    }
    total = sum(weights.values())
    if not total:
        return {}
    deviation = terminal.judged_wh - terminal.planned_wh
    units = abs(deviation)
    parts = {trade: units * w // total for trade, w in weights.items()}
    by_remainder = sorted(weights, key=lambda trade: (-(units * weights[trade] % total), trade))
    for trade in by_remainder[: units - sum(parts.values())]:
        parts[trade] += 1
    return {trade: part if deviation >= 0 else -part for trade, part in parts.items()}


def tolerance_wh(*, contracted_wh: int, s_va: int, interval: Interval) -> int:
    """Deviation that still counts as delivered: 0.5 %, two meter steps, or 0.1 % of S·T."""
    rating_wh = s_va * (interval.duration_ms // 1000) // 3_600_000
    return max(contracted_wh * 5 // 1000, 2, rating_wh)


def status(
    planned: Planned, delivered_wh: int, s_va: int, interval: Interval, *, unmetered: bool
) -> Status:
    """Judge one trade in one interval."""
    contracted_wh = planned.leg.energy_wh
    if contracted_wh == 0:
        return Status.CANCELLED
    if delivered_wh == 0:
        return Status.FAILED
    short_wh = contracted_wh - delivered_wh
    within = short_wh <= tolerance_wh(contracted_wh=contracted_wh, s_va=s_va, interval=interval)
    if within and planned.planned_wh == contracted_wh and not unmetered:
        return Status.DELIVERED
    return Status.PARTIAL


def _unmetered(by_id: Mapping[str, Metered], terminal: str, master: str) -> bool:
    if terminal == master:
        return any(m.metered_wh is None for t, m in by_id.items() if t != master)
    return by_id[terminal].metered_wh is None
