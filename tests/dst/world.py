"""One run: a plant, a market, a machine, and the gateway's real parts living and dying on it."""

import asyncio
import contextlib
import hashlib
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from fakes.core import make_policy, make_sop
from fakes.promises import broken as broken_promises

from gateway.app import boot_fields, recover
from gateway.config.alarm_file import load_alarms
from gateway.core.state import Site
from gateway.market import dsse
from gateway.market.office import MarketOffice
from gateway.model.errors import JournalError
from gateway.model.reason import Reason, ReasonCode
from gateway.model.telemetry import State
from gateway.model.terminal import Reactive
from gateway.runtime.alarms import AlarmWatch
from gateway.runtime.desk import TradeDesk
from gateway.runtime.dispatch import Dispatcher
from gateway.runtime.loop import Scan
from gateway.runtime.recorder import Recorder
from gateway.runtime.telemetry import Heartbeat, MeterPoller, StationPoller
from ledger.audit.auditor import Fold
from ledger.audit.evidence import decoded

from . import ledger_oracle
from .alarm_oracle import AlarmOracle, SimLook
from .edges import Network, SimLink, SimMeter, SimStation
from .faults import STANDING, UNITS, drawn
from .loop import NothingScheduledError, run_virtual
from .machine import UTC0_US, Disk, MachineClock, MemoryJournal
from .market import ANSWER_KEY, KEY, OPERATOR, TOPICS, SimMarket
from .oracle import Oracle
from .plant import Plant
from .units import SimConverters, UnitPlant

HERE = Path(__file__).parent
RULES = load_alarms(HERE.parent.parent / "configs" / "alarms.yaml")

OWNER = 4711
STRANGER_ID = 0xBAD
CALM_S = 240.0  # the end of a run: everything healed, everything settled


REACTIVE = {
    "T1": Reactive(q_var=-10_000),
    "T3": Reactive(q_var=30_000),
    "T4": Reactive(curve=((3800, 80_000), (3950, 0), (4050, 0), (4200, -80_000))),
}


