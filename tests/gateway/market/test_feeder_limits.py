"""A system operator's limits over a real broker: verified, durable, answered, in the next plan."""

import asyncio
import base64
import json

import aiomqtt
import pytest
from fakes.core import FIRST_MS, QUARTER, make_site
from fakes.memory_journal import ManualClock, MemoryJournal
from signed_trades import key, public, signers_of

from gateway.core.state import State
from gateway.market import dsse, limits_document
from gateway.market.mqtt import Broker, MarketLink
from gateway.market.office import MarketOffice
from gateway.market.topics import Topics
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.runtime.desk import TradeDesk
from gateway.runtime.recorder import Recorder

TOPICS = Topics(site="bench", sop="SOP-1")
OPERATOR = key(5)


def limits(sequence=1, domain="region-c", **changes):
    fields = {"p_w_min": 0, "p_w_max": 30_000, "cause": "cable work"} | changes
    return FeederLimits(
        site="bench", sop="SOP-1", sequence_number=sequence, created_utc_ms=FIRST_MS,
        valid=QUARTER, limits=(FeederLimit(domain=domain, **fields),),
    )  # fmt: skip


def signed(found, by=OPERATOR, kind=dsse.PAYLOAD_TYPE_LIMITS):
    return dsse.sign(kind, limits_document.write(found), [by])


class Site:
    """A desk behind a real link."""

    def __init__(self, port=1, clock=None):
        self.clock = clock or ManualClock()
        self.journal = MemoryJournal(self.clock)
        self.recorder = Recorder(self.journal, State(make_site()))
        self.link = MarketLink(
            broker=Broker(host="127.0.0.1", port=port), identifier="sopgw-bench-SOP-1",
            subscriptions=[TOPICS.trades, TOPICS.limits], availability=TOPICS.availability,
        )  # fmt: skip
        office = MarketOffice(
            link=self.link, topics=TOPICS, site="bench", sop="SOP-1", signers=signers_of(key(1)),
            required=1, key=key(7), operators={dsse.keyid(public(OPERATOR)): public(OPERATOR)},
        )  # fmt: skip
        self.desk = TradeDesk(market=office, recorder=self.recorder, clock=self.clock)

    def orders(self):
        return [
            (e["verb"], [r["code"] for r in e["arguments"]["reasons"]])
            for e in self.journal.written
            if e["kind"] == "operator"
        ]


async def until(holds):
    while not holds():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("retain", [False, True])
async def test_signed_limits_become_an_entry_and_an_answer(mosquitto, retain):
    site = Site(mosquitto.port)
    async with asyncio.timeout(60), aiomqtt.Client("127.0.0.1", mosquitto.port) as operator:
        await operator.subscribe("sopgw/v1/bench/SOP-1/trade/+/acknowledgement", qos=1)
        if retain:  # stored before the gateway came
            await operator.publish(TOPICS.limits, signed(limits()), qos=1, retain=True)
        running = asyncio.create_task(site.link.run())
        await site.link.online.wait()
        if not retain:
            await operator.publish(TOPICS.limits, signed(limits()), qos=1)
        await until(lambda: not site.link.inbox.empty())
        await site.desk.take_in()
        answer = json.loads((await anext(operator.messages)).payload)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert site.recorder.state.feeder_limits == limits()
    assert site.orders() == [("feeder-limits", [])]
    entry = site.journal.written[0]["arguments"]
    assert base64.b64decode(entry["payload"]) == signed(limits())
    body = json.loads(base64.b64decode(answer["payload"]))
    assert (body["accepted"], body["ledger_index"], body["trade_id"]) == (True, 0, None)
    assert body["message_sha256"] == entry["sha256"]


class Loose:
    """The link's inbox without a broker."""

    def __init__(self, site):
        self.site, self.published, self.acknowledged = site, [], []
        site.link.acknowledge, site.link.publish = self.acknowledge, self.publish

    async def acknowledge(self, inbound):
        self.acknowledged.append(len(self.site.journal.written))

    async def publish(self, topic, payload, *, retain=False):
        self.published.append(payload)

    async def take(self, *payloads):
        from gateway.model.message import Inbound

        for payload in payloads:
            self.site.link.inbox.put_nowait(
                Inbound(
                    topic=TOPICS.limits, payload=payload, retain=False, qos_level=1,
                    connection_seq=1, mid_number=1,
                )
            )  # fmt: skip
        await self.site.desk.take_in()


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (signed(limits(), by=key(6)), "signer_unknown"),
        (signed(limits(), by=key(1)), "signer_unknown"),  # who signs trades signs no limits
        (signed(limits(), kind=dsse.PAYLOAD_TYPE_SCHEDULE), "payload_type"),
        (signed(limits(domain="region-x")), "unknown_domain"),
        (b"x" * 16_385, "oversized"),
        (b"{}", "unsigned"),
    ],
    ids=["stranger", "market", "type", "domain", "size", "form"],
)
async def test_what_is_no_operators_word_is_refused_and_written_down(payload, code):
    site = Site()
    loose = Loose(site)
    await loose.take(payload)
    (order,) = site.orders()
    assert order[0] == "feeder-limits-refused"
    assert code in order[1]
    assert site.recorder.state.feeder_limits is None
    assert loose.acknowledged == [1]  # after the entry
    assert len(loose.published) == 1


async def test_the_newest_limits_hold_and_the_same_again_leave_no_entry():
    site = Site()
    loose = Loose(site)
    await loose.take(signed(limits(2)), signed(limits(2)), signed(limits(1)), signed(limits(3)))
    assert site.orders() == [
        ("feeder-limits", []),
        ("feeder-limits-refused", ["superseded"]),
        ("feeder-limits", []),
    ]
    assert site.recorder.state.feeder_limits.sequence_number == 3
    assert len(loose.acknowledged) == len(loose.published) == 4  # each is answered
