"""Polls: what a clock stamped that was just set does not count as a good reading."""

import asyncio
from dataclasses import replace

import pytest
from fakes.core import make_site
from fakes.memory_journal import ManualClock, MemoryJournal
from fakes.station import FakePlant, FakeStation

from gateway.core.state import State
from gateway.model.errors import DeviceNotSent
from gateway.model.telemetry import MeterReading, Quality
from gateway.runtime.recorder import Recorder
from gateway.runtime.telemetry import MeterPoller, StationPoller


class OneMeter:
    """Answers at once with the clock as it is."""

    name = "m2"

    def __init__(self, clock):
        self.clock = clock

    async def read(self):
        return MeterReading(
            meter="m2", utc_us=self.clock.utc_us(), mono_us=self.clock.mono_us(), import_wh=1,
            export_wh=2, p_w=0, registers=(1, 2),
        )  # fmt: skip

    async def close(self):
        pass


@pytest.mark.parametrize(
    ("step_us", "quality"),
    [(0, "good"), (400_000, "good"), (600_000, "uncertain"), (-54_000_000, "uncertain")],
)
async def test_a_reading_stamped_before_a_step_is_recorded_does_not_count(step_us, quality):
    clock = ManualClock()
    journal = MemoryJournal(clock)
    recorder = Recorder(journal, State(make_site()))
    await recorder.record("mode", mode="on", state="READY", reasons=[])
    poller = MeterPoller(
        meters={"T2": OneMeter(clock)}, recorder=recorder, clock=clock, period_us=5_000_000,
        boundaries=list,
    )  # fmt: skip
    clock.start_us += step_us
    running = asyncio.create_task(poller.run())
    async with asyncio.timeout(60):
        while "reading" not in journal.kinds():
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    entry = next(e for e in journal.written if e["kind"] == "reading")
    assert entry["meters"][0]["quality"] == quality
    assert bool(recorder.state.readings) is (quality == "good")


@pytest.mark.parametrize(("moves", "good"), [(True, True), (False, False)])
async def test_a_station_whose_sign_of_life_stands_still_is_not_believed(moves, good):
    clock = ManualClock()
    station = FakeStation(plant=FakePlant(clock=clock))
    life = station.read

    async def read():
        seen = await life()
        return seen if moves else replace(seen, heartbeat_count=7, uptime_s=7)

    station.read = read
    poller = StationPoller(station=station, clock=clock, period_us=1_000_000)
    poller.configured = True
    for _ in range(6):
        await poller.poll()
        clock.now_us += 1_000_000
    assert poller.frozen is not good
    assert poller.configured is good  # its watchdog is no longer fed
    assert (poller.last.quality is Quality.GOOD) is good
    if not moves:  # and believed again as soon as it moves
        station.read = life
        await poller.poll()
        assert poller.last.quality is Quality.GOOD


async def test_the_last_error_of_a_device_stays_when_it_answers_again():
    clock, answers = ManualClock(), False
    station = FakeStation(plant=FakePlant(clock=clock))
    read = station.read

    async def sometimes():
        if not answers:
            raise DeviceNotSent("station", "no route")
        return await read()

    station.read = sometimes
    poller = StationPoller(station=station, clock=clock, period_us=1_000_000)
    await poller.poll()
    assert not poller.link_up
    answers = True
    await poller.poll()
    assert poller.link_up
    assert "no route" in poller.last_error

    meter, recorder = OneMeter(clock), Recorder(MemoryJournal(clock), State(make_site()))
    meter.read = sometimes
    answers = False
    meters = MeterPoller(
        meters={"T2": meter}, recorder=recorder, clock=clock, period_us=5_000_000, boundaries=list,
    )  # fmt: skip
    running = asyncio.create_task(meters.run())
    async with asyncio.timeout(60):
        while not meters.failed:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "no route" in meters.last_errors["T2"]
