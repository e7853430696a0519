"""Invariants about instructions, meters and operators, each a small fold over the entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from typing_extensions import override

from ledger.audit.evidence import Entry
from ledger.audit.invariants import Invariant

AUTHORITIES = frozenset({"plan", "tracking", "adopt", "failsafe", "operator", "close", "configure"})
OUTCOMES = frozenset({"executed", "rejected", "expired", "failed", "unknown"})
PREPARED_US = 10_000_000
RESOLVED_US = 60_000_000
STEP_WH = 2
"""Two steps of a 1 Wh counter: what two roundings can add."""

STAMP_US = 5_000_000
"""A reading is stamped when its answer arrives; what two answers can differ in being late."""


class Intents(Invariant):
    """What follows an intent."""

    number, title = "I17", "prepared, commit, abort and outcome follow an intent of the same name"
    kinds = frozenset({"intent", "prepared", "commit", "abort", "outcome"})

    def __init__(self) -> None:
        super().__init__()
        self.intents: dict[int, int] = {}

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "intent":
            self.intents[entry.index] = entry.fields["instr_id"]
        elif entry.kind in ("prepared", "commit", "abort", "outcome"):
            name = self.intents.get(entry.fields["intent_index"])
            holds = name == entry.fields["instr_id"]
            self.judge(entry, holds=holds, what=f"entry {entry.fields['intent_index']} is {name}")


class Outcomes(Invariant):
    """Every intent ends."""

    number, title = "I18", "each intent has one outcome; after unknown a read-back comes first"
    kinds = frozenset({"intent", "readback", "commit", "abort", "outcome"})

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[int, Entry] = {}
        self.committed: set[int] = set()
        self.unknown: dict[str, Entry] = {}

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "intent":
            self.follow_unknown(entry)
            self.open[entry.index] = entry
        elif entry.kind == "readback":
            self.unknown.pop(entry.fields["sop"], None)
        elif entry.kind == "commit":
            self.committed.add(entry.fields["intent_index"])
        elif entry.kind == "abort":  # says that OPERATE never left, and ends it
            index = entry.fields["intent_index"]
            holds = self.open.pop(index, None) is not None and index not in self.committed
            self.judge(entry, holds=holds, what="an abort after the commit, or of no open intent")
        elif entry.kind == "outcome":
            intent = self.open.pop(entry.fields["intent_index"], None)
            self.committed.discard(entry.fields["intent_index"])
            word = entry.fields["outcome"]
            holds = intent is not None and word in OUTCOMES
            self.judge(entry, holds=holds, what=f"outcome {word} of no open intent")
            if intent is not None and word == "unknown":
                self.unknown[intent.fields["sop"]] = intent

    def follow_unknown(self, entry: Entry) -> None:
        """No more power after an unknown outcome before the device was read back."""
        before = self.unknown.get(entry.fields["sop"])
        if before is None:
            return
        old, new = powers(before), powers(entry)
        larger = any(abs(p) > abs(old.get(t, 0)) for t, p in new.items())
        self.judge(entry, holds=not larger, what=f"more power after unknown entry {before.index}")

    @override
    def finish(self, last: Entry) -> None:
        for intent in self.open.values():
            same = intent.fields["boot"] == last.fields["boot"]
            fresh = last.fields["mono_us"] - intent.fields["mono_us"] <= RESOLVED_US
            self.judge(intent, holds=same and fresh, what="has no outcome")


def powers(entry: Entry) -> dict[str, int]:
    """Power by terminal of an intent; empty for a bare command."""
    return {s["terminal"]: s["p_w"] for s in entry.fields.get("setpoints", ())}


class Authority(Invariant):
    """Who may move power."""

    number, title = "I19", "each intent cites an authority, and a plan where it needs one"
    kinds = frozenset({"plan", "intent"})

    def __init__(self) -> None:
        super().__init__()
        self.plans: set[int] = set()

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "plan":
            self.plans.add(entry.index)
        elif entry.kind == "intent":
            word, plan = entry.fields["authority"], entry.fields.get("plan_index", -1)
            needed = word in ("plan", "tracking") and "command" not in entry.fields
            holds = word in AUTHORITIES and (plan in self.plans or (plan == -1 and not needed))
            self.judge(entry, holds=holds, what=f"{word} with plan {plan}")


class Commits(Invariant):
    """Select before operate."""

    number, title = "I28", "executed only after a commit, that within 10 s after the read-back"
    kinds = frozenset({"intent", "prepared", "commit", "abort", "outcome"})

    def __init__(self) -> None:
        super().__init__()
        self.prepared: dict[int, Entry] = {}
        self.uncommitted: set[int] = set()

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "intent":
            if takes_commit(entry):
                self.uncommitted.add(entry.index)
        elif entry.kind == "prepared":
            self.prepared[entry.fields["intent_index"]] = entry
        elif entry.kind in ("abort", "outcome"):
            self.prepared.pop(entry.fields["intent_index"], None)
            if entry.fields["intent_index"] in self.uncommitted:
                self.uncommitted.discard(entry.fields["intent_index"])
                executed = entry.fields.get("outcome") == "executed"
                self.judge(entry, holds=not executed, what="executed without a commit")
        elif entry.kind == "commit":
            self.uncommitted.discard(entry.fields["intent_index"])
            before = self.prepared.pop(entry.fields["intent_index"], None)
            fresh = (
                before is not None
                and before.fields["boot"] == entry.fields["boot"]
                and entry.fields["mono_us"] - before.fields["mono_us"] <= PREPARED_US
            )
            self.judge(entry, holds=fresh, what="was not prepared in time")


def takes_commit(intent: Entry) -> bool:
    """Whether an instruction is staged first: commands are not, nor are those of a session.

    A commissioning session writes as the operator, for no plan.
    """
    plan_index = intent.fields.get("plan_index", -1)
    session = intent.fields["authority"] == "operator" and plan_index == -1
    return "command" not in intent.fields and not session


class Counters(Invariant):
    """Meters only grow, and not faster than the converter can.

    Counters that both begin anew at zero were reset, or the meter was exchanged: that gives nobody
    energy, for an interval in which a counter falls has none, and the audit says how often it was.
    """

    number, title = "I33", "energy counters only grow, and no faster than 1.2 × rating"
    kinds = frozenset({"config", "reading"})

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, tuple[Mapping[str, Any], Entry, int]] = {}
        self.resets: list[int] = []
        """Indexes of readings in which a meter's counters began anew."""
        self.rating_va: dict[str, int] = {}

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "config":
            terminals = entry.fields["config"]["terminals"]
            self.rating_va = {t["meter"]: t["s_va"] for t in terminals}
        elif entry.kind == "reading":
            for meter in entry.fields["meters"]:
                if meter["quality"] == "good":
                    self.check(entry, meter)

    def check(self, entry: Entry, meter: Mapping[str, Any]) -> None:
        """One good reading against the good one before it."""
        name = meter["meter"]
        now_us = int(entry.fields["mono_us"]) - 1000 * int(meter["age_ms"])  # nobody sets it
        last, self.last[name] = self.last.get(name), (meter, entry, now_us)
        if last is None:
            return
        before, at, then_us = last
        passed_us = now_us - then_us
        if at.fields["boot"] != entry.fields["boot"]:
            passed_us = max(passed_us, meter["utc_us"] - before["utc_us"])
        allowed_us = max(0, passed_us) + STAMP_US
        limit = 12 * self.rating_va.get(name, 0) * allowed_us // 36_000_000_000 + STEP_WH
        imported = meter["import_wh"] - before["import_wh"]
        exported = meter["export_wh"] - before["export_wh"]
        holds = imported >= 0 <= exported
        counters = ("import_wh", "export_wh")
        anew = all(meter[k] < before[k] or not before[k] for k in counters)
        if not holds and anew and max(meter[k] for k in counters) <= limit:
            if entry.index not in self.resets[-1:]:
                self.resets.append(entry.index)
            self.judge(entry, holds=True, what="")
            return
        if holds and name in self.rating_va:
            holds = imported <= limit >= exported
        steps = [imported, exported]
        what = "" if holds else f"{name}: {steps} Wh in {passed_us / 1e6:.0f} s"
        self.judge(entry, holds=holds, what=what)


