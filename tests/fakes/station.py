"""A station and a meter in memory that behave as the contract of the ports says.

One constructor each with defaults. Time comes from the clock that is handed in; nothing waits.
The behaviour is kept true by ``tests/contract``, which runs the same cases over these and over
the simulated device on the wire.
"""

import asyncio
import struct
import time
from dataclasses import replace

from gateway.devices.guard import StationGuard
from gateway.devices.profile import Point
from gateway.model.errors import DeviceNotSent, DeviceRefused
from gateway.model.setpoint import Ack, Command, ControlMode
from gateway.model.telemetry import MeterReading, State, StationTelemetry, TerminalTelemetry
from gateway.model.terminal import Terminal

SELECT_US = 10_000_000
LOSS_W = 4_000


class RealClock:
    def utc_us(self):
        return time.time_ns() // 1000

    def mono_us(self):
        return time.monotonic_ns() // 1000

    async def sleep_until(self, mono_us):
        await asyncio.sleep(max(0, mono_us - self.mono_us()) / 1e6)

    def quality(self):
        return "good"

    def at_least(self, real_us):
        return real_us


def four_terminals(**changes):
    return tuple(
        replace(
            Terminal(
                id=f"T{n + 1}",
                index=n,
                domain=f"region-{n + 1}",
                meter=f"m{n + 1}",
                s_va=250_000,
                p_w_min=-230_000,
                p_w_max=230_000,
                ramp_w_per_s=50_000,
                v_dv_min=3600,
                v_dv_max=4400,
            ),
            **changes,
        )
        for n in range(4)
    )


