"""Answers reach each caller in its own loop, also when some have gone."""

import asyncio
import threading

import pytest

from ledger.log.waiting import Batch


def waiting(loop: asyncio.AbstractEventLoop, *counts: int) -> Batch:
    batch = Batch(loop, urgent=False)
    for count in counts:
        batch.answers += [loop.create_future(), *([None] * (count - 1))]
        batch.leaves += [b"x"] * count
    return batch


def answers(batch: Batch) -> list[asyncio.Future[int]]:
    return [answer for answer in batch.answers if answer is not None]


async def test_indexes_follow_one_another_and_reach_another_loop() -> None:
    here = asyncio.get_running_loop()
    there = asyncio.new_event_loop()
    thread = threading.Thread(target=there.run_forever, daemon=True)
    thread.start()
    ours, others = waiting(here, 2, 3, 1), waiting(there, 3, 1)
    ours.settle(10)
    others.settle(16)
    assert await asyncio.gather(*answers(ours)) == [10, 12, 15]

    async def theirs() -> list[int]:
        return list(await asyncio.gather(*answers(others)))

    assert await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(theirs(), there)) == [16, 19]
    there.call_soon_threadsafe(there.stop)
    thread.join()
    there.close()
    others.settle(10)
    others.refuse(OSError("nobody is there any more"))


async def test_errors_and_callers_that_gave_up() -> None:
    batch = waiting(asyncio.get_running_loop(), 1, 1)
    gone, patient = answers(batch)
    gone.cancel()
    batch.refuse(OSError("no disk"))
    with pytest.raises(OSError, match="no disk"):
        await patient
    assert gone.cancelled()
    batch.settle(3)
    await asyncio.sleep(0)
    assert isinstance(patient.exception(), OSError), "an answer is given once"
