"""Standing values: since when power was to move a terminal's meter, and whether the meter moved.

Readings of a time when nothing was held say nothing about a meter, and a new interval at about the
same power is no new beginning.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.energy import FROZEN_PERCENT, Counters, frozen
from gateway.model.terminal import Sop

GROWS = 2  # power that grew by more than this factor begins the count anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Power has been held since then, and never less of it."""

    since_us: int
    least_w: int


def after(
    before: Mapping[str, Busy], held_w: Mapping[str, int], sop: Sop, utc_us: int
) -> dict[str, Busy]:
    """Return which terminals are under power from now on, by what they hold now."""
    found = {}
    for terminal in sop.slaves:
        power_w, then = abs(held_w.get(terminal.id, 0)), before.get(terminal.id)
        if power_w * 100 < FROZEN_PERCENT * terminal.s_va:
            continue
        if then is None or power_w > GROWS * then.least_w:
            found[terminal.id] = Busy(since_us=utc_us, least_w=power_w)
        else:
            least_w = min(then.least_w, power_w)
            found[terminal.id] = Busy(since_us=then.since_us, least_w=least_w)
    return found


def stands_still(busy: Busy | None, readings: Sequence[Counters], *, s_va: int) -> bool:
    """Tell whether a meter stands still since power was to move it."""
    if busy is None:
        return False
    first = bisect.bisect_left(readings, busy.since_us, key=lambda r: r.utc_us)
    return frozen(readings[first:], held_w=busy.least_w, s_va=s_va)
