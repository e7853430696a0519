"""Capability sweep: which points of the PQ plane a terminal truly delivers.

The polygon of delivered points is what the planner may use; it can only narrow the rating.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.model.capability import Capability

REACHED_RATIO = 0.03  # of the rating: a point this close to what was asked counts as delivered
TOLD_RATIO = 0.1  # of the rating: what moved less tells noise, not the feeder
STEP_RATIO = 0.15  # of the rating: the first steps, of P and of Q, from which the feeder is told
# Until a step has told it, the voltage is taken to move by anything up to this share at full
# rating, by P and by Q each: a short-circuit power of ten ratings; few feeders are weaker.
MOVE_RATIO = 0.1


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
            # Rounded towards zero: a point on the circle is never beyond the rating.
            p_w = int(radius * s_va * math.cos(angle))
            targets.append(
                Target(
                    angle_deg=360 * k / angles_count,
                    radius_ratio=radius,
                    p_w=max(p_w_min, min(p_w_max, p_w)),
                    q_var=int(radius * s_va * math.sin(angle)),
                )
            )
    return tuple(targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What was different at a point from rest: powers as measured, and the line voltage."""

    p_w: float
    q_var: float
    v_v: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """Resistance and reactance in ohm, each as lowest and highest: equal once measured."""

    r_ohm: tuple[float, float]
    x_ohm: tuple[float, float]


def feeder(v0_v: float, shifts: Sequence[Shift], *, s_va: int) -> Feeder:
    """Estimate the feeder from all points by least squares of ΔV·V = R·ΔP + X·ΔQ.

    R is told by points that moved P, X by those that moved Q. A point that moved little of one
    moves the voltage by the other, and by loads: it must not be divided by its noise.
    """
    unknown = (0.0, MOVE_RATIO * v0_v * v0_v / s_va)
    told = (TOLD_RATIO * s_va) ** 2
    pp = sum(s.p_w * s.p_w for s in shifts)
    qq = sum(s.q_var * s.q_var for s in shifts)
    pq = sum(s.p_w * s.q_var for s in shifts)
    moved = [s.v_v * (v0_v + s.v_v / 2) for s in shifts]
    pv = sum(s.p_w * m for s, m in zip(shifts, moved, strict=True))
    qv = sum(s.q_var * m for s, m in zip(shifts, moved, strict=True))
    if pp >= told and qq >= told and pp * qq - pq * pq >= told * max(pp, qq):
        determinant = pp * qq - pq * pq
        r_ohm = max(0.0, (pv * qq - qv * pq) / determinant)
        x_ohm = max(0.0, (qv * pp - pv * pq) / determinant)
        return Feeder(r_ohm=(r_ohm, r_ohm), x_ohm=(x_ohm, x_ohm))
    # One of them alone, where the other was as good as still.
    if pp >= told and qq <= TOLD_RATIO**2 * pp:
        return Feeder(r_ohm=(max(0.0, pv / pp),) * 2, x_ohm=unknown)
    if qq >= told and pp <= TOLD_RATIO**2 * qq:
        return Feeder(r_ohm=unknown, x_ohm=(max(0.0, qv / qq),) * 2)
    return Feeder(r_ohm=unknown, x_ohm=unknown)


def predicted_v(v0_v: float, *, p_w: float, q_var: float, feeder: Feeder) -> tuple[float, float]:
    """Predict the lowest and the highest line voltage at a point: ΔV = (R·P + X·Q) / V."""
    ends = [v0_v + (r * p_w + x * q_var) / v0_v for r in feeder.r_ohm for x in feeder.x_ohm]
    return min(ends), max(ends)


def first_steps(
    *, v0_v: float, v_mid_v: float, s_va: int, p_w_min: int, p_w_max: int, radius_ratio_max: float
) -> tuple[Target, Target]:
    """Lay out one small step of P and one of Q, towards the middle of the voltage limits."""
    ratio = min(STEP_RATIO, radius_ratio_max)
    power = round(ratio * s_va) * (1 if v0_v <= v_mid_v else -1)
    p_w = max(p_w_min, min(p_w_max, power))
    return (
        Target(angle_deg=0.0 if p_w >= 0 else 180.0, radius_ratio=ratio, p_w=p_w, q_var=0),
        Target(angle_deg=90.0 if power >= 0 else 270.0, radius_ratio=ratio, p_w=0, q_var=power),
    )


def never_visited(visited: Sequence[Visited]) -> tuple[float, ...]:
    """Return the directions of which no point was visited: nothing is known of them."""
    known = {v.target.angle_deg for v in visited if not v.reason}
    return tuple(sorted({v.target.angle_deg for v in visited} - known))


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
