"""The verdict on one message: readable with its trades, or refused with every reason. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from gateway.market import dsse, schedule_document
from gateway.market.schedule_document import Document
from gateway.market.strict_json import REASONS_MAX, quoted
from gateway.market.topics import NODE_DOOR
from gateway.model.message import Inbound, Readable, Unreadable
from gateway.model.reason import Reason, ReasonCode


def judge(
    inbound: Inbound,
    *,
    topic: str,
    site: str,
    sop: str,
    signers: Mapping[str, bytes],
    required: int,
) -> Readable | Unreadable:
    """Judge a message by itself: how it travelled, who signed it, what stands in it.

    Whether the trades fit the time, the ledger and the SOP is for the caller to decide.

    Args:
        inbound: the message.
        topic: the only topic trades may come by; the gateway's own node is the other door.
        site: this site's id, as documents name it.
        sop: this SOP's id.
        signers: key id to raw public key, from the site file.
        required: how many distinct signers must have signed.
    """
    sha256 = hashlib.sha256(inbound.payload).hexdigest()
    reasons: list[Reason] = []
    if inbound.retain:
        detail = "a stored message must never move power"
        reasons.append(Reason(code=ReasonCode.RETAINED, detail=detail))
    if inbound.topic not in (topic, NODE_DOOR):
        reasons.append(Reason(code=ReasonCode.TOPIC, detail=quoted(inbound.topic)))
    opened, body = dsse.examine(
        inbound.payload,
        payload_type=dsse.PAYLOAD_TYPE_SCHEDULE,
        signers=signers,
        required=required,
    )
    authentic = isinstance(opened, dsse.Opened)
    if isinstance(opened, list):
        reasons.extend(opened)
    found = None if body is None else schedule_document.read(body, site=site)
    if isinstance(found, list):
        reasons.extend(found)
    if isinstance(found, Document):
        reasons.extend(
            Reason(code=ReasonCode.UNKNOWN_SOP, detail=f"{t.sop} instead of {sop}")
            for t in found.trades
            if t.sop != sop
        )
    if isinstance(opened, dsse.Opened) and isinstance(found, Document) and not reasons:
        return Readable(
            sha256=sha256,
            document=found.id,
            revision_number=found.revision_number,
            trades=found.trades,
            keyids=opened.keyids,
        )
    trade_ids, revision = ((), 0) if body is None else schedule_document.claimed(body)
    return Unreadable(
        sha256=sha256,
        reasons=tuple(dict.fromkeys(reasons))[:REASONS_MAX],
        trade_ids=trade_ids,
        revision_number=revision,
        authentic=authentic,
    )
