"""A clock that stands still while there is work: time-outs do not depend on the machine's speed."""

import asyncio

QUIET_S = 0.005  # so long nothing must have come before the clock goes on to the next timer


class StillTime:
    """Takes the clock of a selector event loop; waiting costs no time, working takes none.

    Everything that answers must run in the same loop. Where nobody has anything to do, the clock
    jumps to the next timer: a minute of silence takes no minute, and a busy machine no time-out.
    """

    def __init__(self, loop, *, quiet_s=QUIET_S):
        self.now_s, self.quiet_s, self._selector = loop.time(), quiet_s, loop._selector
        loop.time = lambda: self.now_s
        loop._selector = self

    def __getattr__(self, name):
        return getattr(self._selector, name)

    def select(self, timeout=None):
        """Return what came; without anything the time is later by as much as was to be waited."""
        if timeout is None or timeout <= 0:
            return self._selector.select(timeout)
        found = self._selector.select(0) or self._selector.select(self.quiet_s)
        if not found:
            self.now_s += timeout
        return found


def stand_still(**fields):
    """Give the running loop such a clock."""
    return StillTime(asyncio.get_running_loop(), **fields)
