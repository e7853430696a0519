"""Ramps that end together: the way between two sets of power is then a straight line.

Between two points that both respect the master's limit every point of a straight line respects it
too. With one ramp for all, short moves end first and the master meets what neither end has.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.model.terminal import Sop

FLOOR_PARTS = 20  # no ramp below a twentieth of the site's: a stop must not take minutes
FOLLOWS_PERCENT = 3  # of the rating: a terminal further from its setpoint is still on its way


def together(
    sop: Sop, *, from_w: Mapping[str, int], to_w: Mapping[str, int], permille: int
) -> dict[str, int]:
    """Ramp of each terminal in 0.1 % of its rating a second, so that all slaves arrive together.

    The longest move takes the full ramp ``permille``; who does not move keeps it too.
    """
    moves = {t.id: abs(to_w[t.id] - from_w[t.id]) for t in sop.slaves}
    longest = max(sop.slaves, key=lambda t: moves[t.id] * 1_000_000 // t.s_va)
    floor = max(1, permille // FLOOR_PARTS)
    found = dict.fromkeys((t.id for t in sop.terminals), permille)
    for t in sop.slaves:
        if moves[t.id]:
            shared = permille * moves[t.id] * longest.s_va
            needed = -(-shared // (moves[longest.id] * t.s_va))
            found[t.id] = max(floor, min(needed, permille))
    return found


def duration_ms(*, move_w: int, s_va: int, permille: int) -> int:
    """Time a move takes, rounded up."""
    return -(-abs(move_w) * 1_000_000 // (permille * s_va))


def longest_ms(
    sop: Sop, *, from_w: Mapping[str, int], to_w: Mapping[str, int], permille: int
) -> int:
    """Time the longest move of the slaves takes at the full ramp."""
    return max(
        duration_ms(move_w=to_w[t.id] - from_w[t.id], s_va=t.s_va, permille=permille)
        for t in sop.slaves
    )


def start_w(
    sop: Sop, *, held_w: Mapping[str, int], measured_w: Mapping[str, int]
) -> dict[str, int]:
    """Where a move begins: at the setpoint held, or at what flows where that is not reached."""
    found = dict(held_w)
    for t in sop.slaves:
        now_w = measured_w.get(t.id)
        if now_w is not None and abs(now_w - held_w[t.id]) * 100 > FOLLOWS_PERCENT * t.s_va:
            found[t.id] = now_w
    return found


def moved_on(
    sop: Sop,
    *,
    held_w: Mapping[str, int],
    measured_w: Mapping[str, int],
    permille: Mapping[str, int],
    for_ms: int,
) -> dict[str, int]:
    """What flows so much after it was measured, where every slave goes on to what it holds."""
    found = dict(measured_w)
    for t in sop.slaves:
        if t.id in measured_w:
            step_w = permille.get(t.id, 0) * t.s_va * for_ms // 1_000_000
            gap_w = held_w[t.id] - measured_w[t.id]
            found[t.id] += max(-step_w, min(gap_w, step_w))
    return found
