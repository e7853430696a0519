"""Invariants about the ledger itself and about trades, each a small fold over the entries.

An invariant sees every entry once, in order, counts what it judged and keeps its first
counter-example. None of them asks anything but the ledger.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64decode
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, ClassVar

from typing_extensions import override

from ledger.audit import delivery, shapes, trade
from ledger.audit.delivery import Counter, EntryError, bounds_ms
from ledger.audit.evidence import Entry

DECISION_US = 2_000_000
PARKED_US = 60_000_000
NOTICED_US = 35_000_000
"""A scan may stand still for half a minute before it sees that the clock was set."""
REPORT_US = 900 * 1_000_000
MONTH_MS = 32 * 86_400_000
Bounds = tuple[int, int]


class Invariant(ABC):
    """One rule: ``judged_count`` cases looked at, ``first`` the first that breaks it."""

    number: ClassVar[str]
    title: ClassVar[str]
    kinds: ClassVar[frozenset[str] | None] = None
    """The kinds of entries that it looks at; None for all."""

    def __init__(self) -> None:
        self.judged_count = 0
        self.broken_count = 0
        self.first: tuple[int, str] | None = None

    def judge(self, entry: Entry, *, holds: bool, what: str) -> None:
        """Count one case."""
        self.judged_count += 1
        if not holds:
            self.broken_count += 1
            if self.first is None:
                self.first = (entry.index, what)

    @abstractmethod
    def see(self, entry: Entry) -> None:
        """Take in the next entry."""

    def finish(self, last: Entry) -> None:  # noqa: B027 - most rules have nothing left at the end
        """Judge what can only be judged at the end; ``last`` is the last entry."""


class Canonical(Invariant):
    """Bytes, kinds and fields."""

    number, title = "I8", "entries are canonical, of known kinds, with all their fields"

    @override
    def see(self, entry: Entry) -> None:
        wrong = entry.misshapen or shapes.wrong_fields(entry.fields)
        self.judge(entry, holds=wrong is None, what=wrong or "")


class Boots(Invariant):
    """One start after another."""

    number, title = "I5", "starts are numbered one by one, each names the one before"

    def __init__(self) -> None:
        super().__init__()
        self.boot = 0
        self.index = -1

    @override
    def see(self, entry: Entry) -> None:
        boot = entry.fields["boot"]
        if entry.kind != "boot":
            holds = boot == self.boot
            what = "" if holds else f"boot {boot} during {self.boot}"
            self.judge(entry, holds=holds, what=what)
            return
        previous = entry.fields["previous_boot_index"]
        self.judge(
            entry,
            holds=boot == self.boot + 1 and previous == self.index,
            what=f"boot {boot} after {self.boot}, names entry {previous}, not {self.index}",
        )
        self.boot, self.index = boot, entry.index


class Time(Invariant):
    """Clocks."""

    number, title = "I7", "time does not run backwards, save across a recorded step"

    def __init__(self) -> None:
        super().__init__()
        self.before: Entry | None = None
        self.backwards: Entry | None = None  # went back; the step's record must follow

    @override
    def see(self, entry: Entry) -> None:
        before, self.before = self.before, entry
        if before is None:
            return
        same = before.fields["boot"] == entry.fields["boot"]
        mono = entry.fields["mono_us"] >= before.fields["mono_us"] or not same
        stepped = "time_step" in (entry.kind, before.kind) or entry.kind == "boot"
        self.judge(entry, holds=mono, what="" if mono else f"earlier than entry {before.index}")
        if stepped:
            self.backwards = None  # whoever noticed it, or started anew, says so here
        elif entry.fields["utc_us"] < before.fields["utc_us"]:
            self.backwards = self.backwards or entry
        self.overdue(entry)

    def overdue(self, now: Entry) -> None:
        """Judge a clock that went back and of which nothing was said."""
        late = self.backwards
        if late is not None and now.fields["mono_us"] - late.fields["mono_us"] > NOTICED_US:
            self.judge(late, holds=False, what="UTC went back and no step is recorded")
            self.backwards = None


class Messages(Invariant):
    """Signatures under what was accepted."""

    number, title = "I9", "every accepted trade is as a received, validly signed message says"
    kinds = frozenset({"config", "trade.received", "trade.accepted"})

    def __init__(self) -> None:
        super().__init__()
        self.received: dict[int, Entry] = {}
        self.config: Mapping[str, Any] = {}

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "config":
            self.config = entry.fields["config"]
        elif entry.kind == "trade.received":
            self.received[entry.index] = entry
        elif entry.kind == "trade.accepted":
            what = self.wrong(entry)
            self.judge(entry, holds=what is None, what=what or "")

    def wrong(self, entry: Entry) -> str | None:
        """What is wrong with an acceptance."""
        index = entry.fields["received_index"]
        received = self.received.get(index)
        if received is None:
            return f"cites entry {index}, which is no received message"
        try:
            payload = b64decode(received.fields["payload"], validate=True)
            if sha256(payload).hexdigest() != received.fields["sha256"]:
                return f"entry {index}: payload and hash differ"
            config = self.config  # a message is judged when it is decided, perhaps a start later
            body, names = trade.signers_of(trade.strict_json(payload), config["signers"])
            signed = trade.signed_terms(body, entry.fields["trade_id"])
            what = trade.differing(signed, trade.accepted_terms(entry.fields, config))
        except (EntryError, KeyError, TypeError, ValueError) as error:
            return f"entry {index}: {error}"
        if len(names) < config["required"]:
            return f"entry {index}: {len(names)} of {config['required']} signatures"
        return None if what is None else f"entry {index}: {what}"


class Once(Invariant):
    """Trade ids."""

    number, title = "I10", "a trade id is accepted once for each rising revision"
    kinds = frozenset({"trade.accepted"})

    def __init__(self) -> None:
        super().__init__()
        self.revisions: dict[str, int] = {}

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind != "trade.accepted":
            return
        name, revision = entry.fields["trade_id"], entry.fields["revision"]
        before = self.revisions.get(name, -1)
        self.judge(entry, holds=revision > before, what=f"{name} again at revision {revision}")
        self.revisions[name] = max(before, revision)


class Decided(Invariant):
    """Every message gets an answer."""

    number, title = "I11", "every received message is decided within 2 s or at the next start"
    kinds = frozenset({"trade.received", "trade.accepted", "trade.refused"})
    # A cancellation may wait a minute for the trade it overtook.

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[int, Entry] = {}
        self.boot = 0

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "trade.received":
            self.open[entry.index] = entry
        elif entry.kind in ("trade.accepted", "trade.refused"):
            received = self.open.pop(entry.fields["received_index"], None)
            if received is None:
                return
            same = received.fields["boot"] == entry.fields["boot"]
            waited_us = entry.fields["mono_us"] - received.fields["mono_us"]
            late = waited_us > DECISION_US and (
                waited_us > DECISION_US + PARKED_US
                or not cancels(received, entry.fields["trade_id"])
            )
            self.judge(entry, holds=not (same and late), what=f"entry {received.index} waited")

    @override
    def finish(self, last: Entry) -> None:
        for received in self.open.values():
            same = received.fields["boot"] == last.fields["boot"]
            waited_us = last.fields["mono_us"] - received.fields["mono_us"]
            fresh = waited_us <= DECISION_US + PARKED_US
            self.judge(received, holds=same and fresh, what="was never decided")


def cancels(received: Entry, trade_id: str | None) -> bool:
    """Whether a message cancels a trade: that may wait for the trade it overtook."""
    try:
        payload = trade.strict_json(b64decode(received.fields["payload"], validate=True))
        body = trade.base64_bytes(payload["payload"])
        return trade_id is not None and not any(trade.contracted(body, trade_id).values())
    except (EntryError, KeyError, TypeError, ValueError):
        return False


class InTime(Invariant):
    """The gate and the horizon."""

    number, title = "I12", "accepted before the gate, inside the horizon, with valid time"
    kinds = frozenset({"config", "trade.received", "trade.accepted"})

    def __init__(self) -> None:
        super().__init__()
        self.received: dict[int, Entry] = {}
        self.config: Mapping[str, Any] = {}

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "config":
            self.config = entry.fields["config"]
        elif entry.kind == "trade.received":
            self.received[entry.index] = entry
        elif entry.kind == "trade.accepted":
            received = self.received.get(entry.fields["received_index"])
            spans = [bounds_ms(p["interval"]) for p in entry.fields["positions"]]
            if received is None or not spans:
                self.judge(entry, holds=False, what="no message or no interval")
                return
            at_ms = received.fields["utc_us"] // 1000
            gate = min(s for s, _ in spans) - at_ms >= self.config["gate_s"] * 1000
            horizon = max(e for _, e in spans) - at_ms <= self.config["horizon_s"] * 1000
            valid = received.fields["tq"] != "invalid"
            what = f"gate {gate}, horizon {horizon}, time {received.fields['tq']}"
            self.judge(entry, holds=gate and horizon and valid, what=what)


class Schedule(Invariant):
    """Base of the rules that follow a trade from acceptance to its plan."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: dict[str, tuple[dict[Bounds, int], Entry]] = {}

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "trade.accepted":
            energies = {bounds_ms(p["interval"]): p["energy_wh"] for p in entry.fields["positions"]}
            self.accepted[entry.fields["trade_id"]] = (energies, entry)

    def energy(self, trade_id: str, bounds: Bounds) -> int | None:
        """Energy that stands accepted for an interval; None where the trade is not in it."""
        return self.accepted[trade_id][0].get(bounds) if trade_id in self.accepted else None


