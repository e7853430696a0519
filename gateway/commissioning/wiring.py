"""Active wiring check: which CT sits on which phase, and which way round.

A soft open point injects a small balanced ±P; the *change* each meter phase sees, divided by
the change it should see, is a complex number whose angle is a multiple of 60°: 0 good, 180 a
reversed CT, ±120 a CT on another phase, ±60 both. Loads switch while we look, so the change
across each sign change is a sample and the median decides. What a phase should see is what the
terminal measured itself to deliver, not what it was asked for: a ramp, a derating or a converter
that is a little off are no fault of the meter. Not enough evidence is ``undecided``; a wrong
answer is never an option. Pure: samples in, verdict out.

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
METER_S = 2.5  # of these, averaging and latency: they come after a longer ramp as well
SETTLED_RATIO = 0.05  # of what was ordered: this near to its end a terminal has arrived
SETTLED_COUNT = 3  # readings; fewer say nothing of where a terminal stands
SETTLED_DEVIATIONS = 2.5  # of its noise, where that is more …
NOISE_RATIO_MAX = 0.1  # … but no more than this of what was ordered
DELIVERED_RATIO_MIN = 0.5  # of what was ordered: a change below is no injection to measure with
EDGE_S = 4.0  # settled samples are taken this close to a sign change: fewer loads switch meanwhile
RESIDUAL_DEG_MAX = 15.0  # half of the distance to the border between two multiples of 60°
SPREAD_DEG_MAX = 25.0  # 95 % bound of the angle; border at 30° is never reached inside it
CHANGES_MIN_COUNT = 3  # a median of fewer is a sample, not a median
RATIO_OFF = 0.05  # a ratio surely farther from 1 is a fault: CT classes add up to 3 %
RATIO_FINE = 0.08  # one surely nearer is fine; between them, or unsure, it is undecided
PHASE_OFF = 0.12  # a single phase scatters more than the three together …
PHASE_CHANGES_MIN_COUNT = 7  # … and needs more changes to be accused alone
DEVIATES_95, DEVIATES_99 = 1.96, 2.58  # standard deviations either side
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
    """One half period of the injection: powers at the meter's terminal, positive into the feeder.

    ``p_w`` was ordered, ``delivered_w`` was measured there from ``t_settled_s`` on; None: as
    ordered, at once.
    """

    t_start_s: float
    t_end_s: float
    p_w: float
    delivered_w: float | None = None
    t_settled_s: float | None = None

    @property
    def at_terminal_w(self) -> float:
        """What the terminal gave."""
        return self.p_w if self.delivered_w is None else self.delivered_w

    @property
    def t_ready_s(self) -> float:
        """From when on a meter shows it."""
        settled_s = self.t_start_s if self.t_settled_s is None else self.t_settled_s
        return max(self.t_start_s + DROP_S, settled_s + METER_S)


def measured_half(
    *, t_start_s: float, t_end_s: float, p_w: float, terminal: Sequence[tuple[float, float]]
) -> Half:
    """Return a half with what its terminal delivered, from readings of it as (s, W).

    One that was not read, or moved until the end, settles at the end: nothing is told from it.
    """
    inside = [(t, p) for t, p in terminal if t_start_s <= t <= t_end_s and math.isfinite(p)]
    unsettled = Half(
        t_start_s=t_start_s, t_end_s=t_end_s, p_w=p_w, delivered_w=0.0, t_settled_s=t_end_s
    )
    if len(inside) < SETTLED_COUNT:
        return unsettled
    powers = [p for _t, p in inside]
    final_w = statistics.median(powers[-SETTLED_COUNT:])
    runs = len(inside) - SETTLED_COUNT + 1
    # Of slow readings the ramp's steps look like noise: what is called at rest stays near the end.
    noise_w = min(NOISE_RATIO_MAX * abs(p_w), SETTLED_DEVIATIONS * _noise(powers))
    band_w = max(SETTLED_RATIO * abs(p_w), noise_w)
    moving = [
        k
        for k in range(runs)
        if abs(statistics.median(powers[k : k + SETTLED_COUNT]) - final_w) > band_w
    ]
    first = moving[-1] + SETTLED_COUNT - 1 if moving else 0
    while first < len(powers) and abs(powers[first] - final_w) > band_w:
        first += 1  # a window does not show a single reading of the ramp
    if len(powers) - first < SETTLED_COUNT:
        return unsettled
    return Half(
        t_start_s=t_start_s,
        t_end_s=t_end_s,
        p_w=p_w,
        delivered_w=statistics.median(powers[first:]),
        t_settled_s=inside[first][0] if first else t_start_s,
    )


def _noise(values: Sequence[float]) -> float:
    """Standard deviation of single values, from successive ones: a ramp is no noise."""
    steps = [b - a for a, b in pairwise(values)]
    usual = statistics.median(steps)
    return _sigma([step - usual for step in steps]) / math.sqrt(2)


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
    off: tuple[str, ...] = ()  # phases whose ratio is surely wrong
    ratio_told: bool = False  # whether the ratio could be judged, and the arrangement before it

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
        off = [p for p in self.phases if p.phase in self.off]
        if off:
            named = self.ratio_name
            phases = ", ".join(p.phase for p in off)
            mean = statistics.fmean(p.ratio for p in off)
            found.append(
                Finding(
                    code=named.code if named else "ratio",
                    where=f"{meter} {phases}",
                    what=f"reads {mean:.3g} times the delivered power on {phases}"
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
    along = [_along([c[i] for c in changes]) for i in range(3)]
    off, told = _ratios(along)
    in_place = all(p.sees == p.phase and not p.reversed for p in phases)
    verdict = Verdict.OK if told else Verdict.UNDECIDED
    mean = statistics.fmean(phases[i].ratio for i in off) if off else 1.0
    return WiringResult(
        verdict=Verdict.FAULT if off or not in_place else verdict,
        phases=phases,
        changes_count=len(changes),
        ratio_name=name_ratio(mean, ct_primary_a=ct_primary_a),
        off=tuple(PHASES[i] for i in off),
        ratio_told=told,
    )


def _along(ratios: Sequence[complex]) -> list[float]:
    """Return the ratios of a phase along the direction of their median, whichever that is."""
    centre = _centre(ratios)
    return sorted((r * centre.conjugate()).real / abs(centre) for r in ratios)


def _centre(ratios: Sequence[complex]) -> complex:
    return complex(
        statistics.median(r.real for r in ratios), statistics.median(r.imag for r in ratios)
    )


def _ratios(along: Sequence[Sequence[float]]) -> tuple[list[int], bool]:
    """Return the places of phases whose ratio is surely off, and whether all could be told.

    A CT ratio is mostly wrong on all three: together they say it sooner than one alone. Bounds of
    a median from its ranks hold whatever the loads do.
    """
    alone = len(along[0]) >= PHASE_CHANGES_MIN_COUNT
    off = [i for i in range(3) if alone and _surely_off(_bounds(along[i], DEVIATES_99))]
    low, high = _bounds(sorted(r for phase in along for r in phase), DEVIATES_95)
    medians = [statistics.median(phase) for phase in along]
    if _surely_off((low, high)):
        off = [i for i in range(3) if abs(medians[i] - 1) > RATIO_OFF]
    near = max(abs(m - 1) for m in medians) <= PHASE_OFF
    fine = near and low >= 1 - RATIO_FINE and high <= 1 + RATIO_FINE
    return off, bool(off) or fine


def _surely_off(bounds: tuple[float, float]) -> bool:
    return bounds[0] > 1 + RATIO_OFF or bounds[1] < 1 - RATIO_OFF


def _bounds(values: Sequence[float], deviates: float) -> tuple[float, float]:
    """Return between which of the sorted values their median lies."""
    rank = max(0, int(len(values) / 2 - deviates * math.sqrt(len(values)) / 2))
    return values[rank], values[-1 - rank]


def _swing_w(halves: Sequence[Half]) -> float:
    """Half of the mean step across a sign change: the amplitude at the terminal."""
    steps = [b.at_terminal_w - a.at_terminal_w for a, b in pairwise(halves) if _told(a, b)]
    return statistics.fmean(abs(step) for step in steps) / 2 if steps else 0.0


def _told(before: Half, after: Half) -> bool:
    """Tell whether the terminal changed its sign as ordered, by much of what was ordered."""
    if before.p_w * after.p_w >= 0:
        return False
    gave = (after.at_terminal_w - before.at_terminal_w) / (after.p_w - before.p_w)
    return gave >= DELIVERED_RATIO_MIN


def _changes(
    samples: Sequence[PhaseSample], halves: Sequence[Half], *, sign: float
) -> list[tuple[complex, complex, complex]]:
    """Return measured over expected change, one complex number a phase, per sign change."""
    found = []
    for before, after in pairwise(halves):
        if not _told(before, after):
            continue
        early = _settled(samples, max(before.t_ready_s, before.t_end_s - EDGE_S), before.t_end_s)
        late = _settled(samples, after.t_ready_s, min(after.t_end_s, after.t_ready_s + EDGE_S))
        if early is None or late is None:
            continue
        expected_w = sign * (after.at_terminal_w - before.at_terminal_w) / 3
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
    """Median power of each phase in a window; None without samples that have a value."""
    inside = [
        s
        for s in samples
        if t_start_s <= s.t_s <= t_end_s and all(math.isfinite(x) for x in (*s.p_w, *s.q_var))
    ]
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
    centre = _centre(ratios)
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
