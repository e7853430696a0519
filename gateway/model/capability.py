"""What a terminal was measured to deliver: a polygon in the PQ plane.

It can only narrow the rating and the guard, never widen them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Corner = tuple[int, int]  # p_w, q_var


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """Polygon of one terminal, corners in order of angle; P positive when injecting."""

    terminal: str
    s_va: int
    corners: tuple[Corner, ...]

    def p_range_w(self, q_var: int = 0) -> tuple[int, int] | None:
        """Return the lowest and highest P the polygon admits at a reactive power."""
        crossings: list[float] = []
        for (p0, q0), (p1, q1) in zip(
            self.corners, self.corners[1:] + self.corners[:1], strict=True
        ):
            if q0 == q1:
                if q0 == q_var:
                    crossings += [p0, p1]
                continue
            if min(q0, q1) <= q_var <= max(q0, q1):
                crossings.append(p0 + (p1 - p0) * (q_var - q0) / (q1 - q0))
        if not crossings:
            return None
        low, high = min(crossings), max(crossings)
        return math.ceil(low), math.floor(high)  # towards the inside

    def admits(self, *, p_w: int, q_var: int) -> bool:
        """Tell whether a point lies in the polygon."""
        limits = self.p_range_w(q_var)
        return limits is not None and limits[0] <= p_w <= limits[1]

    def narrowed(self, p_w_min: int, p_w_max: int) -> tuple[int, int]:
        """Narrow limits of active power, at Q = 0, to what was measured; zero always stays."""
        low, high = self.p_range_w(0) or (0, 0)
        return min(0, max(p_w_min, low)), max(0, min(p_w_max, high))
