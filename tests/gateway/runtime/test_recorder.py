"""Entries are folded in the order of their indices, whoever waits for them."""

import asyncio

from fakes.core import make_site
from fakes.memory_journal import ManualClock, MemoryJournal

from gateway.core.state import State
from gateway.runtime.recorder import Recorder


class LateJournal(MemoryJournal):
    """Answers in the wrong order: the first caller last."""

    async def append(self, kind, fields):
        index, entry = await super().append(kind, fields)
        for _ in range(10 - index):
            await asyncio.sleep(0)
        return index, entry


async def test_entries_that_become_durable_together_are_folded_in_order():
    journal = LateJournal(ManualClock())
    recorder = Recorder(journal, State(make_site()))
    alarms = [recorder.record("alarm", code=f"a{k}", active=True, detail="") for k in range(8)]
    indices = await asyncio.gather(*alarms)
    assert sorted(indices) == list(range(8))
    assert recorder.state.size == 8
    assert recorder.state.alarms == {f"a{k}" for k in range(8)}


async def test_an_entry_is_folded_before_its_writer_goes_on():
    recorder = Recorder(MemoryJournal(ManualClock()), State(make_site()))
    index = await recorder.record("alarm", code="x", active=True, detail="")
    assert recorder.state.size == index + 1


async def test_a_cancelled_caller_leaves_no_hole_that_others_wait_for():
    journal = LateJournal(ManualClock())
    recorder = Recorder(journal, State(make_site()))
    first = asyncio.ensure_future(recorder.record("alarm", code="a", active=True, detail=""))
    while not journal.written:
        await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(60):
        assert await recorder.record("alarm", code="b", active=True, detail="") == 1
        await recorder.settled()
    assert recorder.state.alarms == {"a", "b"}
