"""Answers reach each caller in its own loop, also when some have gone."""

import asyncio
import os
import threading

import pytest

from ledger.log.waiting import Batch, Bell


def waiting(bell: Bell, loop: asyncio.AbstractEventLoop, *counts: int) -> Batch:
    batch = Batch(bell, loop, urgent=False)
    for count in counts:
        batch.answers += [loop.create_future(), *([None] * (count - 1))]
        batch.leaves += [b"x"] * count
    return batch


def answers(batch: Batch) -> list[asyncio.Future[int]]:
    return [answer for answer in batch.answers if answer is not None]


def is_open(bell: Bell) -> bool:
    try:
        return "eventfd" in os.readlink(f"/proc/self/fd/{bell._descriptor}")
    except FileNotFoundError:
        return False


async def test_indexes_follow_one_another() -> None:
    loop = asyncio.get_running_loop()
    bell = Bell(loop)
    first, second = waiting(bell, loop, 2, 3, 1), waiting(bell, loop, 1, 1)
    bell.ring(first, 10)
    bell.ring(second, 16)
    assert await asyncio.gather(*answers(first), *answers(second)) == [10, 12, 15, 16, 17]
    bell.put_away()
    await asyncio.sleep(0)


async def test_another_threads_loop_gets_its_own() -> None:
    def there(made: list[Batch], ready: threading.Event, got: list[int]) -> None:
        async def wait() -> None:
            loop = asyncio.get_running_loop()
            bell = Bell(loop)
            made.append(waiting(bell, loop, 3, 1))
            ready.set()
            got.extend(await asyncio.gather(*answers(made[0])))
            bell.put_away()
            await asyncio.sleep(0)

        asyncio.run(wait())

    made: list[Batch] = []
    ready, got = threading.Event(), list[int]()
    thread = threading.Thread(target=there, args=(made, ready, got), daemon=True)
    thread.start()
    assert await asyncio.to_thread(ready.wait, 60)
    made[0].bell.ring(made[0], 7)
    await asyncio.to_thread(thread.join, 60)
    assert got == [7, 10]


async def test_errors_and_callers_that_gave_up() -> None:
    loop = asyncio.get_running_loop()
    bell = Bell(loop)
    batch = waiting(bell, loop, 1, 1)
    gone, patient = answers(batch)
    gone.cancel()
    bell.ring(batch, OSError("no disk"))
    with pytest.raises(OSError, match="no disk"):
        await patient
    assert gone.cancelled()
    bell.ring(batch, 3)
    bell.put_away()
    await asyncio.sleep(0)
    assert isinstance(patient.exception(), OSError), "an answer is given once"


async def test_what_was_decided_is_told_before_the_loop_is_let_go() -> None:
    loop = asyncio.get_running_loop()
    bell = Bell(loop)
    batch = waiting(bell, loop, 1)
    bell.ring(batch, 5)
    bell.put_away()
    assert await asyncio.gather(*answers(batch)) == [5]
    await asyncio.sleep(0)
    assert not is_open(bell)


def test_a_loop_that_has_ended_takes_no_answer_and_keeps_nothing_open() -> None:
    loop = asyncio.new_event_loop()
    bell = Bell(loop)
    batch = waiting(bell, loop, 1)
    loop.close()
    bell.ring(batch, 3)
    bell.ring(batch, OSError("nobody is there any more"))
    assert is_open(bell), "until the last ring"
    bell.put_away()
    assert not answers(batch)[0].done()
    assert not is_open(bell)
