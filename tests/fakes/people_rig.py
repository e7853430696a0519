"""A scan over a fake station with its people's side: alarms, orders, socket; time stands still."""

import asyncio
from dataclasses import replace
from pathlib import Path

from fakes.core import make_site
from fakes.memory_journal import ManualClock, MemoryJournal
from fakes.station import FakePlant, FakeStation

from gateway.config.alarm_file import alarm_path, load_alarms
from gateway.core.access import Access, Person, Role
from gateway.core.alarm_conditions import Seen
from gateway.core.interlock import STATUS_MASTER_OK
from gateway.core.state import State
from gateway.model.telemetry import State as StationState
from gateway.runtime.alarms import AlarmWatch
from gateway.runtime.control import ControlSocket
from gateway.runtime.desk import TradeDesk
from gateway.runtime.dispatch import Dispatcher
from gateway.runtime.loop import Scan
from gateway.runtime.orders import Orders
from gateway.runtime.recorder import Recorder
from gateway.runtime.telemetry import StationPoller

ENGINEER = Person(user="uid:1", roles=frozenset({Role.ENGINEER}))
SECOND = Person(user="uid:2", roles=frozenset({Role.ENGINEER}))
NOBODY = Access(members={})


class HeldClock(ManualClock):
    """Whoever waits, waits until ``move`` says that time has passed."""

    def __init__(self):
        super().__init__()
        self._moved = asyncio.Event()

    async def sleep_until(self, mono_us):
        while self.mono_us() < mono_us:
            await self._moved.wait()

    def move(self, seconds):
        self.now_us += round(seconds * 1e6)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class Leading(FakeStation):
    """A fake station whose Vdc master stands and whose standby takes a SELECT at once."""

    async def read(self):
        seen = await super().read()
        standby = seen.state is StationState.STANDBY
        self._seen = replace(
            seen,
            status_bits=seen.status_bits | STATUS_MASTER_OK,
            state=StationState.RUN if standby else seen.state,
        )
        return self._seen


class QuietMarket:
    """Takes what it is told and brings no message."""

    def __init__(self):
        self.inbox, self.told = asyncio.Queue(), []

    async def tell(self, what, body):
        self.told.append((what, dict(body)))


class PeopleRig:
    """Everything a person can reach, without a device and without a ledger on disk."""

    def __init__(self, *, mode="test", members=NOBODY, stale=None):
        self.clock, site = HeldClock(), make_site()
        self.journal = MemoryJournal(self.clock)
        plant = FakePlant(clock=self.clock, state=StationState.RUN)
        self.station = Leading(plant=plant, owner=site.owner_id)
        self.recorder = Recorder(self.journal, State(site, bounds=site.sop))
        self.market = QuietMarket()
        self.poller = StationPoller(station=self.station, clock=self.clock, period_us=1_000_000)
        self.scan = Scan(
            recorder=self.recorder, clock=self.clock, station=self.station, poller=self.poller,
            dispatcher=Dispatcher(
                station=self.station, recorder=self.recorder, site=site, clock=self.clock
            ),
            desk=TradeDesk(market=self.market, recorder=self.recorder, clock=self.clock),
            market=self.market, period_us=1_000_000, watchdog_ds=50,
        )  # fmt: skip
        self.seen = Seen(utc_us=self.clock.utc_us())
        self.alarms = AlarmWatch(
            rules=load_alarms(alarm_path(Path("/"))),
            recorder=self.recorder, market=self.market, clock=self.clock,
            seen=lambda refused: self.seen,
        )  # fmt: skip
        self.orders = Orders(
            scan=self.scan, alarms=self.alarms, clock=self.clock, stale=stale or (lambda _: [])
        )
        self.mode, self.members, self.beats = mode, members, 0

    def socket(self, path):
        return ControlSocket(
            path=path, orders=self.orders, access=self.members,
            questions={"status": lambda _: {"status": {"mode": self.mode}},
                       "alarms": lambda _: {"alarms": self.alarms.rows()},
                       "limits": self.orders.limits},
            mono_us=self.clock.mono_us,
        )  # fmt: skip

    async def start(self):
        boot = {"version": "0", "site": "bench", "sop": "SOP-1", "previous_boot_index": -1,
                "clean": True}  # fmt: skip
        config = {"mode": self.mode, "sha256": "0" * 64, "config": {}}
        await self.scan.start(boot_fields=boot, config=config)
        await self.scans(6)
        return self

    async def scans(self, count=1, *, every_s=1.0):
        """Let so many scans pass, a second each."""
        for _ in range(count):
            self.clock.move(every_s)
            if self.poller.configured and self.scan.beats():
                self.beats += 1
                await self.station.heartbeat(self.beats)
            await self.poller.poll()
            await self.scan.once()

    def entries(self, kind, **fields):
        return [
            e
            for e in self.journal.written
            if e["kind"] == kind and all(e.get(k) == v for k, v in fields.items())
        ]
