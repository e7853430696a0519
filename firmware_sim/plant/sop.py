"""The soft open point as a whole: converters around one DC link, moved by ``step``.

Owns no clock: ``t_us`` is the sum of the steps since power-up. The station's firmware
(``firmware``) gives orders through the methods here; the faces only read.
"""

from __future__ import annotations

import math
import random  # noqa: TID251 (seeded instances only)

from firmware_sim.plant.converter import Converter, Fault, Mode
from firmware_sim.plant.dc_link import DcLink, settle
from firmware_sim.plant.ratings import DeviceSpec
from firmware_sim.plant.states import Event, OpState, advance, allows

INIT_S = 2.0
PRECHARGE_TAU_S = 1.0
PRECHARGE_READY_PU = 0.95
PRECHARGE_TIMEOUT_S = 10.0
SYNC_S = 0.5
RAMPED_DOWN_RATIO = 0.005
VDC_NOISE_RATIO = 0.001
RESET_AFTER_S = 5.0
LOCKOUT_FAULTS = 3
LOCKOUT_WINDOW_S = 900.0
_STARTS = {
    "off": OpState.OFF,
    "stopped": OpState.STOPPED,
    "standby": OpState.STANDBY,
    "run": OpState.RUN,
}


class Sop:
    """Converters, DC link, operating states."""

    def __init__(
        self,
        spec: DeviceSpec,
        *,
        seed: int,
        bias_ratio_max: float = 0.01,
        noise_ratio: float = 0.002,
        state: str = "standby",
        master_index: int = 0,
    ) -> None:
        self.spec = spec
        self.rng = random.Random(seed)  # noqa: S311 (a simulation)
        self.converters = [
            Converter(
                rated,
                spec.losses,
                rng=random.Random(self.rng.getrandbits(64)),  # noqa: S311
                bias_ratio=self.rng.uniform(-bias_ratio_max, bias_ratio_max),
                noise_ratio=noise_ratio,
            )
            for rated in spec.terminals
        ]
        self.n = len(self.converters)
        self.link = DcLink(spec)
        self.t_us = 0
        self.loss_w = 0.0
        self.loss_wh = 0.0
        self.v_dc_measured_v = 0.0
        self.master_index = master_index
        self._since_us = [0] * self.n
        self._fault_times_us: list[list[int]] = [[] for _ in range(self.n)]
        self.events: list[tuple[int, str]] = []
        self.master_lost = False
        for converter in self.converters:
            converter.state = _STARTS[state]
        if self.converters[0].energised:
            self.link.v_v = spec.v_dc_nominal_v
        self._regulate_only(master_index)

    # ------------------------------------------------------------------ orders

    @property
    def master(self) -> Converter:
        """The converter that holds the DC voltage."""
        return self.converters[self.master_index]

    def note(self, what: str) -> None:
        """Remember an event with its time; the counter of the event registers."""
        self.events.append((self.t_us, what))

    def raise_event(self, index: int, event: Event) -> bool:
        """Move one terminal by the table; False where the event is not allowed."""
        converter = self.converters[index]
        if not allows(converter.state, event):
            return False
        before = converter.state
        converter.state = advance(before, event)
        self._since_us[index] = self.t_us
        self.note(f"T{index + 1} {before.name} {event.value} {converter.state.name}")
        if not converter.modulating:
            converter.block()
            converter.release()
        return True

    def set_master(self, index: int) -> bool:
        """Hand the DC voltage over: the new one regulates first, the old one keeps its power."""
        new, old = self.converters[index], self.master
        if not new.energised:
            return False
        if new is not old and old.modulating:
            old.p_set_rx_w = round(old.p_w)
            old.p_set_w = old.p_ref_w = old.p_clean_w = old.p_w
        self.link.adopt(new.p_w)
        self._regulate_only(index)
        self.note(f"T{index + 1} master")
        return True

    def _regulate_only(self, index: int) -> None:
        for converter in self.converters:
            if converter.mode is Mode.VDC_Q:
                converter.mode = Mode.P_Q
        self.converters[index].mode = Mode.VDC_Q
        self.master_index = index

    def trip(self, index: int, fault: Fault, *, hard: bool = False) -> None:
        """Block one terminal and latch the fault; the third within 15 min locks it out."""
        converter = self.converters[index]
        times = self._fault_times_us[index]
        times.append(self.t_us)
        horizon = self.t_us - int(LOCKOUT_WINDOW_S * 1e6)
        times[:] = [t for t in times if t > horizon]
        converter.faults |= fault
        event = Event.HARD_FAULT if hard or len(times) >= LOCKOUT_FAULTS else Event.FAULT
        if not self.raise_event(index, event):
            self.raise_event(index, Event.FAULT)
        if index == self.master_index:
            self._replace_master()

    def _replace_master(self) -> None:
        self.master_lost = True
        for index, converter in enumerate(self.converters):
            if converter.energised:
                self.set_master(index)
                return
        self.note("no terminal left to hold the DC link")

    def reset(self, index: int, *, local: bool = False) -> bool:
        """Clear a latched fault 5 s after it, a lockout or emergency stop only locally."""
        converter = self.converters[index]
        if local and converter.state in (OpState.LOCKOUT, OpState.ESTOP):
            self._fault_times_us[index].clear()
            converter.faults = Fault(0)
            return self.raise_event(index, Event.LOCAL_RESET)
        ready = self.t_us - self._since_us[index] >= RESET_AFTER_S * 1e6
        if converter.state is not OpState.FAULT or not ready:
            return False
        converter.faults = Fault(0)
        return self.raise_event(index, Event.RESET)

    # ----------------------------------------------------------------- physics

    def step(self, dt_us: int) -> None:
        """Advance quasi-statically: hold the present powers for dt, then find the next ones."""
        dt_s = dt_us * 1e-6
        for converter in self.converters:
            converter.count(dt_s)
            converter.warm(dt_s)
        self.loss_wh += self.loss_w * dt_s / 3600.0
        self.t_us += dt_us
        self.progress(dt_s)
        master = self.master
        for converter in self.converters:
            converter.ramp_references(dt_s)
            if converter is not master:
                converter.follow(dt_s)
        self._balance(master, dt_s)

    def _balance(self, master: Converter, dt_s: float) -> None:
        if master.energised:
            if master.modulating:
                master.q_var += (master.q_ref_var - master.q_var) * min(
                    1.0, dt_s / master.rated.tau_p_s
                )
            self.loss_w = settle(self.converters, master)
            self.link.v_v = master.vdc_set_pu * self.spec.v_dc_nominal_v
            if math.hypot(master.p_w, master.q_var) > 1.1 * master.s_va_available():
                self.lose_link(master)
        else:
            self.loss_w = 0.0
            for converter in self.converters:
                converter.block()
        noise = 1.0 + VDC_NOISE_RATIO * (2.0 * self.rng.random() - 1.0)
        self.v_dc_measured_v = self.link.v_v * noise

    def lose_link(self, master: Converter) -> None:
        """The master cannot carry the residual: the link leaves its band and all terminals trip."""
        fault = Fault.DC_UNDERVOLTAGE if master.p_w < 0.0 else Fault.DC_OVERVOLTAGE
        for index, converter in enumerate(self.converters):
            if converter.energised:
                self.trip(index, fault)
        self.loss_w = 0.0

    def progress(self, dt_s: float) -> None:
        """Move terminals through the timed states."""
        precharging = False
        for index, converter in enumerate(self.converters):
            state = converter.state
            if state in (OpState.STANDBY, OpState.RUN):
                continue
            age_s = (self.t_us - self._since_us[index]) * 1e-6
            if state is OpState.INIT and age_s >= INIT_S:
                self.raise_event(index, Event.SELF_TEST_PASSED)
            elif state is OpState.PRECHARGE:
                precharging = True
                if self.link.v_v >= PRECHARGE_READY_PU * self.spec.v_dc_nominal_v:
                    self.raise_event(index, Event.PRECHARGED)
                elif age_s >= PRECHARGE_TIMEOUT_S:
                    self.trip(index, Fault.PRECHARGE_TIMEOUT)
            elif state is OpState.SYNC and age_s >= SYNC_S:
                self.raise_event(index, Event.SYNCHRONISED)
            elif state is OpState.STOPPING:
                converter.release()
                if self._ramped_down(index):
                    self.raise_event(index, Event.RAMPED_DOWN)
        self._charge(dt_s, precharging=precharging)

    def _ramped_down(self, index: int) -> bool:
        converter = self.converters[index]
        if index == self.master_index:
            # The one that holds the DC link opens last.
            others = (c for i, c in enumerate(self.converters) if i != index)
            return not any(c.energised for c in others)
        return abs(converter.p_w) <= RAMPED_DOWN_RATIO * converter.s_va

    def _charge(self, dt_s: float, *, precharging: bool) -> None:
        if any(c.energised or c.state is OpState.SYNC for c in self.converters):
            return
        target = self.spec.v_dc_nominal_v if precharging else 0.0
        share = 1.0 - math.exp(-dt_s / PRECHARGE_TAU_S)
        self.link.v_v += share * (target - self.link.v_v)

    def station_state(self) -> OpState:
        """State of the whole: the least advanced of the terminals that are not shut out."""
        states = [c.state for c in self.converters]
        for shut in (OpState.ESTOP, OpState.MAINT):
            if shut in states:
                return shut
        able = [s for s in states if s not in (OpState.FAULT, OpState.LOCKOUT)]
        if not able:
            return max(states)
        least = min(able)
        if least is OpState.RUN and OpState.DERATED in able:
            return OpState.DERATED
        return least
