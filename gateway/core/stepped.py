"""Separate controllers: a change of power in steps, so that every subset of terminals is safe.

Controllers that share no OPERATE apply a step one after the other, or some not at all. Each step is
small enough that whatever subset has applied it, the master carries the residual (I22).

The others' sum goes from ``s0`` to ``s1`` while ``u`` W go up and ``d`` W go down. Of ``K`` equal
steps the highest sum of any subset is ``max(s0 + u/K, s1 + d/K)``, the lowest
``min(s0 - d/K, s1 - u/K)``; K is the least that keeps both within what the master can carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop

STEPS_MAX = 20  # more are refused: each is written, read back and checked before the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """Set values of the slaves, step by step; the last are the target's."""

    steps: tuple[Mapping[str, int], ...]


def plan_steps(
    sop: Sop,
    *,
    from_w: Mapping[str, int],
    to_w: Mapping[str, int],
    available_va: Mapping[str, int],
) -> Stepped | Reason:
    """Split a change so that every subset of every step is safe, or say why that cannot be."""
    ids = [t.id for t in sop.slaves]
    moves = {t: to_w[t] - from_w[t] for t in ids}
    up_w, down_w = _up_and_down(moves)
    if not up_w and not down_w:
        return Stepped(steps=())
    s0_w, s1_w = (sum(powers[t] for t in ids) for powers in (from_w, to_w))
    # Whole watts: each terminal may be off its share by one, at both ends of a step.
    spare_w = 2 * len(ids)
    most_up_w = _most_up_w(sop, from_w, to_w, available_va) - spare_w
    most_down_w = _carried_w(sop, available_va) - spare_w
    count = 1
    for move_w, room_w in (
        (up_w, most_up_w - s0_w),
        (down_w, most_up_w - s1_w),
        (down_w, most_down_w + s0_w),
        (up_w, most_down_w + s1_w),
    ):
        if move_w and room_w <= 0:
            detail = f"master {sop.master} has no room at an end of the change"
            return Reason(code=ReasonCode.MASTER_HEADROOM, detail=detail)
        count = max(count, -(-move_w // room_w) if move_w else 1)
    if count > STEPS_MAX:
        detail = f"{count} steps, at most {STEPS_MAX}"
        return Reason(code=ReasonCode.INFEASIBLE, detail=detail)
    return Stepped(
        steps=tuple(
            {t: from_w[t] + _share(moves[t], k, count) for t in ids} for k in range(1, count + 1)
        )
    )


def next_step(
    sop: Sop,
    *,
    from_w: Mapping[str, int],
    to_w: Mapping[str, int],
    available_va: Mapping[str, int],
) -> dict[str, int] | Reason:
    """Set values of the slaves to write next on the way; the target's when one step will do.

    Where the master has no room for equal steps those who move one way go first: their sum goes
    one way too, so that every subset of them lies between the two ends of the step.
    """
    planned = plan_steps(sop, from_w=from_w, to_w=to_w, available_va=available_va)
    if isinstance(planned, Stepped):
        return dict(planned.steps[0] if planned.steps else _slaves(sop, to_w))
    found = _one_way(sop, from_w, to_w, available_va)
    return planned if found is None else found


def steps_count(sop: Sop, *, from_w: Mapping[str, int], to_w: Mapping[str, int]) -> int:
    """How many steps a change takes, with every terminal at its rating; at most STEPS_MAX."""
    rated_va = {t.id: t.s_va for t in sop.terminals}
    now_w, count = _slaves(sop, from_w), 0
    while count < STEPS_MAX and any(now_w[t] != to_w[t] for t in now_w):
        step = next_step(sop, from_w=now_w, to_w=to_w, available_va=rated_va)
        if isinstance(step, Reason):
            return STEPS_MAX
        now_w, count = step, count + 1
    return count


def writing_order(sop: Sop, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Every terminal once: first those that move, in their order, then the others as mapped."""
    moving = order(sop, before, after)
    return moving + [t.id for t in sop.terminals if t.id not in moving]


def half_applied(
    sop: Sop, *, before: Mapping[str, int], sent: Mapping[str, int], held: Mapping[str, int]
) -> bool:
    """Whether each slave holds what it held before a step or what the step sent it."""
    return all(held.get(t.id) in (before[t.id], sent[t.id]) for t in sop.slaves)


def order(sop: Sop, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Terminals of one step in the order of writing: who relieves the master goes first."""
    sum_w = sum(before[t.id] for t in sop.slaves)

    def strain_w(terminal: str) -> tuple[int, str]:
        change = after[terminal] - before[terminal]
        return (change if sum_w >= 0 else -change), terminal

    return sorted((t.id for t in sop.slaves if after[t.id] != before[t.id]), key=strain_w)


def _one_way(
    sop: Sop,
    from_w: Mapping[str, int],
    to_w: Mapping[str, int],
    available_va: Mapping[str, int],
) -> dict[str, int] | None:
    """As much of the moves up, or of the moves down, as the master can carry; None: nothing."""
    moves = {t.id: to_w[t.id] - from_w[t.id] for t in sop.slaves}
    up_w, down_w = _up_and_down(moves)
    sum_w = sum(from_w[t.id] for t in sop.slaves)
    up_room_w = _most_up_w(sop, from_w, to_w, available_va) - sum_w
    down_room_w = _carried_w(sop, available_va) + sum_w
    # Who brings the sum back towards zero first; from zero, who has less to move.
    up_first = sum_w < 0 or (sum_w == 0 and up_w <= down_w)
    for up in (up_first, not up_first):
        whole_w, room_w = (up_w, up_room_w) if up else (down_w, down_room_w)
        part_w = min(whole_w, room_w)
        found = {
            t: from_w[t] + (_share(m, part_w, whole_w) if m and (m > 0) is up else 0)
            for t, m in moves.items()
        }
        if part_w > 0 and any(found[t] != from_w[t] for t in found):
            return found
    return None


def _up_and_down(moves: Mapping[str, int]) -> tuple[int, int]:
    """Sum of the moves up and of those down, both positive."""
    return sum(m for m in moves.values() if m > 0), -sum(m for m in moves.values() if m < 0)


def _slaves(sop: Sop, powers_w: Mapping[str, int]) -> dict[str, int]:
    return {t.id: powers_w[t.id] for t in sop.slaves}


def _most_up_w(
    sop: Sop,
    from_w: Mapping[str, int],
    to_w: Mapping[str, int],
    available_va: Mapping[str, int],
) -> int:
    """What the others may inject in all: the master absorbs it, and every loss besides.

    With the largest losses between two ends. The other way round losses relieve the master.
    """
    highest = {t.id: max(abs(from_w[t.id]), abs(to_w[t.id])) for t in sop.slaves}
    loss_w = sum(sop.losses.loss_w(p_w=highest[t.id], s_va=t.s_va) for t in sop.slaves)
    master = sop.terminal(sop.master)
    loss_w += sop.losses.loss_w(p_w=master.s_va, s_va=master.s_va)
    return _carried_w(sop, available_va) - loss_w


def _carried_w(sop: Sop, available_va: Mapping[str, int]) -> int:
    return min(available_va.get(sop.master, 0), sop.terminal(sop.master).s_va)


def _share(move_w: int, step: int, count: int) -> int:
    """Share of a move after so many steps, rounded towards where it began."""
    whole = abs(move_w) * step // count
    return whole if move_w >= 0 else -whole
