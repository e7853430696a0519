"""Duplicated, reordered, late, revised and cancelled trades: each outcome as the model says.

python tests/fault/market_duplicates.py --messages 100000 --broker 4000 --seed 1

The bulk goes through the real desk, signatures and ledger entries included, on a clock that is
moved by hand, with restarts in between. The last part goes through a real broker to a real
gateway, which is killed again and again meanwhile.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import aiomqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.core import make_site
from fakes.memory_journal import ManualClock, MemoryJournal
from fakes.rig import Rig
from fault.market_sequence import Sequential, Storm, hold

from gateway.core.state import State, interval_from
from gateway.market import dsse, schedule_writer
from gateway.market.office import MarketOffice
from gateway.market.topics import Topics
from gateway.model.interval import Interval, utc_text
from gateway.model.message import Inbound
from gateway.model.trade import Position, Trade
from gateway.runtime.desk import TradeDesk
from gateway.runtime.recorder import Recorder

GATE_MS, HORIZON_MS = 120_000, 172_800_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def signer(key, site):
    """Write a message of the storm as a signed market document."""

    def sign(message, salt):
        trade = Trade(
            id=message.trade_id, revision_number=message.revision, sop="SOP-1",
            out_domain=message.out, in_domain=message.into,
            positions=tuple(
                Position(interval=Interval(*span), p_w=p, energy_wh=p * message.length_ms // 3_600_000)
                for span, p in zip(message.spans, message.powers_w, strict=True)
            ),
        )  # fmt: skip
        body = schedule_writer.write(
            trade, site=site, created_utc_ms=message.start_ms - 1000, document=f"d-{salt}"
        )
        return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body, [key])

    return sign


def span_of(fields):
    interval = interval_from(fields)
    return interval.start_ms, interval.end_ms


class Link:
    """The broker's side of a desk without a broker."""

    def __init__(self):
        self.inbox, self.acknowledged, self.published = asyncio.Queue(), 0, 0

    async def acknowledge(self, inbound):
        self.acknowledged += 1

    async def publish(self, topic, payload, *, retain=False):
        self.published += 1


class Desk:
    """The trade desk on a journal in memory; may die and begin again from its entries."""

    def __init__(self):
        self.clock, self.link, self.entries, self.boot = ManualClock(), Link(), [], 0

    async def start(self):
        self.boot += 1
        journal = MemoryJournal(self.clock, boot=self.boot)
        journal.written = self.entries
        state = State(make_site())
        for index, entry in enumerate(self.entries):
            state.fold(index, entry)
        self.recorder = Recorder(journal, state)
        public = KEY.public_key().public_bytes_raw()
        office = MarketOffice(
            link=self.link, topics=Topics(site="bench", sop="SOP-1"), site="bench", sop="SOP-1",
            signers={dsse.keyid(public): public}, required=1, key=KEY,
        )  # fmt: skip
        self.desk = TradeDesk(market=office, recorder=self.recorder, clock=self.clock)
        await self.recorder.record(
            "boot", version="0", site="bench", sop="SOP-1", previous_boot_index=-1, clean=False
        )
        await self.recorder.record("mode", mode="on", state="INIT", reasons=[])

    @property
    def state(self):
        return self.recorder.state

    def hear(self, payload):
        self.link.inbox.put_nowait(
            Inbound(topic="p2p/v1/bench/SOP-1/trades", payload=payload, retain=False, qos_level=1,
                    connection_seq=self.boot, mid_number=1)
        )  # fmt: skip

    async def scan(self):
        await self.desk.take_in()
        await self.desk.decide_open(time_quality="good")

    async def deliver(self):
        """Close what is over, as a plan's end would."""
        now_ms = self.clock.utc_us() // 1000
        for interval in [i for i in self.state.schedule if i.end_ms + 30_000 < now_ms]:
            span = {"start": utc_text(interval.start_ms), "end": utc_text(interval.end_ms)}
            await self.recorder.record("delivery", interval=span, trades=[])


