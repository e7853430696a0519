"""Delivery error of a 1 % biased converter by simulation: closed loop and open loop."""

import logging
import sys
from pathlib import Path
from unittest.mock import patch

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from dst.world import Setting, run  # noqa: E402

from gateway.core import setpoints  # noqa: E402


def errors_permille(length_s, *, seeds):
    """Errors of slaves between 0.04 and 0.94 of the rating, in thousandths of the plan."""
    found = []
    for seed in seeds:
        outcome = run(
            Setting(seed=seed, minutes=60, faults=(), mischief=False, length_s=length_s, bias_ppm=10_000)
        )  # fmt: skip
        for entry in outcome.deliveries:
            for t in entry["terminals"]:
                mean_w = abs(t["planned_wh"]) * 3600 / length_s
                if (
                    t["terminal"] != "T1"
                    and 10_000 <= mean_w <= 235_000
                    and t["metered_wh"] is not None
                ):
                    found.append(
                        abs(t["judged_wh"] - t["planned_wh"]) * 1000 / abs(t["planned_wh"])
                    )
    return sorted(found)


def main():
    logging.disable(logging.CRITICAL)
    print(
        "| interval | loop | deliveries | median % | p99 % | worst % |\n|---|---|---|---|---|---|"
    )
    for length_s in (900, 300):
        for loop in ("closed", "open"):
            frozen = patch.object(setpoints, "_step_due", lambda *_: False)
            if loop == "closed":
                e = errors_permille(length_s, seeds=range(1, 5))
            else:
                with frozen:
                    e = errors_permille(length_s, seeds=range(1, 5))
            print(
                f"| {length_s // 60} min | {loop} | {len(e)} | {e[len(e) // 2] / 10:.3f} |"
                f" {e[int(len(e) * 0.99)] / 10:.3f} | {e[-1] / 10:.3f} |"
            )


if __name__ == "__main__":
    main()
