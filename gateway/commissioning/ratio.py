"""Naming a ratio: what a reading ten, forty or a thousand times too large usually means."""

from __future__ import annotations

import math
from dataclasses import dataclass

# A reading this close to a named ratio is taken for it: CT class and meter class add up to 3 %,
# load noise to a few more, and the named ratios lie at least 20 % apart.
NEAR_RATIO = 0.08

# Secondary currents of current transformers are 1 A or 5 A; primaries come from this series
# (IEC 61869-2 decades of 10, 12.5, 15, 20, 25, 30, 40, 50, 60, 75).
CT_PRIMARIES_A = (
    50, 60, 75, 100, 125, 150, 200, 250, 300, 400, 500, 600, 750, 800, 1000, 1200, 1250, 1500,
    2000, 2500, 3000,
)  # fmt: skip

_NAMED: tuple[tuple[float, str, str], ...] = (
    (1000.0, "unit-kilo", "the value is in W where the profile says kW"),
    (0.001, "unit-kilo", "the value is in kW where the profile says W"),
    (100.0, "scale-100", "the scale factor is 100 times too large"),
    (0.01, "scale-100", "the scale factor is 100 times too small"),
    (10.0, "scale-10", "the scale factor is ten times too large"),
    (0.1, "scale-10", "the scale factor is ten times too small"),
    (5.0, "ct-secondary", "the CT ratio is set for a 1 A secondary and the CT has 5 A"),
    (0.2, "ct-secondary", "the CT ratio is set for a 5 A secondary and the CT has 1 A"),
    (1.7321, "root-3", "line voltage is taken for phase voltage"),
    (0.57735, "root-3", "phase voltage is taken for line voltage"),
    (3.0, "phases-3", "one phase is counted three times, or a total is taken for a phase"),
    (0.3333, "phases-3", "only one phase is counted"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioName:
    """A word for a ratio and what it means in a sentence."""

    code: str
    meaning: str


def near(ratio: float, named_ratio: float) -> bool:
    """Tell whether two ratios agree within NEAR_RATIO."""
    return abs(ratio / named_ratio - 1) <= NEAR_RATIO


def name_ratio(ratio: float, *, ct_primary_a: int | None = None) -> RatioName | None:
    """Name measured/true; None when it is 1 or when nothing common explains it.

    ``ct_primary_a`` is the primary current set in the meter; with it a ratio that no unit or scale
    explains is looked for among the standard CT primaries: measured/true is then
    configured/actual.
    """
    if ratio <= 0 or near(ratio, 1.0):
        return None
    known = [(r, RatioName(code=code, meaning=meaning)) for r, code, meaning in _NAMED]
    if ct_primary_a is not None:
        known += [
            (
                ct_primary_a / actual_a,
                RatioName(
                    code="ct-ratio",
                    meaning=f"the meter is set for a {ct_primary_a} A CT and reads like "
                    f"one of {actual_a} A",
                ),
            )
            for actual_a in CT_PRIMARIES_A
            if actual_a != ct_primary_a
        ]
    else:
        known += [
            (
                whole,
                RatioName(
                    code="ct-ratio",
                    meaning=f"the CT ratio is set wrongly: the reading is {text} the truth",
                ),
            )
            for n in (2, 4, 6, 8, 12, 15, 16, 20, 25, 30, 40, 50, 60, 80)
            for whole, text in ((float(n), f"{n} times"), (1.0 / n, f"1/{n} of"))
        ]
    closest_ratio, name = min(known, key=lambda pair: abs(math.log(ratio / pair[0])))
    return name if near(ratio, closest_ratio) else None