async def bulk(count, seed, restarts):
    """So many messages through the desk; what was held and what the model has scheduled."""
    rng = random.Random(seed)
    desk = Desk()
    start_ms = desk.clock.utc_us() // 1000
    storm = Storm(rng, signer(KEY, "bench"), gate_ms=GATE_MS, from_ms=start_ms)
    await desk.start()
    again = {rng.randrange(count) for _ in range(restarts)}
    scan_ms = start_ms
    for number in range(count):
        arrival_ms, message = storm.next()
        while scan_ms + 1000 <= arrival_ms:  # scans go on, with nothing new in most
            scan_ms += 1000 if desk.state.received else (arrival_ms - scan_ms) // 1000 * 1000
            await at(desk, scan_ms)
        desk.clock.now_us = (arrival_ms - start_ms) * 1000
        desk.hear(message.payload)
        if desk.link.inbox.qsize() >= 40 or rng.random() < 0.3:
            await desk.scan()
        if number in again:
            await desk.desk.take_in()  # some are durable and not decided: the worst moment
            await desk.start()
    for _ in range(70):
        scan_ms += 1000
        await at(desk, scan_ms)
    model = Sequential(gate_ms=GATE_MS, horizon_ms=HORIZON_MS)
    held = hold(desk.entries, storm.messages, model, span_of=span_of)
    same_schedule(desk.state, model, held)
    if desk.link.published < held.verdicts:
        held.broken.append(f"{held.verdicts} verdicts and {desk.link.published} answers")
    if held.verdicts != count or desk.link.acknowledged != count:
        held.broken.append(f"{count} sent, {held.verdicts} decided, {desk.link.acknowledged} taken")
    return held, len(storm.messages)


async def at(desk, now_ms):
    desk.clock.now_us = max(desk.clock.now_us, now_ms * 1000 - desk.clock.start_us)
    await desk.scan()
    await desk.deliver()


def same_schedule(state, model, held):
    """What will be carried out is what the model would carry out, to the watt-hour."""
    ours = {
        (i.start_ms, i.end_ms): {name: leg.energy_wh for name, leg in legs.items()}
        for i, legs in state.schedule.items()
    }
    theirs = {
        (start, end): {name: p * (end - start) // 3_600_000 for name, p in legs.items()}
        for (start, end), legs in model.schedule.items()
    }
    if ours != theirs:
        held.broken.append(f"schedules differ in {len(set(ours) ^ set(theirs))} intervals")


async def through_broker(count, seed, kills):
    """So many messages through Mosquitto to a gateway that is killed meanwhile."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(folder, factor=3, gate="2 min", to_minute_ms=30_000)
        async with rig.up():
            await rig.until(lambda s: s["state"] == "READY")
            storm = Storm(
                rng, signer(rig.key, "demo"), gate_ms=GATE_MS, from_ms=rig.now_ms() - 60_000
            )
            sent = [storm.next()[1].payload for _ in range(count)]
            stops = sorted(rng.sample(range(count), kills))
            await publish(rig, sent, stops)
            await decided(rig, count)
            await rig.stop()
        model = Sequential(gate_ms=GATE_MS, horizon_ms=HORIZON_MS)
        held = hold(rig.entries(), storm.messages, model, span_of=span_of)
    if held.verdicts < count:  # at least once: a kill may make the broker say something again
        held.broken.append(f"{count} sent and {held.verdicts} decided")
    return held


async def publish(rig, payloads, stops):
    topic = Topics(site="demo", sop="SOP-1").trades
    async with aiomqtt.Client("127.0.0.1", rig.broker_port) as client:
        for number, payload in enumerate(payloads):
            await client.publish(topic, payload, qos=1)
            if number % 50 == 49:
                await behind(rig, number - 400)
            if number in stops:
                await rig.kill()
                await rig.start()


async def behind(rig, least):
    """Wait until the gateway decided so many, so that the broker's queue never overflows."""
    async with asyncio.timeout(120):
        while verdicts(rig) < least:
            await asyncio.sleep(0.2)


async def decided(rig, count):
    """Wait until everything is decided, cancellations of nothing included."""
    async with asyncio.timeout(180):
        while verdicts(rig) < count:
            await asyncio.sleep(0.5)


def verdicts(rig):
    return sum(e["kind"] in ("trade.accepted", "trade.refused") for e in rig.entries())


def show(what, held, seconds, more=""):
    codes = ", ".join(f"{n} {code}" for code, n in sorted(held.by_code.items()))
    print(f"{what}: {held.verdicts} verdicts{more} in {seconds:.0f} s ({codes}); "
          f"{len(held.broken)} unlike the model", flush=True)  # fmt: skip
    for line in held.broken[:20]:
        print("  ", line, flush=True)


def main():
    """Run both parts and print what came of every message."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="through the desk")
    parser.add_argument("--broker", type=int, default=0, help="through a broker, to a gateway")
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    began = time.monotonic()
    held, different = asyncio.run(bulk(given.messages, given.seed, given.restarts))
    show("desk", held, time.monotonic() - began, f" on {different} different messages")
    broken = list(held.broken)
    if given.broker:
        began = time.monotonic()
        held = asyncio.run(through_broker(given.broker, given.seed, min(given.restarts, 10)))
        show("broker and gateway", held, time.monotonic() - began)
        broken += held.broken
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
