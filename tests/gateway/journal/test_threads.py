"""What is written in a thread is finished before a stop is."""

import asyncio
import threading

import pytest

from gateway.journal.threads import to_the_end


async def test_the_answer_is_the_works():
    assert await to_the_end(lambda: 7) == 7


async def test_an_error_of_the_work_is_raised():
    def work():
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        await to_the_end(work)


async def test_a_stop_waits_for_work_that_has_begun():
    began, go_on, done = threading.Event(), threading.Event(), []

    def work():
        began.set()
        assert go_on.wait(60)
        done.append(True)

    async with asyncio.timeout(60):
        task = asyncio.ensure_future(to_the_end(work))
        await asyncio.to_thread(began.wait)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done(), "the files are still being written"
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert done == [True]