class Planned(Schedule):
    """Plans hold what was accepted."""

    number, title = "I13", "each trade and interval is planned once, with the accepted energy"
    kinds = frozenset({"trade.accepted", "plan"})

    def __init__(self) -> None:
        super().__init__()
        self.planned: set[tuple[str, Bounds]] = set()
        self.intervals: dict[str, list[Bounds]] = {}
        """Of each SOP, in order: what was metered in one must not be settled in another too."""

    @override
    def see(self, entry: Entry) -> None:
        super().see(entry)
        if entry.kind != "plan":
            return
        bounds = bounds_ms(entry.fields["interval"])
        before = self.intervals.setdefault(entry.fields["sop"], [])
        place = bisect_left(before, bounds)
        near = before[max(0, place - 1) : place + 1]
        met = [b for b in near if b[0] < bounds[1] and bounds[0] < b[1]]
        what = "the interval is planned twice" if bounds in met else "overlaps a planned interval"
        self.judge(entry, holds=not met, what=what)
        before.insert(place, bounds)
        for one in entry.fields["trades"]:
            key = (one["trade_id"], bounds)
            energy = self.energy(*key)
            same_ends = energy is not None and all(
                self.accepted[key[0]][1].fields[end] == one[end]
                for end in ("out_terminal", "in_terminal")
            )
            holds = energy == one["contracted_wh"] and same_ends and key not in self.planned
            holds = holds and 0 <= one["planned_wh"] <= one["contracted_wh"]
            self.planned.add(key)
            self.judge(entry, holds=holds, what=f"{one['trade_id']}: accepted {energy} Wh")


