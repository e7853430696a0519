"""The trade desk: what is durable is acknowledged, what repeats is told what was told first."""

import asyncio
import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.core import FIRST_MS, make_site
from fakes.memory_journal import ManualClock, MemoryJournal

from gateway.core.planning import plans_due
from gateway.core.state import State
from gateway.core.verify import INTERVAL_TRADES_MAX
from gateway.market import dsse, schedule_writer
from gateway.market.office import MarketOffice
from gateway.market.topics import Topics
from gateway.model.interval import Interval, utc_text
from gateway.model.message import Inbound
from gateway.model.trade import Position, Trade
from gateway.runtime.desk import PARKED_US, TradeDesk
from gateway.runtime.recorder import Recorder

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TOPICS = Topics(site="bench", sop="SOP-1")
SPAN = Interval(FIRST_MS + 900_000, FIRST_MS + 1_800_000)


class Link:
    """The broker's side: messages in, what was published and acknowledged."""

    def __init__(self):
        self.inbox, self.published, self.acknowledged = asyncio.Queue(), [], []

    async def acknowledge(self, inbound):
        self.acknowledged.append(inbound.mid_number)

    async def publish(self, topic, payload, *, retain=False):
        body = json.loads(base64.b64decode(json.loads(payload)["payload"]))
        self.published.append(body)


class Rig:
    def __init__(self, entries=(), boot=1):
        self.clock = ManualClock()
        self.journal = MemoryJournal(self.clock, boot=boot)
        self.link = Link()
        state = State(make_site())
        for index, entry in enumerate(entries):
            state.fold(index, entry)
        self.journal.written = list(entries)
        self.recorder = Recorder(self.journal, state)
        public = KEY.public_key().public_bytes_raw()
        office = MarketOffice(
            link=self.link, topics=TOPICS, site="bench", sop="SOP-1",
            signers={dsse.keyid(public): public}, required=1, key=KEY,
        )  # fmt: skip
        self.desk = TradeDesk(market=office, recorder=self.recorder, clock=self.clock)

    async def boot(self):
        number = self.journal.boot_number
        await self.recorder.record(
            "boot",
            version="0",
            site="bench",
            sop="SOP-1",
            previous_boot_index=-1,
            clean=number == 1,
        )
        await self.recorder.record("mode", mode="on", state="INIT", reasons=[])
        return self

    async def take(self, *payloads):
        for number, payload in enumerate(payloads):
            self.link.inbox.put_nowait(
                Inbound(
                    topic=TOPICS.trades, payload=payload, retain=False, qos_level=1,
                    connection_seq=1, mid_number=number,
                )
            )  # fmt: skip
        await self.desk.take_in()
        await self.scan()

    async def scan(self):
        await self.desk.decide_open(time_quality="good")

    def verdicts(self):
        return [
            (e["kind"].removeprefix("trade."), e["trade_id"], e["revision"],
             [r["code"] for r in e.get("reasons", [])])
            for e in self.journal.written
            if e["kind"] in ("trade.accepted", "trade.refused")
        ]  # fmt: skip


@pytest.fixture
async def rig():
    return await Rig().boot()


