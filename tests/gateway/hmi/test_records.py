import asyncio
import sys
import threading
from pathlib import Path

import pytest

from gateway.hmi.daybook import DayBook
from gateway.hmi.records import LedgerRecords

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
from gateway_day import full_day


class Shelf:
    """A ledger as a list, that notes what was read of it."""

    def __init__(self, entries):
        self.entries, self.read_indices, self.inside, self.most = entries, [], 0, 0
        self.book = DayBook()
        for index, entry in enumerate(entries):
            self.book.take(index, entry)

    def read(self, start):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            assert threading.current_thread() is not threading.main_thread()
            for index in range(start, len(self.entries)):
                self.read_indices.append(index)
                yield index, self.entries[index]
        finally:
            self.inside -= 1

    async def receipt(self, trade_id):
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        self.inside -= 1
        return b"{}" if trade_id == "A-1" else None

    def records(self):
        return LedgerRecords(
            read=self.read,
            size=lambda: len(self.entries),
            places=self.book.places,
            receipt=self.receipt,
        )


@pytest.fixture
def shelf():
    return Shelf(full_day().entries)


async def test_story_of_a_trade_is_its_own_and_in_order(shelf):
    found = await shelf.records().trade_entries("A-1")
    assert [e["index"] for e in found] == sorted({e["index"] for e in found})
    kinds = [e["kind"] for e in found]
    assert {"config", "trade.accepted", "plan", "intent", "outcome", "reading", "delivery"} <= set(
        kinds
    )
    assert [e["trade_id"] for e in found if e["kind"] == "trade.accepted"] == ["A-1"]
    assert all(
        dict(shelf.entries[e["index"]]) == {k: v for k, v in e.items() if k != "index"}
        for e in found
    )


@pytest.mark.parametrize("known", [False, True])
async def test_a_story_without_its_own_configuration_has_a_later_one_or_none(shelf, known):
    whole = await shelf.records().trade_entries("A-1")
    shelf.entries.append(next(e for e in shelf.entries if e["kind"] == "config"))
    shelf.book = DayBook()
    for index, entry in enumerate(shelf.entries):
        last = index == len(shelf.entries) - 1
        if entry["kind"] == "trade.accepted" or (known and last):
            shelf.book.take(index, entry)
    found = await shelf.records().trade_entries("A-1")
    config = [{**shelf.entries[-1], "index": len(shelf.entries) - 1}] if known else []
    assert whole[0]["kind"] == "config"
    assert found == [*config, *whole[1:]]


async def test_unknown_trade_reads_nothing(shelf):
    assert await shelf.records().trade_entries("nobody") == []
    assert await shelf.records().receipt("nobody") is None
    assert shelf.read_indices == []


async def test_reading_ends_with_the_trades_story(shelf):
    last = shelf.entries[-1]
    for k in range(5_000):
        shelf.entries.append(
            {**last, "kind": "reading", "meters": [], "utc_us": last["utc_us"] + k * 60_000_000}
        )
    await shelf.records().trade_entries("A-1")
    assert max(shelf.read_indices) < len(shelf.entries) - 4_900


async def test_latest_entries(shelf):
    found = await shelf.records().latest_entries(5)
    assert [e["index"] for e in found] == list(range(len(shelf.entries) - 5, len(shelf.entries)))
    assert len(await shelf.records().latest_entries(10**6)) == len(shelf.entries)


async def test_one_reader_at_a_time(shelf):
    records = shelf.records()
    await asyncio.gather(*(records.latest_entries(50) for _ in range(8)))
    assert shelf.most == 1


async def test_receipts_are_made_one_at_a_time(shelf):
    records = shelf.records()
    made = await asyncio.gather(*(records.receipt(t) for t in ("A-1", "A-2", "A-1")))
    assert made == [b"{}", None, b"{}"]
    assert shelf.most == 1
