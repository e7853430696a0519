"""Alarms: what stands, what a person said about it, and how many there were; after IEC 62682.

An alarm needs an operator's action; everything else is an event. Which alarms there are, with
cause, consequence, response, priority and delay, stands in a file (``configs/alarms.yaml``); when
each is due stands in ``alarm_conditions``. Only ledger entries change the ``AlarmBook``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

Fields = Mapping[str, Any]
RAISED_MAX = 20_000  # kept for statistics: a month of one alarm every two minutes
SHELVE_S_MAX = 24 * 3600  # a shelf is for a shift, not for ever
FLOOD_US = 600_000_000  # EEMUA 191 counts in ten minutes
FLOOD_COUNT = 10  # more than these in ten minutes are a flood
CHATTER_US = 60_000_000
CHATTER_COUNT = 3  # as many in a minute are chattering
STANDING_US = 86_400_000_000
PRIORITY_SHARES_PCT = {1: 5, 2: 15, 3: 80}  # what EEMUA 191 aims at


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the alarm file: the rationalisation of one alarm."""

    code: str
    what: str
    cause: str
    consequence: str
    response: str
    respond_s: int  # time in which a response still helps
    priority_level: int  # 1 act at once … 3 act in time, 4 for the diagnostician
    delay_ms: int  # the condition must hold so long before the alarm comes
    clear_delay_ms: int  # and be gone so long before it goes
    unless: tuple[str, ...] = ()  # alarms that explain this one: it stays silent beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An alarm comes or goes."""

    code: str
    active: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One alarm that came and did not go, or went and was not acknowledged."""

    code: str
    active: bool
    since_us: int
    detail: str
    acknowledged: bool = False
    shelved_until_us: int = 0
    shelved_why: str = ""
    shelved_by: str = ""

    def shelved(self, utc_us: int) -> bool:
        """Tell whether it is on the shelf at that instant; a shelf ends by itself."""
        return utc_us < self.shelved_until_us

    def loud(self, utc_us: int) -> bool:
        """Tell whether somebody should look at it now."""
        return not self.shelved(utc_us) and not self.acknowledged


def step(
    rules: Sequence[Rule],
    *,
    active: Collection[str],
    found: Mapping[str, str],
    pending: Mapping[str, int],
    mono_us: int,
) -> tuple[tuple[Change, ...], dict[str, int]]:
    """Return which alarms come and go now, and since when the others are about to.

    Args:
        rules: the alarm file.
        active: codes that are active.
        found: codes whose condition holds now, with the detail to tell.
        pending: result of the last step: since when a code differs from what is active.
        mono_us: now; only differences count.
    """
    changes: list[Change] = []
    left: dict[str, int] = {}
    for rule in rules:
        silent = any(other in found or other in active for other in rule.unless)
        holds = rule.code in found and not (silent and rule.code not in active)
        if holds == (rule.code in active):
            continue
        since_us = pending.get(rule.code, mono_us)
        delay_ms = rule.delay_ms if holds else rule.clear_delay_ms
        if mono_us - since_us >= delay_ms * 1000:
            detail = found.get(rule.code, "")
            changes.append(Change(code=rule.code, active=holds, detail=detail))
        else:
            left[rule.code] = since_us
    known = {rule.code for rule in rules}
    changes += [  # an alarm of an older list: nothing will ever clear it
        Change(code=code, active=False, detail="no such alarm any more")
        for code in sorted(set(active) - known)
    ]
    return tuple(changes), left


class AlarmBook:
    """All alarms as the ledger tells them: a fold of its ``alarm`` and ``operator`` entries."""

    def __init__(self) -> None:
        self.standing: dict[str, Standing] = {}
        self.raised: list[tuple[int, str]] = []  # (UTC in us, code), oldest first
        self.spans: list[tuple[str, int, int]] = []  # (code, came, went), those that went

    def take(self, _index: int, entry: Fields) -> None:
        """Take one entry in; entries come in ledger order."""
        if entry["kind"] == "alarm":
            self._alarm(entry)
        elif entry["kind"] == "operator":
            self._operator(entry)

    @property
    def active(self) -> frozenset[str]:
        """Codes that are active."""
        return frozenset(c for c, s in self.standing.items() if s.active)

    def _alarm(self, entry: Fields) -> None:
        code, at_us = entry["code"], entry["utc_us"]
        before = self.standing.get(code)
        if entry["active"]:
            shelf = before or Standing(code=code, active=True, since_us=at_us, detail="")
            self.standing[code] = replace(
                shelf, active=True, since_us=at_us, detail=entry["detail"], acknowledged=False
            )
            self.raised.append((at_us, code))
            del self.raised[: max(0, len(self.raised) - RAISED_MAX)]
        elif before is not None:
            if before.active:
                self.spans.append((code, before.since_us, at_us))
                del self.spans[: max(0, len(self.spans) - RAISED_MAX)]
            self.standing[code] = replace(before, active=False)
            self._forget(code, at_us)

    def _operator(self, entry: Fields) -> None:
        arguments = entry["arguments"]
        code = arguments.get("code") if isinstance(arguments, Mapping) else None
        standing = self.standing.get(str(code))
        if standing is None:
            return
        if entry["verb"] == "ack":
            self.standing[standing.code] = replace(standing, acknowledged=True)
        elif entry["verb"] == "shelve":
            self.standing[standing.code] = replace(
                standing,
                shelved_until_us=entry["utc_us"] + arguments["for_s"] * 1_000_000,
                shelved_why=entry["reason"],
                shelved_by=entry["user"],
            )
        elif entry["verb"] == "unshelve":
            self.standing[standing.code] = replace(
                standing, shelved_until_us=0, shelved_why="", shelved_by="", acknowledged=False
            )
        self._forget(standing.code, entry["utc_us"])

    def _forget(self, code: str, at_us: int) -> None:
        """Drop an alarm that went, was acknowledged and is not shelved."""
        standing = self.standing[code]
        if not standing.active and standing.acknowledged and not standing.shelved(at_us):
            del self.standing[code]


def refusal(book: AlarmBook, rules: Sequence[Rule], verb: str, fields: Fields) -> str | None:
    """Say why an operator's word about an alarm does not count; None when it does."""
    code = str(fields.get("code", ""))
    rule = next((r for r in rules if r.code == code), None)
    if code not in book.standing:
        known = "it does not stand now" if rule else "there is no such alarm"
        return f"{code or 'no code'}: {known}"
    if verb != "shelve":
        return None
    if not str(fields.get("reason", "")).strip():
        return f"{code}: shelving needs a reason"
    for_s = fields.get("for_s")
    if not isinstance(for_s, int) or not 0 < for_s <= SHELVE_S_MAX:
        return f"{code}: shelve it for 1 s to {SHELVE_S_MAX // 3600} h"
    if rule is not None and rule.priority_level == 1:
        return f"{code}: an alarm of priority 1 is never shelved"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How good the alarms are, against EEMUA 191."""

    days_count: int
    raised_count: int
    per_ten_minutes_ratio: float
    peak_count: int  # most in any ten minutes
    flood_count: int  # alarms that came in such a flood
    by_priority: Mapping[int, int]  # how many by priority
    most: tuple[tuple[str, int], ...]  # the most frequent codes
    chattering: tuple[str, ...]
    long_standing: tuple[str, ...]


def statistics(
    book: AlarmBook, rules: Sequence[Rule], *, utc_us: int, days_count: int
) -> Statistics:
    """Count what came in the last days."""
    from_us = utc_us - days_count * 86_400_000_000
    came = [(at_us, code) for at_us, code in book.raised if at_us >= from_us]
    times = [at_us for at_us, _ in came]
    levels = {r.code: r.priority_level for r in rules}
    in_flood: set[int] = set()
    peak_count = 0
    first = 0
    for last, at_us in enumerate(times):
        while at_us - times[first] > FLOOD_US:
            first += 1
        count = last - first + 1
        peak_count = max(peak_count, count)
        if count > FLOOD_COUNT:
            in_flood |= set(range(first, last + 1))
    lasted = [(c, went - since) for c, since, went in book.spans if went >= from_us]
    lasted += [(s.code, utc_us - s.since_us) for s in book.standing.values() if s.active]
    windows = max(1, days_count * 144)
    return Statistics(
        days_count=days_count,
        raised_count=len(came),
        per_ten_minutes_ratio=round(len(came) / windows, 4),
        peak_count=peak_count,
        flood_count=len(in_flood),
        by_priority=dict(sorted(Counter(levels.get(c, 3) for _, c in came).items())),
        most=tuple(Counter(code for _, code in came).most_common(5)),
        chattering=tuple(sorted(_chattering(came))),
        long_standing=tuple(sorted({c for c, us in lasted if us > STANDING_US})),
    )


def _chattering(came: Sequence[tuple[int, str]]) -> set[str]:
    found = set()
    by_code: dict[str, list[int]] = {}
    for at_us, code in came:
        by_code.setdefault(code, []).append(at_us)
    for code, times in by_code.items():
        starts = zip(times, times[CHATTER_COUNT - 1 :], strict=False)
        if any(last - first <= CHATTER_US for first, last in starts):
            found.add(code)
    return found


def gaps_s(book: AlarmBook, code: str) -> list[int]:
    """Return the seconds between two comings of an alarm: how long its delay should be."""
    times = [at_us for at_us, c in book.raised if c == code]
    return [(b - a) // 1_000_000 for a, b in pairwise(times)]
