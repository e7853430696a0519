"""Admission of settled trades: accepted, or refused with every reason at once."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter

from gateway.model.interval import Interval, utc_text
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop
from gateway.model.trade import Trade

INTERVAL_TRADES_MAX = 128
"""Of one interval, cancelled ones too: its plan, and its delivery, is one entry of the ledger.

So many rows fit one with the longest ids and the most reasons (``planning.ENTRY_BYTES_MAX``).
"""

Schedule = Mapping[Interval, Mapping[str, object]]
"""What stands of each trade, by interval and trade id."""


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

    @property
    def start_ms(self) -> int:
        """First instant of its delivery."""
        return self.trade.start_ms

    def same_message(self, sha256: str) -> bool:
        """Tell whether these are the bytes that carried it."""
        return self.sha256 == sha256

    def same_content(self, trade: Trade) -> bool:
        """Tell whether a trade says the same, in whatever bytes."""
        return self.trade == trade


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What is still known of a trade id of which every interval is over: digests, no content."""

    revision_number: int
    accepted_index: int
    start_ms: int
    message: bytes
    content: bytes

    def same_message(self, sha256: str) -> bool:
        """Tell whether these are the bytes that carried it."""
        return self.message == message_digest(sha256)

    def same_content(self, trade: Trade) -> bool:
        """Tell whether a trade says the same, in whatever bytes."""
        return self.content == content_digest(trade)


def message_digest(sha256: str) -> bytes:
    """Sixteen bytes for a message, of its SHA-256 as it stands in the ledger."""
    return hashlib.sha256(sha256.encode(errors="backslashreplace")).digest()[:16]


def content_digest(trade: Trade) -> bytes:
    """Sixteen bytes for what a trade says."""
    return hashlib.sha256(ascii(trade).encode()).digest()[:16]


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


def count_open(schedule: Schedule) -> int:
    """Count the trades that stand in any interval, each once."""
    return len(set[str]().union(*schedule.values()))


def first_full(trade: Trade, schedule: Schedule) -> Interval | None:
    """First interval of a trade that has no room for it; where it stands already it has its own.

    A position without power takes a row like any other.
    """
    for position in trade.positions:
        standing = schedule.get(position.interval, {})
        if len(standing) >= INTERVAL_TRADES_MAX and trade.id not in standing:
            return position.interval
    return None


def admit(
    trade: Trade,
    *,
    sha256: str,
    sop: Sop,
    policy: MarketPolicy,
    earlier: Known | Ended | None,
    intervals: Collection[Interval],
    open_count: int,
    received_ms: int,
    mode: str,
    time_quality: str,
    planned_ms: Collection[int] = (),
    full: Interval | None = None,
) -> Accepted | Refused:
    """Judge one trade at the instant its message was received (UTC ms).

    Duplicates are judged first and alone: an id that was decided stays decided (I10).
    An interval is planned once: after that (``planned_ms``, their starts) nothing joins it, even
    where the gate is shorter than the time a plan is made before its interval.
    ``earlier`` is what is known of its id; ``open_count`` and ``full`` are what ``count_open`` and
    ``first_full`` say of the schedule.
    """
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
    orphaned = earlier is None and trade.cancelled  # refused, or waits for its trade: takes no room
    if full is not None and not orphaned:
        detail = f"{INTERVAL_TRADES_MAX} trades are in the interval of {utc_text(full.start_ms)}"
        reasons.append(Reason(code=ReasonCode.RATE, detail=detail))
    if isinstance(earlier, Known) and not reasons:
        reasons += _same_ends(trade, earlier.trade)
    elif earlier is not None and not reasons:  # only where time was set back
        reasons.append(Reason(code=ReasonCode.LATE, detail="its intervals are over"))
    if not reasons and policy.over_limit == "refuse":
        reasons += _over_limit(trade, sop, ends)
    if reasons:
        return Refused(trade_id=trade.id, reasons=tuple(reasons))
    return Accepted(
        trade=trade, out_terminal=ends[trade.out_domain], in_terminal=ends[trade.in_domain]
    )


def _repeated(trade: Trade, sha256: str, earlier: Known | Ended) -> Reason | None:
    place = f"accepted as revision {earlier.revision_number} in entry {earlier.accepted_index}"
    if trade.revision_number > earlier.revision_number:
        return None
    if trade.revision_number < earlier.revision_number:
        return Reason(code=ReasonCode.SUPERSEDED, detail=place)
    if earlier.same_message(sha256) or earlier.same_content(trade):
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
    earlier: Known | Ended | None,
    policy: MarketPolicy,
    received_ms: int,
    time_quality: str,
    planned_ms: Collection[int],
) -> list[Reason]:
    reasons = []
    if time_quality == "invalid":
        reasons.append(Reason(code=ReasonCode.TIME_QUALITY, detail="the gateway's time is invalid"))
    starts_ms = min(trade.start_ms, earlier.start_ms) if earlier else trade.start_ms
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
    """One resolution at a time: intervals are settled one by one and must not overlap.

    Accepted ones never overlap each other, so in order of start they are in order of end too.
    """
    held = list(intervals)
    theirs = sorted(held, key=attrgetter("start_ms"))
    for position in trade.positions:
        mine = position.interval
        clashing = []
        k = bisect.bisect_left(theirs, mine.end_ms, key=attrgetter("start_ms"))
        while k and theirs[k - 1].end_ms > mine.start_ms:
            k -= 1
            if theirs[k] != mine:
                clashing.append(theirs[k])
        if clashing:
            other = min(clashing, key=held.index)  # as older ledgers name it
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