def document(trade_id="t1", revision=1, p_w=60_000, created_ms=FIRST_MS):
    trade = Trade(
        id=trade_id, revision_number=revision, sop="SOP-1", out_domain="region-b",
        in_domain="region-c",
        positions=(Position(interval=SPAN, p_w=p_w, energy_wh=p_w // 4),),
    )  # fmt: skip
    body = schedule_writer.write(trade, site="bench", created_utc_ms=created_ms)
    return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body, [KEY])


async def test_the_same_bytes_again_are_told_what_the_first_were_told(rig):
    await rig.take(document(), document())
    assert rig.verdicts() == [("accepted", "t1", 1, []), ("refused", "t1", 1, ["duplicate"])]
    first, again = rig.link.published
    assert first["accepted"] is again["accepted"] is True
    assert first["ledger_index"] == again["ledger_index"]
    assert [r["code"] for r in again["reasons"]] == ["duplicate"]


async def test_other_content_under_the_same_id_is_refused_to_the_market_too(rig):
    await rig.take(document(), document(p_w=120_000))
    assert [b["accepted"] for b in rig.link.published] == [True, False]


async def test_a_cancellation_that_overtook_its_trade_waits_for_it(rig):
    await rig.take(document(revision=2, p_w=0))
    assert rig.verdicts() == []
    assert rig.link.published == []
    rig.clock.now_us += 54_000_000
    await rig.take(document())
    await rig.scan()
    assert rig.verdicts() == [("accepted", "t1", 1, []), ("accepted", "t1", 2, [])]
    assert rig.recorder.state.schedule[SPAN]["t1"].energy_wh == 0


async def test_a_cancellation_of_nothing_is_refused_after_a_minute(rig):
    await rig.take(document(revision=2, p_w=0))
    rig.clock.now_us += PARKED_US - 1
    await rig.scan()
    assert rig.verdicts() == []
    rig.clock.now_us += 1
    await rig.scan()
    assert rig.verdicts() == [("refused", "t1", 2, ["orphan"])]
    assert [b["accepted"] for b in rig.link.published] == [False]


async def test_what_waits_goes_on_waiting_after_a_restart(rig):
    await rig.take(document(revision=2, p_w=0))
    rig.clock.now_us += 50_000_000
    second = Rig(rig.journal.written, boot=2)
    second.clock.now_us = rig.clock.now_us
    await second.boot()
    second.clock.now_us += 50_000_000
    await second.scan()
    assert second.verdicts() == []
    await second.take(document())
    await second.scan()
    assert [v[2] for v in second.verdicts()] == [1, 2]


async def test_a_message_is_durable_before_it_is_acknowledged(rig):
    payload = document()
    rig.journal.failing = True
    with pytest.raises(Exception, match=r"trade\.received"):
        await rig.take(payload)
    assert rig.link.acknowledged == []
    assert hashlib.sha256(payload).hexdigest() not in str(rig.journal.written)


async def test_a_full_interval_takes_no_more_trades_yet_lets_those_in_it_change_and_go(rig):
    for k in range(INTERVAL_TRADES_MAX):
        await rig.take(document(f"t{k}"))
    assert {v[0] for v in rig.verdicts()} == {"accepted"}
    await rig.take(document("late-comer"))
    assert rig.verdicts()[-1] == ("refused", "late-comer", 1, ["rate"])
    (reason,) = rig.link.published[-1]["reasons"]
    assert utc_text(SPAN.start_ms) in reason["detail"]
    await rig.take(document("t3", revision=2, p_w=0), document("t4", revision=2, p_w=30_000))
    assert [v[:3] for v in rig.verdicts()[-2:]] == [("accepted", "t3", 2), ("accepted", "t4", 2)]
    await rig.take(document("late-comer", revision=2))
    assert rig.verdicts()[-1] == ("refused", "late-comer", 2, ["rate"])  # t3 has its row still
    full_va = {f"T{k}": 250_000 for k in range(1, 5)}
    state = rig.recorder.state
    (plan,) = plans_due(state, utc_ms=SPAN.start_ms, available_va=full_va)
    await rig.recorder.record("plan", **plan.fields)
    assert len(state.plans[SPAN.start_ms].planned) == INTERVAL_TRADES_MAX


async def said_again(rig):
    """What the next start says of everything that the journal remembers."""
    second = Rig(rig.journal.written, boot=2)
    for index, entry in enumerate(rig.journal.written):
        second.desk.remember(index, entry)
    await second.boot()
    await second.desk.say_again()
    return second.link


def gist(published):
    return [(b["accepted"], b["trade_id"], b["message_sha256"], b["ledger_index"]) for b in published]  # fmt: skip


async def test_after_a_restart_every_answer_is_what_it_was(rig):
    """A repetition, one whose trade was revised since, other content, a late first revision."""
    first, revised = document(), document(revision=2, p_w=30_000)
    await rig.take(first, first, document(p_w=120_000), revised, revised, first, document("t2"))
    told = gist(rig.link.published)
    assert [accepted for accepted, *_ in told] == [True, True, False, True, True, False, True]
    again = await said_again(rig)
    assert gist(again.published) == told


async def test_a_repetition_of_what_was_accepted_long_ago_is_accepted_after_a_restart(rig):
    """Only the newest verdicts are looked back at; the state knows the older ones."""
    await rig.take(document(), document())
    told = gist(rig.link.published)
    second = Rig(rig.journal.written, boot=2)
    second.desk.remember(len(rig.journal.written) - 1, rig.journal.written[-1])
    await second.desk.say_again()
    assert gist(second.link.published) == told[1:]


def strangers():
    """Messages that nobody known signed and that name t1."""
    whole = json.loads(document())
    signature = whole["signatures"][0]
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    body = base64.b64decode(whole["payload"])
    yield "another key", dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body, [other])
    yield "another type", dsse.sign(dsse.PAYLOAD_TYPE_LIMITS, body, [KEY])
    rows = {
        "no signature": {"signatures": []},
        "no list": {"signatures": None},
        "too many": {"signatures": [signature] * 17},
        "twice": {"signatures": [signature] * 2},
        "wrong": {"signatures": [{**signature, "sig": base64.b64encode(bytes(64)).decode()}]},
        "beside it": {"more": 1},
        "a fraction": {"more": 1.5},
        "a large number": {"more": 2**60},
    }
    for name, change in rows.items():
        yield name, json.dumps({**whole, **change}).encode()
    yield (
        "a key twice",
        document()[:-1] + b',"payloadType":"' + whole["payloadType"].encode() + b'"}',
    )
    yield "none", json.dumps({k: v for k, v in whole.items() if k != "signatures"}).encode()


@pytest.mark.parametrize("payload", [p for _, p in strangers()], ids=[n for n, _ in strangers()])
async def test_a_message_nobody_signed_is_never_answered_under_the_trade_it_names(rig, payload):
    await rig.take(document(), payload)
    assert rig.verdicts()[1][:2] == ("refused", "t1")
    told = gist(rig.link.published)
    assert told[1][:3] == (False, None, hashlib.sha256(payload).hexdigest())
    again = await said_again(rig)
    assert gist(again.published) == told
