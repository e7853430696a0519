"""The gateway's edges as one process sees them: every call is a seam where things go wrong."""

import asyncio
from dataclasses import replace

from gateway.devices.guard import GuardReason, GuardRefused, StationGuard
from gateway.devices.profile import Point
from gateway.model.errors import BadAnswer, DeviceNotSent, DeviceRefused, OutcomeUnknown
from gateway.model.message import Inbound
from gateway.model.setpoint import Ack, Command
from gateway.model.telemetry import MeterReading, StationTelemetry, TerminalTelemetry

from .plant import LOSS_W
from .staged import block_of

TIMEOUT_US = 500_000
FORGIVEN = {GuardReason.LEASE, GuardReason.STATE, GuardReason.WRITE_RATE}


class Line:
    """The way to one device, through a network that may lose, delay or refuse what goes there."""

    def __init__(self, *, world, life, name, draw):
        self.world, self.life, self.name, self.draw = world, life, name, draw
        self._writing = 0

    async def write(self, what, act):
        """One write: the oracle sees whether another is out."""
        self.world.oracle.writes(what, self._writing)
        self._writing += 1
        try:
            return await self.exchange(what, act)
        finally:
            self._writing -= 1

    async def exchange(self, what, act):
        """One request and its answer."""
        await self.life.seam(what)
        net, now = self.world.network, self.world.loop
        fate = net.fate(what, self.draw, self.name)
        there_us = self.draw.randint(1_000, 12_000)
        if fate == "not-sent":
            await self.life.pause(there_us)
            raise DeviceNotSent(self.name, "no connection")
        if fate == "refused":
            await self.life.pause(there_us)
            raise DeviceRefused(self.name, "busy", 6)
        if fate == "lost":
            await self.life.pause(TIMEOUT_US)
            raise OutcomeUnknown(self.name, "no answer")
        if fate == "late":
            now.call_later(self.draw.randint(400_000, 3_000_000) / 1e6, _late, act)
            await self.life.pause(TIMEOUT_US)
            raise OutcomeUnknown(self.name, "no answer")
        answer = []
        now.call_later(there_us / 1e6, lambda: answer.append(_answer(act)))
        await self.life.pause(there_us + self.draw.randint(1_000, 12_000))
        if fate == "answer-lost":
            await self.life.pause(TIMEOUT_US)
            raise OutcomeUnknown(self.name, "no answer")
        if fate == "garbled":
            raise BadAnswer(self.name, "foreign transaction")
        if isinstance(answer[0], DeviceRefused):
            raise answer[0]
        return answer[0]


def _answer(act):
    """What the device says: its answer, or its refusal."""
    try:
        return act()
    except DeviceRefused as refused:
        return refused


def _late(act):
    """A device acts though nobody hears it any more."""
    _answer(act)


