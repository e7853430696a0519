"""The scan: what it is told to arm the station with, and that an ordered stop is written down."""

import pytest
from fakes.core import make_site
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
