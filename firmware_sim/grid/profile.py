"""Course of load and sun over the day: a built-in one, or a file with one row an instant."""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Ratios over the seconds of a day; linear in between, the first row follows the last."""

    instants_s: tuple[float, ...]
    load_ratio: tuple[float, ...]
    sun_ratio: tuple[float, ...]

    def at(self, t_s: float) -> tuple[float, float]:
        """Load and sun ratio at an instant."""
        t_s %= DAY_S
        index = bisect_right(self.instants_s, t_s) - 1
        following = (index + 1) % len(self.instants_s)
        start, end = self.instants_s[index], self.instants_s[following]
        span = (end - start) % DAY_S or DAY_S
        share = ((t_s - start) % DAY_S) / span
        return (
            self.load_ratio[index] + share * (self.load_ratio[following] - self.load_ratio[index]),
            self.sun_ratio[index] + share * (self.sun_ratio[following] - self.sun_ratio[index]),
        )


def built_in() -> Profile:
    """A day with a morning and an evening peak and a clear sky, in quarter hours."""
    instants = tuple(900.0 * k for k in range(96))
    loads, suns = [], []
    for t_s in instants:
        hour = t_s / 3600.0
        morning = math.exp(-(((hour - 8.0) / 2.0) ** 2))
        evening = math.exp(-(((hour - 19.0) / 2.5) ** 2))
        loads.append(round(0.45 + 0.35 * morning + 0.55 * evening, 4))
        suns.append(round(max(0.0, math.sin((hour - 6.0) / 12.0 * math.pi)), 4))
    return Profile(instants_s=instants, load_ratio=tuple(loads), sun_ratio=tuple(suns))


def constant(load_ratio: float = 1.0, sun_ratio: float = 0.0) -> Profile:
    """The same all day."""
    return Profile(instants_s=(0.0,), load_ratio=(load_ratio,), sun_ratio=(sun_ratio,))


def from_file(path: Path) -> Profile:
    """Read ``hour,load,sun`` rows; raises ValueError with file and line."""
    rows: list[tuple[float, float, float]] = []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != ["hour", "load", "sun"]:
            raise ValueError(f"{path}:1:1: the header must be hour,load,sun")
        for row in reader:
            try:
                hour, load, sun = float(row["hour"]), float(row["load"]), float(row["sun"])
            except (TypeError, ValueError):
                raise ValueError(f"{path}:{reader.line_num}:1: three numbers a row") from None
            if not 0 <= hour < 24 or (rows and hour * 3600 <= rows[-1][0]):
                raise ValueError(f"{path}:{reader.line_num}:1: hours grow from 0 to below 24")
            rows.append((hour * 3600.0, load, sun))
    if not rows or rows[0][0] != 0.0:
        raise ValueError(f"{path}:2:1: the first row is hour 0")
    instants, loads, suns = zip(*rows, strict=True)
    return Profile(instants_s=instants, load_ratio=loads, sun_ratio=suns)
