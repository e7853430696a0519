"""An energy meter at a terminal: two counters that only grow, in whole counting steps.

The meter looks from the feeder: it counts *export* while the converter injects into the feeder
and *import* while the converter absorbs; its active power is positive on import.
"""

from __future__ import annotations

from firmware_sim.plant.converter import Converter


class Meter:
    """Counters and readings of one meter, taken from the converter behind it."""

    __slots__ = ("_export_offset_wh", "_import_offset_wh", "converter", "gain_ratio", "serial_id")

    def __init__(
        self,
        converter: Converter,
        *,
        serial_id: int,
        start_import_wh: float = 0.0,
        start_export_wh: float = 0.0,
        gain_ratio: float = 1.0,
    ) -> None:
        self.converter = converter
        self.serial_id = serial_id
        self.gain_ratio = gain_ratio
        self._import_offset_wh = start_import_wh - gain_ratio * converter.absorbed_wh
        self._export_offset_wh = start_export_wh - gain_ratio * converter.injected_wh

    def import_wh(self, ahead_s: float = 0.0) -> float:
        """Energy the converter took from the feeder, ``ahead_s`` after the last physics step."""
        flowing_w = max(0.0, -self.converter.p_w)
        absorbed_wh = self.converter.absorbed_wh + flowing_w * ahead_s / 3600.0
        return self._import_offset_wh + self.gain_ratio * absorbed_wh

    def export_wh(self, ahead_s: float = 0.0) -> float:
        """Energy the converter gave to the feeder, ``ahead_s`` after the last physics step."""
        flowing_w = max(0.0, self.converter.p_w)
        injected_wh = self.converter.injected_wh + flowing_w * ahead_s / 3600.0
        return self._export_offset_wh + self.gain_ratio * injected_wh

    def p_w(self) -> float:
        """Active power as the meter sees it: positive on import."""
        return -self.converter.p_w * self.gain_ratio

    def q_var(self) -> float:
        """Reactive power as the meter sees it."""
        return -self.converter.q_var * self.gain_ratio
