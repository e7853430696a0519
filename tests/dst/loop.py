"""An event loop whose time jumps to the next timer: hours of plant time in seconds of CPU."""

import asyncio
import math
import selectors


class NothingScheduledError(AssertionError):
    """No callback is ready and no timer runs: the program under test waits for ever (L7)."""


class _Jump(selectors.SelectSelector):
    """Answers at once and moves the loop's time instead of waiting."""

    loop = None

    def select(self, timeout=None):
        if timeout is None:
            raise NothingScheduledError("nothing is scheduled")
        if timeout > 0:
            self.loop.now_us += max(1, math.ceil(timeout * 1e6 - 1e-3))
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``now_us`` is its only clock; nothing outside the process can wake it."""

    def __init__(self):
        self.now_us = 0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self):
        return self.now_us / 1e6


def run_virtual(main):
    """Run one coroutine to its end on a loop of its own; ``main`` takes the loop."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
