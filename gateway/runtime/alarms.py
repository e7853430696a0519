"""Looks for alarms once a second, beside the scan: raises, clears, tells; never commands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.core import alarms
from gateway.core.alarm_conditions import Seen, conditions
from gateway.core.alarms import AlarmBook, Change, Rule
from gateway.ports import Clock, Market
from gateway.runtime.recorder import Recorder

log = logging.getLogger(__name__)

PERIOD_US = 1_000_000
REFUSED_KEPT = 20  # of the newest refused trades: the alarm names one and counts the rest


class AlarmWatch:
    """The alarms of one SOP, from its ledger and what is seen now."""

    def __init__(
        self,
        *,
        rules: Sequence[Rule],
        recorder: Recorder,
        market: Market,
        clock: Clock,
        seen: Callable[[tuple[tuple[int, str], ...]], Seen],
    ) -> None:
        """Watch by ``rules``; ``seen`` takes the newest refusals and returns one look."""
        self.rules = tuple(rules)
        self.book = AlarmBook()
        self._recorder = recorder
        self._market = market
        self._clock = clock
        self._seen = seen
        self._pending: dict[str, int] = {}
        self._refused: list[tuple[int, str]] = []
        recorder.listeners.append(self.take)

    def take(self, index: int, entry: Mapping[str, Any]) -> None:
        """Take one entry in; those of the start are given by whoever reads them."""
        self.book.take(index, entry)
        if entry["kind"] == "trade.refused":
            word = entry["reasons"][0]["code"] if entry["reasons"] else "refused"
            name = entry["trade_id"] or f"message in entry {entry['received_index']}"
            self._refused.append((entry["utc_us"], f"{name}: {word}"))
            del self._refused[:-REFUSED_KEPT]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep_until(self._clock.mono_us() + PERIOD_US)

    async def look(self) -> None:
        """Look once: write down what comes and goes, and tell it."""
        changes, self._pending = alarms.step(
            self.rules,
            active=self.book.active,
            found=conditions(self._recorder.state, self._seen(tuple(self._refused))),
            pending=self._pending,
            mono_us=self._clock.mono_us(),
        )
        for change in changes:
            await self._change(change)

    async def _change(self, change: Change) -> None:
        fields = {"code": change.code, "active": change.active, "detail": change.detail}
        await self._recorder.record("alarm", **fields)
        log.warning("alarm=%s active=%s %s", change.code, change.active, change.detail)
        body = {"active": change.active, "detail": change.detail}
        await self._market.tell(f"alarm/{change.code}", body)

    def rows(self) -> list[dict[str, Any]]:
        """Return the alarms as the list shows them, the most urgent first."""
        return rows(self.book, self.rules, utc_us=self._clock.utc_us())


def rows(book: AlarmBook, rules: Sequence[Rule], *, utc_us: int) -> list[dict[str, Any]]:
    """Return standing alarms with their words: what, since when, what to do, who shelved them."""
    by_code = {r.code: r for r in rules}
    found = []
    for standing in book.standing.values():
        rule = by_code.get(standing.code)
        shelved = standing.shelved(utc_us)
        found.append(
            {
                "code": standing.code,
                "priority_level": rule.priority_level if rule else 3,
                "what": rule.what if rule else standing.code,
                "response": rule.response if rule else "",
                "detail": standing.detail,
                "since_us": standing.since_us,
                "active": standing.active,
                "acknowledged": standing.acknowledged,
                "shelved_until_us": standing.shelved_until_us if shelved else None,
                "shelved_by": standing.shelved_by if shelved else "",
                "shelved_why": standing.shelved_why if shelved else "",
            }
        )
    return sorted(found, key=_urgency)


def _urgency(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        row["shelved_until_us"] is not None,
        not row["active"],
        row["acknowledged"],
        row["priority_level"],
        row["code"],
    )
