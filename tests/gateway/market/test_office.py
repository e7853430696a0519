"""The market's port over a real broker: judged in, signed out, retained values told."""

import asyncio
import contextlib
import json

import aiomqtt
import pytest
from signed_trades import START_MS, codes, key, public, signed, signers_of

from gateway.market import dsse, messages
from gateway.market.mqtt import Broker, MarketLink
from gateway.market.office import MarketOffice
from gateway.market.topics import Topics
from gateway.model.interval import Interval
from gateway.model.message import Inbound, Readable
from gateway.model.reason import Reason, ReasonCode

OUT = "sopgw/v1/bench4/SOP-1"


def market(port=1):
    """An office and its link."""
    topics = Topics(site="bench4", sop="SOP-1")
    link = MarketLink(
        broker=Broker(host="127.0.0.1", port=port),
        identifier="sopgw-bench4-SOP-1",
        subscriptions=[topics.trades],
        availability=topics.availability,
    )
    return link, MarketOffice(
        link=link,
        topics=topics,
        site="bench4",
        sop="SOP-1",
        signers=signers_of(key(1)),
        required=1,
        key=key(7),
    )


def inbound(payload=b"", **changes):
    fields = {"retain": False, "qos_level": 0, "connection_seq": 0, "mid_number": 0}
    return Inbound(topic="p2p/v1/bench4/SOP-1/trades", payload=payload, **(fields | changes))


async def test_messages_are_judged_by_the_sites_own_names_and_keys():
    assert isinstance(market()[1].read(inbound(signed())), Readable)
    assert codes(market()[1].read(inbound(signed(None, key(2)))).reasons)[0] == "signer_unknown"


async def test_answers_reports_and_values_reach_the_broker(mosquitto):
    link, ours = market(mosquitto.port)
    interval = Interval(START_MS, START_MS + 900_000)
    late = Reason(code=ReasonCode.LATE)
    async with asyncio.timeout(60), aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
        await client.subscribe(f"{OUT}/#", qos=1)
        task = asyncio.create_task(link.run())
        await link.online.wait()
        await ours.answer(
            message_sha256="ab" * 32, trade_id="trd-1", revision_number=1, accepted=True,
            reasons=(), ledger_index=5,
        )  # fmt: skip
        await ours.answer(
            message_sha256="cd" * 32, trade_id=None, revision_number=0, accepted=False,
            reasons=[late], ledger_index=6,
        )  # fmt: skip
        await ours.report(
            trade_id="trd-1", interval=interval, contracted_wh=30_000, delivered_wh=29_990,
            status="delivered", reasons=["guard_p"], ledger_index=9,
        )  # fmt: skip
        await ours.tell("state", {"state": "READY"})
        await ours.tell("alarm/link_lost", {"active": True})
        found = {}
        async for message in client.messages:
            found[str(message.topic).removeprefix(f"{OUT}/")] = message.payload
            if "alarm/link_lost" in found:
                break
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def body(name, kind):
        return messages.read_answer(found[name], payload_type=kind, gateway_key=public(key(7)))

    assert body("trade/trd-1/acknowledgement", dsse.PAYLOAD_TYPE_ACKNOWLEDGEMENT)["accepted"]
    refused = body(f"trade/{'cd' * 32}/acknowledgement", dsse.PAYLOAD_TYPE_ACKNOWLEDGEMENT)
    assert refused["reasons"] == [{"code": "late", "detail": ""}]
    assert body("trade/trd-1/delivery", dsse.PAYLOAD_TYPE_DELIVERY)["reasons"] == ["guard_p"]
    assert json.loads(found["state"]) == {"state": "READY"}
    assert found["availability"] == b"online"


async def test_only_names_become_topics():
    with pytest.raises(ValueError, match="topic"):
        await market()[1].tell("alarm/#", {})
