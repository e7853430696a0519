"""The scan: what it is told to arm the station with, and that an ordered stop is written down."""

import asyncio

import pytest
from fakes.core import QUARTER, Book, make_site, span
from fakes.memory_journal import ManualClock, MemoryJournal
from fakes.station import FakePlant, FakeStation

from gateway.core import decide
from gateway.core.state import State
from gateway.model.telemetry import State as StationState
from gateway.runtime.dispatch import Dispatcher
from gateway.runtime.loop import Scan
from gateway.runtime.recorder import Recorder
from gateway.runtime.telemetry import StationPoller


def scan_of(**options):
    clock = ManualClock()
    journal = MemoryJournal(clock)
    plant = FakePlant(clock=clock, state=StationState.RUN)
    station = FakeStation(plant=plant, owner=make_site().owner_id)
    recorder = Recorder(journal, State(make_site()))
    dispatcher = Dispatcher(station=station, recorder=recorder, site=make_site(), clock=clock)
    poller = StationPoller(station=station, clock=clock, period_us=1_000_000)
    scan = Scan(
        recorder=recorder, clock=clock, station=station, poller=poller, dispatcher=dispatcher,
        desk=None, market=None, period_us=1_000_000, watchdog_ds=50, **options,
    )  # fmt: skip
    return scan, station, plant, journal


@pytest.mark.parametrize(("on_loss", "register"), [("ramp_zero", 1), ("block", 3)])
async def test_the_station_is_armed_with_what_the_site_file_says_of_a_lost_heartbeat(
    on_loss, register
):
    scan, _, plant, _ = scan_of(on_loss=on_loss)
    await scan._act(decide.Configure(), None)
    assert plant.failsafe == register


async def test_a_stop_that_ends_in_a_defect_is_written_down_all_the_same():
    scan, station, _, journal = scan_of()

    async def broken(*_, **__):
        raise ValueError("a defect of the driver")

    station.command = broken
    with pytest.raises(ValueError, match="defect"):
        await scan.operator(verb="stop", user="ann", arguments={})
    assert [(e["kind"], e["verb"]) for e in journal.written] == [("operator", "stop")]
    assert not scan.state.armed


async def test_a_reading_under_way_when_an_interval_falls_due_is_in_its_report():
    """It will stand before the report in the ledger, so whoever reckons again counts it."""
    scan, _, _, _ = scan_of()
    scan._desk = Heard()
    state = scan.state
    book = Book()
    plan = {"sop": "SOP-1", "interval": span(QUARTER), "setpoints": {}, "trades": []}
    wanted = {"T1": 0, "T2": -1_000, "T3": 1_000, "T4": 0}
    await scan._recorder.record("plan", **plan, planned_wh=wanted)
    for at_ms, wh in ((QUARTER.start_ms, 0), (QUARTER.end_ms, 1_000)):
        book.read(at_ms * 1000, T1=0, T2=-wh, T3=wh, T4=0)
        meters = book.entries[-1]["meters"]
        reading = asyncio.ensure_future(scan._recorder.record("reading", meters=meters))
        if at_ms == QUARTER.start_ms:
            await reading
    await asyncio.sleep(0)  # the last is begun and not folded
    assert state.readings["T3"][-1].utc_us < QUARTER.end_ms * 1000
    await scan._act(decide.Deliver(record=state.plans[QUARTER.start_ms]), None)
    (told,) = scan._desk.told
    assert {t["terminal"]: t["metered_wh"] for t in told["terminals"]}["T3"] == 1_000
    await reading


class Heard:
    """A desk that keeps what is reported."""

    def __init__(self):
        self.told = []

    async def report(self, _index, fields):
        self.told.append(fields)