class Echoed(Invariant):
    """Executed means the device said the same, or less of it where it is said to be derated."""

    number, title = "I34", "executed means that the device echoed the intent's setpoints"
    kinds = frozenset({"config", "intent", "outcome"})

    def __init__(self) -> None:
        super().__init__()
        self.intents: dict[int, Entry] = {}
        self.slaves: set[str] = set()

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "config":  # of a terminal that went nothing can be echoed any more
            config = entry.fields["config"]
            self.slaves = {t["id"] for t in config["terminals"]} - {config["master"]}
        elif entry.kind == "intent":
            self.intents[entry.index] = entry
        elif entry.kind == "outcome":
            intent = self.intents.pop(entry.fields["intent_index"], None)
            if intent is None or entry.fields["outcome"] != "executed":
                return
            active = entry.fields["active"]
            wanted = {t: p for t, p in powers(intent).items() if t in self.slaves}
            differing = {t: (p, active.get(t)) for t, p in wanted.items() if active.get(t) != p}
            if any(r.get("code") == "derated" for r in entry.fields["reasons"]):
                differing = {t: pair for t, pair in differing.items() if not part_of(*pair)}
            self.judge(entry, holds=not differing, what=f"set and echoed: {differing}")


def part_of(sent_w: int, held_w: object) -> bool:
    """Whether a power is less than what was sent and on its side of zero."""
    if not isinstance(held_w, int):
        return False
    return min(0, sent_w) <= held_w <= max(0, sent_w)


class Operators(Invariant):
    """Who did it."""

    number, title = "I37", "operator entries name the user and the deed"
    kinds = frozenset({"operator"})

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "operator":
            named = bool(entry.fields["user"]) and bool(entry.fields["verb"])
            self.judge(entry, holds=named, what="nobody is named")


def of_control() -> Iterable[Invariant]:
    """Fresh invariants of this file, in order of their numbers."""
    return (
        Intents(), Outcomes(), Authority(), Commits(), Counters(), Echoed(), Operators(),
    )  # fmt: skip
