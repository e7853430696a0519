"""How far the step test's times are from the truth of known shapes, against what it says of itself.

Run: python tests/bench/bench_step.py [phases]
"""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "gateway" / "commissioning" / "test_step.py"
SPEC = importlib.util.spec_from_file_location("shapes", HERE)
shapes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(shapes)


def main():
    phases = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print("shape          polls    time       worst error   worst resolution   inside")
    for shape in (shapes.ramp, shapes.second_order):
        dead, response, _settle = shapes.truth(shape)
        for period_s in (0.02, 0.05, 0.2, 0.5):
            errors = {"dead time": [], "response": []}
            for k in range(phases):
                m = shapes.measure(
                    shapes.sampled(shape, period_s=period_s, phase_s=k / phases * period_s, seed=k)
                )
                for name, got, true in (
                    ("dead time", m.dead_time, dead),
                    ("response", m.response, response),
                ):
                    errors[name].append((abs(got.value_s - true), got.resolution_s))
            for name, found in errors.items():
                inside = sum(e <= r + 1e-9 for e, r in found)
                print(
                    f"{shape.__name__:<13} {1000 * period_s:4.0f} ms   {name:<10}"
                    f"{1000 * max(e for e, _ in found):8.1f} ms"
                    f"{1000 * max(r for _, r in found):14.1f} ms"
                    f"{inside:13d}/{len(found)}"
                )


if __name__ == "__main__":
    main()
