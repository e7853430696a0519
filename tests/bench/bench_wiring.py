"""How often the active wiring check is right: all 48 arrangements of three CTs against loads.

The model behind the figures: three phases 120° apart, each with a load that switches at random
instants (exponential gaps, mean 15 s, every switch a step of up to the largest one at power
factor 0.85 to 1), 50 W of noise, a converter that follows its setpoint with 0.3 s, a meter polled
every second. The check decides as soon as it can, at the end of any half, or gives up at the end.

Run: python tests/bench/bench_wiring.py [seeds]
"""

import cmath
import itertools
import math
import random
import sys
from collections import Counter

from gateway.commissioning import injection, wiring
from gateway.commissioning.finding import Verdict

UNIT = [cmath.exp(-2j * math.pi * k / 3) for k in range(3)]  # voltages of L1, L2, L3
ARRANGEMENTS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)


def load_track(rng, *, step_w_max, length_s, mean_gap_s):
    """Complex load power of one phase, once a second, and its largest step."""
    level, next_s, track = complex(0.6 * step_w_max, 0), rng.expovariate(1 / mean_gap_s), []
    for t in range(length_s):
        while next_s <= t:
            next_s += rng.expovariate(1 / mean_gap_s)
            size = rng.uniform(0, step_w_max)
            step = cmath.rect(size, math.acos(rng.uniform(0.85, 1)))
            level = level + step if rng.random() < 0.5 or level.real < size else level - step
        track.append(level)
    return track


def scene(arrangement, *, injected_w, length_s, step_w_max, rng, mean_gap_s=15, half_s=10):
    """Samples of a wrongly wired meter and the halves that were injected."""
    order, turned = arrangement
    plan = injection.halves(
        injection.signs(int(length_s / half_s), rng.random), p_w=injected_w, half_s=half_s
    )
    loads = [
        load_track(rng, step_w_max=step_w_max, length_s=length_s + 1, mean_gap_s=mean_gap_s)
        for _ in range(3)
    ]
    samples, p_w = [], 0.0
    for t in range(length_s + 1):
        target = next((h.p_w for h in plan if h.t_start_s <= t < h.t_end_s), 0.0)
        p_w += (target - p_w) * (1 - math.exp(-1 / 0.3))
        line = [loads[k][t] - p_w / 3 for k in range(3)]  # positive: taken from the grid
        seen = [
            turned[i] * line[order[i]] * UNIT[i] / UNIT[order[i]]
            + complex(rng.gauss(0, 50), rng.gauss(0, 50))
            for i in range(3)
        ]
        samples.append(
            wiring.PhaseSample(
                t_s=float(t), p_w=tuple(s.real for s in seen), q_var=tuple(s.imag for s in seen)
            )
        )
    return samples, plan


def outcome(arrangement, samples, plan):
    """``right``, ``wrong`` or ``undecided``, deciding at the first half that allows it."""
    for count in range(4, len(plan) + 1):
        result = wiring.judge(samples, plan[:count], import_positive=True)
        if result.verdict is not Verdict.UNDECIDED:
            got = (
                tuple(wiring.PHASES.index(p.sees) for p in result.phases),
                tuple(-1 if p.reversed else 1 for p in result.phases),
            )
            return "right" if got == arrangement else "wrong"
    return "undecided"


def campaign(*, injected_w, length_s, step_w_max, seeds, mean_gap_s=15):
    """Count outcomes over all 48 arrangements and the given seeds."""
    counts = Counter()
    for seed in seeds:
        for number, arrangement in enumerate(ARRANGEMENTS):
            rng = random.Random(f"{seed}/{number}/{injected_w}/{length_s}/{step_w_max}")
            counts[
                outcome(
                    arrangement,
                    *scene(
                        arrangement,
                        injected_w=injected_w,
                        length_s=length_s,
                        step_w_max=step_w_max,
                        rng=rng,
                        mean_gap_s=mean_gap_s,
                    ),
                )
            ] += 1
    return counts


def main():
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    print("largest load step   injection   time    runs   wrong   undecided   rule 1.5 x")
    for step_w_max in (3000, 15000):
        for injected_w in (5000, 10000, 20000, 22500):
            for length_s in (60, 120, 240):
                c = campaign(
                    injected_w=injected_w, length_s=length_s, step_w_max=step_w_max, seeds=seeds
                )
                runs = c.total()
                kept = injected_w >= wiring.injection_needed_w(step_w_max)
                print(
                    f"{step_w_max / 1000:11.0f} kW     ±{injected_w / 1000:5.1f} kW  {length_s:4d} s"
                    f"  {runs:6d}  {c['wrong']:6d}   {100 * c['undecided'] / runs:7.1f} %   "
                    f"{'kept' if kept else 'broken'}"
                )


if __name__ == "__main__":
    main()
