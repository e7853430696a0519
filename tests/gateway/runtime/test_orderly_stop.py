"""An orderly stop leaves nothing open: what it interrupted gets its outcome before the end."""

import asyncio

import pytest
from fakes.core import FIRST_MS, make_site
from fakes.memory_journal import ManualClock, MemoryJournal
from fakes.station import FakePlant, FakeStation

from gateway.core.decide import Dispatch
from gateway.core.dispatch import Phase
from gateway.core.state import State
from gateway.model.errors import DeviceNotSent, JournalError, OutcomeUnknown
from gateway.model.reason import Reason, ReasonCode
from gateway.model.telemetry import State as StationState
from gateway.runtime.dispatch import Dispatcher
from gateway.runtime.loop import Scan
from gateway.runtime.recorder import Recorder
from gateway.runtime.telemetry import StationPoller

WHY = Reason(code=ReasonCode.OPERATOR, detail="asked to stop")
MOVE = {"T1": 0, "T2": -50_000, "T3": 50_000, "T4": 0}


class Holding(FakeStation):
    """Stands still at one call, before or after it was carried out, until it is cancelled."""

    def __init__(self, *, at, after=False, **options):
        super().__init__(**options)
        self.at, self.after, self.reached = at, after, asyncio.Event()
        self.mute = False

    async def _hold(self, name, call):
        if name != self.at:
            return await call()
        self.at = ""
        if self.after:
            await call()
        self.reached.set()
        return await asyncio.get_running_loop().create_future()

    async def read(self):
        if self.mute:
            raise DeviceNotSent(self.name, "no connection")
        return await super().read()

    async def configure(self, **options):
        whole = super().configure
        await self._hold("configure", lambda: whole(**options))

    async def select(self, instruction):
        whole = super().select
        return await self._hold("select", lambda: whole(instruction))

    async def operate(self, instruction):
        whole = super().operate
        return await self._hold("operate", lambda: whole(instruction))


def scan_of(**holding):
    clock = ManualClock(FIRST_MS * 1000)
    journal = MemoryJournal(clock)
    plant = FakePlant(clock=clock, state=StationState.RUN)
    station = Holding(plant=plant, owner=make_site().owner_id, **holding)
    recorder = Recorder(journal, State(make_site()))
    dispatcher = Dispatcher(station=station, recorder=recorder, site=make_site(), clock=clock)
    poller = StationPoller(station=station, clock=clock, period_us=1_000_000)
    scan = Scan(
        recorder=recorder, clock=clock, station=station, poller=poller, dispatcher=dispatcher,
        desk=None, market=None, period_us=1_000_000, watchdog_ds=50,
    )  # fmt: skip
    dispatcher.permitted = lambda: True
    return scan, dispatcher, station, journal, clock


async def interrupted(station, call):
    task = asyncio.ensure_future(call)
    await station.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def move(dispatcher, station):
    await station.read()
    await dispatcher.dispatch(
        Dispatch(setpoints=MOVE, authority="plan", plan_index=-1, ttl_s=60), {}
    )


async def test_a_stop_during_configure_gives_it_its_outcome():
    scan, dispatcher, station, journal, clock = scan_of(at="configure")
    await interrupted(station, dispatcher.configure(watchdog_ds=50, failsafe=1))
    assert [i.command for i in scan.state.open_intents] == ["CONFIGURE"]
    clock.now_us += 1000
    await scan.safe_stop(WHY)
    assert scan.state.open_intents == []
    assert journal.kinds() == ["intent", "readback", "outcome"]
    assert journal.written[-1]["outcome"] == "failed"


async def test_where_the_station_is_mute_it_stays_unknown_until_it_is_read():
    scan, dispatcher, station, journal, clock = scan_of(at="configure")
    await interrupted(station, dispatcher.configure(watchdog_ds=50, failsafe=1))
    station.mute = True
    clock.now_us += 1000
    await scan.safe_stop(WHY)
    assert journal.written[-1]["outcome"] == "unknown"
    assert journal.written[-1]["reasons"] == [WHY.fields()]
    assert [i.phase for i in scan.state.open_intents] == [Phase.UNKNOWN]
    await scan.safe_stop(WHY)  # its one outcome stands
    assert journal.kinds() == ["intent", "outcome"]


async def test_what_never_left_is_aborted_even_without_the_station():
    scan, dispatcher, station, journal, clock = scan_of(at="select")
    await interrupted(station, move(dispatcher, station))
    station.mute = True
    clock.now_us += 1000
    await scan.safe_stop(WHY)
    assert journal.kinds() == ["intent", "abort"]
    assert journal.written[-1]["reasons"] == [WHY.fields()]
    assert scan.state.open_intents == []


@pytest.mark.parametrize(("after", "outcome"), [(True, "executed"), (False, "failed")])
async def test_an_operate_whose_answer_the_stop_did_not_await_is_read_back(after, outcome):
    scan, dispatcher, station, journal, clock = scan_of(at="operate", after=after)
    await interrupted(station, move(dispatcher, station))
    clock.now_us += 1000
    await scan.safe_stop(WHY)
    first = next(e for e in journal.written if e["kind"] == "outcome")
    assert first["outcome"] == outcome
    assert scan.state.open_intents == []
    assert not any(station.plant.set_w.values())  # and what it moved is at zero again
    assert not any(scan.state.held.values())


async def test_a_ledger_that_fails_on_the_way_out_stops_the_station_all_the_same():
    scan, dispatcher, station, journal, clock = scan_of(at="operate", after=True)
    await interrupted(station, move(dispatcher, station))
    clock.now_us += 1000
    journal.failing = True
    with pytest.raises(JournalError):
        await scan.safe_stop(WHY)
    assert "ENTER_STANDBY" in station.log
    assert not any(station.plant.set_w.values())


async def test_power_of_which_the_failed_ledger_knows_no_outcome_is_stopped():
    scan, dispatcher, station, journal, clock = scan_of(at="operate", after=True)
    await interrupted(station, move(dispatcher, station))
    clock.now_us += 1000
    journal.failing = True
    await scan.safe_stop(Reason(code=ReasonCode.LEDGER, detail="the ledger failed"))
    assert "ENTER_STANDBY" in station.log
    assert not any(station.plant.set_w.values())


@pytest.mark.parametrize("lost", ["select", "operate"])
async def test_a_zero_that_is_not_taken_on_the_way_out_is_followed_by_the_stop(lost):
    scan, dispatcher, station, _journal, clock = scan_of(at="")
    await move(dispatcher, station)
    assert any(station.plant.set_w.values())

    async def unanswered(_instruction):
        raise OutcomeUnknown(station.name, "no answer")

    setattr(station, lost, unanswered)
    clock.now_us += 1000
    await scan.safe_stop(WHY)
    assert "ENTER_STANDBY" in station.log
    assert not any(station.plant.set_w.values())


async def test_a_ledger_that_failed_is_not_written_to():
    scan, dispatcher, station, journal, _ = scan_of(at="configure")
    await interrupted(station, dispatcher.configure(watchdog_ds=50, failsafe=1))
    await scan.safe_stop(Reason(code=ReasonCode.LEDGER, detail="gone"))
    assert journal.kinds() == ["intent"]
