"""The DC link: who balances it and how its voltage moves.

Two models of the same link. ``settle`` is quasi-static: the master takes exactly what the others
and all losses leave over. ``DcLink.integrate`` is the energy dynamics for steps of 0.1 to 1 ms:
C·V·dV/dt = −(ΣP + ΣL) − P_chopper with an energy-based PI at the master.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from firmware_sim.plant.converter import Converter, Mode
from firmware_sim.plant.ratings import DeviceSpec

OMEGA_N_RAD_S = 2.0 * math.pi * 8.0
ZETA = 0.9
CHOPPER_ON_PU = 1.10
CHOPPER_OFF_PU = 1.08
CHOPPER_POWER_PU = 1.0


def settle(converters: Sequence[Converter], master: Converter) -> float:
    """Give the master the residual power and return the losses of the whole device in W.

    The losses are reported as the exact remainder, so that energy balances to rounding.
    """
    others = 0.0
    for converter in converters:
        if converter is not master:
            others += converter.p_w + converter.loss_w()
    p_w = master.p_w
    for _ in range(20):
        master.p_w = p_w
        after = -(others + master.loss_w())
        if abs(after - p_w) < 1e-6:
            p_w = after
            break
        p_w = after
    master.p_w = master.p_clean_w = master.p_ref_w = p_w
    return -sum(converter.p_w for converter in converters)


def share_by_droop(converters: Sequence[Converter], link: DcLink) -> float | None:
    """Quasi-static balance without a master: the droop terminals share it; returns the losses.

    A terminal carries no more than its available apparent power, the others take what it leaves;
    None where all together cannot carry it.
    """
    free = [c for c in converters if is_droop(c)]
    if not free:
        link.v_v = 0.0
        for converter in converters:
            converter.block()
        return 0.0
    while free:
        _share(converters, free, link)
        full = [c for c in free if abs(c.p_w) > c.s_va_available()]
        if not full:
            return -sum(c.p_w for c in converters)
        for converter in full:
            converter.p_w = math.copysign(converter.s_va_available(), converter.p_w)
            converter.p_clean_w = converter.p_w
        free = [c for c in free if c not in full]
    return None


def _share(converters: Sequence[Converter], free: Sequence[Converter], link: DcLink) -> None:
    """Find the voltage at which the droop terminals with room balance the link."""
    fixed = sum(c.p_w for c in converters if c not in free)
    gain = sum(c.rated.s_va / (c.droop_pu * c.vdc_set_pu * link.v_nominal_v) for c in free)
    for _ in range(20):
        losses = sum(c.loss_w() for c in converters)
        at_nominal = sum(droop_w(c, link.v_nominal_v, link.v_nominal_v) for c in free)
        v_v = link.v_nominal_v - (fixed + losses + at_nominal) / gain
        for converter in free:
            converter.p_w = converter.p_clean_w = droop_w(converter, v_v, link.v_nominal_v)
        if abs(v_v - link.v_v) < 1e-9:
            break
        link.v_v = v_v


class DcLink:
    """Voltage of the DC link and the master's regulator."""

    __slots__ = (
        "_integral_w",
        "c_f",
        "chopper_on",
        "chopper_w",
        "spec",
        "v_nominal_v",
        "v_v",
    )

    def __init__(self, spec: DeviceSpec) -> None:
        self.spec = spec
        self.c_f = spec.c_dc_f
        self.v_nominal_v = spec.v_dc_nominal_v
        self.v_v = 0.0
        self.chopper_on = False
        self.chopper_w = 0.0
        self._integral_w = 0.0

    def adopt(self, p_w: float) -> None:
        """Start the regulator from the power the converter has: a bumpless hand-over."""
        self._integral_w = p_w

    def regulate(self, master: Converter, dt_s: float) -> None:
        """One step of the energy PI: too much stored energy makes the master inject more."""
        v_set = master.vdc_set_pu * self.v_nominal_v
        error_j = 0.5 * self.c_f * (self.v_v * self.v_v - v_set * v_set)
        proportional = 2.0 * ZETA * OMEGA_N_RAD_S * error_j
        limit = float(master.rated.s_va)
        wanted = proportional + self._integral_w
        step = OMEGA_N_RAD_S * OMEGA_N_RAD_S * error_j * dt_s
        # Conditional integration: no winding up while the output is at its limit.
        if -limit < wanted < limit or wanted * step < 0.0:
            self._integral_w += step
        wanted = min(limit, max(-limit, wanted))
        master.p_w += (wanted - master.p_w) * min(1.0, dt_s / self.spec.tau_master_s)
        master.p_clean_w = master.p_ref_w = master.p_w

    def integrate(self, converters: Sequence[Converter], dt_s: float) -> float:
        """Move the stored energy by one step; returns the converters' losses in W."""
        losses = power = 0.0
        for converter in converters:
            if converter.energised:
                losses += converter.loss_w()
                power += converter.p_w
        self._chop()
        energy = 0.5 * self.c_f * self.v_v * self.v_v
        energy -= (power + losses + self.chopper_w) * dt_s
        self.v_v = math.sqrt(max(0.0, 2.0 * energy / self.c_f))
        return losses

    def _chop(self) -> None:
        level = self.v_v / self.v_nominal_v
        if level >= CHOPPER_ON_PU:
            self.chopper_on = True
        elif level <= CHOPPER_OFF_PU:
            self.chopper_on = False
        rated = max(t.s_va for t in self.spec.terminals) * CHOPPER_POWER_PU
        self.chopper_w = rated * level * level if self.chopper_on else 0.0


def droop_w(converter: Converter, v_v: float, v_nominal_v: float) -> float:
    """Power of a droop terminal: P0 + (Vdc − V0)/(R·V0)·S."""
    v0 = converter.vdc_set_pu * v_nominal_v
    return converter.p_ref_w + (v_v - v0) / (converter.droop_pu * v0) * converter.rated.s_va


def is_droop(converter: Converter) -> bool:
    """Whether the converter shares the DC voltage by droop."""
    return converter.mode is Mode.VDC_DROOP and converter.modulating
