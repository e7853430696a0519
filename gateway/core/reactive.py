"""Reactive power: fixed or by the feeder's voltage, from what active power leaves of the rating.

Active power goes first: trades are paid by it. Positive injects into the feeder and lifts its
voltage.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import isqrt

from gateway.model.terminal import Reactive, Sop

CHANGE_PERMILLE = 10  # of the rating: smaller changes are not worth a write


def wanted_var(reactive: Reactive, v_dv: int) -> int:
    """Reactive power asked for at a voltage: the curve's straight lines, its ends beyond them."""
    if not reactive.curve:
        return reactive.q_var
    if v_dv <= reactive.curve[0][0]:
        return reactive.curve[0][1]
    for (low_dv, low_var), (high_dv, high_var) in pairwise(reactive.curve):
        if v_dv <= high_dv:
            return low_var + (high_var - low_var) * (v_dv - low_dv) // (high_dv - low_dv)
    return reactive.curve[-1][1]


def left_var(*, p_w: int, s_va: int) -> int:
    """Reactive power that a converter can still give beside its active power."""
    return isqrt(s_va * s_va - p_w * p_w) if abs(p_w) < s_va else 0


def setpoints_var(
    sop: Sop,
    *,
    target_w: Mapping[str, int],
    v_dv: Mapping[str, int],
    available_va: Mapping[str, int],
) -> dict[str, int]:
    """Reactive power of every terminal beside the active powers commanded; 0 where none is asked.

    A terminal whose voltage is not known gives none by curve. The master's active power is what
    the others leave it, losses included.
    """
    found = {}
    for t in sop.terminals:
        reactive = t.reactive
        known = reactive is not None and (not reactive.curve or t.id in v_dv)
        if reactive is None or not known:
            found[t.id] = 0
            continue
        p_w = _residual_w(sop, target_w) if t.id == sop.master else target_w[t.id]
        most = left_var(p_w=p_w, s_va=min(t.s_va, available_va.get(t.id, 0)))
        found[t.id] = max(-most, min(wanted_var(reactive, v_dv.get(t.id, 0)), most))
    return found


def _residual_w(sop: Sop, target_w: Mapping[str, int]) -> int:
    """The most the master may carry: the others' sum and every loss."""
    sum_w = abs(sum(target_w[t.id] for t in sop.slaves))
    loss_w = sum(sop.losses.loss_w(p_w=target_w[t.id], s_va=t.s_va) for t in sop.slaves)
    return sum_w + loss_w + sop.losses.loss_w(p_w=sum_w, s_va=sop.terminal(sop.master).s_va)


def worth_writing(
    sop: Sop, *, target_w: Mapping[str, int], wanted: Mapping[str, int], held: Mapping[str, int]
) -> bool:
    """Whether any terminal's change is more than the dead-band, or its power needs the room."""
    for t in sop.terminals:
        change = abs(wanted.get(t.id, 0) - held.get(t.id, 0))
        if change * 1000 > CHANGE_PERMILLE * t.s_va:
            return True
        if t.id != sop.master and target_w[t.id] ** 2 + held.get(t.id, 0) ** 2 > t.s_va**2:
            return True
    return False
