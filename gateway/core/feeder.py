"""Limits of feeders that a system operator sent: whose they are, when they hold, what they narrow.

A limit holds for an interval that it touches at all: half an interval beyond a limit is beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.model.interval import Interval, utc_ms_from, utc_text
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop

VERB = "feeder-limits"
REFUSED_VERB = "feeder-limits-refused"


def fields_of(limits: FeederLimits) -> dict[str, Any]:
    """Write limits as the arguments of their ledger entry."""
    return {
        "sequence": limits.sequence_number,
        "created": utc_text(limits.created_utc_ms),
        "valid": {"start": utc_text(limits.valid.start_ms), "end": utc_text(limits.valid.end_ms)},
        "limits": [
            {"domain": x.domain, "p_w_min": x.p_w_min, "p_w_max": x.p_w_max, "cause": x.cause}
            for x in limits.limits
        ],
    }


def limits_from(fields: Mapping[str, Any], *, site: str, sop: str) -> FeederLimits:
    """Read limits back from their ledger entry."""
    valid = fields["valid"]
    return FeederLimits(
        site=site,
        sop=sop,
        sequence_number=fields["sequence"],
        created_utc_ms=utc_ms_from(fields["created"]),
        valid=Interval(utc_ms_from(valid["start"]), utc_ms_from(valid["end"])),
        limits=tuple(
            FeederLimit(
                domain=x["domain"], p_w_min=x["p_w_min"], p_w_max=x["p_w_max"], cause=x["cause"]
            )
            for x in fields["limits"]
        ),
    )


def refusals(
    new: FeederLimits, held: FeederLimits | None, sop: Sop, utc_ms: int
) -> tuple[Reason, ...]:
    """Say why signed limits are not taken: older than those held, over, or of no feeder here."""
    found = []
    if held is not None and new.sequence_number <= held.sequence_number:
        detail = f"sequence {new.sequence_number}, {held.sequence_number} is held"
        found.append(Reason(code=ReasonCode.SUPERSEDED, detail=detail))
    if new.valid.end_ms <= utc_ms:
        detail = f"ended {utc_text(new.valid.end_ms)}"
        found.append(Reason(code=ReasonCode.LIMITS_EXPIRED, detail=detail))
    domains = {t.domain for t in sop.terminals}
    found += [
        Reason(code=ReasonCode.UNKNOWN_DOMAIN, detail=x.domain)
        for x in new.limits
        if x.domain not in domains
    ]
    return tuple(found)


def at_terminals(limits: FeederLimits | None, sop: Sop, span: Interval) -> dict[str, FeederLimit]:
    """Limits by terminal that hold during any part of an interval."""
    if limits is None or limits.valid.end_ms <= span.start_ms:
        return {}
    if limits.valid.start_ms >= span.end_ms:
        return {}
    by_domain = {x.domain: x for x in limits.limits}
    return {t.id: by_domain[t.domain] for t in sop.terminals if t.domain in by_domain}


def narrowed(sop: Sop, limits: FeederLimits | None, span: Interval) -> Sop:
    """Return the SOP with each terminal's powers within its feeder's limit."""
    found = at_terminals(limits, sop, span)
    if not found:
        return sop
    terminals = tuple(
        replace(
            t,
            p_w_min=max(t.p_w_min, found[t.id].p_w_min),
            p_w_max=min(t.p_w_max, found[t.id].p_w_max),
        )
        if t.id in found
        else t
        for t in sop.terminals
    )
    return replace(sop, terminals=terminals)


def reason(limit: FeederLimit, sign: int, terminal: str) -> Reason:
    """Name a limit as the cause of a curtailment; a feeder that may take nothing is masked."""
    limit_w = limit.p_w_max if sign > 0 else limit.p_w_min
    masked = limit.p_w_min == limit.p_w_max == 0
    code = ReasonCode.FEEDER_MASK if masked else ReasonCode.FEEDER_LIMIT
    cause = f" ({limit.cause})" if limit.cause else ""
    return Reason(code=code, detail=f"{terminal} limited to {limit_w / 1000:+.1f} kW{cause}")
