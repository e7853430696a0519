"""Protection of a terminal: thresholds with delays, as one table; trips latch in ``sop``.

This lives in the firmware, never behind a fieldbus: a full imbalance takes the DC link out of its
band within six milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firmware_sim.plant.converter import Converter, Fault
from firmware_sim.plant.states import OpState

HEATSINK_TRIP_CELSIUS = 110.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Trip when a quantity stays beyond its threshold for the delay."""

    fault: Fault
    quantity: str
    above: bool
    threshold_level: float
    delay_s: float


RULES: tuple[Rule, ...] = tuple(
    Rule(fault=fault, quantity=quantity, above=above, threshold_level=level, delay_s=delay)
    for fault, quantity, above, level, delay in (
        (Fault.DC_OVERVOLTAGE, "v_dc_pu", True, 1.15, 0.0),
        (Fault.DC_UNDERVOLTAGE, "v_dc_pu", False, 0.85, 0.0),
        (Fault.AC_OVERVOLTAGE, "v_ac_pu", True, 1.15, 0.1),
        (Fault.AC_UNDERVOLTAGE, "v_ac_pu", False, 0.85, 2.0),
        (Fault.AC_UNDERVOLTAGE, "v_ac_pu", False, 0.50, 0.2),
        (Fault.OVER_FREQUENCY, "f_hz", True, 51.5, 0.5),
        (Fault.UNDER_FREQUENCY, "f_hz", False, 47.5, 0.5),
        (Fault.OVER_CURRENT, "i_pu", True, 1.20, 0.0),
        (Fault.OVER_CURRENT, "i_pu", True, 1.10, 10.0),
        (Fault.OVER_TEMPERATURE, "t_celsius", True, HEATSINK_TRIP_CELSIUS, 0.0),
    )
)
_BANDS = {
    "v_dc_pu": (0.85, 1.15), "v_ac_pu": (0.85, 1.15), "f_hz": (47.5, 51.5),
    "i_pu": (-1.0, 1.10), "t_celsius": (-100.0, HEATSINK_TRIP_CELSIUS),
}  # fmt: skip


class Protection:
    """Timers of one terminal."""

    __slots__ = ("_held_s", "_quiet")

    def __init__(self) -> None:
        self._held_s = [0.0] * len(RULES)
        self._quiet = True

    def judge(self, converter: Converter, v_dc_pu: float, dt_s: float) -> Fault:
        """Faults that have come due in this step."""
        seen = {
            "v_dc_pu": v_dc_pu,
            "v_ac_pu": converter.v_ac_v / converter.rated.v_ac_nominal_v,
            "f_hz": converter.f_hz,
            "i_pu": converter.i_pu(),
            "t_celsius": converter.heatsink_celsius,
        }
        if all(low <= seen[name] <= high for name, (low, high) in _BANDS.items()):
            if not self._quiet:
                self._held_s = [0.0] * len(RULES)
                self._quiet = True
            return Fault(0)
        self._quiet = False
        due = Fault(0)
        for index, rule in enumerate(RULES):
            value = seen[rule.quantity]
            beyond = value > rule.threshold_level if rule.above else value < rule.threshold_level
            if not beyond:
                self._held_s[index] = 0.0
                continue
            self._held_s[index] += dt_s
            if self._held_s[index] > rule.delay_s:
                due |= rule.fault
        return due


def derating(converter: Converter) -> bool:
    """Whether heat, voltage or an external limit takes capability away."""
    return converter.s_va_available() < converter.rated.s_va * 0.999


def watched(converters: Sequence[Converter]) -> list[int]:
    """Terminals whose breaker is closed."""
    states = (OpState.SYNC, OpState.STANDBY, OpState.RUN, OpState.DERATED, OpState.STOPPING)
    return [i for i, c in enumerate(converters) if c.state in (*states, OpState.ISLAND)]