class Balanced(Invariant):
    """Energy in is energy out."""

    number, title = "I14", "planned energies sum to zero and are those of the trades"
    kinds = frozenset({"plan"})

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind != "plan":
            return
        planned = entry.fields["planned_wh"]
        sums = all(
            wh == delivery.planned_at(t, entry.fields["trades"]) for t, wh in planned.items()
        )
        self.judge(
            entry,
            holds=sums and sum(planned.values()) == 0,
            what=f"sum {sum(planned.values())} Wh",
        )


class Reported(Schedule):
    """Every trade ends in a delivery."""

    number, title = "I15", "each accepted trade and interval has exactly one delivery"
    kinds = frozenset({"trade.accepted", "delivery"})

    def __init__(self) -> None:
        super().__init__()
        self.delivered: dict[tuple[str, Bounds], int] = {}

    @override
    def see(self, entry: Entry) -> None:
        super().see(entry)
        if entry.kind != "delivery":
            return
        bounds = bounds_ms(entry.fields["interval"])
        for one in entry.fields["trades"]:
            key = (one["trade_id"], bounds)
            self.judge(entry, holds=key not in self.delivered, what=f"{key[0]} delivered twice")
            self.delivered[key] = entry.index

    @override
    def finish(self, last: Entry) -> None:
        for name, (energies, accepted) in self.accepted.items():
            for bounds, energy in energies.items():
                due = last.fields["utc_us"] > bounds[1] * 1000 + REPORT_US
                if energy and due and (name, bounds) not in self.delivered:
                    self.judge(accepted, holds=False, what=f"{name} has no delivery")


