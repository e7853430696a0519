"""Energy from counters: exact integers, interpolated at interval boundaries.

The rule is printed in ``docs/entries.md``, so that anybody with the readings gets the same figures.
Energies are net export of a terminal in mWh (positive: the converter injected into its feeder).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

FROZEN_US = 30_000_000  # the same digits for so long …
FROZEN_PERCENT = 5  # … while so much of the rating is held …
FROZEN_WH = 50  # … and the counters should have moved by so much
FROZEN_COUNTER_WH = 1_500  # told by the meter's own power: some counters step by whole kWh
ESTIMATED_AFTER_US = 10_000_000  # wider brackets than this are an estimate, said openly


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Both counters of one meter at one instant; only readings of good quality become one."""

    utc_us: int
    import_wh: int
    export_wh: int
    p_w: int

    @property
    def net_wh(self) -> int:
        """Export minus import."""
        return self.export_wh - self.import_wh


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Both counters at an interval boundary in mWh."""

    import_mwh: int
    export_mwh: int
    estimated: bool

    @property
    def net_mwh(self) -> int:
        """Export minus import."""
        return self.export_mwh - self.import_mwh


def at_boundary(readings: Sequence[Counters], boundary_ms: int) -> Boundary | None:
    """Interpolate both counters at an instant; None when it is not bracketed.

    ``readings`` are of one meter in order of time.
    """
    bracket = bracketing(readings, start_ms=boundary_ms, end_ms=boundary_ms)
    return _between(bracket[0], bracket[-1], boundary_ms * 1000) if bracket else None


def bracketing(
    readings: Sequence[Counters], *, start_ms: int, end_ms: int
) -> Sequence[Counters] | None:
    """Readings from the last one at or before a start to the first one at or after an end.

    None when one of the two is missing.
    """
    first = bisect.bisect_right(readings, start_ms * 1000, key=lambda r: r.utc_us) - 1
    last = bisect.bisect_left(readings, end_ms * 1000, key=lambda r: r.utc_us)
    return readings[first : last + 1] if first >= 0 and last < len(readings) else None


def fell(readings: Iterable[Counters]) -> bool:
    """Tell whether a counter goes down: reset or exchanged, it says nothing about this time."""
    return any(
        later.import_wh < earlier.import_wh or later.export_wh < earlier.export_wh
        for earlier, later in pairwise(readings)
    )


def since(readings: Sequence[Counters], start_ms: int, now_us: int) -> int | None:
    """Net energy in mWh since the start; the last reading's age is bridged with its power.

    None when no reading of this interval has come yet, its start is not bracketed or a counter
    is below what it was. Every scan asks, so only the ends are looked at: one that fell and has
    overtaken its start already is left to the settlement, which looks at every reading.
    """
    bracket = bracketing(readings, start_ms=start_ms, end_ms=start_ms)
    if bracket is None or fell((*bracket, readings[-1])):
        return None
    start, last = _between(bracket[0], bracket[-1], start_ms * 1000), readings[-1]
    bridged_mwh = last.p_w * (now_us - last.utc_us) // 3_600_000
    return 1000 * last.net_wh - start.net_mwh + bridged_mwh


def _between(left: Counters, right: Counters, at_us: int) -> Boundary:
    span_us, part_us = right.utc_us - left.utc_us, at_us - left.utc_us

    def counted_mwh(c0_wh: int, c1_wh: int) -> int:
        return 1000 * c0_wh + (1000 * (c1_wh - c0_wh) * part_us // span_us if span_us else 0)

    return Boundary(
        import_mwh=counted_mwh(left.import_wh, right.import_wh),
        export_mwh=counted_mwh(left.export_wh, right.export_wh),
        estimated=span_us > ESTIMATED_AFTER_US,
    )


def spare_count(readings: Sequence[Counters], *, kept_max: int, open_ms: int | None) -> int:
    """How many of the oldest readings may go, so that memory stays bounded: none, or up to half.

    Those that an interval open since ``open_ms`` is settled with stay, up to twice as many.
    """
    if len(readings) <= kept_max:
        return 0
    half = kept_max // 2
    if open_ms is None or len(readings) > 2 * kept_max:
        return half
    first = bisect.bisect_right(readings, open_ms * 1000, key=lambda r: r.utc_us) - 1
    return max(0, min(half, first))


def frozen(readings: Sequence[Counters], *, held_w: int, s_va: int) -> bool:
    """Tell whether a meter's counters stand still while power must move them.

    Either it repeats itself to the digit, or it says itself that power flows, and so much of it
    that the coarsest counter had to step.
    """
    if abs(held_w) * 100 < FROZEN_PERCENT * s_va or not readings:
        return False
    last = readings[-1]
    same_us, repeats, least_w = 0, True, abs(last.p_w)
    for reading in reversed(readings):
        if (reading.import_wh, reading.export_wh) != (last.import_wh, last.export_wh):
            break
        repeats = repeats and reading.p_w == last.p_w
        least_w = min(least_w, abs(reading.p_w))
        same_us = last.utc_us - reading.utc_us
        if least_w * same_us >= FROZEN_COUNTER_WH * 3_600_000_000:
            return True
        if repeats and same_us >= FROZEN_US:
            return abs(held_w) * same_us >= FROZEN_WH * 3_600_000_000
        if not repeats and least_w * 100 < FROZEN_PERCENT * s_va:
            break
    return False


def rounded_wh(mwh: int) -> int:
    """Whole Wh, halves up."""
    return (mwh + 500) // 1000
