"""One terminal: set values, ramp, lag, bias and noise, capability, heat and its own counters.

Powers are W, positive while the converter injects into its feeder. ``follow`` moves the power of
a converter that regulates P; the power of the Vdc master is a residual and is written by the DC
link. Nothing here reads a clock.
"""

from __future__ import annotations

import enum
import math
import random  # noqa: TID251 (seeded instances only)

from firmware_sim.plant.ratings import LossCurve, Ratings
from firmware_sim.plant.states import ENERGISED, MODULATING, OpState


class Mode(enum.IntEnum):
    """What a converter regulates, numbered as the MODE register prints it."""

    P_Q = 0
    VDC_Q = 1
    VDC_DROOP = 2
    VAC_F = 3
    STATCOM = 4


class Fault(enum.IntFlag):
    """FAULT bits of a terminal and of the station."""

    DC_OVERVOLTAGE = 1 << 0
    DC_UNDERVOLTAGE = 1 << 1
    AC_OVERVOLTAGE = 1 << 2
    AC_UNDERVOLTAGE = 1 << 3
    OVER_FREQUENCY = 1 << 4
    UNDER_FREQUENCY = 1 << 5
    OVER_CURRENT = 1 << 6
    OVER_TEMPERATURE = 1 << 7
    EARTH_FAULT = 1 << 8
    PLL_LOSS = 1 << 9
    PRECHARGE_TIMEOUT = 1 << 10
    BREAKER_FAIL = 1 << 11
    WATCHDOG = 1 << 12
    ESTOP = 1 << 13
    DOOR = 1 << 14
    INTERNAL = 1 << 15


class Limit(enum.IntFlag):
    """LIM_REASON bits: why the active setpoint is not the received one."""

    CURRENT = 1 << 0
    RATING = 1 << 1
    DC_VOLTAGE = 1 << 2
    TEMPERATURE = 1 << 3
    RAMP = 1 << 4
    AC_VOLTAGE = 1 << 5
    EXTERNAL = 1 << 6


DERATE_FROM_CELSIUS = 85.0
DERATE_TO_CELSIUS = 105.0
AMBIENT_CELSIUS = 30.0
WITHOUT_FAN_RATIO = 2.5