class SimStation:
    """Implements ``gateway.ports.Station`` for one life of the gateway."""

    def __init__(self, *, world, life, owner):
        self.name, self.world, self.life, self.owner = "station", world, life, owner
        self.plant, self.draw = world.plant, world.draw("station")
        self.guard = StationGuard(
            name="station", terminals=world.plant.terminals, owner=owner,
            staged={n: Point(name=n) for n in ("p_set", "q_set", "ramp_set")},
        )  # fmt: skip
        self.line = Line(world=world, life=life, name="station", draw=self.draw)
        self._seen, self._mine = None, None

    async def read(self):
        self._seen = await self.line.exchange("read", self._shown)
        return self._seen

    def _shown(self):
        """What the registers say: of now, or of when they began to stand still."""
        still, clock = self.world.frozen_station, self.world.clock
        seen = self._telemetry()
        return replace(still, utc_us=clock.utc_us(), mono_us=clock.mono_us()) if still else seen

    def _telemetry(self):
        plant, clock = self.plant, self.world.clock
        now_us = self.world.loop.now_us
        plant.advance(now_us)
        limit_us = plant.watchdog_ds * 100_000
        silent_us = now_us - plant.beat_us if plant.beat_us is not None else 0
        bits = 1 << 11 | (1 << 9 if plant.latched else 0) | (1 << 12 if plant.local else 1 << 5)
        bits |= (1 << 10 if plant.selected else 0) | (1 << 13 if plant.estop else 0)
        return StationTelemetry(
            utc_us=clock.utc_us(), mono_us=clock.mono_us(), state=plant.state, status_bits=bits,
            fault_bits=plant.fault_bits, alarm_bits=0, ack_seq=plant.seq & 0xFFFF,
            ack_code=int(plant.ack), heartbeat_count=now_us // 1_000_000 & 0xFFFF,
            watchdog_remaining_ds=max(0, limit_us - silent_us) // 100_000,
            instruction_id=plant.selected.id if plant.selected else plant.active,
            master=plant.master, v_dc_dv=8000, loss_w=LOSS_W,
            uptime_s=(now_us - plant.start_us) // 1_000_000, lease_owner=plant.owner,
            terminals=tuple(self._terminal(t) for t in plant.terminals),
        )  # fmt: skip

    def _terminal(self, t):
        plant = self.plant
        return TerminalTelemetry(
            id=t.id, state=plant.state, p_w=round(plant.p_w[t.id]), q_var=0,
            v_dv=4000 + round(plant.p_w[t.id] / 1000),
            s_va_available=plant.available_va[t.id], p_w_set_active=plant.held_w(t.id) * plant.clip_percent // 100,
            p_w_set_received=plant.set_w[t.id], fault_bits=0,
            limit_bits=1 << 4 if plant.held_w(t.id) != plant.set_w[t.id] else 0,
            export_wh=int(plant.export_wus[t.id] / 3.6e9),
            import_wh=int(plant.import_wus[t.id] / 3.6e9),
        )  # fmt: skip

    def staged_block(self, instruction):
        return block_of(instruction, self.plant.terminals)

    async def select(self, instruction):
        try:
            self.guard.check(instruction, seen=self._seen, now_us=self.world.clock.mono_us())
        except GuardRefused as refused:
            self.world.oracle.guard(refused.reason not in FORGIVEN, refused)
            raise
        staged = self.staged_block(instruction)
        self.guard.sent(instruction, now_us=self.world.clock.mono_us())
        self.world.oracle.sends_select(instruction, staged)
        self._mine = None
        ack = await self.line.write(
            "select",
            lambda: self.plant.answer(
                Command.SELECT, self.owner, self.world.loop.now_us, instruction,
                self.world.network.tear(staged),
            ),
        )  # fmt: skip
        self._mine = instruction if ack is Ack.ACCEPTED else None
        return ack

    async def staged_equals(self, instruction):
        def compare():
            plant = self.plant
            echoed = plant.selected.id if plant.selected else plant.active
            return echoed == instruction.id and plant.staged == self.staged_block(instruction)

        return await self.line.exchange("staged", compare)

    async def operate(self, instruction):
        if self._mine != instruction:
            raise DeviceNotSent("station", "not selected")
        self._mine = None
        self.world.oracle.sends_operate(instruction)
        return await self.line.write(
            "operate", lambda: self.world.operates(instruction, self.owner)
        )

    async def command(self, command, argument=0):
        self._mine = None
        self.world.oracle.sends_command(command)
        return await self.line.write(
            "command", lambda: self.plant.answer(command, self.owner, self.world.loop.now_us)
        )

    async def heartbeat(self, count):
        def beat():
            self.plant.heartbeat(count, self.world.loop.now_us)

        self.world.oracle.sends_heartbeat()
        await self.line.exchange("heartbeat", beat)

    async def configure(self, *, watchdog_ds, failsafe, failsafe_ramp_permille_per_s, lease_owner):
        def write():
            plant, now_us = self.plant, self.world.loop.now_us
            plant.advance(now_us)
            if plant.leased(now_us) and lease_owner != plant.owner:
                return False
            plant.watchdog_ds, plant.failsafe, plant.owner = watchdog_ds, failsafe, lease_owner
            plant.lease_us = now_us
            return True

        assert failsafe_ramp_permille_per_s > 0
        self.world.oracle.sends_command("CONFIGURE")
        if not await self.line.write("configure", write):
            raise DeviceRefused("station", "leased", 4)

    async def close(self):
        await self.life.seam("close")


