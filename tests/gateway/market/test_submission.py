"""Submitting against a real broker and a small gateway: every kind of bad message is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json

import aiomqtt
import pytest
from signed_trades import body, key, public, signed, signers_of

from gateway.market import dsse, intake, messages, submission
from gateway.market.mqtt import Broker, MarketLink
from gateway.market.submission import BrokerUnreachable, submit
from gateway.market.topics import Topics
from gateway.model.message import Readable
from gateway.model.reason import Reason, ReasonCode

TOPICS = Topics(site="bench4", sop="SOP-1")
GATEWAY = key(7)


def answers_to(verdict):
    """One signed acknowledgement a trade, or one for the message."""
    if isinstance(verdict, Readable):
        named = [(t.id, TOPICS.acknowledgement(t.id)) for t in verdict.trades]
        reasons = ()
    else:
        reasons = verdict.reasons
        named = [(i, TOPICS.acknowledgement(i)) for i in verdict.trade_ids if verdict.authentic]
        named = named or [(None, TOPICS.acknowledgement(verdict.sha256))]
    for trade_id, topic in named:
        yield (
            topic,
            messages.acknowledgement(
                key=GATEWAY,
                message_sha256=verdict.sha256,
                trade_id=trade_id,
                revision=verdict.revision_number,
                accepted=isinstance(verdict, Readable),
                reasons=reasons,
                ledger_index=0,
            ),
        )


@contextlib.asynccontextmanager
async def gateway(port, taken):
    link = MarketLink(
        broker=Broker(host="127.0.0.1", port=port),
        identifier="gateway",
        subscriptions=[TOPICS.trades],
        availability=TOPICS.availability,
    )

    async def serve():
        while True:
            inbound = await link.inbox.get()
            verdict = intake.judge(
                inbound, topic=TOPICS.trades, site="bench4", sop="SOP-1",
                signers=signers_of(key(1)), required=1,
            )  # fmt: skip
            if isinstance(verdict, Readable):
                taken.extend(t.id for t in verdict.trades)
            for topic, raw in answers_to(verdict):
                await link.publish(topic, raw)
            await link.acknowledge(inbound)

    tasks = [asyncio.create_task(link.run()), asyncio.create_task(serve())]
    try:
        async with asyncio.timeout(60):
            await link.online.wait()
            yield link
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def sent(port, payload, wait_s=60.0):
    return submit(
        payload,
        broker=Broker(host="127.0.0.1", port=port),
        topics=TOPICS,
        wait_s=wait_s,
        gateway_key=public(GATEWAY),
    )


def two_trades():
    both = json.loads(body())
    other = json.loads(body(id="trd-2"))["Schedule_MarketDocument"]
    both["Schedule_MarketDocument"]["TimeSeries"] += other["TimeSeries"]
    return json.dumps(both).encode()


async def test_good_messages_are_accepted_and_each_trade_is_answered(mosquitto):
    taken = []
    async with gateway(mosquitto.port, taken):
        one = await sent(mosquitto.port, signed())
        assert one.accepted
        both = await sent(mosquitto.port, signed(two_trades()))
    assert set(both.by_trade) == {"trd-1", "trd-2"}
    assert both.accepted
    assert taken == ["trd-1", "trd-1", "trd-2"]


BAD = {
    "unsigned": (body(), {"unsigned"}),
    "wrongly signed": (signed(body(), key(9)), {"signer_unknown", "signers_too_few"}),
    "altered": (
        signed().replace(b'"payload":"eyJ', b'"payload":"eyK'),
        {"signature", "signers_too_few", "form"},
    ),
    "malformed": (b'{"payload":', {"form"}),
    "not UTF-8": (b"\xff\xfe", {"form"}),
    "empty": (b"", {"empty"}),
    "oversized": (b"x" * 17_000, {"oversized"}),
    "bomb": (b"[" * 16_000, {"depth"}),
    "float": (
        signed(body().replace(b'"quantity":"120"', b'"quantity":120.5')), {"not_integer"}),
    "NaN": (signed(body().replace(b'"quantity":"120"', b'"quantity":NaN')), {"not_integer"}),
    "negative": (signed(body().replace(b'"quantity":"120"', b'"quantity":"-4"')), {"negative"}),
    "part of a Wh": (signed(body(p_w=(121_001,))), {"energy_not_whole"}),
    "wrong unit": (signed(body().replace(b'"KWT"', b'"MAW"')), {"unit"}),
    "unknown field": (signed(body().replace(b'"type":', b'"typ":')), {"unknown_field", "missing_field"}),
    "key twice": (signed(body().replace(b'"type":', b'"type":"A01","type":')), {"duplicate_key"}),
    "another site": (signed(body(site="other")), {"unknown_site"}),
    "another SOP": (signed(body(sop="SOP-2")), {"unknown_sop"}),
    "another kind": (dsse.sign(dsse.PAYLOAD_TYPE_LIMITS, body(), [key(1)]), {"payload_type"}),
}  # fmt: skip


async def test_every_bad_message_gets_one_signed_answer_with_every_reason(mosquitto):
    taken = []
    async with gateway(mosquitto.port, taken):
        for name, (payload, wanted) in BAD.items():
            answers = await sent(mosquitto.port, payload)
            assert len(answers.by_trade) == 1, name
            (answer,) = answers.by_trade.values()
            assert not answers.accepted, name
            assert {r["code"] for r in answer["reasons"]} == wanted, name
    assert taken == []


async def test_a_retained_message_is_refused_when_the_gateway_finds_it(mosquitto):
    taken = []
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as market:
        await market.publish(TOPICS.trades, signed(), qos=1, retain=True)
        await market.subscribe(TOPICS.acknowledgements, qos=1)
        async with gateway(mosquitto.port, taken):
            async for message in market.messages:
                answer = messages.read_answer(
                    message.payload,
                    payload_type=dsse.PAYLOAD_TYPE_ACKNOWLEDGEMENT,
                    gateway_key=public(GATEWAY),
                )
                break
    assert [r["code"] for r in answer["reasons"]] == ["retained"]
    assert answer["trade_id"] == "trd-1"
    assert taken == []


async def test_a_message_the_broker_lost_is_sent_again(mosquitto, monkeypatch):
    monkeypatch.setattr(submission, "RESEND_S", 0.3)
    taken = []
    sending = asyncio.create_task(sent(mosquitto.port, signed()))
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as witness:
        await witness.subscribe(TOPICS.trades, qos=1)
        async for _ in witness.messages:  # nobody took this one: the gateway is not there yet
            break
    async with gateway(mosquitto.port, taken):
        answers = await sending
    assert answers.accepted
    assert taken


def test_the_first_answer_counts_when_a_repetition_is_called_a_duplicate():
    answers = submission.Answers(wanted=frozenset({"trd-1"}))
    for accepted, reasons in ((True, ()), (False, [Reason(code=ReasonCode.DUPLICATE)])):
        raw = messages.acknowledgement(
            key=GATEWAY, message_sha256="ab" * 32, trade_id="trd-1", revision=1,
            accepted=accepted, reasons=reasons, ledger_index=1,
        )  # fmt: skip
        submission._take(answers, raw, "ab" * 32, public(GATEWAY))
    assert answers.accepted


async def test_silence_is_no_answer_and_no_broker_is_an_error(mosquitto):
    answers = await sent(mosquitto.port, signed(), wait_s=0.2)
    assert not answers.complete
    assert not answers.accepted
    await mosquitto.stop()
    with pytest.raises(BrokerUnreachable):
        await sent(mosquitto.port, signed())
