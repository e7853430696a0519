"""The market as the runtime knows it: messages judged coming in, answers signed going out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.market import canonical, dsse, intake, messages
from gateway.market.mqtt import Broker, MarketLink
from gateway.market.topics import Topics
from gateway.model.interval import Interval
from gateway.model.message import Inbound, Readable, Unreadable
from gateway.model.reason import Reason, ReasonCode


class SignedMarket:
    """Fulfils ``gateway.ports.Market`` over MQTT; ``run`` it in a task group."""

    def __init__(
        self,
        *,
        broker: Broker,
        site: str,
        sop: str,
        key: Ed25519PrivateKey,
        signers: Sequence[bytes],
        required: int,
    ) -> None:
        """Prepare the link.

        Args:
            broker: where to connect.
            site: id of the site.
            sop: id of the SOP.
            key: signs acknowledgements and deliveries.
            signers: raw public keys of those who may sign trades.
            required: how many of them must have signed.
        """
        self.topics = Topics(site=site, sop=sop)
        self.link = MarketLink(
            broker=broker,
            identifier=f"sopgw-{site}-{sop}",
            subscriptions=[self.topics.trades],
            availability=self.topics.availability,
        )
        self.inbox: asyncio.Queue[Inbound] = self.link.inbox
        self._site = site
        self._sop = sop
        self._key = key
        self._signers = {dsse.keyid(raw): raw for raw in signers}
        self._required = required

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        await self.link.run()

    async def acknowledge(self, inbound: Inbound) -> None:
        """Tell the broker that the message is ours; only after its entry is durable."""
        await self.link.acknowledge(inbound)

    def read(self, inbound: Inbound) -> Readable | Unreadable:
        """Judge a message by itself: how it travelled, who signed it, what stands in it."""
        return intake.judge(
            inbound,
            topic=self.topics.trades,
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
        """Publish the signed acknowledgement of one trade of a message."""
        raw = messages.acknowledgement(
            key=self._key,
            message_sha256=message_sha256,
            trade_id=trade_id,
            revision=revision_number,
            accepted=accepted,
            reasons=reasons,
            ledger_index=ledger_index,
        )
        await self.link.publish(self.topics.acknowledgement(trade_id or message_sha256), raw)

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
        """Publish the signed delivery report of one trade in one interval."""
        raw = messages.delivery(
            key=self._key,
            trade_id=trade_id,
            interval=interval,
            contracted_wh=contracted_wh,
            delivered_wh=delivered_wh,
            status=status,
            reasons=[ReasonCode(r) for r in reasons],
            ledger_index=ledger_index,
        )
        await self.link.publish(self.topics.delivery(trade_id), raw)

    async def tell(self, what: str, body: Mapping[str, Any]) -> None:
        """Publish a retained value: ``state``, ``telemetry``, ``checkpoint``, ``alarm/<code>``."""
        await self.link.publish(self.topics.value(what), canonical.encode(body), retain=True)
