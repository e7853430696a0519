"""Derating: which terminals could not carry what their plan asks, told by what was written down.

An intent says what each terminal had available when it was made, an outcome what the device held
of what it was sent. Where that is less, the delivery names ``derated`` instead of a shortfall that
nothing explains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.core.records import PlanRecord
from gateway.core.tracking import mean_w


def by_availability(
    plans: Iterable[PlanRecord], plan_index: int, available_va: Mapping[str, int]
) -> set[str]:
    """Terminals that have less than the mean power of the plan an intent belongs to."""
    return {
        terminal
        for record in plans
        if record.index == plan_index
        for terminal, target_wh in record.target_wh.items()
        if terminal in available_va
        and abs(mean_w(target_wh, record.interval.duration_ms)) > available_va[terminal]
    }


def by_echo(sent_w: Mapping[str, int], held_w: Mapping[str, int]) -> set[str]:
    """Terminals that hold less than they were sent."""
    return {t for t, p_w in sent_w.items() if abs(held_w.get(t, p_w)) < abs(p_w)}
