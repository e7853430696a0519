"""Capability sweep: which points of the PQ plane a terminal truly delivers.

The polygon of delivered points is what the planner may use; it can only narrow the rating.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.model.capability import Capability

REACHED_RATIO = 0.03  # of the rating: a point this close to what was asked counts as delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One point of the sweep."""

    angle_deg: float
    radius_ratio: float
    p_w: int
    q_var: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited:
    """A target with what was measured there, or why it was skipped or left."""

    target: Target
    p_w: int
    q_var: int
    reason: str = ""  # "" visited; otherwise why not, e.g. ``predicted voltage``


def spiral(
    *, s_va: int, p_w_min: int, p_w_max: int, angles_count: int, radii: Sequence[float]
) -> tuple[Target, ...]:
    """Lay out the targets, inner ring first and each ring round: small steps all the way."""
    targets = []
    for ring, radius in enumerate(radii):
        order = range(angles_count) if ring % 2 == 0 else range(angles_count - 1, -1, -1)
        for k in order:
            angle = 2 * math.pi * k / angles_count
            p_w = round(radius * s_va * math.cos(angle))
            targets.append(
                Target(
                    angle_deg=360 * k / angles_count,
                    radius_ratio=radius,
                    p_w=max(p_w_min, min(p_w_max, p_w)),
                    q_var=round(radius * s_va * math.sin(angle)),
                )
            )
    return tuple(targets)


def predicted_v(v_now_v: float, *, p_w: float, q_var: float, r_ohm: float, x_ohm: float) -> float:
    """Predict the feeder's line voltage at a point: ΔV = (R·P + X·Q) / V."""
    return v_now_v + (r_ohm * p_w + x_ohm * q_var) / v_now_v


def impedance_from(v0_v: float, v1_v: float, *, p0_w: float, p1_w: float) -> float | None:
    """Estimate the feeder's resistance from one small step of P; None when P did not move."""
    if abs(p1_w - p0_w) < 1:
        return None
    return max(0.0, (v1_v - v0_v) * (v0_v + v1_v) / 2 / (p1_w - p0_w))


def skip_where(
    targets: Sequence[Target], unsafe: Callable[[Target], str]
) -> tuple[list[Target], list[Visited]]:
    """Split targets into those to visit and those to skip, with the reason."""
    visit, skipped = [], []
    for target in targets:
        reason = unsafe(target)
        if reason:
            skipped.append(Visited(target=target, p_w=0, q_var=0, reason=reason))
        else:
            visit.append(target)
    return visit, skipped


def polygon(terminal: str, visited: Sequence[Visited], *, s_va: int) -> Capability:
    """Join, per direction, the farthest point that was delivered.

    A direction in which a target was not reached keeps what was measured there: the
    converter's true limit. One that was never visited has a corner at zero: nothing is assumed.
    """
    best: dict[float, tuple[float, tuple[int, int]]] = {}
    for point in visited:
        angle = point.target.angle_deg
        best.setdefault(angle, (0.0, (0, 0)))
        if point.reason:
            continue
        asked = point.target
        missed = math.hypot(point.p_w - asked.p_w, point.q_var - asked.q_var)
        reached = missed <= REACHED_RATIO * s_va
        corner = (asked.p_w, asked.q_var) if reached else (point.p_w, point.q_var)
        size = math.hypot(*corner)
        if size > best[angle][0]:
            best[angle] = (size, corner)
    return Capability(terminal=terminal, s_va=s_va, corners=tuple(best[a][1] for a in sorted(best)))


def shortfalls(visited: Sequence[Visited], *, s_va: int) -> tuple[Visited, ...]:
    """Return the points that were visited and not reached."""
    return tuple(
        v
        for v in visited
        if not v.reason
        and math.hypot(v.p_w - v.target.p_w, v.q_var - v.target.q_var) > REACHED_RATIO * s_va
    )
