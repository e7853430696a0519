"""The system operator's feeder limits as a signed document: strict both ways, like the trades.

``{"schema": "sopgw/v1/limits", "site", "sop", "sequence", "created", "valid": {"start", "end"},
"limits": [{"domain", "p_w_min", "p_w_max", "cause"?}]}`` in a DSSE message of type
``application/vnd.sop.limits+json``. Powers are whole watts, positive into the feeder.
"""

from __future__ import annotations

from typing import Any

from gateway.market import canonical
from gateway.market.fields import Reader
from gateway.market.strict_json import Findings, quoted
from gateway.market.strict_json import parse as parse_json
from gateway.model.interval import utc_text
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.reason import Reason, ReasonCode

SCHEMA = "sopgw/v1/limits"
P_W_MAX = 1_000_000_000  # as for trades
LIMITS_MAX = 64  # more feeders than one SOP joins
SEQUENCE_MAX = 2**53 - 1
CAUSE_LENGTH_MAX = 200

_FIELDS = ("schema", "site", "sop", "sequence", "created", "valid", "limits")


def parse(body: bytes, *, site: str, sop: str) -> FeederLimits | list[Reason]:
    """Return the limits, or every reason why the document is refused."""
    findings = Findings()
    top = parse_json(body, findings)
    if top is None:
        return findings.reasons
    root = Reader(top, "", findings, known=_FIELDS)
    root.code("schema", (SCHEMA,))
    found_site = root.text("site")
    if found_site and found_site != site:
        root.note(ReasonCode.UNKNOWN_SITE, "site", f"{quoted(found_site)} instead of {site}")
    found_sop = root.text("sop")
    if found_sop and found_sop != sop:
        root.note(ReasonCode.UNKNOWN_SOP, "sop", f"{quoted(found_sop)} instead of {sop}")
    sequence = root.integer("sequence", low=1, high=SEQUENCE_MAX)
    created = root.instant("created")
    valid = root.span("valid")
    entries = root.array(
        "limits", known=("domain", "p_w_min", "p_w_max", "cause"), count_max=LIMITS_MAX
    )
    limits = tuple(limit for e in entries if (limit := _limit(e)) is not None)
    domains = [limit.domain for limit in limits]
    for domain in dict.fromkeys(d for d in domains if domains.count(d) > 1):
        root.note(ReasonCode.DUPLICATE, "limits", f"{domain} stands twice")
    if findings.reasons or sequence is None or created is None or valid is None:
        return findings.reasons
    return FeederLimits(
        site=site,
        sop=sop,
        sequence_number=sequence,
        created_utc_ms=created,
        valid=valid,
        limits=limits,
    )


def write(limits: FeederLimits) -> bytes:
    """Return the canonical JSON of limits; ``parse`` reads back the same."""
    return canonical.encode(
        {
            "schema": SCHEMA,
            "site": limits.site,
            "sop": limits.sop,
            "sequence": limits.sequence_number,
            "created": utc_text(limits.created_utc_ms),
            "valid": {
                "start": utc_text(limits.valid.start_ms),
                "end": utc_text(limits.valid.end_ms),
            },
            "limits": [_fields(limit) for limit in limits.limits],
        }
    )


def _fields(limit: FeederLimit) -> dict[str, Any]:
    found = {"domain": limit.domain, "p_w_min": limit.p_w_min, "p_w_max": limit.p_w_max}
    return found | ({"cause": limit.cause} if limit.cause else {})


def _limit(entry: Reader) -> FeederLimit | None:
    domain = entry.name("domain")
    p_w_min = entry.integer("p_w_min", low=-P_W_MAX, high=0)
    p_w_max = entry.integer("p_w_max", low=0, high=P_W_MAX)
    cause = entry.text("cause", optional=True)
    if len(cause) > CAUSE_LENGTH_MAX:
        entry.note(ReasonCode.OVERSIZED, "cause", f"{len(cause)} characters")
        return None
    if not domain or p_w_min is None or p_w_max is None:
        return None
    return FeederLimit(domain=domain, p_w_min=p_w_min, p_w_max=p_w_max, cause=cause)