class Recomputed(Schedule):
    """The published rule."""

    number, title = "I16", "delivered energies follow from the readings by the published rule"
    kinds = frozenset({"config", "trade.accepted", "plan", "reading", "time_step", "delivery"})

    def __init__(self) -> None:
        super().__init__()
        self.config: Mapping[str, Any] = {}
        self.plans: dict[tuple[str, Bounds], Entry] = {}
        self.readings: dict[str, list[Counter]] = {}
        self.removed_count = 0
        """Entries so far whose bodies were removed after export; they may have been readings."""
        self.unjudged_count = 0

    @override
    def see(self, entry: Entry) -> None:
        super().see(entry)
        if entry.kind == "config":
            self.config = entry.fields["config"]
        elif entry.kind == "plan":
            self.plans[entry.fields["sop"], bounds_ms(entry.fields["interval"])] = entry
        elif entry.kind in ("reading", "time_step"):
            delivery.fold(self.readings, entry.fields)
        elif entry.kind == "delivery":
            self.check(entry)

    def check(self, entry: Entry) -> None:
        """Compute one delivery again."""
        bounds = bounds_ms(entry.fields["interval"])
        plan = self.plans.get((entry.fields["sop"], bounds))
        stated = {t["trade_id"]: t for t in entry.fields["trades"]}
        if plan is None:
            nothing = all(self.is_nothing(t, bounds) for t in stated.values())
            self.judge(entry, holds=nothing, what="delivered without a plan")
            return
        found = delivery.settle(config=self.config, plan=plan.fields, readings=self.readings)
        unread = any(t.metered_wh is None for t in found.terminals.values())
        gone = self.removed_count > 0 and unread
        self.unjudged_count += gone
        names = ("contracted_wh",) if gone else ("delivered_wh", "contracted_wh", "status")
        for one in found.trades.values():
            said = stated.pop(one.trade_id, {})
            same = all(said.get(name) == getattr(one, name) for name in names)
            what = f"{one.delivered_wh} of {one.contracted_wh} Wh {one.status} computed"
            self.judge(entry, holds=same, what=f"{one.trade_id}: {figures(said)} stated, {what}")
        extra = [t for t in stated.values() if not self.is_nothing(t, bounds)]
        self.judge(entry, holds=not extra, what="a trade outside the plan has energy")
        alike = gone or same_terminals(entry, found)
        self.judge(entry, holds=alike, what="terminal figures differ")
        self.forget(bounds[0] - MONTH_MS)

    def is_nothing(self, stated: Mapping[str, Any], bounds: Bounds) -> bool:
        """Whether a trade that no plan holds is stated with its contract, and with no energy."""
        contracted = self.energy(stated["trade_id"], bounds) or 0
        found = (stated["contracted_wh"], stated["delivered_wh"], stated["status"])
        return found == (contracted, 0, delivery.status_of_nothing(contracted))

    def forget(self, before_ms: int) -> None:
        """Drop readings that no delivery can need any more, so that memory stays level."""
        for series in self.readings.values():
            while len(series) > 2 and series[1].utc_us < before_ms * 1000:
                del series[0]


def figures(trade: Mapping[str, Any]) -> str:
    """What a delivery states of a trade, in words."""
    delivered, contracted, status = map(trade.get, ("delivered_wh", "contracted_wh", "status"))
    return f"{delivered} of {contracted} Wh {status}"


def same_terminals(entry: Entry, found: delivery.Settled) -> bool:
    """Whether the stated terminal figures are the computed ones."""
    stated = {
        t["terminal"]: (t["planned_wh"], t["metered_wh"], t["judged_wh"])
        for t in entry.fields["terminals"]
    }
    computed = {
        t.terminal: (t.planned_wh, t.metered_wh, t.judged_wh) for t in found.terminals.values()
    }
    zeroed = {t: (p, m or 0, j) for t, (p, m, j) in computed.items()}
    return entry.fields["loss_wh"] == found.loss_wh and stated in (computed, zeroed)


def of_ledger_and_trades() -> Iterable[Invariant]:
    """Fresh invariants of this file, in order of their numbers."""
    return (
        Boots(), Time(), Canonical(), Messages(), Once(), Decided(), InTime(), Planned(),
        Balanced(), Reported(), Recomputed(),
    )  # fmt: skip
