"""The market edge as the runtime sees it: verdicts on messages in, signed answers out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.market import dsse, intake, limits_document, messages
from gateway.market.mqtt import MarketLink
from gateway.market.node_link import NodeLink
from gateway.market.topics import Topics
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimits
from gateway.model.message import Inbound, Readable, Unreadable
from gateway.model.reason import Reason, ReasonCode

LIMITS_BYTES_MAX = 16_384


class MarketOffice:
    """Implements ``gateway.ports.Market`` over the links to the broker and to an own node."""

    def __init__(
        self,
        *,
        link: MarketLink,
        topics: Topics,
        site: str,
        sop: str,
        signers: Mapping[str, bytes],
        required: int,
        key: Ed25519PrivateKey,
        node: NodeLink | None = None,
        operators: Mapping[str, bytes] | None = None,
    ) -> None:
        """Serve one SOP; ``signers`` maps key ids to raw public keys, ``key`` signs answers.

        ``operators`` are the system operators' keys: whose limits of feeders count.
        """
        self._operators = operators or {}
        self._link = link
        self._node = node
        self._topics = topics
        self._site = site
        self._sop = sop
        self._signers = signers
        self._required = required
        self._key = key

    @property
    def public_key(self) -> bytes:
        """Raw public key that checks our answers."""
        return self._key.public_key().public_bytes_raw()

    @property
    def inbox(self) -> asyncio.Queue[Inbound]:
        """Messages not yet taken in."""
        return self._link.inbox

    async def acknowledge(self, inbound: Inbound) -> None:
        """Tell the broker that the message is ours."""
        await self._link.acknowledge(inbound)

    def limits(self, inbound: Inbound) -> FeederLimits | list[Reason] | None:
        """Judge a message of the system operator; a stored one counts, for it only narrows."""
        if inbound.topic != self._topics.limits:
            return None
        if len(inbound.payload) > LIMITS_BYTES_MAX:
            detail = f"{len(inbound.payload)} bytes, at most {LIMITS_BYTES_MAX}"
            return [Reason(code=ReasonCode.OVERSIZED, detail=detail)]
        opened = dsse.open_envelope(
            inbound.payload,
            payload_type=dsse.PAYLOAD_TYPE_LIMITS,
            signers=self._operators,
            required=1,
        )
        if isinstance(opened, list):
            return opened
        return limits_document.parse(opened.body, site=self._site, sop=self._sop)

    def read(self, inbound: Inbound) -> Readable | Unreadable:
        """Judge a message by itself."""
        return intake.judge(
            inbound,
            topic=self._topics.trades,
            site=self._site,
            sop=self._sop,
            signers=self._signers,
            required=self._required,
        )

    async def answer(
        self,
        *,
        message_sha256: str,
        trade_id: str | None,
        revision_number: int,
        accepted: bool,
        reasons: Sequence[Reason],
        ledger_index: int,
    ) -> None:
        """Publish the signed acknowledgement; without a trade id under the message's hash."""
        payload = messages.acknowledgement(
            key=self._key,
            message_sha256=message_sha256,
            trade_id=trade_id,
            revision=revision_number,
            accepted=accepted,
            reasons=reasons,
            ledger_index=ledger_index,
        )
        topic = self._topics.acknowledgement(trade_id or message_sha256)
        await self._link.publish(topic, payload)
        if self._node is not None:
            self._node.decided(
                sha256=message_sha256,
                trade_id=trade_id,
                accepted=accepted,
                reasons=[reason.code.value for reason in reasons],
            )

    async def report(
        self,
        *,
        trade_id: str,
        interval: Interval,
        contracted_wh: int,
        delivered_wh: int,
        status: str,
        reasons: Sequence[str],
        ledger_index: int,
    ) -> None:
        """Publish the signed delivery report."""
        payload = messages.delivery(
            key=self._key,
            trade_id=trade_id,
            interval=interval,
            contracted_wh=contracted_wh,
            delivered_wh=delivered_wh,
            status=status,
            reasons=[ReasonCode(word) for word in reasons],
            ledger_index=ledger_index,
        )
        await self._link.publish(self._topics.delivery(trade_id), payload)
        if self._node is not None:
            self._node.delivered(trade_id, delivered_wh, reasons)

    async def tell(self, what: str, body: Mapping[str, Any]) -> None:
        """Publish a retained value under ``what``."""
        named = {
            "state": self._topics.state,
            "telemetry": self._topics.telemetry,
            "checkpoint": self._topics.checkpoint,
        }
        topic = named.get(what) or self._topics.alarm(what.removeprefix("alarm/"))
        payload = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        await self._link.publish(topic, payload, retain=True)
