"""Answers reach each caller in its own loop, also when some have gone."""

import asyncio
import threading

import pytest

from ledger.log.waiting import Waiting, answer_all, settle


def waiting(loop: asyncio.AbstractEventLoop, count: int) -> Waiting:
    return Waiting([b"x"] * count, loop.create_future(), loop, urgent=False, held_bytes=count)


async def test_indexes_follow_one_another_across_loops() -> None:
    here = asyncio.get_running_loop()
    there = asyncio.new_event_loop()
    thread = threading.Thread(target=there.run_forever)
    thread.start()
    batch = [waiting(here, 2), waiting(there, 3), waiting(here, 1)]
    settle(batch, 10)
    assert await asyncio.gather(batch[0].answer, batch[2].answer) == [10, 15]

    async def theirs() -> int:
        return await batch[1].answer

    assert await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(theirs(), there)) == 12
    there.call_soon_threadsafe(there.stop)
    thread.join()
    there.close()
    settle(batch, 10)
    answer_all(batch, OSError("nobody is there any more"))


async def test_errors_and_callers_that_gave_up() -> None:
    loop = asyncio.get_running_loop()
    batch = [waiting(loop, 1), waiting(loop, 1)]
    batch[0].answer.cancel()
    answer_all(batch, OSError("no disk"))
    with pytest.raises(OSError, match="no disk"):
        await batch[1].answer
    assert batch[0].answer.cancelled()
