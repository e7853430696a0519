"""Trades as a market and its network send them in a bad week, and what must come of each message.

``Sequential`` is a model of its own: one message after another, in the order they were received,
with nothing but a dictionary. It shares no code with the gateway and knows no signatures.
"""

import hashlib
import heapq
from dataclasses import dataclass, field

QUARTER_MS = 900_000
FIVE_MS = 300_000
WAIT_US = 60_000_000  # a cancellation waits so long at most for the trade it overtook …
WAIT_US_MIN = 55_000_000  # … and so long at least: the scan that refuses it may come late
REGIONS = ("region-a", "region-b", "region-c", "region-d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One trade in one message; ``payload`` is what is sent."""

    trade_id: str
    revision: int
    out: str
    into: str
    start_ms: int
    length_ms: int
    powers_w: tuple
    payload: bytes = b""

    @property
    def spans(self):
        return [
            (self.start_ms + k * self.length_ms, self.start_ms + (k + 1) * self.length_ms)
            for k in range(len(self.powers_w))
        ]

    @property
    def content(self):
        return (
            self.trade_id, self.revision, self.out, self.into, self.start_ms, self.length_ms,
            self.powers_w,
        )  # fmt: skip

    @property
    def sha256(self):
        return hashlib.sha256(self.payload).hexdigest()


class Sequential:
    """What a careful clerk with one book would answer."""

    def __init__(self, *, gate_ms, horizon_ms, regions=REGIONS):
        self.gate_ms, self.horizon_ms, self.regions = gate_ms, horizon_ms, set(regions)
        self.book = {}  # trade id -> the message that stands
        self.schedule = {}  # (start, end) -> {trade id: W}

    def codes(self, message, received_ms):
        """Why the message is refused; the empty set when it stands."""
        stands = self.book.get(message.trade_id)
        if stands is not None and message.revision < stands.revision:
            return {"superseded"}
        if stands is not None and message.revision == stands.revision:
            same = message.content == stands.content
            return {"duplicate"} if same else {"conflict"}
        codes = set()
        if not {message.out, message.into} <= self.regions:
            codes.add("unknown_domain")
        first_ms = min(m.start_ms for m in (message, stands) if m is not None)
        if first_ms < received_ms + max(self.gate_ms, 1):
            codes.add("late")
        if message.spans[-1][1] > received_ms + self.horizon_ms:
            codes.add("horizon")
        for start, end in message.spans:
            for other in self.schedule:
                if other != (start, end) and other[0] < end and start < other[1]:
                    codes.add("resolution")
        if stands is None and not any(message.powers_w):
            codes.add("orphan")
        if not codes and stands and (stands.out, stands.into) != (message.out, message.into):
            codes.add("conflict")
        return codes

    def accept(self, message):
        """Let a message stand instead of what stood."""
        before = self.book.get(message.trade_id)
        for span in before.spans if before else ():
            self.schedule.get(span, {}).pop(message.trade_id, None)
            if not self.schedule.get(span):
                self.schedule.pop(span, None)
        self.book[message.trade_id] = message
        for span, p_w in zip(message.spans, message.powers_w, strict=True):
            self.schedule.setdefault(span, {})[message.trade_id] = p_w

    def over(self, span):
        """An interval was delivered."""
        self.schedule.pop(span, None)


@dataclass
class Held:
    """How a ledger's verdicts compare with the model's."""

    verdicts: int = 0
    by_code: dict = field(default_factory=dict)
    broken: list = field(default_factory=list)

    def count(self, codes):
        self.verdicts += 1
        for code in codes or {"accepted"}:
            self.by_code[code] = self.by_code.get(code, 0) + 1


def hold(entries, messages, model, *, span_of):
    """Hold every verdict of a ledger to the model; ``messages`` by the hash of their bytes."""
    held, waiting, began = Held(), {}, {}
    for index, entry in enumerate(entries):
        kind = entry["kind"]
        if kind == "boot":
            began = dict.fromkeys(waiting, entry["mono_us"])
        elif kind == "delivery":
            model.over(span_of(entry["interval"]))
        elif kind == "trade.received":
            waiting[index] = messages[entry["sha256"]], entry["utc_us"] // 1000
            began[index] = entry["mono_us"]
        elif kind in ("trade.accepted", "trade.refused"):
            _verdict(held, model, waiting, began, entry, index)
    last = entries[-1]["mono_us"]
    for index, (message, received_ms) in waiting.items():
        if model.codes(message, received_ms) != {"orphan"} or last - began[index] > WAIT_US:
            held.broken.append(f"entry {index} has no verdict")
    return held


def _verdict(held, model, waiting, began, entry, index):
    number = entry["received_index"]
    if number not in waiting:
        held.broken.append(f"entry {index}: a second verdict on entry {number}")
        return
    message, received_ms = waiting.pop(number)
    want = model.codes(message, received_ms)
    got = {r["code"] for r in entry.get("reasons", [])}
    if got != want or (entry["trade_id"], entry["revision"]) != message.content[:2]:
        held.broken.append(f"entry {index}: {got or 'accepted'} instead of {want or 'accepted'}")
    for earlier, (other, at_ms) in waiting.items():
        before = earlier < number and other.trade_id == message.trade_id
        if before and model.codes(other, at_ms) != {"orphan"}:
            held.broken.append(f"entry {index}: entry {earlier} was overtaken")
    if want == {"orphan"} and entry["mono_us"] - began[number] < WAIT_US_MIN:
        held.broken.append(f"entry {index}: refused before its trade could come")
    if not want:
        model.accept(message)
        energies = [p["energy_wh"] for p in entry["positions"]]
        if energies != [p * message.length_ms // 3_600_000 for p in message.powers_w]:
            held.broken.append(f"entry {index}: other energy than was sent")
    held.count(want)


class Storm:
    """Draws messages and when they arrive: every mischief of H02 to H06, again and again."""

    def __init__(self, rng, sign, *, gate_ms, from_ms):
        self._rng, self._sign, self._gate_ms = rng, sign, gate_ms
        self._now_ms = from_ms
        self._number = 0
        self._due = []  # (arrival, order, message)
        self._drawn = 0
        self.messages = {}

    def next(self):
        """The next message and its arrival in ms."""
        while not self._due or self._due[0][0] > self._now_ms:
            self._trade()
            self._now_ms += self._rng.choice((0, 0, 500, 2_000, 9_000, 40_000))
        arrival_ms, _, message = heapq.heappop(self._due)
        return arrival_ms, message

    def _add(self, at_ms, message):
        self._drawn += 1
        heapq.heappush(self._due, (max(at_ms, self._now_ms), self._drawn, message))

    def _made(self, **fields):
        bare = Message(**fields)
        message = Message(**fields, payload=self._sign(bare, self._rng.randrange(1 << 30)))
        self.messages[message.sha256] = message
        return message

    def _trade(self):
        rng, now_ms = self._rng, self._now_ms
        self._number += 1
        length_ms = FIVE_MS if rng.random() < 0.04 else QUARTER_MS
        ahead_ms = rng.choice((self._gate_ms, 600_000, 3_600_000, 20_000_000, 200_000_000))
        start_ms = -(-(now_ms + rng.randrange(ahead_ms)) // length_ms) * length_ms
        out, into = rng.sample(REGIONS, 2)
        first = {
            "trade_id": f"t-{self._number}", "revision": 1, "out": out, "into": into,
            "start_ms": start_ms, "length_ms": length_ms, "powers_w": self._powers(),
        }  # fmt: skip
        if rng.random() < 0.03:
            first["out"] = "region-x"
        for at_ms, message in self._story(first):
            self._add(at_ms, message)
            for _ in range(min(int(rng.expovariate(0.7)), 50)):
                late_ms = rng.choice((50, 2_000, 120_000, 3_600_000, 90_000_000))
                self._add(at_ms + rng.randrange(late_ms), message)

    def _story(self, first):
        """A trade's own messages: itself, revisions, cancellation, forgeries of its kind."""
        rng = self._rng
        gate_ms = first["start_ms"] - self._gate_ms
        at_ms = self._now_ms
        if rng.random() < 0.1:  # around the gate, to the millisecond
            at_ms = gate_ms + rng.choice((-1, 0, 1, 1_000))
        story = [first]
        if rng.random() < 0.35:
            story.append(first | {"revision": 2, "powers_w": self._powers()})
        if rng.random() < 0.25:
            zero = tuple(0 for _ in first["powers_w"])
            story.append(first | {"revision": len(story) + 1, "powers_w": zero})
        if rng.random() < 0.1:
            story.append(first | {"powers_w": self._powers()})
        if rng.random() < 0.05:
            ends = {"out": first["into"], "into": first["out"]}
            story.append(first | ends | {"revision": len(story) + 1})
        if rng.random() < 0.05:
            story.append(first)  # the same trade in other bytes
        gap_ms = rng.choice((1, 300, 5_000, 50_000, 400_000))
        times = sorted(at_ms + rng.randrange(gap_ms + 1) for _ in story)
        if rng.random() < 0.3:
            rng.shuffle(times)
        return [(t, self._made(**fields)) for t, fields in zip(times, story, strict=True)]

    def _powers(self):
        rng = self._rng
        return tuple(rng.randrange(6_000, 200_000, 600) for _ in range(rng.choice((1, 1, 1, 2, 4))))