class SimMeter:
    """Implements ``gateway.ports.Meter``: whole Wh of what truly flowed, read in the middle."""

    def __init__(self, *, world, life, terminal):
        self.name, self.terminal, self.world, self.life = f"m{terminal[1]}", terminal, world, life
        self.draw = world.draw(f"meter {terminal}")

    async def read(self):
        await self.life.seam("meter")
        there_us, back_us = self.draw.randint(5_000, 40_000), self.draw.randint(5_000, 40_000)
        await self.life.pause(there_us)
        world = self.world
        if self.terminal in world.mute_meters:
            await self.life.pause(TIMEOUT_US)
            raise OutcomeUnknown(self.name, "no answer")
        world.plant.advance(world.loop.now_us)
        import_wh = 100_000 + int(world.plant.import_wus[self.terminal] / 3.6e9)
        export_wh = 100_000 + int(world.plant.export_wus[self.terminal] / 3.6e9)
        p_w = round(world.plant.p_w[self.terminal])
        if still := world.frozen_meters.get(self.terminal):
            import_wh, export_wh, still_w = still
            p_w = p_w + self.draw.randint(-20, 20) if still_w is None else still_w
        error_us = (back_us - there_us) // 2  # the driver takes the middle of the round trip
        reading = MeterReading(
            meter=self.name, utc_us=world.clock.utc_us() + error_us,
            mono_us=world.clock.mono_us() + error_us, import_wh=import_wh, export_wh=export_wh,
            p_w=p_w,
            registers=(import_wh >> 16, import_wh & 0xFFFF, export_wh >> 16, export_wh & 0xFFFF),
        )  # fmt: skip
        await self.life.pause(back_us)
        return reading

    async def close(self):
        await self.life.seam("close")


class SimLink:
    """The MQTT link of one life: unacknowledged messages of the broker come again."""

    def __init__(self, *, world, life):
        self.inbox = asyncio.Queue()
        self.world, self.life = world, life

    def deliver(self, topic, payload, number, *, retain=False):
        self.inbox.put_nowait(
            Inbound(
                topic=topic, payload=payload, retain=retain, qos_level=1,
                connection_seq=self.life.number, mid_number=number,
            )
        )  # fmt: skip

    async def acknowledge(self, inbound):
        await self.life.seam("acknowledge")
        self.world.oracle.acknowledges(inbound)
        self.world.market.acknowledged(inbound)

    async def publish(self, topic, payload, *, retain=False):
        await self.life.seam("publish")
        self.world.oracle.publishes(topic, payload)
        self.world.market.hears(topic, payload, retain=retain)


class Network:
    """What happens to a request now; windows of trouble are opened and closed by the faults."""

    FATES = ("not-sent", "lost", "answer-lost", "late", "refused", "garbled")

    def __init__(self):
        self.cut = None  # None, or the fate of everything
        self.cut_units = {}  # name of a device -> the fate of everything there
        self.trouble = {}  # fate -> percent of requests
        self.torn = False

    @property
    def severed(self):
        """Whether a device cannot be reached at all."""
        return self.cut is not None or bool(self.cut_units)

    def fate(self, what, draw, name):
        """Return the fate of one request to a device."""
        if self.cut is not None:
            return self.cut
        if name in self.cut_units:
            return self.cut_units[name]
        for fate, percent in self.trouble.items():
            if draw.randrange(100) < percent and (fate != "late" or what in ("select", "operate")):
                return fate
        return ""

    def tear(self, staged):
        """Damage a staged block on its way."""
        return staged[:-1] + bytes([staged[-1] ^ 1]) if self.torn else staged

    def heal(self):
        self.cut, self.torn = None, False
        self.cut_units.clear()
        self.trouble.clear()
