"""The soft open point as a whole: converters around one DC link, moved by ``step``.

Owns no clock: ``t_us`` is the sum of the steps since power-up. The station's firmware
(``firmware``) gives orders through the methods here; the faces only read.
"""

from __future__ import annotations

import math
import random  # noqa: TID251 (seeded instances only)

from firmware_sim.plant.converter import DERATE_FROM_CELSIUS, Converter, Fault, Mode
from firmware_sim.plant.dc_link import DcLink, settle, share_by_droop
from firmware_sim.plant.protection import Protection, derating, watched
from firmware_sim.plant.ratings import DeviceSpec
from firmware_sim.plant.states import Event, OpState, advance, allows

INIT_S = 2.0
PRECHARGE_TAU_S = 1.0
PRECHARGE_READY_PU = 0.95
PRECHARGE_TIMEOUT_S = 10.0
SYNC_S = 0.5
SYNC_TIMEOUT_S = 10.0
RAMPED_DOWN_RATIO = 0.005
VDC_NOISE_RATIO = 0.001
RESET_AFTER_S = 5.0
LOCKOUT_FAULTS = 3
LOCKOUT_WINDOW_S = 900.0
BREAKER_S = 0.2
# Only somebody on site may decide that these are over.
HARD_FAULTS = Fault.EARTH_FAULT | Fault.BREAKER_FAIL
# States no power cycle ends, with what leads into them.
LATCHED = {OpState.ESTOP: Event.ESTOP, OpState.LOCKOUT: Event.HARD_FAULT}
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
        # Gates closed since the last balance: the others' powers no longer sum up.
        self._unbalanced = False
        self.master_lost = False
        self.takeover_due = False
        self.defer_takeover = False
        self.droop_only = False
        self.door_open = False
        self.fan_failed = False
        self.breaker_stuck: set[int] = set()
        self.precharge_fault = False
        self._protection = [Protection() for _ in range(self.n)]
        for converter in self.converters:
            converter.state = _STARTS[state]
        if self.converters[0].energised:
            self.link.v_v = spec.v_dc_nominal_v
        self._regulate_only(master_index)
        self.v_dc_measured_v = self.link.v_v
        self.rebalance()

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
        if event is Event.START and self.door_open:
            return False
        if not allows(converter.state, event):
            return False
        before = converter.state
        converter.state = advance(before, event)
        self._since_us[index] = self.t_us
        self.note(f"T{index + 1} {before.name} {event.value} {converter.state.name}")
        if not converter.modulating:
            converter.block()
            converter.release()
            self._unbalanced = True
        return True

    def power_cycle(self, *, remembering: bool = False) -> None:
        """Switch off and on: what a converter only remembers is gone, what is latched stays.

        An emergency stop and a lockout are latched in hardware: they come back with the power.
        """
        for index, converter in enumerate(self.converters):
            before = converter.state
            self.raise_event(index, Event.POWER_OFF)
            self.raise_event(index, Event.POWER_ON)
            if before in LATCHED:
                self.raise_event(index, LATCHED[before])
            else:
                converter.faults = Fault(0)
            if not remembering:
                converter.forget()
        if not remembering:
            self.droop_only = False
            self._regulate_only(self.master_index)

    def set_master(self, index: int) -> bool:
        """Hand the DC voltage over: the new one regulates first, the old one keeps its power."""
        new, old = self.converters[index], self.master
        if not new.energised or new.state is OpState.ISLAND:
            return False
        if new is not old and old.modulating:
            old.p_set_rx_w = round(old.p_w)
            old.goal_p_w = old.p_set_w = old.p_ref_w = old.p_clean_w = old.p_w
        self.link.adopt(new.p_w)
        self._regulate_only(index)
        self.droop_only = False
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
        hard = hard or bool(fault & HARD_FAULTS) or len(times) >= LOCKOUT_FAULTS
        event = Event.HARD_FAULT if hard else Event.FAULT
        if not self.raise_event(index, event):
            self.raise_event(index, Event.FAULT)
        if index == self.master_index and not self.droop_only:
            self.master_lost = self.takeover_due = True
            if not self.defer_takeover:
                self.take_over()

    def take_over(self) -> None:
        """Let the first healthy terminal continue the regulation where the lost master left it."""
        self.takeover_due = False
        for index, converter in enumerate(self.converters):
            if converter.energised and converter.mode is not Mode.VAC_F:
                self._regulate_only(index)
                self.note(f"T{index + 1} takes over as master")
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
        self.close_balance()
        for converter in self.converters:
            converter.count(dt_s)
            converter.warm(dt_s, cooled=not self.fan_failed)
        self.loss_wh += self.loss_w * dt_s / 3600.0
        self.t_us += dt_us
        self.progress(dt_s)
        master = self.master
        for converter in self.converters:
            converter.ramp_references(dt_s)
            if self.droop_only or converter is not master:
                converter.follow(dt_s)
        self.rebalance(dt_s)
        self.protect(dt_s)
        self.close_balance()
        noise = 1.0 + VDC_NOISE_RATIO * (2.0 * self.rng.random() - 1.0)
        self.v_dc_measured_v = self.link.v_v * noise

    def close_balance(self) -> None:
        """After gates have closed, give the master what is left over without waiting a step."""
        if self._unbalanced and not self.defer_takeover:
            self.rebalance(0.0)

    def rebalance(self, dt_s: float = 1.0) -> None:
        """Find the powers at which the DC link is in balance."""
        self._unbalanced = False
        master = self.master
        if self.droop_only and any(c.energised for c in self.converters):
            losses_w = share_by_droop(self.converters, self.link)
            if losses_w is None:
                drawn = sum(c.p_w + c.loss_w() for c in self.converters) > 0.0
                self.lose_link(Fault.DC_UNDERVOLTAGE if drawn else Fault.DC_OVERVOLTAGE)
            else:
                self.loss_w = losses_w
        elif master.energised:
            if master.modulating:
                master.q_var += (master.q_ref_var - master.q_var) * min(
                    1.0, dt_s / master.rated.tau_p_s
                )
            self.loss_w = settle(self.converters, master)
            self.link.v_v = master.vdc_set_pu * self.spec.v_dc_nominal_v
            if math.hypot(master.p_w, master.q_var) > 1.1 * master.s_va_available():
                # The residual cannot be carried: the link leaves its band.
                low = master.p_w < 0.0
                self.lose_link(Fault.DC_UNDERVOLTAGE if low else Fault.DC_OVERVOLTAGE)
        else:
            self.loss_w = 0.0
            for converter in self.converters:
                converter.block()

    def lose_link(self, fault: Fault) -> None:
        """The DC voltage has left its band: every terminal trips."""
        deferred, self.defer_takeover = self.defer_takeover, True
        for index, converter in enumerate(self.converters):
            if converter.energised:
                self.trip(index, fault)
        self.defer_takeover, self.takeover_due = deferred, False
        self.loss_w = 0.0

    def protect(self, dt_s: float) -> None:
        """Follow feeder voltage and heat, derate, and trip what has come due."""
        level = self.link.v_v / self.spec.v_dc_nominal_v
        for converter in self.converters:
            if converter.state is not OpState.ISLAND:
                converter.v_ac_v = converter.feeder_v_v
        for index in watched(self.converters):
            converter = self.converters[index]
            if converter.state in (OpState.RUN, OpState.DERATED):
                self._derate(index, converter)
            elif converter.state in (OpState.STANDBY, OpState.SYNC):
                # The breaker of a waiting terminal does not open on a dead feeder.
                continue
            due = self._protection[index].judge(converter, level, dt_s)
            if due:
                self.trip(index, due)

    def _derate(self, index: int, converter: Converter) -> None:
        if converter.limits or derating(converter):
            converter.apply_limits()
        hot = converter.heatsink_celsius > DERATE_FROM_CELSIUS or converter.derate_ratio < 1.0
        if hot and converter.state is OpState.RUN:
            self.raise_event(index, Event.DERATE)
        elif not hot and converter.state is OpState.DERATED:
            self.raise_event(index, Event.RECOVER)

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
            elif state is OpState.SYNC:
                self._synchronise(index, converter, age_s)
            elif state is OpState.FAULT and index in self.breaker_stuck and age_s >= BREAKER_S:
                self.trip(index, Fault.BREAKER_FAIL)
            elif state is OpState.STOPPING:
                converter.release()
                if self._ramped_down(index):
                    self.raise_event(index, Event.RAMPED_DOWN)
        self._charge(dt_s, precharging=precharging)

    def _synchronise(self, index: int, converter: Converter, age_s: float) -> None:
        live = converter.feeder_v_v > 0.85 * converter.rated.v_ac_nominal_v
        if live and age_s >= SYNC_S:
            self.raise_event(index, Event.SYNCHRONISED)
        elif not live and age_s >= SYNC_TIMEOUT_S:
            self.trip(index, Fault.PLL_LOSS)

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
        charging = precharging and not self.precharge_fault
        target = self.spec.v_dc_nominal_v if charging else 0.0
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
