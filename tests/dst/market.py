"""The market and its broker: sends, sends again, reorders, revises, cancels, lies; keeps count."""

import asyncio
import base64
import hashlib
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.market import dsse, limits_document, schedule_writer
from gateway.market.topics import Topics
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.trade import Position, Trade

from .machine import UTC0_US

TOPICS = Topics(site="sim", sop="SOP-1")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
OPERATOR = Ed25519PrivateKey.from_private_bytes(bytes(range(96, 128)))
ANSWER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
AGAIN_US = 20_000_000  # the market resends until it hears an answer


class SimMarket:
    """Everything outside the gateway's MQTT link."""

    def __init__(self, world, *, length_ms, late_count):
        self.world, self.length_ms, self.late_count = world, length_ms, late_count
        self.draw = world.draw("market")
        self.link = None
        self.online = True
        self.unacked = {}  # number -> (topic, payload, retain)
        self.number = 0
        self.unanswered = {}  # sha256 -> (topic, payload)
        self.trades = {}  # id -> newest trade
        self.sent_count = 0
        self.limits_sequence = 1

    # ---------------------------------------------------------------- broker

    def connect(self, link):
        """A new session of the gateway: what was not acknowledged comes again, in some order."""
        self.link = link
        if self.online:
            waiting = list(self.unacked.items())
            if self.draw.random() < 0.3:
                self.draw.shuffle(waiting)
            for number, (topic, payload, retain) in waiting:
                link.deliver(topic, payload, number, retain=retain)

    def disconnect(self):
        self.link = None

    def send(self, payload, *, retain=False, topic=TOPICS.trades):
        self.number += 1
        self.sent_count += 1
        self.unacked[self.number] = (topic, payload, retain)
        self.unanswered.setdefault(hashlib.sha256(payload).hexdigest(), (topic, payload))
        if self.online and self.link is not None:
            self.link.deliver(topic, payload, self.number, retain=retain)

    def acknowledged(self, inbound):
        if self.online:
            self.unacked.pop(inbound.mid_number, None)

    def hears(self, topic, payload, *, retain):
        if not self.online or retain:
            return
        body = body_of(payload)
        if topic.endswith("/acknowledgement"):
            self.unanswered.pop(body["message_sha256"], None)

    def resend(self):
        """Send again what nobody answered."""
        for topic, payload in list(self.unanswered.values()):
            self.send(payload, topic=topic)

    # ----------------------------------------------------------------- trades

    def document(self, trade, key=KEY):
        body = schedule_writer.write(
            trade,
            site="sim",
            created_utc_ms=(UTC0_US + self.world.loop.now_us) // 1000 // 1000 * 1000,
        )
        return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body, [key])

    def make(self, trade_id, start_ms, *, count=1, revision=1, out="a", into="b", p_w=0):
        spans = [
            Interval(start_ms + k * self.length_ms, start_ms + (k + 1) * self.length_ms)
            for k in range(count)
        ]
        return Trade(
            id=trade_id, revision_number=revision, sop="SOP-1", out_domain=f"region-{out}",
            in_domain=f"region-{into}",
            positions=tuple(
                Position(interval=s, p_w=p_w, energy_wh=p_w * self.length_ms // 3_600_000)
                for s in spans
            ),
        )  # fmt: skip

    def trade_for(self, start_ms):
        """Clear one trade for the interval that starts there, and perhaps a few after it."""
        out, into = self.draw.sample("abcd", 2)
        whole = 3_600_000 // self.length_ms
        p_w = self.draw.choice((10_000, 40_000, 90_000, 150_000, 230_000)) // whole * whole
        trade_id = f"t{len(self.trades)}"
        trade = self.make(
            trade_id, start_ms, count=self.draw.choice((1, 1, 2, 3)), out=out, into=into, p_w=p_w
        )
        self.trades[trade_id] = trade
        self.send(self.document(trade))
        return trade

    def step(self):
        """What the market does in one interval: trades ahead of the gate, and mischief."""
        now_ms = (UTC0_US + self.world.loop.now_us) // 1000
        ahead = max(1, 120_000 // self.length_ms) + 1
        next_ms = (now_ms // self.length_ms + ahead) * self.length_ms
        for _ in range(self.draw.choice((0, 1, 1, 2, 3))):
            self.trade_for(next_ms)
        if self.world.mischief:
            self.mischief(now_ms, next_ms)

    def mischief(self, now_ms, next_ms):
        draw = self.draw
        known = [t for t in self.trades.values() if t.start_ms - now_ms > 0]
        what = draw.choice(
            ("none", "none", "again", "revise", "cancel", "late", "forged", "retained", "conflict",
             "orphan", "junk", "swap", "overtaken", "limits")
        )  # fmt: skip
        old = draw.choice(known) if known else None
        if what == "late":
            self.send(
                self.document(
                    self.make(f"l{self.sent_count}", next_ms - 3 * self.length_ms, p_w=60_000)
                )
            )
        elif what == "forged":
            self.send(
                self.document(self.make(f"f{self.sent_count}", next_ms, p_w=60_000), STRANGER)
            )
        elif what == "junk":
            self.send(bytes(draw.randrange(256) for _ in range(draw.randrange(1, 200))))
        elif what == "orphan":
            self.send(self.document(self.make(f"o{self.sent_count}", next_ms, revision=2)))
        elif what == "limits":
            self.limit_feeder(now_ms, next_ms)
        elif what == "overtaken":  # a cancellation that came first
            trade = self.make(f"v{self.sent_count}", next_ms, p_w=60_000)
            self.send(self.document(self.vary(trade, 2, 0)))
            asyncio.get_running_loop().call_later(
                draw.uniform(0.1, 75), self.send, self.document(trade)
            )
        elif what == "retained":
            payload = self.document(self.make(f"r{self.sent_count}", next_ms, p_w=60_000))
            self.send(payload, retain=True)
        elif old is None or what == "none":
            return
        elif what == "again":
            for _ in range(draw.randrange(1, 5)):
                self.send(self.document(old))
        elif what == "conflict":
            self.send(
                self.document(self.vary(old, old.revision_number, old.positions[0].p_w + 12_000))
            )
        else:
            p_w = 0 if what == "cancel" else draw.choice((12_000, 60_000, 120_000))
            newer = self.vary(old, old.revision_number + 1, p_w)
            if what == "swap":  # the newer one overtakes the older
                self.send(self.document(self.vary(old, old.revision_number + 2, p_w)))
            self.send(self.document(newer))
            self.trades[old.id] = newer

    def limit_feeder(self, now_ms, next_ms):
        """The system operator narrows a feeder, ahead of time or at once; some are no operator's."""
        draw = self.draw
        self.limits_sequence += draw.choice((1, 1, 1, 0))
        start_ms = draw.choice((now_ms // 1000 * 1000, next_ms))
        span = Interval(start_ms, next_ms + draw.choice((1, 2)) * self.length_ms)
        widest_w = draw.choice((0, 5_000, 30_000, 120_000))
        limits = FeederLimits(
            site="sim", sop="SOP-1", sequence_number=self.limits_sequence,
            created_utc_ms=now_ms // 1000 * 1000, valid=span,
            limits=(FeederLimit(
                domain=f"region-{draw.choice('abcd')}", p_w_min=-widest_w, p_w_max=widest_w,
            ),),
        )  # fmt: skip
        by = draw.choice((OPERATOR, OPERATOR, OPERATOR, KEY))
        if start_ms < next_ms:
            now_s = self.world.loop.now_us / 1e6
            self.world.disturbed.append((now_s, now_s + (span.end_ms - now_ms) / 1000))
        body = limits_document.write(limits)
        self.send(dsse.sign(dsse.PAYLOAD_TYPE_LIMITS, body, [by]), topic=TOPICS.limits)

    def vary(self, trade, revision, p_w):
        return self.make(
            trade.id, trade.start_ms, count=len(trade.positions), revision=revision,
            out=trade.out_domain[-1], into=trade.in_domain[-1], p_w=p_w,
        )  # fmt: skip


def body_of(payload):
    """What a signed answer says."""
    return json.loads(base64.b64decode(json.loads(payload)["payload"]))
