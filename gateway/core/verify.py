"""Admission of settled trades: accepted, or refused with every reason at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.model.interval import Interval, utc_text
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop
from gateway.model.trade import Trade


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPolicy:
    """What the site accepts from the market."""

    gate_ms: int  # a trade is known at least this long before its first interval
    horizon_ms: int
    over_limit: str  # curtail | refuse
    open_count_max: int = 10_000  # memory and scan time stay bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a trade id: its newest accepted revision and the bytes that carried it."""

    revision_number: int
    sha256: str
    accepted_index: int
    trade: Trade


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The trade stands; its terminals by the region each end belongs to."""

    trade: Trade
    out_terminal: str
    in_terminal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The trade does not stand, with every reason that was found."""

    trade_id: str
    reasons: tuple[Reason, ...]


def admit(
    trade: Trade,
    *,
    sha256: str,
    sop: Sop,
    policy: MarketPolicy,
    known: Mapping[str, Known],
    intervals: Collection[Interval],
    open_count: int,
    received_ms: int,
    mode: str,
    time_quality: str,
    planned_ms: Collection[int] = (),
) -> Accepted | Refused:
    """Judge one trade at the instant its message was received (UTC ms).

    Duplicates are judged first and alone: an id that was decided stays decided (I10).
    An interval is planned once: after that (``planned_ms``, their starts) nothing joins it, even
    where the gate is shorter than the time a plan is made before its interval.
    """
    earlier = known.get(trade.id)
    if earlier is not None:
        repeated = _repeated(trade, sha256, earlier)
        if repeated is not None:
            return Refused(trade_id=trade.id, reasons=(repeated,))
    ends = {t.domain: t.id for t in sop.terminals}
    reasons = [
        *_place(trade, sop, ends),
        *_time(trade, earlier, policy, received_ms, time_quality, planned_ms),
        *_overlap(trade, intervals),
    ]
    if mode == "off":
        reasons.append(Reason(code=ReasonCode.MODE_BLOCKED, detail="mode is off"))
    if earlier is None and trade.cancelled:
        reasons.append(Reason(code=ReasonCode.ORPHAN, detail="cancels a trade never accepted"))
    if earlier is None and open_count >= policy.open_count_max:
        reasons.append(Reason(code=ReasonCode.RATE, detail=f"{open_count} trades are open"))
    if earlier is not None and not reasons:
        reasons += _same_ends(trade, earlier.trade)
    if not reasons and policy.over_limit == "refuse":
        reasons += _over_limit(trade, sop, ends)
    if reasons:
        return Refused(trade_id=trade.id, reasons=tuple(reasons))
    return Accepted(
        trade=trade, out_terminal=ends[trade.out_domain], in_terminal=ends[trade.in_domain]
    )


def _repeated(trade: Trade, sha256: str, earlier: Known) -> Reason | None:
    place = f"accepted as revision {earlier.revision_number} in entry {earlier.accepted_index}"
    if trade.revision_number > earlier.revision_number:
        return None
    if trade.revision_number < earlier.revision_number:
        return Reason(code=ReasonCode.SUPERSEDED, detail=place)
    if sha256 == earlier.sha256 or trade == earlier.trade:
        return Reason(code=ReasonCode.DUPLICATE, detail=place)
    return Reason(code=ReasonCode.CONFLICT, detail=f"other content under the same id, {place}")


def _place(trade: Trade, sop: Sop, ends: Mapping[str, str]) -> list[Reason]:
    reasons = []
    if trade.sop != sop.id:
        reasons.append(Reason(code=ReasonCode.UNKNOWN_SOP, detail=f"{trade.sop}, not {sop.id}"))
    for domain in (trade.out_domain, trade.in_domain):
        if domain not in ends:
            known = ", ".join(sorted(ends))
            reasons.append(
                Reason(code=ReasonCode.UNKNOWN_DOMAIN, detail=f"{domain}; known: {known}")
            )
    if trade.out_domain == trade.in_domain:
        reasons.append(Reason(code=ReasonCode.SAME_DOMAIN, detail=trade.out_domain))
    return reasons


def _time(
    trade: Trade,
    earlier: Known | None,
    policy: MarketPolicy,
    received_ms: int,
    time_quality: str,
    planned_ms: Collection[int],
) -> list[Reason]:
    reasons = []
    if time_quality == "invalid":
        reasons.append(Reason(code=ReasonCode.TIME_QUALITY, detail="the gateway's time is invalid"))
    starts_ms = min(trade.start_ms, earlier.trade.start_ms) if earlier else trade.start_ms
    ahead_ms = starts_ms - received_ms
    if ahead_ms <= 0:
        detail = f"starts {-ahead_ms // 1000} s before it was received"
        reasons.append(Reason(code=ReasonCode.LATE, detail=detail))
    elif ahead_ms < policy.gate_ms:
        detail = f"received {ahead_ms // 1000} s before its start, gate {policy.gate_ms // 1000} s"
        reasons.append(Reason(code=ReasonCode.LATE, detail=detail))
    elif starts_ms in planned_ms:
        detail = f"the interval of {utc_text(starts_ms)} is planned already"
        reasons.append(Reason(code=ReasonCode.LATE, detail=detail))
    if trade.end_ms - received_ms > policy.horizon_ms:
        detail = f"ends beyond the horizon of {policy.horizon_ms // 3_600_000} h"
        reasons.append(Reason(code=ReasonCode.HORIZON, detail=detail))
    return reasons


def _overlap(trade: Trade, intervals: Collection[Interval]) -> list[Reason]:
    """One resolution at a time: intervals are settled one by one and must not overlap."""
    for position in trade.positions:
        mine = position.interval
        for other in intervals:
            if other != mine and other.start_ms < mine.end_ms and mine.start_ms < other.end_ms:
                detail = f"{utc_text(other.start_ms)} is traded in another resolution"
                return [Reason(code=ReasonCode.RESOLUTION, detail=detail)]
    return []


def _same_ends(trade: Trade, before: Trade) -> list[Reason]:
    if (trade.out_domain, trade.in_domain) != (before.out_domain, before.in_domain):
        return [Reason(code=ReasonCode.CONFLICT, detail="a revision keeps its seller and buyer")]
    return []


def _over_limit(trade: Trade, sop: Sop, ends: Mapping[str, str]) -> list[Reason]:
    out_terminal = sop.terminal(ends[trade.out_domain])
    in_terminal = sop.terminal(ends[trade.in_domain])
    limit_w = min(-out_terminal.p_w_min, in_terminal.p_w_max, sop.throughput_w)
    most_w = max(p.p_w for p in trade.positions)
    if most_w > limit_w:
        detail = f"{most_w / 1000:.1f} kW over {limit_w / 1000:.1f} kW"
        return [Reason(code=ReasonCode.REFUSED_BY_POLICY, detail=detail)]
    return []
