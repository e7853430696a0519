"""Energy tracking: the setpoint that delivers the rest of the planned energy by the interval's end.

The trajectory contains its ramps (D16): it opens from the boundary power at the start, holds, and
is back at the boundary power exactly at the end, so that ramp energy falls into the interval that
owns it. Powers W, energies mWh, times ms; positive means injecting into the feeder.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.energy import Counters, fell

STEP_MS = 5_000  # how often the setpoint may follow the meter
FREEZE_MS = 15_000  # the setpoint stays as it is for the last 15 s, but for the closing ramp
BAND_PERCENT = 10  # of the schedule
BAND_FLOOR_PERCENT = 2  # of the rating: a band around zero needs a width of its own
DEAD_BAND_PARTS = 2000  # 0.05 % of the rating …
FINE_DEAD_BAND_PARTS = 10_000  # … and 0.01 % in the last minute: nothing corrects it afterwards
FINE_MS = 60_000
GAIN_ONE = 1_000_000
GAIN_MIN, GAIN_MAX = 970_000, 1_030_000  # beyond that something is wrong, not biased
GAIN_SETTLE_US = 15_000_000  # after opening: ramps are over
GAIN_SPAN_US = 60_000_000  # a counter of 1 Wh says little about less
_W_MS_PER_MWH = 3600


def boundary_w(before_w: int, after_w: int) -> int:
    """Power at the instant between two intervals: the smaller of two equal signs, else zero."""
    if before_w > 0 and after_w > 0:
        return min(before_w, after_w)
    if before_w < 0 and after_w < 0:
        return max(before_w, after_w)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """How long a terminal's closing ramp takes, and the longest of all: they begin together."""

    own_ms: int
    all_ms: int


def mean_w(energy_wh: int, duration_ms: int) -> int:
    """Mean power of an energy over an interval, rounded to the nearest W."""
    return (energy_wh * 3_600_000 * 2 + duration_ms) // (2 * duration_ms)


def solve_w(
    *, remaining_mwh: int, left_ms: int, now_w: int, end_w: int, open_ms: int, close: Closing
) -> int:
    """Power that delivers ``remaining_mwh`` in ``left_ms``: a ramp from now, hold, ramp to the end.

    ``open_ms`` is what the first ramp takes; where there is no time for both ramps they are
    shortened alike. Limits are the caller's.
    """
    over_ms = open_ms + close.all_ms
    if over_ms > left_ms:
        open_ms = open_ms * left_ms // over_ms
        close = Closing(own_ms=close.own_ms * left_ms // over_ms, all_ms=left_ms - open_ms)
    # (now + P)/2·open + P·(left − open − all) + (P + end)/2·own + end·(all − own) = remaining
    double = (
        2 * remaining_mwh * _W_MS_PER_MWH
        - now_w * open_ms
        - end_w * (2 * close.all_ms - close.own_ms)
    )
    weight = 2 * left_ms - open_ms - 2 * close.all_ms + close.own_ms
    return (2 * double + weight) // (2 * weight) if weight > 0 else now_w


def bounded_w(
    wanted_w: int, *, schedule_w: int, s_va: int, p_w_min: int, p_w_max: int, available_va: int
) -> int:
    """Keep the wanted power within the band around the schedule, the guard and the capability."""
    band_w = max(abs(schedule_w) * BAND_PERCENT // 100, s_va * BAND_FLOOR_PERCENT // 100)
    within_band_w = max(schedule_w - band_w, min(wanted_w, schedule_w + band_w))
    low, high = max(p_w_min, -available_va), min(p_w_max, available_va)
    return max(low, min(within_band_w, high))  # what the device can and may do comes last


def worth_writing(*, wanted_w: int, held_w: int, s_va: int, left_ms: int) -> bool:
    """Tell whether a change is more than the dead-band, ``left_ms`` before the interval's end."""
    parts = FINE_DEAD_BAND_PARTS if left_ms <= FINE_MS else DEAD_BAND_PARTS
    return abs(wanted_w - held_w) * parts > s_va


def gain_ppm(held: Sequence[tuple[int, int]], readings: Sequence[Counters], now_us: int) -> int:
    """How much a converter delivers of what it is told, by its meter, in millionths.

    ``held`` lists the setpoints of this interval as (UTC µs, W), ``readings`` are of one meter in
    order of time. Without this the law above closes the gap that a biased converter leaves only
    towards the end, where limits may forbid it.
    """
    if not held:
        return GAIN_ONE
    settled_us = held[0][0] + GAIN_SETTLE_US
    begin = bisect.bisect_left(readings, settled_us, key=lambda r: r.utc_us)
    end = bisect.bisect_right(readings, now_us, key=lambda r: r.utc_us)
    if begin >= end or readings[end - 1].utc_us - readings[begin].utc_us < GAIN_SPAN_US:
        return GAIN_ONE
    first, last = readings[begin], readings[end - 1]
    ends = [*(at_us for at_us, _ in held[1:]), last.utc_us]
    commanded = sum(
        p_w * max(0, min(end_us, last.utc_us) - max(at_us, first.utc_us))
        for (at_us, p_w), end_us in zip(held, ends, strict=True)
    )
    if commanded == 0 or fell((first, last)):
        return GAIN_ONE
    metered = (last.net_wh - first.net_wh) * 3_600_000_000
    return max(GAIN_MIN, min(metered * GAIN_ONE // commanded, GAIN_MAX))
