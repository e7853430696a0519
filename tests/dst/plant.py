"""What is true in the field: ramps, energies, watchdog, life of setpoints, selection, lease.

Exact between events: ``advance`` goes from one to the next and integrates straight lines. The
supervisory behaviour follows the station manual as ``tests/contract`` checks it on the wire.
"""

from gateway.model.setpoint import Ack, Command, ControlMode
from gateway.model.telemetry import State

LOSS_W = 4_000
SELECT_US = 10_000_000
WATCHDOG_UNSET_DS = 600  # as delivered; the gateway has to arm its own


class Plant:
    """The station, its converters and the feeders' meters; ``told`` hears every change."""

    def __init__(self, terminals, *, master, now_us, bias, told):
        self.terminals, self.master, self.bias, self.told = terminals, master, bias, told
        self.slaves = [t for t in terminals if t.id != master]
        self.then_us = now_us
        self.p_w = {t.id: 0.0 for t in terminals}
        self.export_wus = {t.id: 0.0 for t in terminals}
        self.import_wus = {t.id: 0.0 for t in terminals}
        self.seq, self.ack = 0, Ack.NONE
        self.foreign = self.local = self.estop = False
        self.available_va = {t.id: t.s_va for t in terminals}
        self.short_us = -(1 << 60)  # when a converter's own limit last changed
        self.strange_us = -(1 << 60)  # when a stranger's setpoints were last held
        self.fault_bits = 0
        self.clip_percent, self.clip_us = 100, 0
        self.worst_master_w = 0.0
        self.dropped_us = -(1 << 60)
        self.told_us = -(1 << 60)  # when power was last told anew, where that is known
        self.fell_us = -(1 << 60)  # when one of several controllers last went to zero alone
        self.operated = []  # (time, id) of every OPERATE that acted
        self.reboot(now_us)

    def reboot(self, now_us):
        """Lose everything volatile; the converters block."""
        self.start_us = now_us
        self.set_w = {t.id: 0 for t in self.terminals}
        self.p_w = {t.id: 0.0 for t in self.terminals}
        self.ramp_permille = dict.fromkeys(self.set_w, 200)
        self.state = State.STANDBY
        self.selected = None
        self.staged, self.selected_us, self.active = b"", 0, 0
        self.watchdog_ds, self.failsafe = WATCHDOG_UNSET_DS, 1
        self.beat_us, self.beat_count, self.ttl_end_us = None, -1, None
        self.owner, self.lease_us = 0, 0
        self.latched = False
        self.last_beat_us = now_us

    # ------------------------------------------------------------------ time

    def held_w(self, terminal):
        """What the converter makes active of its setpoint: no more than it can carry now."""
        most = self.available_va[terminal]
        return max(-most, min(most, self.set_w[terminal]))

    def carried(self, entry, told):
        """Whether the station was told to operate just this."""
        del told
        return entry["instr_id"] in {i for _, i in self.operated}

    def derate(self, terminal, available_va, now_us):
        """Change what a terminal can carry; the master has to bear what it no longer does."""
        self.advance(now_us)
        self.available_va[terminal] = available_va
        self.short_us = now_us

    @property
    def short(self):
        return any(self.held_w(t.id) != self.set_w[t.id] for t in self.slaves)

    def target_w(self, terminal):
        biased = self.held_w(terminal) * (1_000_000 + self.bias[terminal]) / 1e6
        return biased * self.clip_percent / 100

    def advance(self, now_us):
        """Bring ramps, counters and timers up to an instant."""
        while self.then_us < now_us:
            until_us = min([now_us, *self._timers(), *self._ramp_ends()])
            self._integrate(until_us)
            self.then_us = until_us
            if self.state is State.RUN:
                if self.beat_us is not None and until_us >= self._watchdog_us():
                    self._drop("watchdog")
                elif self.ttl_end_us is not None and until_us >= self.ttl_end_us:
                    self._drop("ttl")

    def _watchdog_us(self):
        return self.beat_us + self.watchdog_ds * 100_000

    def _timers(self):
        if self.state is State.RUN and not self.latched:
            if self.beat_us is not None:
                yield max(self.then_us, self._watchdog_us())
            if self.ttl_end_us is not None:
                yield max(self.then_us, self.ttl_end_us)

    def _rate(self, terminal):
        return self.ramp_permille[terminal.id] * terminal.s_va / 1e9  # W per µs

    def _ramp_ends(self):
        for t in self.slaves:
            gap = abs(self.target_w(t.id) - self.p_w[t.id])
            if gap > 1e-6:
                yield self.then_us + max(1, round(gap / self._rate(t)))

    def _integrate(self, until_us):
        step_us = until_us - self.then_us
        before = dict(self.p_w)
        for t in self.slaves:
            gap = self.target_w(t.id) - self.p_w[t.id]
            most = self._rate(t) * step_us
            self.p_w[t.id] += gap if abs(gap) <= most + 0.5 else max(-most, min(most, gap))
        self.p_w[self.master] = -sum(self.p_w[t.id] for t in self.slaves) - LOSS_W
        for name, p_w in self.p_w.items():
            area = (before[name] + p_w) / 2 * step_us
            if area >= 0:
                self.export_wus[name] += area
            else:
                self.import_wus[name] -= area
        if until_us - max(self.strange_us, self.short_us, self.fell_us) > 12_000_000:
            self.worst_master_w = max(self.worst_master_w, abs(self.p_w[self.master]))
        idle = all(abs(self.p_w[t.id]) < 1 for t in self.slaves)
        if self.latched and idle and self.state is State.RUN:
            self.state = State.STANDBY

    def _drop(self, cause):
        self.told("drop", cause)
        self.dropped_us = self.then_us
        self.latched = True
        self.zero()
        self.ramp_permille = dict.fromkeys(self.set_w, 200)
        self.beat_us = None if cause == "watchdog" else self.beat_us

    def zero(self):
        self.selected, self.active, self.ttl_end_us = None, 0, None
        self.set_w = dict.fromkeys(self.set_w, 0)

    def leased(self, now_us):
        alive_us = max(self.lease_us, self.last_beat_us)
        return self.owner and now_us - alive_us <= self.watchdog_ds * 100_000

    # -------------------------------------------------------------- commands

    def heartbeat(self, count, now_us):
        self.advance(now_us)
        if count != self.beat_count:
            self.beat_us = self.last_beat_us = now_us
            self.beat_count = count

    def answer(self, command, owner, now_us, instruction=None, staged=b""):
        """Carry a command out once, as registers would, and remember its answer."""
        self.advance(now_us)
        self.seq += 1
        self.ack = self._answer(command, owner, now_us, instruction, staged)
        self.told("command", f"{command.name} {self.ack.name}")
        return self.ack

    def _answer(self, command, owner, now_us, instruction, staged):
        if self.estop or self.fault_bits:
            return Ack.REJECTED_STATE
        if self.local:
            return Ack.REJECTED_LOCAL
        if self.leased(now_us) and owner != self.owner:
            return Ack.REJECTED_LEASE
        match command:
            case Command.SELECT:
                return self._select(instruction, owner, staged, now_us)
            case Command.OPERATE:
                return self._operate(instruction, now_us)
            case Command.ENTER_STANDBY:
                self.zero()
                self.state = State.STANDBY
            case Command.EXIT_STANDBY:
                self.state = State.RUN
            case _:
                return Ack.REJECTED_STATE
        return Ack.EXECUTED

    def _select(self, instruction, owner, staged, now_us):
        self.selected = None
        masters = [s.terminal for s in instruction.setpoints if s.mode is ControlMode.VDC_Q]
        others_w = sum(s.p_w for s in instruction.setpoints if s.terminal != self.master)
        s_va = {t.id: t.s_va for t in self.terminals}
        moving = any(s.p_w or s.q_var for s in instruction.setpoints)
        if (
            masters != [self.master]
            or any(s.p_w**2 + s.q_var**2 > s_va[s.terminal] ** 2 for s in instruction.setpoints)
            or abs(others_w) + LOSS_W > s_va[self.master]
            or (moving and not instruction.ttl_s)
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
        self.strange_us = now_us if self.foreign else self.strange_us
        self.latched, self.foreign, self.state = False, False, State.RUN
        self.ramp_permille = {s.terminal: instruction.ramp_of(s) for s in instruction.setpoints}
        if self.beat_us is None or now_us >= self._watchdog_us():
            self.beat_us = now_us
        for s in instruction.setpoints:
            self.set_w[s.terminal] = 0 if s.terminal == self.master else s.p_w
        self.operated.append((now_us, instruction.id))
        return Ack.EXECUTED

    # -------------------------------------------------------------- strangers

    def stranger(self, setpoints, identity, now_us):
        """Somebody else's setpoints, by a way that asks for no lease."""
        self.advance(now_us)
        self.set_w.update(setpoints)

        self.active, self.foreign, self.latched = identity, True, False
        self.strange_us = 1 << 60  # as long as it lasts
        self.ttl_end_us, self.state = None, State.RUN
        self.beat_us = self.beat_us or now_us

    def stop_all(self, now_us, state):
        """Protection or a person: everything to zero, now."""
        self.advance(now_us)
        self.zero()
        self.state = state
        self.latched = False
