"""Terminals with controllers of their own: each has its set value, its timer, its line and its switch.

The gateway's own driver over several converters runs here as it is; below it the lines are simulated.
"""

from dataclasses import replace

from gateway.devices.converter import ConverterReading
from gateway.devices.converters import Converters
from gateway.devices.guard import GuardRefused, StationGuard
from gateway.devices.profile import Point
from gateway.model.errors import DeviceRefused
from gateway.model.setpoint import Command
from gateway.model.telemetry import State

from .edges import FORGIVEN, Line
from .plant import Plant

LIFE_S = 5


class UnitPlant(Plant):
    """Converters that share a DC bus and nothing else."""

    def reboot(self, now_us):
        told = getattr(self, "staged", b"")
        super().reboot(now_us)
        self.staged = told  # a note of this simulation: converters keep no block
        self.state = State.RUN
        ids = [t.id for t in self.terminals]
        self.unit_state = dict.fromkeys(ids, State.STANDBY)
        self.reverts_us = dict.fromkeys(ids)
        self.life_s = dict.fromkeys(ids, 0)
        self.kept_us = dict.fromkeys(ids, now_us)
        self.began_us = dict.fromkeys(ids, now_us)
        self.held_us = dict.fromkeys(ids, now_us)  # when its set value was written last
        self.set_q = dict.fromkeys(ids, 0)
        self.local_units = set()
        self.strange_units = set()  # what they hold somebody else wrote
        self.written = {t: [] for t in ids}
        self.fell_us = -(1 << 60)

    def reboot_unit(self, terminal, now_us):
        """One converter loses everything volatile and blocks."""
        self.advance(now_us)
        if self.set_w[terminal]:
            self.fell_us = now_us
        self.set_w[terminal], self.set_q[terminal], self.p_w[terminal] = 0, 0, 0.0
        self.unit_state[terminal] = State.STANDBY
        self.reverts_us[terminal], self.life_s[terminal] = None, 0
        self.began_us[terminal] = self.start_us = now_us
        self.dropped_us = now_us

    # What the oracle asks of a station

    @property
    def watchdog_ds(self):
        armed = all(self.life_s[t.id] == LIFE_S for t in self.slaves)
        return 10 * LIFE_S if armed else 0

    @watchdog_ds.setter
    def watchdog_ds(self, _value):
        """Each converter has its own."""

    @property
    def last_beat_us(self):
        powered = [t.id for t in self.slaves if self.set_w[t.id]]
        return min((self.kept_us[t] for t in powered), default=self.then_us)

    @last_beat_us.setter
    def last_beat_us(self, _value):
        """Each converter was kept at its own time."""

    def carried(self, entry, told):
        """Whether each set value was written at its converter, or was there already."""
        del entry
        return all(self.set_w[t] == p or p in self.written[t] for t, p in told.items())

    # Time

    def target_w(self, terminal):
        return super().target_w(terminal) if self.unit_state[terminal] is State.RUN else 0.0

    def advance(self, now_us):
        while self.then_us < now_us:
            until_us = min([now_us, *self._timers(), *self._ramp_ends()])
            self._integrate(until_us)
            self.then_us = until_us
            for terminal, at_us in self.reverts_us.items():
                if at_us is not None and until_us >= at_us:
                    self._revert(terminal)

    def _timers(self):
        for at_us in self.reverts_us.values():
            if at_us is not None:
                yield max(self.then_us, at_us)

    def _revert(self, terminal):
        self.reverts_us[terminal] = None
        if self.set_w[terminal]:
            self.told("drop", f"reversion {terminal}")
            self.dropped_us = self.fell_us = self.then_us
        self.set_w[terminal] = self.set_q[terminal] = 0

    # What one converter is told

    def hold(self, terminal, p_w, q_var, now_us):
        self.advance(now_us)
        if self.estop or self.fault_bits or self.local or terminal in self.local_units:
            raise DeviceRefused(terminal, "not now", 4)
        if p_w is not None:
            self.strange_units.discard(terminal)
            if self.foreign and not self.strange_units:
                self.foreign, self.strange_us = False, now_us
            self.set_w[terminal] = p_w
            self.written[terminal].append(p_w)
            self.told("hold", f"{terminal} {p_w}")
            self.held_us[terminal] = now_us
            self.told_us = now_us if p_w else self.told_us
        self.set_q[terminal] = q_var
        if self.life_s[terminal]:
            self.reverts_us[terminal] = now_us + self.life_s[terminal] * 1_000_000
        self.kept_us[terminal] = now_us

    def keep(self, terminal, life_s, now_us):
        self.advance(now_us)
        if self.life_s[terminal]:
            self.reverts_us[terminal] = now_us + life_s * 1_000_000
        self.kept_us[terminal] = now_us

    def arm(self, terminal, life_s, now_us):
        self.advance(now_us)
        self.life_s[terminal] = life_s
        self.reverts_us[terminal] = now_us + life_s * 1_000_000
        self.kept_us[terminal] = now_us

    def order(self, terminal, command, now_us):
        self.advance(now_us)
        if self.estop or self.fault_bits or self.local or terminal in self.local_units:
            raise DeviceRefused(terminal, "not now", 4)
        if command is Command.EXIT_STANDBY:
            self.unit_state[terminal] = State.RUN
        elif command in (Command.STOP, Command.ENTER_STANDBY):
            self.unit_state[terminal], self.set_w[terminal] = State.STANDBY, 0

    def stranger(self, setpoints, identity, now_us):
        for terminal in setpoints:  # it held that until now, whoever reads of it later
            self.written[terminal].append(self.set_w[terminal])
        super().stranger(setpoints, identity, now_us)
        self.strange_units |= setpoints.keys()
        for terminal in setpoints:  # whoever writes starts the timer anew
            self.keep(terminal, self.life_s[terminal], now_us)

    def stop_all(self, now_us, state):
        super().stop_all(now_us, state)
        for terminal in self.unit_state:
            self.set_q[terminal] = 0
            self.unit_state[terminal] = State.STANDBY