class FakePlant:
    """What is true in the station, whoever controls it."""

    def __init__(self, *, terminals=None, clock=None, master="T1", state=State.STANDBY):
        self.terminals = terminals or four_terminals()
        self.clock = clock or RealClock()
        self.master, self.state = master, state
        self.selected, self.staged, self.selected_us = None, b"", 0
        self.active, self.p_w, self.set_w, self.ramp = 0, {}, {}, {}
        self.export_mws, self.import_mws = {}, {}
        for t in self.terminals:
            self.p_w[t.id] = self.set_w[t.id] = 0.0
            self.export_mws[t.id] = self.import_mws[t.id] = 0.0
        self.watchdog_ds, self.beat_us, self.beat_count = 50, None, 0
        self.failsafe, self.owner, self.lease_us = 1, 0, 0
        self.ttl_end_us, self.seq, self.ack = None, 0, Ack.NONE
        self.comm_fault, self.local = False, False
        self.start_us = self.then_us = self.clock.mono_us()

    def leased(self):
        alive_us = max(self.lease_us, self.beat_us or 0)
        return self.owner and self.clock.mono_us() - alive_us <= self.watchdog_ds * 100_000

    def advance(self):
        """Bring ramps, counters and timers up to now."""
        now_us = self.clock.mono_us()
        step_s = (now_us - self.then_us) / 1e6
        self.then_us = now_us
        running = self.state is State.RUN
        if running and (
            (self.beat_us is not None and now_us - self.beat_us > self.watchdog_ds * 100_000)
            or (self.ttl_end_us is not None and now_us > self.ttl_end_us)
        ):
            self.comm_fault = self.comm_fault or now_us <= (self.ttl_end_us or now_us)
            self.drop()
        for t in self.terminals:
            if t.id == self.master:
                continue
            most = self.ramp.get(t.id, 200) * t.s_va / 1000 * step_s
            gap = self.set_w[t.id] - self.p_w[t.id]
            self.p_w[t.id] += max(-most, min(most, gap))
        others = sum(p for name, p in self.p_w.items() if name != self.master)
        self.p_w[self.master] = -others - LOSS_W
        for name, p_w in self.p_w.items():
            self.export_mws[name] += max(0.0, p_w) * step_s
            self.import_mws[name] += max(0.0, -p_w) * step_s
        if (
            running
            and not self.active
            and all(abs(p) < 1 for name, p in self.p_w.items() if name != self.master)
        ):
            self.state = State.STANDBY

    def drop(self):
        self.selected, self.active, self.ttl_end_us = None, 0, None
        self.set_w = dict.fromkeys(self.set_w, 0.0)

    def answer(self, command, instruction, owner, staged=b"", argument=0):
        self.advance()
        self.seq += 1
        self.ack = self._answer(command, instruction, owner, staged, argument)
        return self.ack

    def _answer(self, command, instruction, owner, staged, argument):
        now_us = self.clock.mono_us()
        if command is Command.SOFT_ESTOP:
            self.drop()
            self.state = State.ESTOP
            return Ack.EXECUTED
        if self.local:
            return Ack.REJECTED_LOCAL
        if self.leased() and owner != self.owner and command is not Command.STOP:
            return Ack.REJECTED_LEASE
        match command:
            case Command.SELECT:
                return self._select(instruction, owner, staged, now_us)
            case Command.OPERATE:
                return self._operate(instruction, now_us)
            case Command.CANCEL:
                self.selected = None
            case Command.STOP:
                self.drop()
                self.state = State.STOPPED
            case Command.ENTER_STANDBY:
                self.drop()
                self.state = State.STANDBY
            case Command.START if self.state is State.STOPPED:
                self.state = State.STANDBY
            case _:
                return Ack.REJECTED_STATE
        return Ack.EXECUTED

    def _select(self, instruction, owner, staged, now_us):
        self.selected = None
        if self.state not in (State.STANDBY, State.RUN):
            return Ack.REJECTED_STATE
        masters = [s.terminal for s in instruction.setpoints if s.mode is ControlMode.VDC_Q]
        s_va = {t.id: t.s_va for t in self.terminals}
        others_w = sum(s.p_w for s in instruction.setpoints if s.terminal != self.master)
        if (
            masters != [self.master]
            or any(s.p_w**2 + s.q_var**2 > s_va[s.terminal] ** 2 for s in instruction.setpoints)
            or abs(others_w) + LOSS_W > s_va[self.master]
            or (not instruction.ttl_s and any(s.p_w or s.q_var for s in instruction.setpoints))
        ):
            return Ack.REJECTED_RANGE
        self.owner, self.lease_us = owner, now_us
        self.selected, self.staged, self.selected_us = instruction, staged, now_us
        return Ack.ACCEPTED

    def _operate(self, instruction, now_us):
        if self.selected is None or self.selected.id != instruction.id:
            return Ack.REJECTED_NOT_SELECTED
        if now_us - self.selected_us > SELECT_US:
            return Ack.TIMEOUT
        self.selected, self.active = None, instruction.id
        self.ttl_end_us = now_us + instruction.ttl_s * 1_000_000
        self.comm_fault, self.state = False, State.RUN
        self.ramp = {s.terminal: instruction.ramp_of(s) for s in instruction.setpoints}
        self.beat_us = self.beat_us or now_us
        for s in instruction.setpoints:
            self.set_w[s.terminal] = 0.0 if s.terminal == self.master else float(s.p_w)
        return Ack.EXECUTED


