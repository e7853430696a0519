"""What the gateway answers: signed acknowledgements and delivery reports.

Both are DSSE messages whose bodies are canonical JSON. A broker's acknowledgement proves
nothing; the market sends a trade again until it holds our signed one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.market import canonical, dsse
from gateway.market.strict_json import Findings, parse
from gateway.model.interval import Interval, utc_text
from gateway.model.reason import Reason, ReasonCode

SCHEMA_ACKNOWLEDGEMENT = "sopgw/v1/acknowledgement"
SCHEMA_DELIVERY = "sopgw/v1/delivery"


def acknowledgement(
    *,
    key: Ed25519PrivateKey,
    message_sha256: str,
    trade_id: str | None,
    revision: int,
    accepted: bool,
    reasons: Sequence[Reason] = (),
    ledger_index: int,
) -> bytes:
    """Return the signed answer to one trade of a message.

    ``ledger_index`` is the entry that says the same: ``trade.accepted`` or ``trade.refused``.
    A refusal names at least one reason.
    """
    assert accepted or reasons, "a refusal says why"
    body = {
        "schema": SCHEMA_ACKNOWLEDGEMENT,
        "message_sha256": message_sha256,
        "trade_id": trade_id,
        "revision": revision,
        "accepted": accepted,
        "reasons": [r.fields() for r in reasons],
        "ledger_index": ledger_index,
    }
    return dsse.sign(dsse.PAYLOAD_TYPE_ACKNOWLEDGEMENT, canonical.encode(body), [key])


def delivery(
    *,
    key: Ed25519PrivateKey,
    trade_id: str,
    interval: Interval,
    contracted_wh: int,
    delivered_wh: int,
    status: str,
    reasons: Sequence[ReasonCode] = (),
    ledger_index: int,
) -> bytes:
    """Return the signed report of one trade in one interval; ``ledger_index`` is its entry.

    As in the ledger's ``delivery`` entry the reasons are words alone.
    """
    body = {
        "schema": SCHEMA_DELIVERY,
        "trade_id": trade_id,
        "interval": {"start": utc_text(interval.start_ms), "end": utc_text(interval.end_ms)},
        "contracted_wh": contracted_wh,
        "delivered_wh": delivered_wh,
        "status": status,
        "reasons": [r.value for r in reasons],
        "ledger_index": ledger_index,
    }
    return dsse.sign(dsse.PAYLOAD_TYPE_DELIVERY, canonical.encode(body), [key])


def read_answer(
    raw: bytes, *, payload_type: str, gateway_key: bytes | None
) -> Mapping[str, Any] | list[Reason]:
    """Return the body of an acknowledgement or delivery, or why it is not believed.

    Without ``gateway_key`` (32 raw bytes) the signature is not checked: for showing only.
    """
    findings = Findings()
    if gateway_key is None:
        body = dsse.peek(raw)
    else:
        signers = {dsse.keyid(gateway_key): gateway_key}
        opened = dsse.open_envelope(raw, payload_type=payload_type, signers=signers, required=1)
        if isinstance(opened, list):
            return opened
        body = opened.body
    value = None if body is None else parse(body, findings)
    if value is None or findings.reasons:
        return findings.reasons or dsse.faults(raw)
    return value
