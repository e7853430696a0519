"""Separate controllers: a change of power in steps, so that every subset of terminals is safe.

Controllers that share no OPERATE apply a step one after the other, or some not at all. Each step is
small enough that whatever subset has applied it, the master carries the residual (I22).

Of a step that takes the others' sum from ``s`` while ``u`` W go up and ``d`` W go down no subset
lies above ``s + u`` or below ``s - d``. So a step is the largest part of the way for which both are
within what the master can carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.ramps import duration_ms
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop

STEPS_MAX = 20  # counted no further: each is written, read back and checked before the next
SMALL_PARTS = 5  # where a step were less than a fifth of the way, moves one way go first


def next_step(
    sop: Sop,
    *,
    from_w: Mapping[str, int],
    to_w: Mapping[str, int],
    available_va: Mapping[str, int],
) -> dict[str, int] | Reason:
    """Set values of the slaves to write next on the way; the target's when one step will do.

    Where the master has little room those who move one way go first: their sum goes one way too,
    so that every subset of them lies between the two ends of the step.
    """
    moves = {t.id: to_w[t.id] - from_w[t.id] for t in sop.slaves}
    up_w, down_w = (sum(m * sign for m in moves.values() if m * sign > 0) for sign in (1, -1))
    sum_w = sum(from_w[t.id] for t in sop.slaves)
    up_room_w = _most_up_w(sop, from_w, to_w, available_va) - sum_w
    down_room_w = _carried_w(sop, available_va) + sum_w
    ways = [(room_w, w) for room_w, w in ((up_room_w, up_w), (down_room_w, down_w)) if w]
    if all(w <= room_w for room_w, w in ways):
        return _part(from_w, moves, 1, 1)
    # The tighter of the two ways says how large a part of the whole is safe.
    part_w, whole_w = min(ways, key=lambda way: way[0] * 1_000_000 // way[1])
    if part_w * SMALL_PARTS >= whole_w:
        return _part(from_w, moves, part_w, whole_w)
    # Who brings the sum back towards zero first; from zero, who has less to move.
    up_first = sum_w < 0 or (sum_w == 0 and up_w <= down_w)
    for up in (up_first, not up_first):
        whole_w, room_w = (up_w, up_room_w) if up else (down_w, down_room_w)
        one_way = {t: m if (m > 0) is up else 0 for t, m in moves.items()}
        found = _part(from_w, one_way, max(0, min(whole_w, room_w)), max(1, whole_w))
        if any(found[t] != from_w[t] for t in found):
            return found
    detail = f"master {sop.master} has no room for any part of the change"
    return Reason(code=ReasonCode.MASTER_HEADROOM, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How long the steps of a change take, and each slave's ramp with the same energy."""

    whole_ms: int
    own_ms: Mapping[str, int]
    steps_count: int


def course(
    sop: Sop, *, from_w: Mapping[str, int], to_w: Mapping[str, int], permille: int, pause_ms: int
) -> Course:
    """Go a change by its steps, with every terminal at its rating and ramp; STEPS_MAX at most.

    A move that happens around an instant is worth a ramp that is half done then.
    """
    rated_va = {t.id: t.s_va for t in sop.terminals}
    now_w = {t.id: from_w[t.id] for t in sop.slaves}
    begins_ms = whole_ms = count = 0
    late_wms = dict.fromkeys(now_w, 0)  # W moved times twice the middle of the move
    while count < STEPS_MAX and any(now_w[t] != to_w[t] for t in now_w):
        step = next_step(sop, from_w=now_w, to_w=to_w, available_va=rated_va)
        if isinstance(step, Reason):
            break
        ramps_ms = {}
        for t in sop.slaves:
            move_w = step[t.id] - now_w[t.id]
            ramps_ms[t.id] = duration_ms(move_w=move_w, s_va=t.s_va, permille=permille)
            late_wms[t.id] += abs(move_w) * (2 * begins_ms + ramps_ms[t.id])
        whole_ms = begins_ms + max(ramps_ms.values())
        begins_ms = whole_ms + pause_ms
        now_w, count = step, count + 1
    own_ms = {t: late // max(1, abs(now_w[t] - from_w[t])) for t, late in late_wms.items()}
    return Course(whole_ms=whole_ms, own_ms=own_ms, steps_count=count)


def writing_order(sop: Sop, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Every terminal once: first those that move, who relieves the master before the others."""
    sum_w = sum(before[t.id] for t in sop.slaves)

    def strain_w(terminal: str) -> tuple[int, str]:
        change = after[terminal] - before[terminal]
        return (change if sum_w >= 0 else -change), terminal

    moving = sorted((t.id for t in sop.slaves if after[t.id] != before[t.id]), key=strain_w)
    return moving + [t.id for t in sop.terminals if t.id not in moving]


def half_applied(
    sop: Sop, *, before: Mapping[str, int], sent: Mapping[str, int], held: Mapping[str, int]
) -> bool:
    """Whether each slave holds what it held before a step or what the step sent it."""
    return all(held.get(t.id) in (before[t.id], sent[t.id]) for t in sop.slaves)


def _part(
    from_w: Mapping[str, int], moves: Mapping[str, int], part: int, whole: int
) -> dict[str, int]:
    """So much of every move, rounded towards where it began."""
    return {
        t: from_w[t] + (m * part // whole if m >= 0 else -(-m * part // whole))
        for t, m in moves.items()
    }


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
