"""Answers from the ledger for the page: one trade's entries, the newest ones, a receipt.

The ledger's own reader is handed in; it blocks, so it runs in a thread, one at a time. Reading
starts at the trade's own acceptance and ends with its story, so that a long ledger costs no more
than a short one. A receipt needs more of it and is made elsewhere, one at a time too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from gateway.hmi.figures import utc_us
from gateway.model.errors import GatewayError

Entry = Mapping[str, Any]
MARGIN_US = 120_000_000  # before and after a trade's intervals: the gate's plan, the delivery
ENTRIES_MAX = 20_000  # of one trade: a day of readings every five seconds
STORY = frozenset({"intent", "outcome", "abort", "reading", "readback", "mode", "alarm"})


class ReceiptNotMade(GatewayError):  # noqa: N818 - no error of the reader's
    """Making a receipt failed or took too much; whether there is one is not known."""


class LedgerRecords:
    """Implements ``Records`` over functions that read one ledger."""

    def __init__(
        self,
        *,
        read: Callable[[int], Iterator[tuple[int, Mapping[str, Any]]]],
        size: Callable[[], int],
        places: Callable[[str], tuple[int | None, int] | None],
        receipt: Callable[[str], Awaitable[bytes | None]],
    ) -> None:
        """Take the ledger's doors.

        Args:
            read: entries from an index on, with their indices.
            size: how many entries there are.
            places: indices of a trade's configuration and first acceptance (``DayBook.places``).
            receipt: makes the receipt file of a trade, None while there can be none, and raises
                ``ReceiptNotMade`` where that failed; it takes long where the ledger is long.
        """
        self._read, self._size, self._places, self._receipt = read, size, places, receipt
        self._busy, self._making = asyncio.Lock(), asyncio.Lock()

    async def trade_entries(self, trade_id: str) -> Sequence[Entry]:
        """Return the entries of a trade's intervals in order, empty when it is unknown."""
        places = self._places(trade_id)
        if places is None:
            return []
        async with self._busy:
            return await asyncio.to_thread(self._of_trade, trade_id, *places)

    async def latest_entries(self, count: int) -> Sequence[Entry]:
        """Return the newest entries, newest last."""
        async with self._busy:
            return await asyncio.to_thread(self._latest, count)

    async def receipt(self, trade_id: str) -> bytes | None:
        """Return the receipt file of a trade, None while there is none.

        Raises:
            ReceiptNotMade: making it failed; somebody may make it on the machine.
        """
        if self._places(trade_id) is None:
            return None
        async with self._making:
            return await self._receipt(trade_id)

    def _latest(self, count: int) -> list[Entry]:
        start = max(self._size() - count, 0)
        found: list[Entry] = [{**entry, "index": index} for index, entry in self._read(start)]
        return found[-count:]

    def _of_trade(
        self, trade_id: str, config_index: int | None, accepted_index: int
    ) -> list[Entry]:
        """Return the story behind its configuration, which may be a newer one, or not known."""
        found: list[Entry] = []
        if config_index is not None:
            index, config = next(iter(self._read(config_index)))
            found.append({**config, "index": index})
        spans: list[tuple[int, int]] = []
        for index, entry in self._read(accepted_index):
            at = entry["utc_us"]
            if entry["kind"] == "trade.accepted" and entry["trade_id"] == trade_id:
                edges = [p["interval"] for p in entry["positions"]]
                spans = [
                    (utc_us(e["start"]) - MARGIN_US, utc_us(e["end"]) + MARGIN_US) for e in edges
                ]
            elif not (_tells(entry, trade_id) and any(s <= at <= e for s, e in spans)):
                if spans and at > max(e for _, e in spans):
                    break
                continue
            found.append({**entry, "index": index})
            if len(found) >= ENTRIES_MAX:
                break
        return found


def _tells(entry: Entry, trade_id: str) -> bool:
    """Tell whether an entry inside a trade's time belongs to its story."""
    if entry["kind"] in {"plan", "delivery"}:
        return any(t["trade_id"] == trade_id for t in entry["trades"])
    return entry["kind"] in STORY
