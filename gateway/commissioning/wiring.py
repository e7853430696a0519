"""Active wiring check: which CT sits on which phase, and which way round.

A soft open point injects a small balanced ±P; the *change* each meter phase sees, divided by
the change it should see, is a complex number whose angle is a multiple of 60°: 0 good, 180 a
reversed CT, ±120 a CT on another phase, ±60 both. Loads switch while we look, so the change
across each sign change is a sample and the median decides. Not enough evidence is ``undecided``;
a wrong answer is never an option. Pure: samples in, verdict out.

What it cannot see: a voltage lead *and* a CT on the same wrong phase give right totals under
wrong labels; a pairing fault on two phases does not tell which of the two pairs is crossed; the
path between terminal and meter must be mostly radial.
"""

from __future__ import annotations

import cmath
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.ratio import RatioName, name_ratio

PHASES = ("L1", "L2", "L3")
DROP_S = 3.0  # the ramp, the meter's averaging and its latency lie in the first seconds of a half
EDGE_S = 4.0  # settled samples are taken this close to a sign change: fewer loads switch meanwhile
RESIDUAL_DEG_MAX = 15.0  # half of the distance to the border between two multiples of 60°
SPREAD_DEG_MAX = 25.0  # 95 % bound of the angle; border at 30° is never reached inside it
CHANGES_MIN_COUNT = 3  # a median of fewer is a sample, not a median
RATIO_MIN, RATIO_MAX = 0.8, 1.25
INJECTION_FACTOR = 1.5  # injection over largest load step; below it weak tests go wrong
T_95 = (12.7, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # Student, 1 to 10 degrees


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSample:
    """Power of the three phases as one poll of the meter saw them, in the meter's own sign."""

    t_s: float
    p_w: tuple[float, float, float]
    q_var: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """One half period of the injection: ``p_w`` at the terminal, positive into the feeder."""

    t_start_s: float
    t_end_s: float
    p_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseWiring:
    """What one meter phase sees: ratio and angle against what it should see."""

    phase: str
    expected_w: float  # change per sign, half of the step across a sign change
    p_w: float
    q_var: float
    ratio: float
    angle_deg: float
    spread_deg: float  # 95 % bound of the angle
    verdict: Verdict
    sees: str  # the phase whose current the CT carries, "" while undecided
    reversed: bool

    @property
    def words(self) -> str:
        """Say the verdict the way an engineer would."""
        if self.verdict is Verdict.UNDECIDED:
            return "undecided"
        parts = [] if self.sees == self.phase else [f"sees current of {self.sees}"]
        if self.reversed:
            parts.append("CT reversed")
        return ", ".join(parts) or "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class WiringResult:
    """The arrangement found, or undecided, with what it rests on."""

    verdict: Verdict
    phases: tuple[PhaseWiring, ...]
    changes_count: int
    ratio_name: RatioName | None

    def findings(self, meter: str) -> tuple[Finding, ...]:
        """List the faults with their mends; empty when ok or undecided."""
        if self.verdict is Verdict.UNDECIDED:
            return ()
        found = [*_order_findings(meter, self.phases)]
        found += [
            Finding(
                code="ct-reversed",
                where=f"{meter} {phase.phase}",
                what=f"CT on {phase.phase} is reversed (arrow or S1/S2 swapped)",
                mend="swap S1 and S2 at the CT, then run the same check again",
            )
            for phase in self.phases
            if phase.reversed
        ]
        off = [p for p in self.phases if not RATIO_MIN < p.ratio < RATIO_MAX]
        if off:
            named = self.ratio_name
            phases = ", ".join(p.phase for p in off)
            mean = statistics.fmean(p.ratio for p in off)
            found.append(
                Finding(
                    code=named.code if named else "ratio",
                    where=f"{meter} {phases}",
                    what=f"reads {mean:.3g} times the injected power on {phases}"
                    + (f": {named.meaning}" if named else ""),
                    mend="compare the CT's nameplate with the meter's setting and the profile",
                    punch=Punch.A,
                )
            )
        return tuple(found)


def _order_findings(meter: str, phases: Sequence[PhaseWiring]) -> list[Finding]:
    crossed = [p for p in phases if p.sees != p.phase]
    if not crossed:
        return []
    names = " and ".join(p.phase for p in crossed)
    pairs = ", ".join(f"{p.phase} sees {p.sees}" for p in crossed)
    return [
        Finding(
            code="phase-order",
            where=f"{meter} {names}",
            what=f"voltage and current are paired wrongly on {names} ({pairs})",
            mend="move the CTs (or the voltage leads) so that each phase meets its own",
        )
    ]


def injection_needed_w(largest_load_step_w: float) -> float:
    """Return the least injection that keeps the answer honest: 1.5 × the largest load step."""
    return INJECTION_FACTOR * largest_load_step_w


def largest_load_step_w(samples: Sequence[PhaseSample]) -> float:
    """Return the largest change between two successive polls on any phase, before injecting."""
    steps = [
        math.hypot(b.p_w[i] - a.p_w[i], b.q_var[i] - a.q_var[i])
        for a, b in pairwise(samples)
        for i in range(3)
    ]
    return max(steps, default=0.0)


def judge(
    samples: Sequence[PhaseSample],
    halves: Sequence[Half],
    *,
    import_positive: bool,
    ct_primary_a: int | None = None,
) -> WiringResult:
    """Decide the arrangement of the three CTs from samples over the injected halves.

    ``import_positive`` says the meter's sign: a grid meter counts what is taken from the
    grid as positive, so an injection lowers it.
    """
    sign = -1.0 if import_positive else 1.0
    changes = _changes(samples, halves, sign=sign)
    swing_w = _swing_w(halves)
    phases = tuple(
        _phase(name, [c[i] for c in changes], swing_w=sign * swing_w / 3)
        for i, name in enumerate(PHASES)
    )
    whole = all(p.verdict is Verdict.OK for p in phases)
    if not whole or len({p.sees for p in phases}) != len(PHASES):
        phases = tuple(_undecided(p) for p in phases)
        return WiringResult(
            verdict=Verdict.UNDECIDED, phases=phases, changes_count=len(changes), ratio_name=None
        )
    off = [p.ratio for p in phases if not RATIO_MIN < p.ratio < RATIO_MAX]
    good = not off and all(p.sees == p.phase and not p.reversed for p in phases)
    return WiringResult(
        verdict=Verdict.OK if good else Verdict.FAULT,
        phases=phases,
        changes_count=len(changes),
        ratio_name=name_ratio(statistics.fmean(off), ct_primary_a=ct_primary_a) if off else None,
    )


def _swing_w(halves: Sequence[Half]) -> float:
    """Half of the mean step across a sign change: the injected amplitude."""
    steps = [abs(b.p_w - a.p_w) for a, b in pairwise(halves) if a.p_w * b.p_w < 0]
    return statistics.fmean(steps) / 2 if steps else 0.0


def _changes(
    samples: Sequence[PhaseSample], halves: Sequence[Half], *, sign: float
) -> list[tuple[complex, complex, complex]]:
    """Return measured over expected change, one complex number a phase, per sign change."""
    found = []
    for before, after in pairwise(halves):
        if before.p_w * after.p_w >= 0:
            continue
        early = _settled(
            samples, max(before.t_start_s + DROP_S, before.t_end_s - EDGE_S), before.t_end_s
        )
        late = _settled(
            samples, after.t_start_s + DROP_S, min(after.t_end_s, after.t_start_s + DROP_S + EDGE_S)
        )
        if early is None or late is None:
            continue
        expected_w = sign * (after.p_w - before.p_w) / 3
        found.append(
            (
                (late[0] - early[0]) / expected_w,
                (late[1] - early[1]) / expected_w,
                (late[2] - early[2]) / expected_w,
            )
        )
    return found


def _settled(
    samples: Sequence[PhaseSample], t_start_s: float, t_end_s: float
) -> tuple[complex, complex, complex] | None:
    """Median power of each phase in a window; None without samples."""
    inside = [s for s in samples if t_start_s <= s.t_s <= t_end_s]
    if not inside:
        return None
    p = [statistics.median(s.p_w[i] for s in inside) for i in range(3)]
    q = [statistics.median(s.q_var[i] for s in inside) for i in range(3)]
    return complex(p[0], q[0]), complex(p[1], q[1]), complex(p[2], q[2])


def _phase(name: str, ratios: Sequence[complex], *, swing_w: float) -> PhaseWiring:
    """Judge one phase from its ratios across the sign changes."""
    if not ratios:
        return PhaseWiring(
            phase=name, expected_w=swing_w, p_w=0.0, q_var=0.0, ratio=0.0, angle_deg=0.0,
            spread_deg=180.0, verdict=Verdict.UNDECIDED, sees="", reversed=False,
        )  # fmt: skip
    centre = complex(
        statistics.median(r.real for r in ratios), statistics.median(r.imag for r in ratios)
    )
    angle_deg = math.degrees(cmath.phase(centre))
    spread_deg = _spread_deg(ratios, centre)
    step = round(angle_deg / 60)
    residual_deg = abs(angle_deg - 60 * step)
    sure = (
        len(ratios) >= CHANGES_MIN_COUNT
        and residual_deg < RESIDUAL_DEG_MAX
        and spread_deg < SPREAD_DEG_MAX
        and abs(centre) > 0
    )
    sees, turned = _arrangement(name, step % 6)
    return PhaseWiring(
        phase=name,
        expected_w=swing_w,
        p_w=(centre * swing_w).real,
        q_var=(centre * swing_w).imag,
        ratio=abs(centre),
        angle_deg=angle_deg,
        spread_deg=spread_deg,
        verdict=Verdict.OK if sure else Verdict.UNDECIDED,
        sees=sees,
        reversed=turned,
    )


def _arrangement(name: str, step: int) -> tuple[str, bool]:
    """From the multiple of 60° (0 to 5) to the phase the CT sits on and its direction.

    Power of voltage i with the current of phase k turns by the angle between the two voltages:
    +120° when k follows i in the sequence L1, L2, L3, −120° when it precedes. Reversing adds 180°.
    """
    shift, turned = {
        0: (0, False),
        3: (0, True),
        2: (1, False),
        5: (1, True),
        4: (2, False),
        1: (2, True),
    }[step]
    return PHASES[(PHASES.index(name) + shift) % 3], turned


def _spread_deg(ratios: Sequence[complex], centre: complex) -> float:
    """95 % bound of the angle from the scatter across the direction of the median.

    The deviation is the larger of the scaled MAD and a third of the largest deviation's share, so
    that a handful of equal values with one far outlier is not taken for certainty.
    """
    if len(ratios) < 2 or centre == 0:
        return 180.0
    unit = centre / abs(centre)
    across = [((r - centre) / unit).imag for r in ratios]
    along = [((r - centre) / unit).real for r in ratios]
    deviation = max(_sigma(across), _sigma(along))
    freedom = min(len(ratios) - 1, len(T_95))
    bound = T_95[freedom - 1] * 1.2533 * deviation / math.sqrt(len(ratios))
    return math.degrees(math.atan2(bound, abs(centre)))


def _sigma(values: Sequence[float]) -> float:
    """Standard deviation estimated by the median absolute deviation."""
    return 1.4826 * statistics.median(abs(v) for v in values)


def _undecided(phase: PhaseWiring) -> PhaseWiring:
    """Strip the arrangement from a phase of an undecided whole."""
    return PhaseWiring(
        phase=phase.phase,
        expected_w=phase.expected_w,
        p_w=phase.p_w,
        q_var=phase.q_var,
        ratio=phase.ratio,
        angle_deg=phase.angle_deg,
        spread_deg=phase.spread_deg,
        verdict=Verdict.UNDECIDED,
        sees="",
        reversed=False,
    )