def with_reactive(sop):
    """One terminal gives none, two a fixed amount, one by its voltage."""
    terminals = tuple(replace(t, reactive=REACTIVE.get(t.id)) for t in sop.terminals)
    return replace(sop, terminals=terminals)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a seed stands for; ``faults`` may be given to leave some out."""

    seed: int
    minutes: int = 30
    faults: tuple | None = None
    gap_s: float | None = None
    length_s: int | None = None
    mischief: bool = True
    bias_ppm: int | None = None
    rearm: str | None = None
    separate: bool = False  # a controller for each terminal


@dataclass
class Outcome:
    setting: Setting
    faults: tuple
    broken: list
    digest: str
    entries: list
    trace: list = field(repr=False)
    checked_count: int = 0
    kills_count: int = 0
    plant_s: float = 0.0
    messages_count: int = 0
    deliveries: list = field(default_factory=list)


class Life:
    """One process of the gateway: from start to its death; dead ones do nothing any more."""

    def __init__(self, world, number):
        self.world, self.number = world, number
        self.alive = True
        self.dead = asyncio.Event()
        self.quit = asyncio.Event()
        self.tasks = []

    async def pause(self, us):
        await asyncio.sleep(us / 1e6)
        await self._living()

    async def seam(self, what):
        world = self.world
        await self._living()
        if world.crash_in_seams is not None:
            world.crash_in_seams -= 1
            if world.crash_in_seams <= 0:
                world.crash_in_seams = None
                world.note("crash", f"at {what}")
                world.kill()
        await self._living()

    async def _living(self):
        if not self.alive:
            await asyncio.get_running_loop().create_future()


class World:
    """Everything of one run."""

    def __init__(self, setting, loop):
        self.setting, self.loop = setting, loop
        self.trace = []
        draw = self.draw("setting")
        self.length_s = setting.length_s or draw.choice((60, 60, 300, 900))
        self.mischief = setting.mischief
        sop = with_reactive(make_sop())
        self.site = Site(
            site="sim", sop=sop, policy=make_policy(gate_ms=30_000), rearm=setting.rearm or draw.choice(("auto", "manual")),
            owner_id=OWNER, ramp_permille_per_s=200, separate=setting.separate,
        )  # fmt: skip
        self.clock = MachineClock(loop)
        self.disk = Disk()
        self.network = Network()
        spread = setting.bias_ppm
        self.plant = (UnitPlant if setting.separate else Plant)(
            sop.terminals, master=sop.master, now_us=0,
            bias={t.id: draw.randint(-10_000, 10_000) if spread is None else spread for t in sop.terminals},
            told=lambda what, how: self.note(what, how),
        )  # fmt: skip
        self.available_va = self.plant.available_va
        self.mute_meters = set()
        self.frozen_meters = {}  # terminal -> counters and power (None: it moves) that stand still
        self.frozen_station = None  # telemetry that stands still …
        self.frozen_us = 0  # … since then
        self.frozen_units = {}  # the same of single converters
        self.market = SimMarket(self, length_ms=self.length_s * 1000, late_count=0)
        self.oracle = Oracle(self)
        self.stalled_mono_us = []  # when the host stood still
        self.alarm_oracle = AlarmOracle(self)
        self.alarms = None
        gap_s = setting.gap_s or draw.choice((20, 45, 90, 300))
        self.until_s = setting.minutes * 60.0
        self.faults = setting.faults
        if self.faults is None:
            usual = drawn(self.draw("faults"), until_s=self.until_s, gap_s=gap_s)
            still = drawn(
                self.draw("standing"), until_s=self.until_s, gap_s=6 * gap_s, kinds=STANDING
            )
            own = ()
            if setting.separate:
                usual = [f for f in usual if f.kind not in ("clip", "tear")]
                still = [f for f in still if f.kind != "frozen-station"]
                own = drawn(self.draw("units"), until_s=self.until_s, gap_s=2 * gap_s, kinds=UNITS)
            self.faults = tuple(sorted((*usual, *still, *own), key=lambda f: f.at_s))
        self.crash_in_seams = None
        self.life = None
        self.recorder = self.scan = self.station = self.poller = None
        self.kills_count = 0
        self.reachable_us = 0
        self.foreign_us = self.living_us = 0
        self.derated_us = None
        self.disturbed = []  # (from, to) in plant seconds
        self.restart_s = 1.0
        self.troubled_us = 0  # when requests last went astray
        self.ended = False
        self.beat_us = 0

    def draw(self, name):
        return random.Random(f"{self.setting.seed} {name}")

    def note(self, what, how):
        self.trace.append(f"{self.loop.now_us} {what} {how}")

    @property
    def stands_still(self):
        """Whether what is read of the station, or of one converter, is of another time."""
        return self.frozen_station is not None or bool(self.frozen_units)

    @property
    def alive(self):
        return self.life is not None and self.life.alive

    @property
    def disk_is_slow(self):
        return self.disk.fsync_us[1] > 20_000 or self.disk.broken

    def operates(self, instruction, owner):
        ack = self.plant.answer(_OPERATE, owner, self.loop.now_us, instruction)
        self.oracle.operated(ack, instruction)
        return ack

    # -------------------------------------------------------------------- life

    def kill(self):
        """SIGKILL: nothing of the process acts any more, pending writes may or may not stand."""
        if self.life is None or not self.life.alive:
            return
        self.kills_count += 1
        self.life.alive = False
        self.journal.cut()
        self.market.disconnect()
        self.life.dead.set()

    async def live(self):
        """Start the gateway again and again until the run ends."""
        number = 0
        while not self.ended:
            number += 1
            await self._one_life(number)
            self.note("life", f"{number} ended")
            await asyncio.sleep(self.restart_s)

    async def _one_life(self, number):
        life = self.life = Life(self, number)
        self.living_us = self.loop.now_us
        self.crash_in_seams = None
        journal = self.journal = MemoryJournal(
            disk=self.disk, clock=self.clock, life=life, draw=self.draw(f"disk {number}")
        )
        main = asyncio.ensure_future(self._gateway(life, journal))
        dying = asyncio.ensure_future(life.dead.wait())
        try:
            await asyncio.wait((main, dying), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (main, dying):
                task.cancel()
            (ended, _) = await asyncio.gather(main, dying, return_exceptions=True)
        self.market.disconnect()
        if isinstance(ended, JournalError):
            self.note("journal", str(ended))
        elif isinstance(ended, Exception):
            self.oracle.check(False, "L7", f"the gateway died: {ended!r}")
        life.alive = False

    async def _gateway(self, life, journal):
        """The composition of ``gateway.app`` over simulated edges."""
        clock, site = self.clock, self.site
        state, verdicts = recover(journal, site)
        recorder = self.recorder = Recorder(journal, state)
        driver = SimConverters if site.separate else SimStation
        station = self.station = driver(world=self, life=life, owner=site.owner_id)
        meters = {t.id: SimMeter(world=self, life=life, terminal=t.id) for t in site.sop.terminals}
        link = SimLink(world=self, life=life)
        public = KEY.public_key().public_bytes_raw()
        by = OPERATOR.public_key().public_bytes_raw()
        office = MarketOffice(
            link=link, topics=TOPICS, site="sim", sop="SOP-1", signers={dsse.keyid(public): public},
            required=1, key=ANSWER_KEY, operators={dsse.keyid(by): by},
        )  # fmt: skip
        poller = self.poller = StationPoller(station=station, clock=clock, period_us=1_000_000)
        dispatcher = Dispatcher(station=station, recorder=recorder, site=site, clock=clock)
        desk = TradeDesk(market=office, recorder=recorder, clock=clock)
        for index, entry in verdicts:
            desk.remember(index, entry)
        scan = self.scan = Scan(
            recorder=recorder, clock=clock, station=station, poller=poller, dispatcher=dispatcher,
            desk=desk, market=office, period_us=1_000_000, watchdog_ds=50,
        )  # fmt: skip
        journal.time_quality = scan.time_quality
        heartbeat = Heartbeat(
            station=station, poller=poller, clock=clock, period_us=1_000_000, alive=scan.alive
        )
        meter_poller = MeterPoller(
            meters=meters, recorder=recorder, clock=clock, period_us=5_000_000,
            boundaries=lambda: [(p.interval.start_ms, p.interval.end_ms) for p in state.plans.values()],
        )  # fmt: skip
        look = SimLook(
            scan=scan, poller=poller, clock=clock, ledger=journal.status,
            broker_online=lambda: self.market.online, meter_poll_ms=5_000, folder=HERE,
            site_file=HERE / "world.py",
        )  # fmt: skip
        alarms = self.alarms = AlarmWatch(
            rules=RULES, recorder=recorder, market=office, clock=clock, seen=look
        )
        for index, entry in journal.entries():
            alarms.take(index, entry)
        why = Reason(code=ReasonCode.OPERATOR, detail="asked to stop")
        try:
            await scan.start(
                boot_fields=boot_fields(state),
                config={"mode": "on", "sha256": "0" * 64, "config": ledger_oracle.config_of(site)},
            )
            self.market.connect(link)
            runs = (poller, heartbeat, meter_poller, scan, alarms)
            life.tasks = [asyncio.ensure_future(r.run()) for r in runs]
            life.tasks.append(asyncio.ensure_future(life.quit.wait()))
            try:
                done, _ = await asyncio.wait(life.tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    _first_of(task)
            finally:
                for task in life.tasks:
                    task.cancel()
                await asyncio.gather(*life.tasks, return_exceptions=True)
        except JournalError:
            why = Reason(code=ReasonCode.LEDGER, detail="the ledger failed")
            raise
        finally:
            if life.alive and (life.quit.is_set() or why.code is ReasonCode.LEDGER):
                self.market.disconnect()
                await scan.safe_stop(why)
                if why.code is not ReasonCode.LEDGER:
                    await recorder.record(
                        "mode", mode=state.mode, state="OFF", reasons=[why.fields()]
                    )
                    await recorder.settled()
                    self.oracle.left(state)

    # ------------------------------------------------------------------ people

    async def people(self):
        """Arm again after a fail-safe, as a person would within a minute."""
        draw = self.draw("people")
        while True:
            await asyncio.sleep(5)
            if not self.alive or self.scan is None:
                continue
            state = self.recorder.state
            if not state.armed and state.boot_number:
                await asyncio.sleep(draw.uniform(5, 40))
                await self.order("arm")

    async def order(self, verb, **arguments):
        """An operator's order, as the control socket gives it."""
        if not self.alive or self.scan is None or not self.recorder.state.moments:
            return
        life = self.life
        order = asyncio.ensure_future(
            self.scan.operator(verb=verb, user="uid:0", arguments=arguments)
        )
        dying = asyncio.ensure_future(life.dead.wait())
        await asyncio.wait((order, dying), return_when=asyncio.FIRST_COMPLETED)
        for task in (order, dying):
            task.cancel()
        await asyncio.gather(order, dying, return_exceptions=True)
        if verb == "arm":
            self.oracle.ended_us["unarmed"] = self.loop.now_us

    async def trade(self):
        """The market's own pace."""
        elapsed = 0
        while self.loop.now_us / 1e6 < self.until_s - self.length_s:
            await asyncio.sleep(1)
            elapsed += 1
            if elapsed % min(self.length_s, 150) == 1:
                self.market.step()
            if elapsed % 20 == 0 and self.market.online:
                self.market.resend()

    async def watch(self):
        while True:
            await asyncio.sleep(1)
            self.oracle.second()
            self.alarm_oracle.second()

    # ------------------------------------------------------------------- faults

    async def disturb(self):
        async with asyncio.TaskGroup() as group:
            for fault in self.faults:
                await asyncio.sleep(max(0.0, fault.at_s - self.loop.now_us / 1e6))
                self.note("fault", str(fault))
                group.create_task(self._fault(fault))

    async def _fault(self, fault):
        now_s = self.loop.now_us / 1e6
        self.disturbed.append((now_s, now_s + fault.lasts_s))
        from . import disturbances

        await disturbances.carry_out(self, fault)

    def heal(self):
        from . import disturbances

        disturbances.heal(self)

    async def run(self):
        tasks = [
            asyncio.ensure_future(r)
            for r in (self.live(), self.people(), self.trade(), self.watch(), self.disturb())
        ]
        try:
            await asyncio.sleep(self.until_s)
            self.heal()
            await asyncio.sleep(CALM_S)
            for _ in range(6 * self.length_s + 200):
                await asyncio.sleep(1)
                if self.loop.now_us % 20_000_000 < 1_000_000:
                    self.market.resend()
                state = self.recorder.state
                open_yet = state.schedule or state.plans or state.open_intents
                if not open_yet and not self.market.unanswered:
                    break
            self.note("end", "")
        finally:
            self.ended = True
            life, self.life = self.life, None
            if life is not None:
                life.alive = False
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                self.oracle.check(False, "L7", f"the simulation broke: {result!r}")

    def final(self):
        entries = self.disk.entries
        oracle = self.oracle
        for text in broken_promises(entries):
            oracle.check(False, "promise", text)
        for name in self.market.unanswered:
            oracle.check(False, "L1", f"message {name[:12]} was never answered")
        fold = Fold()
        for index, leaf in enumerate(self.disk.leaves):
            fold.see(decoded(index, leaf))
        for finding in fold.findings():
            oracle.checked_count += finding.judged_count
            if not finding.ok and not self._explained(finding, entries):
                oracle.check(
                    False, finding.number, f"audit: entry {finding.first_index}: {finding.first}"
                )
        ledger_oracle.check(self)

    def _explained(self, finding, entries):
        """What the auditor cannot know: that disk or host was too slow for the promise."""
        kinds, number = {f.kind for f in self.faults}, finding.number
        if number == "I11" and finding.broken_count == 1:  # the one that a stall fell into
            verdict = entries[finding.first_index]
            received = entries[verdict.get("received_index", finding.first_index)]
            if any(received["mono_us"] <= us <= verdict["mono_us"] for us in self.stalled_mono_us):
                return True
        if number == "I33":  # a counter that stood still leaps when it goes on
            return bool(kinds & {"frozen-meter", "frozen-counter"})
        return number in ("I11", "I18") and "slow-disk" in kinds


def _first_of(task):
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error


from gateway.model.setpoint import Command  # noqa: E402

_OPERATE = Command.OPERATE


def run(setting):
    """Run one setting to its end and judge it."""
    kept = {}

    async def main(loop):
        kept["world"] = world = World(setting, loop)
        with contextlib.suppress(JournalError):
            await world.run()

    try:
        run_virtual(main)
    except NothingScheduledError as error:
        kept["world"].oracle.check(False, "L7", str(error))
    world = kept["world"]
    world.final()
    digest = hashlib.sha256("\n".join(world.trace).encode())
    for leaf in world.disk.leaves:
        digest.update(leaf)
    return Outcome(
        setting=setting, faults=world.faults, broken=world.oracle.broken, digest=digest.hexdigest(),
        entries=world.disk.entries, trace=world.trace, checked_count=world.oracle.checked_count,
        kills_count=world.kills_count, plant_s=world.loop.now_us / 1e6,
        messages_count=world.market.sent_count,
        deliveries=[e for e in world.disk.entries if e["kind"] == "delivery"],
    )  # fmt: skip


__all__ = ["UTC0_US", "Outcome", "Setting", "State", "World", "run"]
