"""Metrics of a setpoint step: dead time, response, settling, overshoot, error, cross-coupling.

Every time is told with its resolution: half of the largest gap between two polls around the event
plus half of a poll's own length. A figure finer than that is not printed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from typing_extensions import override

from gateway.commissioning.finding import Finding, Punch, Verdict

SETTLE_BAND_RATIO = 0.02  # of the step
RESPONSE_RATIO = 0.9  # of the step
START_RATIO = 0.02  # the answer has begun when this share of the step is behind
SIGMAS = 4.0  # noise must not be taken for the beginning of the step, nor for leaving its end


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSample:
    """One poll: ``t_s`` the middle of its round trip, ``width_s`` the round trip's length."""

    t_s: float
    p_w: float
    q_var: float = 0.0
    v_dc_v: float = 0.0
    others_p_w: float = 0.0  # largest deviation of a terminal that should stand still
    width_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A time after the write with its resolution (±)."""

    value_s: float
    resolution_s: float

    @override
    def __str__(self) -> str:
        digits = max(0, -math.floor(math.log10(max(self.resolution_s, 1e-6))))
        return f"{self.value_s:.{digits}f} ±{self.resolution_s:.{digits}f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """What one step did; a time is None when the event was not seen."""

    dead_time: Timed | None
    response: Timed | None
    settle: Timed | None
    overshoot_pct: float
    error_pct: float  # of the step, mean over the last quarter
    q_disturbance_pct: float  # of the rating
    cross_pct: float  # of the step, on terminals that should stand still
    v_dc_min_v: float
    v_dc_max_v: float
    period_s: float  # median gap between polls


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """Limits of a step; None leaves a metric without one."""

    dead_time_s: float | None = 0.5
    response_s: float | None = 1.5
    settle_s: float | None = 2.0
    overshoot_pct: float | None = 5.0
    error_pct: float | None = 1.0
    q_disturbance_pct: float | None = 3.0
    cross_pct: float | None = 3.0


def measure(
    samples: Sequence[StepSample], *, t_write_s: float, from_w: float, to_w: float, s_va: float
) -> StepMetrics:
    """Measure a step from samples that begin before the write and end after settling."""
    height_w = to_w - from_w
    assert height_w != 0, "a step goes somewhere"
    before = [s for s in samples if s.t_s <= t_write_s]
    after = [s for s in samples if s.t_s > t_write_s]
    progress = [((s.p_w - from_w) / height_w, s) for s in after]
    tail = after[-max(1, len(after) // 4) :]
    noise_w = max(_noise_w([s.p_w for s in before]), _noise_w([s.p_w for s in tail]))
    noise_ratio = noise_w / abs(height_w)
    quiet_ratio = _noise_w([s.p_w for s in before]) / abs(height_w)
    start = _first_above(progress, max(START_RATIO, SIGMAS * quiet_ratio), before, t_write_s)
    rest_w = statistics.fmean(s.p_w for s in tail) if tail else from_w
    q_rest = statistics.fmean(s.q_var for s in before) if before else 0.0
    others_rest = statistics.fmean(s.others_p_w for s in before) if before else 0.0
    peak = max((r for r, _ in progress), default=0.0)
    overshoot = max(0.0, peak - 1.0)
    return StepMetrics(
        dead_time=start,
        response=_first_above(progress, RESPONSE_RATIO, before, t_write_s),
        settle=_settled(progress, before, t_write_s, noise_ratio),
        overshoot_pct=100 * overshoot,
        error_pct=100 * abs(rest_w - to_w) / abs(height_w),
        q_disturbance_pct=100 * max((abs(s.q_var - q_rest) for s in after), default=0.0) / s_va,
        cross_pct=100
        * max((abs(s.others_p_w - others_rest) for s in after), default=0.0)
        / abs(height_w),
        v_dc_min_v=min((s.v_dc_v for s in samples), default=0.0),
        v_dc_max_v=max((s.v_dc_v for s in samples), default=0.0),
        period_s=_period_s(samples),
    )


def judge(
    where: str, metrics: StepMetrics, limits: StepLimits
) -> tuple[Verdict, tuple[Finding, ...]]:
    """Hold the metrics against their limits; a time within its resolution of it is undecided."""
    findings: list[Finding] = []
    verdict = Verdict.OK
    timed: tuple[tuple[str, Timed | None, float | None], ...] = (
        ("dead time", metrics.dead_time, limits.dead_time_s),
        ("response", metrics.response, limits.response_s),
        ("settling", metrics.settle, limits.settle_s),
    )
    for name, value, limit_s in timed:
        if limit_s is None:
            continue
        code = name.replace(" ", "-")
        if value is None:
            findings.append(_finding(code, where, f"{name}: not reached", limit_s, "s"))
        elif value.value_s - value.resolution_s > limit_s:
            findings.append(_finding(code, where, f"{name} {value}", limit_s, "s"))
        elif value.value_s + value.resolution_s > limit_s:
            verdict = Verdict.UNDECIDED
    shares: tuple[tuple[str, float, float | None], ...] = (
        ("overshoot", metrics.overshoot_pct, limits.overshoot_pct),
        ("error at rest", metrics.error_pct, limits.error_pct),
        ("Q disturbance", metrics.q_disturbance_pct, limits.q_disturbance_pct),
        ("cross-coupling", metrics.cross_pct, limits.cross_pct),
    )
    for name, share, limit in shares:
        if limit is not None and share > limit:
            code = name.lower().replace(" ", "-")
            findings.append(_finding(code, where, f"{name} {share:.1f} %", limit, "%"))
    return (Verdict.FAULT if findings else verdict), tuple(findings)


def _finding(code: str, where: str, what: str, limit: float, unit: str) -> Finding:
    return Finding(
        code=code,
        where=where,
        what=f"{what}, limit {limit:g} {unit}",
        mend="compare the converter's ramp and controller settings with its data sheet",
        punch=Punch.B,
    )


def _noise_w(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _period_s(samples: Sequence[StepSample]) -> float:
    gaps = [b.t_s - a.t_s for a, b in pairwise(samples)]
    return statistics.median(gaps) if gaps else 0.0


def _first_above(
    progress: Sequence[tuple[float, StepSample]],
    share: float,
    before: Sequence[StepSample],
    t_write_s: float,
) -> Timed | None:
    """Instant at which the share is first passed: between that poll and the one before it."""
    last = before[-1] if before else None
    for ratio, sample in progress:
        if ratio >= share:
            return _between(last, sample, t_write_s)
        last = sample
    return None


def _settled(
    progress: Sequence[tuple[float, StepSample]],
    before: Sequence[StepSample],
    t_write_s: float,
    noise_ratio: float,
) -> Timed | None:
    """Instant after which the power never leaves the band around its resting value again."""
    if not progress:
        return None
    band = max(SETTLE_BAND_RATIO, SIGMAS * noise_ratio)
    tail = [r for r, _ in progress[-max(1, len(progress) // 4) :]]
    rest = statistics.fmean(tail)
    last = before[-1] if before else None
    entered: Timed | None = None
    inside = False
    for ratio, sample in progress:
        now = abs(ratio - rest) <= band
        if now and not inside:
            entered = _between(last, sample, t_write_s)
        inside = now
        last = sample
    return entered if inside else None


def _between(last: StepSample | None, sample: StepSample, t_write_s: float) -> Timed:
    """Middle of the gap in which something happened, and half of the gap as its resolution."""
    begin_s = max(last.t_s, t_write_s) if last else t_write_s
    widths_s = (sample.width_s + (last.width_s if last else 0.0)) / 2
    return Timed(
        value_s=(begin_s + sample.t_s) / 2 - t_write_s,
        resolution_s=(sample.t_s - begin_s + widths_s) / 2,
    )
