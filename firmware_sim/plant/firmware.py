"""The station's controller: commands, selection, lease, heartbeat, setpoint life, fail-safe.

Time is the device's own, in microseconds of simulated time, handed in by the caller. The
supervisory rules live here; protection and physics live in ``sop`` and below.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from firmware_sim.plant.converter import Mode
from firmware_sim.plant.dc_link import is_droop
from firmware_sim.plant.setpoints import (
    BLOCK_LENGTH,
    RAMP_DEFAULT_PERMILLE,
    Ack,
    Staged,
    block_bytes,
    crc16,
    decode,
    judge,
    residual_w,
)
from firmware_sim.plant.sop import Sop
from firmware_sim.plant.states import ENERGISED, MODULATING, Event, OpState, allows

SELECT_LIFE_US = 10_000_000
WATCHDOG_RANGE_DS = (10, 600)
AT_ZERO_RATIO = 0.005


class Order(enum.IntEnum):
    """CMD_CODE register."""

    START = 1
    STOP = 2
    RESET = 3
    ENTER_STANDBY = 4
    EXIT_STANDBY = 5
    SOFT_ESTOP = 6
    SELECT = 7
    OPERATE = 8
    CANCEL = 9
    SET_MASTER = 10


class Failsafe(enum.IntEnum):
    """FAILSAFE register: what the station does when the controller's sign of life stops."""

    HOLD = 0
    RAMP_ZERO = 1
    FALLBACK = 2
    BLOCK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One command as the registers 0 to 11 carry it."""

    seq: int
    code: int
    argument_bits: int
    crc_code: int
    instruction_id: int
    ttl_s: int
    owner_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A staged block that was found good and waits for OPERATE."""

    instruction_id: int
    setpoints: tuple[Staged, ...]
    image: bytes
    at_us: int


@dataclass(slots=True, kw_only=True)
class Counters:
    """What a tester wants to know afterwards."""

    select_count: int = 0
    operate_count: int = 0
    rejected_count: int = 0
    heartbeat_count: int = 0
    direct_count: int = 0
    operated_id: list[int] = field(default_factory=list)


