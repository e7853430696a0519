"""The fast model: 0.1 to 1 ms steps with the DC link's energy and the master's regulator.

Slow matters (states, heat, AC protection timers) stay with ``Sop.step``'s outer step; here are
ramps, lags, the link and what must trip within milliseconds. The inner loop is written flat,
with local names, because it runs ten thousand times a second.
"""

from __future__ import annotations

import math

from firmware_sim.plant.converter import Converter, Fault, Mode
from firmware_sim.plant.dc_link import droop_w
from firmware_sim.plant.sop import VDC_NOISE_RATIO, Sop
from firmware_sim.plant.states import OpState

TAKEOVER_S = 0.005
TRIP_HIGH_PU = 1.15
TRIP_LOW_PU = 0.85


class Dynamics:
    """Runs one soft open point through its fast dynamics."""

    def __init__(self, sop: Sop, *, step_us: int = 100) -> None:
        self.sop = sop
        self.step_us = step_us
        self.v_min_v = self.v_max_v = sop.link.v_v
        self._takeover_us: int | None = None
        sop.defer_takeover = True

    def run(self, outer_us: int) -> None:
        """One outer step made of fast steps; averages go to the counters."""
        sop, step_us = self.sop, self.step_us
        steps = outer_us // step_us
        dt_s = step_us * 1e-6
        energy = [0.0] * sop.n
        absorbed = [0.0] * sop.n
        loss_j = 0.0
        for _ in range(steps):
            loss_j += self._fast(dt_s) * dt_s
            for index, converter in enumerate(sop.converters):
                if converter.p_w >= 0.0:
                    energy[index] += converter.p_w
                else:
                    absorbed[index] -= converter.p_w
            sop.t_us += step_us
            self._take_over()
        for index, converter in enumerate(sop.converters):
            converter.injected_wh += energy[index] * dt_s / 3600.0
            converter.absorbed_wh += absorbed[index] * dt_s / 3600.0
            converter.warm(outer_us * 1e-6, cooled=not sop.fan_failed)
        sop.loss_w = loss_j / (outer_us * 1e-6)
        sop.loss_wh += loss_j / 3600.0
        sop.progress(outer_us * 1e-6)
        sop.protect(outer_us * 1e-6)
        noise = 1.0 + VDC_NOISE_RATIO * (2.0 * sop.rng.random() - 1.0)
        sop.v_dc_measured_v = sop.link.v_v * noise

    def _fast(self, dt_s: float) -> float:
        sop = self.sop
        link = sop.link
        master = sop.master
        regulating = master.energised and not sop.droop_only
        v_v = link.v_v
        for converter in sop.converters:
            if converter is master and regulating:
                self._regulate(master, dt_s)
                continue
            if not converter.energised:
                continue
            converter.ramp_references(dt_s)
            if converter.mode is Mode.VDC_DROOP and converter.modulating:
                wanted = droop_w(converter, v_v, link.v_nominal_v)
                limit = converter.s_va_available()
                wanted = min(limit, max(-limit, wanted))
                converter.p_w += (wanted - converter.p_w) * dt_s / converter.rated.tau_p_s
                converter.p_clean_w = converter.p_w
            else:
                converter.follow(dt_s)
        losses = link.integrate(sop.converters, dt_s)
        level = link.v_v / link.v_nominal_v
        self.v_min_v = min(self.v_min_v, link.v_v)
        self.v_max_v = max(self.v_max_v, link.v_v)
        if not TRIP_LOW_PU <= level <= TRIP_HIGH_PU and any(c.energised for c in sop.converters):
            sop.lose_link(Fault.DC_UNDERVOLTAGE if level < 1.0 else Fault.DC_OVERVOLTAGE)
        return losses

    def _regulate(self, master: Converter, dt_s: float) -> None:
        master.ramp_references(dt_s)
        master.q_var += (master.q_ref_var - master.q_var) * min(1.0, dt_s / master.rated.tau_p_s)
        self.sop.link.regulate(master, dt_s)

    def _take_over(self) -> None:
        """Another terminal takes the DC voltage some milliseconds after the master tripped."""
        sop = self.sop
        if not sop.takeover_due:
            return
        if self._takeover_us is None:
            self._takeover_us = sop.t_us + int(TAKEOVER_S * 1e6)
        elif sop.t_us >= self._takeover_us:
            self._takeover_us = None
            sop.take_over()

    def start_from(self, powers_w: list[float]) -> None:
        """Begin in a steady state with the given powers of all but the master."""
        sop = self.sop
        others = iter(powers_w)
        for converter in sop.converters:
            converter.state = OpState.RUN
            if converter is not sop.master:
                value = next(others)
                converter.accept(round(value), 0)
                converter.p_ref_w = converter.p_clean_w = converter.p_w = value
        sop.rebalance()
        sop.link.adopt(sop.master.p_w)
        self.v_min_v = self.v_max_v = sop.link.v_v


def inertia_s(c_f: float, v_v: float, s_va: float) -> float:
    """Time the DC link's energy lasts at rated power: H = ½CV²/S."""
    return 0.5 * c_f * v_v * v_v / s_va


def time_to_level_s(c_f: float, v_v: float, imbalance_w: float, level_pu: float) -> float:
    """How long a constant imbalance needs to take the link to a per-unit voltage."""
    return abs(0.5 * c_f * v_v * v_v * (level_pu * level_pu - 1.0)) / math.fabs(imbalance_w)