class SimConverter:
    """Implements ``gateway.devices.converters.Converter`` for one life of the gateway."""

    def __init__(self, *, world, life, terminal):
        self.name, self.terminal, self.world = f"c{terminal[1]}", terminal, world
        self.plant = world.plant
        self.line = Line(world=world, life=life, name=self.name, draw=world.draw(self.name))

    def _now_us(self):
        return self.world.loop.now_us

    async def read(self):
        return await self.line.exchange("read", self._shown)

    def _shown(self):
        still, clock = self.world.frozen_units.get(self.terminal), self.world.clock
        seen = self.reading()
        return replace(still, utc_us=clock.utc_us(), mono_us=clock.mono_us()) if still else seen

    def reading(self):
        plant, clock, t = self.plant, self.world.clock, self.terminal
        now_us = self._now_us()
        plant.advance(now_us)
        state = plant.unit_state[t]
        if plant.estop or plant.fault_bits:
            state = State.FAULT
        left_us = (plant.reverts_us[t] or now_us) - now_us
        uptime_s = (now_us - plant.began_us[t]) // 1_000_000
        return ConverterReading(
            utc_us=clock.utc_us(), mono_us=clock.mono_us(), state=state,
            fault_bits=plant.fault_bits, local=plant.local or t in plant.local_units,
            estop=plant.estop, p_w=round(plant.p_w[t]), q_var=0,
            v_dv=4000 + round(plant.p_w[t] / 1000), v_dc_dv=8000,
            s_va_available=plant.available_va[t], p_w_set=plant.set_w[t], q_var_set=plant.set_q[t],
            left_ds=max(0, -(-left_us // 100_000)), heartbeat_count=uptime_s, uptime_s=uptime_s,
            export_wh=int(plant.export_wus[t] / 3.6e9), import_wh=int(plant.import_wus[t] / 3.6e9),
        )  # fmt: skip

    def block(self, *, p_w, q_var):
        return f"{self.name} {p_w} {q_var};".encode()

    async def hold(self, *, p_w, q_var):
        await self.line.write(
            "operate", lambda: self.plant.hold(self.terminal, p_w, q_var, self._now_us())
        )

    async def keep(self, life_s):
        await self.line.exchange(
            "heartbeat", lambda: self.plant.keep(self.terminal, life_s, self._now_us())
        )

    async def arm(self, life_s):
        await self.line.write(
            "configure", lambda: self.plant.arm(self.terminal, life_s, self._now_us())
        )

    async def operate(self, command):
        await self.line.write(
            "command", lambda: self.plant.order(self.terminal, command, self._now_us())
        )

    async def close(self):
        await self.line.life.seam("close")


class SimConverters(Converters):
    """The driver itself, watched by the oracle."""

    def __init__(self, *, world, life, owner):
        self.world, self.life = world, life
        terminals = world.plant.terminals
        self.units = {t.id: SimConverter(world=world, life=life, terminal=t.id) for t in terminals}
        super().__init__(
            name="station", converters=self.units, terminals=terminals, master=world.plant.master,
            clock=world.clock, owner=owner,
            guard=StationGuard(
                name="station", terminals=terminals, owner=owner,
                staged={n: Point(name=n) for n in ("p_set", "q_set", "ramp_set")},
            ),
        )  # fmt: skip

    async def select(self, instruction):
        self.world.oracle.sends_select(instruction, self.staged_block(instruction))
        try:
            return await super().select(instruction)
        except GuardRefused as refused:
            self.world.oracle.guard(refused.reason not in FORGIVEN, refused)
            raise

    async def operate(self, instruction):
        world, plant = self.world, self.world.plant
        world.oracle.sends_operate(instruction)
        world.oracle.every_subset(instruction)
        plant.active, plant.staged = instruction.id, self.staged_block(instruction)
        ack = await super().operate(instruction)
        plant.operated.append((world.loop.now_us, instruction.id))
        world.oracle.operated(ack, instruction)
        return ack

    async def command(self, command, argument=0):
        self.world.oracle.sends_command(command)
        self.world.note("command", f"{command.name} told")
        return await super().command(command, argument)

    async def heartbeat(self, count):
        self.world.oracle.sends_heartbeat()
        await super().heartbeat(count)

    async def configure(self, **how):
        self.world.oracle.sends_command("CONFIGURE")
        await super().configure(**how)