class FakeStation:
    """Implements ``gateway.ports.Station``; ``fail_next`` raises once before anything happens."""

    def __init__(self, *, plant=None, owner=7, name="station", fail_next=None):
        self.plant = plant or FakePlant()
        self.name, self.owner, self.fail_next = name, owner, fail_next
        self.log = []
        self.guard = StationGuard(
            name=name,
            terminals=self.plant.terminals,
            staged={n: Point(name=n) for n in ("p_set", "q_set", "ramp_set")},
            owner=owner,
        )
        self._seen, self._mine = None, None

    def _called(self, what):
        self.log.append(what)
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error

    async def read(self):
        self._called("read")
        plant, clock = self.plant, self.plant.clock
        plant.advance()
        since_us = clock.mono_us() - (
            plant.beat_us if plant.beat_us is not None else clock.mono_us()
        )
        remaining_ds = max(0, plant.watchdog_ds - since_us // 100_000)
        selected = plant.selected.id if plant.selected else plant.active
        bits = (1 << 9 if plant.comm_fault else 0) | (1 << 12 if plant.local else 1 << 5)
        bits |= 1 << 10 if plant.selected else 0
        self._seen = StationTelemetry(
            utc_us=clock.utc_us(),
            mono_us=clock.mono_us(),
            state=plant.state,
            status_bits=bits,
            fault_bits=0,
            alarm_bits=0,
            ack_seq=plant.seq & 0xFFFF,
            ack_code=int(plant.ack),
            heartbeat_count=(clock.mono_us() - plant.start_us) // 1_000_000,
            watchdog_remaining_ds=remaining_ds,
            instruction_id=selected,
            master=plant.master,
            v_dc_dv=8000,
            loss_w=LOSS_W,
            uptime_s=(clock.mono_us() - plant.start_us) // 1_000_000,
            lease_owner=plant.owner,
            terminals=tuple(self._terminal(t) for t in plant.terminals),
        )
        return self._seen

    def _terminal(self, t):
        plant = self.plant
        return TerminalTelemetry(
            id=t.id,
            state=plant.state,
            p_w=round(plant.p_w[t.id]),
            q_var=0,
            v_dv=4000,
            s_va_available=t.s_va,
            p_w_set_active=round(plant.set_w[t.id]),
            p_w_set_received=round(plant.set_w[t.id]),
            fault_bits=0,
            limit_bits=0,
            export_wh=int(plant.export_mws[t.id] / 3600),
            import_wh=int(plant.import_mws[t.id] / 3600),
        )

    def staged_block(self, instruction):
        at = {s.terminal: s for s in instruction.setpoints}
        return b"".join(
            struct.pack(
                ">iiHHHiHHH",
                at[t.id].p_w,
                at[t.id].q_var,
                int(at[t.id].mode),
                instruction.ramp_of(at[t.id]),
                *(0,) * 5,
            )
            for t in self.plant.terminals
        )

    async def select(self, instruction):
        self._called("select")
        now_us = self.plant.clock.mono_us()
        self.guard.check(instruction, seen=self._seen, now_us=now_us)
        self.guard.sent(instruction, now_us=now_us)
        staged = self.staged_block(instruction)
        ack = self.plant.answer(Command.SELECT, instruction, self.owner, staged)
        self._mine = instruction if ack is Ack.ACCEPTED else None
        return ack

    async def staged_equals(self, instruction):
        self._called("staged_equals")
        selected = self.plant.selected
        echoed = selected.id if selected else self.plant.active
        return echoed == instruction.id and self.plant.staged == self.staged_block(instruction)

    async def operate(self, instruction):
        self._called("operate")
        if self._mine != instruction:
            raise DeviceNotSent(self.name, "not selected")
        self._mine = None
        return self.plant.answer(Command.OPERATE, instruction, self.owner)

    async def command(self, command, argument=0):
        self._called(command.name)
        self._mine = None
        return self.plant.answer(command, None, self.owner, argument=argument)

    async def heartbeat(self, count):
        self._called("heartbeat")
        self.plant.advance()
        if count != self.plant.beat_count:
            self.plant.beat_us, self.plant.beat_count = self.plant.clock.mono_us(), count

    async def configure(self, *, watchdog_ds, failsafe, failsafe_ramp_permille_per_s, lease_owner):
        self._called("configure")
        if not watchdog_ds:
            raise DeviceNotSent(self.name, "the watchdog must not be switched off")
        if not 10 <= watchdog_ds <= 600:
            raise DeviceRefused(self.name, "watchdog out of range", 3)
        plant = self.plant
        if plant.leased() and lease_owner != plant.owner:
            raise DeviceRefused(self.name, "leased", 4)
        plant.watchdog_ds, plant.failsafe = watchdog_ds, failsafe
        plant.owner = self.owner = self.guard.owner = lease_owner

    async def close(self):
        self.log.append("close")


class FakeMeter:
    """Implements ``gateway.ports.Meter``: counts what a fake plant's terminal does."""

    def __init__(self, *, plant=None, terminal="T1", name="m1", start_wh=100_000):
        self.plant = plant or FakePlant()
        self.terminal, self.name, self.start_wh = terminal, name, start_wh
        self.fail_next = None

    async def read(self):
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        plant = self.plant
        plant.advance()
        import_wh = self.start_wh + int(plant.import_mws[self.terminal] / 3600)
        export_wh = self.start_wh + int(plant.export_mws[self.terminal] / 3600)
        return MeterReading(
            meter=self.name,
            utc_us=plant.clock.utc_us(),
            mono_us=plant.clock.mono_us(),
            import_wh=import_wh,
            export_wh=export_wh,
            p_w=round(plant.p_w[self.terminal]),
            registers=(import_wh >> 16, import_wh & 0xFFFF, export_wh >> 16, export_wh & 0xFFFF),
        )

    async def close(self):
        pass