class Converter:
    """One converter and what its firmware remembers about its set values."""

    __slots__ = (
        "_alpha_dt_s",
        "_alpha_p",
        "absorbed_wh",
        "bias_ratio",
        "clip_w",
        "derate_ratio",
        "droop_pu",
        "f_hz",
        "fallback_w",
        "faults",
        "feeder_held",
        "feeder_v_v",
        "goal_p_w",
        "goal_q_var",
        "heatsink_celsius",
        "injected_wh",
        "island_load_var",
        "island_load_w",
        "limits",
        "losses",
        "mode",
        "noise_ratio",
        "p_clean_w",
        "p_ref_w",
        "p_set_rx_w",
        "p_set_w",
        "p_w",
        "q_first",
        "q_ref_var",
        "q_set_rx_var",
        "q_set_var",
        "q_var",
        "ramp_permille_per_s",
        "rated",
        "rng",
        "state",
        "stuck",
        "v_ac_v",
        "vdc_set_pu",
    )

    def __init__(
        self,
        rated: Ratings,
        losses: LossCurve,
        *,
        rng: random.Random,
        bias_ratio: float,
        noise_ratio: float,
    ) -> None:
        self.rated = rated
        self.losses = losses
        self.rng = rng
        self.bias_ratio = bias_ratio
        self.noise_ratio = noise_ratio
        self.state = OpState.OFF
        self.mode = Mode.P_Q
        self.p_set_rx_w = self.q_set_rx_var = 0
        self.goal_p_w = self.goal_q_var = 0.0
        self.q_first = False
        self.stuck = False
        # A device that cuts set values without saying so.
        self.clip_w: float | None = None
        self.p_set_w = self.p_ref_w = self.p_clean_w = self.p_w = 0.0
        self.q_set_var = self.q_ref_var = self.q_var = 0.0
        self.ramp_permille_per_s = 200
        self.vdc_set_pu = 1.0
        self.droop_pu = 0.05
        self.fallback_w = 0
        self.limits = Limit(0)
        self.faults = Fault(0)
        self.v_ac_v = self.feeder_v_v = rated.v_ac_nominal_v
        self.feeder_held = False
        self.island_load_w = self.island_load_var = 0.0
        self.f_hz = 50.0
        self.derate_ratio = 1.0
        self.heatsink_celsius = AMBIENT_CELSIUS
        self.injected_wh = self.absorbed_wh = 0.0
        self._alpha_dt_s = -1.0
        self._alpha_p = 1.0

    @property
    def energised(self) -> bool:
        """The DC side is held and the converter draws its stand-by losses."""
        return self.state in ENERGISED

    @property
    def modulating(self) -> bool:
        """The gates may carry power."""
        return self.state in MODULATING

    @property
    def s_va(self) -> int:
        """Rated apparent power."""
        return self.rated.s_va

    def s_va_available(self) -> float:
        """Apparent power after AC voltage, temperature and external derating."""
        v_pu = self.v_ac_v / self.rated.v_ac_nominal_v
        hot = (DERATE_TO_CELSIUS - self.heatsink_celsius) / (
            DERATE_TO_CELSIUS - DERATE_FROM_CELSIUS
        )
        thermal = min(1.0, max(0.0, hot))
        return self.rated.s_va * min(1.0, v_pu) * min(thermal, self.derate_ratio)

    def i_pu(self) -> float:
        """Line current per unit of rated current."""
        v_pu = max(self.v_ac_v / self.rated.v_ac_nominal_v, 0.05)
        return math.hypot(self.p_w, self.q_var) / (self.rated.s_va * v_pu)

    def loss_w(self) -> float:
        """Losses at the present operating point; zero while not energised."""
        if self.state not in ENERGISED:
            return 0.0
        return self.losses.at_w(self.rated.s_va, self.i_pu())

    def accept(self, p_w: int, q_var: int) -> None:
        """Take new set values as received; ``apply_limits`` makes them active."""
        self.p_set_rx_w = p_w
        self.q_set_rx_var = q_var
        self.goal_p_w = 0.0 if self.mode in (Mode.VDC_Q, Mode.STATCOM) else float(p_w)
        self.goal_q_var = float(q_var)
        self.apply_limits()

    def forget(self) -> None:
        """Come back from a power cycle: nothing that was written is left."""
        self.mode = Mode.P_Q
        self.p_set_rx_w = self.q_set_rx_var = self.fallback_w = 0
        self.q_first = False
        self.ramp_permille_per_s = 200
        self.vdc_set_pu, self.droop_pu = 1.0, 0.05

    def release(self) -> None:
        """Aim at zero, keeping what was received for the record."""
        self.goal_p_w = self.goal_q_var = self.p_set_w = self.q_set_var = 0.0
        self.limits = Limit(0)

    def apply_limits(self) -> None:
        """Make the goal active within the capability and say what limits it."""
        available = self.s_va_available()
        p_w, q_var = self.goal_p_w, self.goal_q_var
        if self.clip_w is not None:
            p_w = max(-self.clip_w, min(self.clip_w, p_w))
        if p_w * p_w + q_var * q_var <= available * available:
            self.p_set_w, self.q_set_var, self.limits = p_w, q_var, Limit(0)
            return
        if self.q_first:
            q_var = math.copysign(min(abs(q_var), available), q_var)
            room = math.sqrt(max(0.0, available * available - q_var * q_var))
            p_w = math.copysign(min(abs(p_w), room), p_w)
        else:
            p_w = math.copysign(min(abs(p_w), available), p_w)
            room = math.sqrt(max(0.0, available * available - p_w * p_w))
            q_var = math.copysign(min(abs(q_var), room), q_var)
        self.p_set_w, self.q_set_var, self.limits = p_w, q_var, self._why(available)

    def _why(self, available_va: float) -> Limit:
        if available_va >= self.rated.s_va:
            return Limit.RATING
        reasons = Limit(0)
        if self.v_ac_v < self.rated.v_ac_nominal_v:
            reasons |= Limit.AC_VOLTAGE | Limit.CURRENT
        if self.heatsink_celsius > DERATE_FROM_CELSIUS:
            reasons |= Limit.TEMPERATURE
        if self.derate_ratio < 1.0:
            reasons |= Limit.EXTERNAL
        return reasons

    def ramp_references(self, dt_s: float) -> None:
        """Move the references towards the active set values at the ramp in force."""
        step = self.ramp_permille_per_s * 0.001 * self.rated.s_va * dt_s
        gap = self.p_set_w - self.p_ref_w
        self.p_ref_w = (
            self.p_set_w if -step <= gap <= step else self.p_ref_w + (step if gap > 0 else -step)
        )
        gap = self.q_set_var - self.q_ref_var
        self.q_ref_var = (
            self.q_set_var
            if -step <= gap <= step
            else self.q_ref_var + (step if gap > 0 else -step)
        )

    def follow(self, dt_s: float) -> None:
        """Let P and Q follow their references by the first-order lag, with bias and noise."""
        if self.state not in MODULATING:
            self.block()
            return
        if self.state is OpState.ISLAND:
            self.serve_island()
            return
        if self.stuck:
            return
        if dt_s != self._alpha_dt_s:
            self._alpha_dt_s = dt_s
            self._alpha_p = 1.0 - math.exp(-dt_s / self.rated.tau_p_s)
        alpha = self._alpha_p
        self.p_clean_w += alpha * (self.p_ref_w * (1.0 + self.bias_ratio) - self.p_clean_w)
        self.q_var += alpha * (self.q_ref_var - self.q_var)
        noise = self.noise_ratio * self.rated.s_va
        self.p_w = self.p_clean_w + (noise * (2.0 * self.rng.random() - 1.0) if noise else 0.0)

    def serve_island(self) -> None:
        """Grid-forming: voltage and frequency are ours, P and Q follow the load."""
        self.v_ac_v = self.rated.v_ac_nominal_v
        self.f_hz = 50.0
        self.p_w = self.p_clean_w = self.p_ref_w = self.island_load_w
        self.q_var = self.q_ref_var = self.island_load_var

    def block(self) -> None:
        """Close the gates: no power at once, references at zero."""
        self.p_ref_w = self.p_clean_w = self.p_w = 0.0
        self.q_ref_var = self.q_var = 0.0

    def count(self, dt_s: float) -> None:
        """Count the energy of a stretch during which the present power is held."""
        if self.p_w >= 0.0:
            self.injected_wh += self.p_w * dt_s / 3600.0
        else:
            self.absorbed_wh -= self.p_w * dt_s / 3600.0

    def warm(self, dt_s: float, *, cooled: bool = True) -> None:
        """Heat the sink with the losses; without its fan it gets much hotter."""
        full = self.losses.at_w(1.0, 1.0)
        rise = self.rated.heatsink_rise_celsius * self.loss_w() / (self.rated.s_va * full)
        target = AMBIENT_CELSIUS + (rise if cooled else WITHOUT_FAN_RATIO * rise)
        share = min(1.0, dt_s / self.rated.heatsink_tau_s)
        self.heatsink_celsius += share * (target - self.heatsink_celsius)