class Firmware:
    """Supervisory controller of one station."""

    def __init__(self, sop: Sop, *, limit_floor_us: int = 0) -> None:
        self.sop = sop
        self.limit_floor_us = limit_floor_us
        self.staged: list[int] = [0] * (BLOCK_LENGTH * sop.n)
        self.watchdog_ds = 50
        self.failsafe = Failsafe.RAMP_ZERO
        self.failsafe_ramp_permille_per_s = 200
        self.lease_owner_id = 0
        self.heartbeat_code = 0
        self.ack_seq = 0
        self.ack_code = Ack.NONE
        self.active_id = 0
        self.selection: Selection | None = None
        self.selection_expired = False
        self.local = False
        self.comm_fault = False
        self.failsafe_active = False
        self.watchdog_disabled = False
        self.island_blocks = False
        self.counters = Counters()
        self.booted_us = sop.t_us
        self._heartbeat_us: int | None = None
        self._lease_us = 0
        self._ttl_end_us: int | None = None
        self._reaction = Failsafe.RAMP_ZERO

    # ------------------------------------------------------------------- life

    def watchdog_limit_us(self) -> int:
        """Longest silence of the controller, widened in fast time."""
        return max(self.watchdog_ds * 100_000, self.limit_floor_us)

    def watchdog_remaining_us(self, now_us: int) -> int:
        """Time left until the fail-safe; the full limit while no controller was heard yet."""
        if self._heartbeat_us is None:
            return self.watchdog_limit_us()
        return max(0, self._heartbeat_us + self.watchdog_limit_us() - now_us)

    def leased(self, now_us: int) -> bool:
        """Whether a controller holds the lease and is alive."""
        if self.lease_owner_id == 0:
            return False
        alive_us = max(self._lease_us, self._heartbeat_us or self._lease_us)
        return now_us - alive_us <= self.watchdog_limit_us()

    def selected(self, now_us: int) -> Selection | None:
        """The selection while it lives."""
        if self.selection is not None:
            life = max(SELECT_LIFE_US, self.limit_floor_us)
            if now_us - self.selection.at_us > life:
                self.selection = None
                self.selection_expired = True
        return self.selection

    def echoed_id(self, now_us: int) -> int:
        """INSTR_ID echo: the selected instruction while one waits, else the active one."""
        selection = self.selected(now_us)
        return self.active_id if selection is None else selection.instruction_id

    def heartbeat(self, code: int, now_us: int) -> None:
        """The controller's sign of life: only a changed value counts."""
        if code != self.heartbeat_code or self._heartbeat_us is None:
            self._heartbeat_us = now_us
            self.counters.heartbeat_count += 1
            if not self.failsafe_active:
                self.comm_fault = False
        self.heartbeat_code = code

    def tick(self, now_us: int) -> None:
        """Let the timers act: watchdog, life of the setpoints, end of a fail-safe ramp."""
        self.selected(now_us)
        if self.sop.master_lost:
            self.sop.master_lost = False
            self._fail_safe("master lost", Failsafe.RAMP_ZERO)
        if not self.watchdog_disabled:
            silent_us = 0 if self._heartbeat_us is None else now_us - self._heartbeat_us
            if silent_us > self.watchdog_limit_us() and not self.comm_fault:
                self.comm_fault = True
                self._fail_safe("watchdog", self.failsafe)
            if self._ttl_end_us is not None and now_us >= self._ttl_end_us:
                self._ttl_end_us = None
                if self.under_power():
                    self._fail_safe("ttl", Failsafe.RAMP_ZERO)
        if self.failsafe_active and self._reaction in (Failsafe.RAMP_ZERO, Failsafe.BLOCK):
            self._settle_failsafe()
        self.sop.close_balance()

    def under_power(self) -> bool:
        """Whether any terminal is asked for power, also where a limit holds it at zero for now."""
        return any(
            c.state in MODULATING and any((c.goal_p_w, c.goal_q_var, c.p_set_w, c.q_set_var))
            for c in self.sop.converters
        )

    def _fail_safe(self, cause: str, reaction: Failsafe) -> None:
        self.sop.note(f"failsafe {cause} {reaction.name}")
        self.selection = None
        if not any(c.state in MODULATING for c in self.sop.converters):
            return
        self.failsafe_active = True
        self._reaction = reaction
        self.active_id = 0
        for index, converter in enumerate(self.sop.converters):
            if converter.mode is Mode.VAC_F:
                if self.island_blocks:
                    self.sop.raise_event(index, Event.RECONNECT)
                continue
            if reaction is not Failsafe.HOLD:
                converter.ramp_permille_per_s = max(1, self.failsafe_ramp_permille_per_s)
            match reaction:
                case Failsafe.HOLD:
                    continue
                case Failsafe.RAMP_ZERO:
                    converter.release()
                case Failsafe.FALLBACK:
                    converter.accept(converter.fallback_w, 0)
                case Failsafe.BLOCK:
                    self.sop.raise_event(index, Event.ENTER_STANDBY)
        if reaction is Failsafe.HOLD and self._ttl_end_us is None:
            self._fail_safe("ttl", Failsafe.RAMP_ZERO)

    def _settle_failsafe(self) -> None:
        running = [c for c in self.sop.converters if c.state in (OpState.RUN, OpState.DERATED)]
        at_zero = all(
            c.p_set_w == 0.0
            and c.p_ref_w == 0.0
            and c.q_ref_var == 0.0
            # A droop terminal keeps its share of the losses: only its own set value is zero.
            and (is_droop(c) or abs(c.p_clean_w) < AT_ZERO_RATIO * c.s_va)
            for c in running
            if c is not self.sop.master or is_droop(c)
        )
        if running and at_zero and self.sop.master.q_ref_var == 0.0:
            self._each(Event.ENTER_STANDBY)
            if self._heartbeat_us is None:
                # Nobody commands the station itself: no OPERATE will ever end the fail-safe.
                self.failsafe_active = False

    # ---------------------------------------------------------------- commands

    def request(self, request: Request, now_us: int) -> None:
        """Carry a command out once and remember the answer under its sequence number."""
        self.ack_code = self._answer(request, now_us)
        self.ack_seq = request.seq
        if self.ack_code not in (Ack.ACCEPTED, Ack.EXECUTED):
            self.counters.rejected_count += 1
            self.sop.note(f"command {request.code} {self.ack_code.name}")
        self.sop.close_balance()

    def _answer(self, request: Request, now_us: int) -> Ack:
        try:
            order = Order(request.code)
        except ValueError:
            return Ack.REJECTED_RANGE
        if order is Order.SOFT_ESTOP:
            for index in range(self.sop.n):
                self.sop.raise_event(index, Event.ESTOP)
            self.drop_setpoints()
            return Ack.EXECUTED
        if self.local:
            return Ack.REJECTED_LOCAL
        foreign = self.leased(now_us) and request.owner_id != self.lease_owner_id
        if foreign and order is not Order.STOP:
            return Ack.REJECTED_LEASE
        match order:
            case Order.SELECT:
                return self._select(request, now_us)
            case Order.OPERATE:
                return self._operate(request, now_us)
            case Order.CANCEL:
                self.selection = None
                return Ack.EXECUTED
            case Order.SET_MASTER:
                return self._set_master(request.argument_bits)
            case Order.RESET:
                return self._reset()
            case _:
                return self._move(order, request.argument_bits)

    def _select(self, request: Request, now_us: int) -> Ack:
        self.selection = None
        self.selection_expired = False
        if crc16(block_bytes(self.staged)) != request.crc_code:
            return Ack.REJECTED_CRC
        if self.sop.station_state() not in ENERGISED - {OpState.STOPPING}:
            return Ack.REJECTED_STATE
        setpoints = decode(self.staged)
        verdict = judge(self.sop.converters, setpoints, self.sop.master_index)
        if verdict is not Ack.ACCEPTED:
            return verdict
        if request.ttl_s == 0 and any(s.p_w or s.q_var for s in setpoints):
            return Ack.REJECTED_RANGE
        if request.owner_id:
            self.lease_owner_id = request.owner_id
            self._lease_us = now_us
        self.counters.select_count += 1
        self.selection = Selection(
            instruction_id=request.instruction_id,
            setpoints=setpoints,
            image=block_bytes(self.staged),
            at_us=now_us,
        )
        return Ack.ACCEPTED

    def _operate(self, request: Request, now_us: int) -> Ack:
        selection = self.selected(now_us)
        if selection is None:
            return Ack.TIMEOUT if self.selection_expired else Ack.REJECTED_NOT_SELECTED
        if selection.instruction_id != request.instruction_id:
            return Ack.REJECTED_NOT_SELECTED
        self.selection = None
        # The world may have moved since SELECT: judge again against the state of now.
        if self.sop.station_state() not in ENERGISED - {OpState.STOPPING}:
            return Ack.REJECTED_STATE
        verdict = judge(self.sop.converters, selection.setpoints, self.sop.master_index)
        if verdict is not Ack.ACCEPTED:
            return verdict
        self.active_id = selection.instruction_id
        self._ttl_end_us = now_us + request.ttl_s * 1_000_000
        self.failsafe_active = False
        self.comm_fault = False
        if self._heartbeat_us is None or now_us - self._heartbeat_us > self.watchdog_limit_us():
            # OPERATE itself is a sign of life, once; the heartbeat must follow.
            self._heartbeat_us = now_us
        self.sop.droop_only = all(s.mode_code != Mode.VDC_Q for s in selection.setpoints)
        for index, staged in enumerate(selection.setpoints):
            self._enter(index, Mode(staged.mode_code))
            self._activate(index, staged)
        self.counters.operate_count += 1
        self.counters.operated_id.append(selection.instruction_id)
        return Ack.EXECUTED

    def _enter(self, index: int, mode: Mode) -> None:
        """Bring a terminal into the state its mode needs: grid-forming or following."""
        if mode is Mode.VAC_F:
            self.sop.raise_event(index, Event.ENTER_STANDBY)
            self.sop.raise_event(index, Event.ISLAND)
        else:
            self.sop.raise_event(index, Event.RECONNECT)
            self.sop.raise_event(index, Event.EXIT_STANDBY)

    def _activate(self, index: int, staged: Staged) -> None:
        converter = self.sop.converters[index]
        converter.mode = Mode(staged.mode_code)
        converter.ramp_permille_per_s = staged.ramp_permille_per_s or RAMP_DEFAULT_PERMILLE
        converter.vdc_set_pu = (staged.vdc_permille or 1000) / 1000
        converter.droop_pu = (staged.droop_permille or 50) / 1000
        converter.fallback_w = staged.fallback_w
        p_w = 0 if converter.mode is Mode.VDC_Q else staged.p_w
        converter.accept(p_w, staged.q_var)
        converter.p_set_rx_w = staged.p_w

    def _set_master(self, number: int) -> Ack:
        if not 1 <= number <= self.sop.n:
            return Ack.REJECTED_RANGE
        self.selection = None
        before = self.sop.master
        done = self.sop.set_master(number - 1)
        if done and self.failsafe_active and self._reaction in (Failsafe.RAMP_ZERO, Failsafe.BLOCK):
            before.release()  # it would keep the losses it bore, and nobody asked for that power
        return Ack.EXECUTED if done else Ack.REJECTED_STATE

    def _reset(self) -> Ack:
        waiting = [i for i, c in enumerate(self.sop.converters) if c.state is OpState.FAULT]
        if not waiting:
            shut = any(c.state in (OpState.LOCKOUT, OpState.ESTOP) for c in self.sop.converters)
            return Ack.REJECTED_STATE if shut else Ack.EXECUTED
        done = [self.sop.reset(index) for index in waiting]
        return Ack.EXECUTED if all(done) else Ack.REJECTED_STATE

    def _move(self, order: Order, mask_bits: int) -> Ack:
        event = {
            Order.START: Event.START,
            Order.STOP: Event.STOP,
            Order.ENTER_STANDBY: Event.ENTER_STANDBY,
            Order.EXIT_STANDBY: Event.EXIT_STANDBY,
        }[order]
        chosen = [i for i in range(self.sop.n) if not mask_bits or mask_bits >> i & 1]
        able = [i for i in chosen if allows(self.sop.converters[i].state, event)]
        done_states = {
            Order.START: (OpState.STANDBY, OpState.RUN, OpState.DERATED),
            Order.STOP: (OpState.STOPPED, OpState.STOPPING),
            Order.ENTER_STANDBY: (OpState.STANDBY,),
            Order.EXIT_STANDBY: (OpState.RUN, OpState.DERATED),
        }[order]
        there = [i for i in chosen if self.sop.converters[i].state in done_states]
        if not able and len(there) < len(chosen):
            return Ack.REJECTED_STATE
        if order in (Order.STOP, Order.ENTER_STANDBY):
            self.drop_setpoints()
        done = [self.sop.raise_event(index, event) for index in able]
        return Ack.EXECUTED if all(done) else Ack.REJECTED_STATE

    def drop_setpoints(self) -> None:
        """Forget selection and set values; whatever runs returns to zero by its ramp."""
        self.selection = None
        self._ttl_end_us = None
        self.active_id = 0
        for converter in self.sop.converters:
            converter.release()

    def _each(self, event: Event) -> None:
        for index in range(self.sop.n):
            self.sop.raise_event(index, event)

    # ------------------------------------------------------------ direct writes

    def direct(self, index: int, *, p_w: int | None, q_var: int | None, now_us: int) -> Ack:
        """A single setpoint through the terminal's own SunSpec unit, while nobody leases."""
        if self.local:
            return Ack.REJECTED_LOCAL
        if self.leased(now_us):
            return Ack.REJECTED_LEASE
        converter = self.sop.converters[index]
        p_w = converter.p_set_rx_w if p_w is None else p_w
        q_var = converter.q_set_rx_var if q_var is None else q_var
        if math.hypot(p_w, q_var) > converter.s_va:
            return Ack.REJECTED_RANGE
        if self.failsafe_active and (p_w or q_var):
            return Ack.REJECTED_STATE
        planned = [
            Staged(
                p_w=p_w if i == index else round(c.p_set_w),
                q_var=q_var if i == index else round(c.q_set_var),
                mode_code=int(c.mode),
                ramp_permille_per_s=0,
                vdc_permille=0,
                fallback_w=0,
                droop_permille=0,
            )
            for i, c in enumerate(self.sop.converters)
        ]
        master = self.sop.master
        if abs(residual_w(self.sop.converters, planned, self.sop.master_index)) > (
            master.s_va_available()
        ):
            return Ack.REJECTED_RANGE
        converter.accept(p_w, q_var)
        self.counters.direct_count += 1
        return Ack.EXECUTED

    def revert(self, index: int, *, p_w: int | None, q_var: int | None) -> None:
        """A set value falls back by the terminal's own timer: nothing and nobody refuses that."""
        converter = self.sop.converters[index]
        converter.accept(
            converter.p_set_rx_w if p_w is None else p_w,
            converter.q_set_rx_var if q_var is None else q_var,
        )

    def stage(self, offset: int, values: Sequence[int]) -> None:
        """Write staged registers; a change after SELECT takes the selection away."""
        self.staged[offset : offset + len(values)] = values
        if self.selection is not None and block_bytes(self.staged) != self.selection.image:
            self.selection = None
