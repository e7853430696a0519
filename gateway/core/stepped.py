"""Separate controllers: a change of power in steps, so that every subset of terminals is safe.

Controllers that share no OPERATE apply a step one after the other, or some not at all. Each step is
small enough that whatever subset has applied it, the master carries the residual (I22): with
``K = ceil(Σ|ΔP| / H)`` steps and H the room the master has left at both ends, no subset uses more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    total_w = sum(map(abs, moves.values()))
    if total_w == 0:
        return Stepped(steps=())
    # Whole watts: each terminal may be off its share by one, at both ends of a step.
    room_w = _room_w(sop, from_w, to_w, available_va) - 2 * len(ids)
    if room_w <= 0:
        detail = f"master {sop.master} has no room at an end of the change"
        return Reason(code=ReasonCode.MASTER_HEADROOM, detail=detail)
    count = -(-total_w // room_w)
    if count > STEPS_MAX:
        detail = f"{count} steps, at most {STEPS_MAX}"
        return Reason(code=ReasonCode.INFEASIBLE, detail=detail)
    return Stepped(
        steps=tuple(
            {t: from_w[t] + _share(moves[t], k, count) for t in ids} for k in range(1, count + 1)
        )
    )


def order(sop: Sop, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Terminals of one step in the order of writing: who relieves the master goes first."""
    sum_w = sum(before[t.id] for t in sop.slaves)

    def strain_w(terminal: str) -> tuple[int, str]:
        change = after[terminal] - before[terminal]
        return (change if sum_w >= 0 else -change), terminal

    return sorted((t.id for t in sop.slaves if after[t.id] != before[t.id]), key=strain_w)


def back(before: Mapping[str, int], applied: Iterable[str]) -> dict[str, int]:
    """Set values that undo a step for those who applied it (I29): again subsets of that step."""
    return {terminal: before[terminal] for terminal in applied}


def master_w(sop: Sop, powers_w: Mapping[str, int]) -> int:
    """The most the master may carry beside such powers: their sum and every loss."""
    sum_w = abs(sum(powers_w[t.id] for t in sop.slaves))
    loss_w = sum(sop.losses.loss_w(p_w=powers_w[t.id], s_va=t.s_va) for t in sop.slaves)
    return sum_w + loss_w + sop.losses.loss_w(p_w=sum_w, s_va=sop.terminal(sop.master).s_va)


def _room_w(
    sop: Sop,
    from_w: Mapping[str, int],
    to_w: Mapping[str, int],
    available_va: Mapping[str, int],
) -> int:
    """What the master has left at both ends, with the largest losses on the way between them."""
    highest = {t.id: max(abs(from_w[t.id]), abs(to_w[t.id])) for t in sop.slaves}
    loss_w = sum(sop.losses.loss_w(p_w=highest[t.id], s_va=t.s_va) for t in sop.slaves)
    master = sop.terminal(sop.master)
    loss_w += sop.losses.loss_w(p_w=master.s_va, s_va=master.s_va)
    ends_w = max(abs(sum(powers[t.id] for t in sop.slaves)) for powers in (from_w, to_w))
    return min(available_va.get(sop.master, 0), master.s_va) - ends_w - loss_w


def _share(move_w: int, step: int, count: int) -> int:
    """Share of a move after so many steps, rounded towards where it began."""
    whole = abs(move_w) * step // count
    return whole if move_w >= 0 else -whole
