"""Polls the station and the meters at their own pace; a mute device delays nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from gateway.core.state import STEP_US
from gateway.model.errors import DeviceError
from gateway.model.telemetry import MeterReading, Quality, StationTelemetry
from gateway.ports import Clock, Meter, Station
from gateway.runtime.recorder import Recorder

log = logging.getLogger(__name__)

NEAR_US = 10_000_000  # meters are read every second this close to a boundary …
BEFORE_END_US = 25_000_000  # … and from here on before an interval's end, for the last correction
NEAR_PERIOD_US = 1_000_000
FROZEN_US = 4_000_000  # the station counts every second: standing still for longer is no life
FROZEN_REAL_US = 2_000_000
COLLECT_REAL_S = 0.2  # a poll's answers make one entry; who is later joins the next one


class Polled(Protocol):
    """Told how long a poll of the station took, and whether it was answered."""

    def __call__(self, duration_ms: int, /, *, answered: bool) -> None:
        """Take note of one poll."""
        ...


class MeterPolled(Protocol):
    """The same of the meter of a terminal."""

    def __call__(self, terminal: str, duration_ms: int, /, *, answered: bool) -> None:
        """Take note of one poll."""
        ...


def _nobody_counts(*_poll: object, answered: bool) -> None:
    """Without a page nobody counts polls."""


def _since_ms(began_s: float) -> int:
    return round(1000 * (asyncio.get_running_loop().time() - began_s))


class StationPoller:
    """Keeps the last telemetry of the station and knows whether this connection is configured."""

    def __init__(self, *, station: Station, clock: Clock, period_us: int) -> None:
        self.last: StationTelemetry | None = None
        self.configured = False
        self.errors_count = 0
        self.last_error = ""
        self.link_up = False
        self.frozen = False
        self.polled: Polled = _nobody_counts
        self._advanced_us = clock.mono_us()
        self._station = station
        self._clock = clock
        self._period_us = period_us

    def age_us(self) -> int:
        """Age of the last telemetry."""
        return self._clock.mono_us() - self.last.mono_us if self.last else 0

    async def run(self) -> None:
        """Poll until cancelled."""
        due_us = self._clock.mono_us()
        while True:
            await self.poll()
            due_us = max(due_us + self._period_us, self._clock.mono_us())
            await self._clock.sleep_until(due_us)

    async def poll(self) -> None:
        """Read once."""
        began_s = asyncio.get_running_loop().time()
        try:
            seen = await self._station.read()
        except DeviceError as error:
            self.polled(_since_ms(began_s), answered=False)
            self.errors_count += 1
            self.last_error = str(error)
            self.configured = False  # its watchdog may have acted: arm it anew
            if self.link_up or self.errors_count == 1:
                log.warning("station does not answer: %s", error)
            self.link_up = False
            return
        self.polled(_since_ms(began_s), answered=True)
        if not self.link_up and self.errors_count:
            log.warning("station answers again")
        self.link_up = True
        if self.last is not None and seen.uptime_s < self.last.uptime_s:
            self.configured = False  # it restarted
        self.last = self._judged(seen)

    def _judged(self, seen: StationTelemetry) -> StationTelemetry:
        """A station whose sign of life stands still answers, but not of now."""
        before, now_us = self.last, self._clock.mono_us()
        # One of several converters that restarts says nothing of another that stands still.
        if (
            before is None
            or seen.heartbeat_count != before.heartbeat_count
            or seen.uptime_s > before.uptime_s
        ):
            self._advanced_us = now_us
        limit_us = max(FROZEN_US, self._clock.at_least(FROZEN_REAL_US))
        self.frozen = now_us - self._advanced_us > limit_us
        if self.frozen:  # nobody sees what it does: without heartbeats it goes to zero by itself
            self.configured = False
        return replace(seen, quality=Quality.UNCERTAIN) if self.frozen else seen


class Heartbeat:
    """Feeds the station's watchdog as long as the scan is alive."""

    def __init__(
        self,
        *,
        station: Station,
        poller: StationPoller,
        clock: Clock,
        period_us: int,
        alive: Callable[[], bool],
    ) -> None:
        self.count = 0
        self._station = station
        self._poller = poller
        self._clock = clock
        self._period_us = period_us
        self._alive = alive

    async def run(self) -> None:
        """Beat until cancelled; stop beating when the scan does not live."""
        due_us = self._clock.mono_us()
        while True:
            if self._poller.configured and self._alive():
                self.count = (self.count + 1) % 65536
                try:
                    await self._station.heartbeat(self.count)
                except DeviceError as error:
                    log.info("heartbeat failed: %s", error)
            due_us = max(due_us + self._period_us, self._clock.mono_us())
            await self._clock.sleep_until(due_us)


class MeterPoller:
    """Reads all meters at the same instants and writes each poll as one entry."""

    def __init__(
        self,
        *,
        meters: Mapping[str, Meter],
        recorder: Recorder,
        clock: Clock,
        period_us: int,
        boundaries: Callable[[], Sequence[tuple[int, int]]],
    ) -> None:
        """Poll ``meters`` (by terminal); ``boundaries`` gives open intervals in UTC ms."""
        self.failed: set[str] = set()
        self.last_errors: dict[str, str] = {}  # by terminal; they stay when a meter answers again
        self.polled: MeterPolled = _nobody_counts
        self._meters = meters
        self._recorder = recorder
        self._clock = clock
        self._period_us = period_us
        self._boundaries = boundaries
        self._reads: dict[str, asyncio.Task[MeterReading | None]] = {}

    async def run(self) -> None:
        """Poll until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._poll(group)
                await self._clock.sleep_until(self._next_us())

    def _next_us(self) -> int:
        """Next instant on the grid of the period that holds then."""
        utc_us, mono_us = self._clock.utc_us(), self._clock.mono_us()
        period_us = NEAR_PERIOD_US if self._near(utc_us) else self._period_us
        ahead_us = period_us - utc_us % period_us
        for start_ms, end_ms in self._boundaries():
            for edge_us in (start_ms * 1000 - NEAR_US, end_ms * 1000 - BEFORE_END_US):
                if 0 < edge_us - utc_us < ahead_us:
                    ahead_us = edge_us - utc_us
        return mono_us + ahead_us

    def _near(self, utc_us: int) -> bool:
        return any(
            -NEAR_US <= utc_us - start_ms * 1000 <= NEAR_US
            or -BEFORE_END_US <= utc_us - end_ms * 1000 <= NEAR_US
            for start_ms, end_ms in self._boundaries()
        )

    async def _poll(self, group: asyncio.TaskGroup) -> None:
        for terminal, meter in self._meters.items():
            if terminal not in self._reads:
                self._reads[terminal] = group.create_task(self._read(terminal, meter))
        await asyncio.wait(self._reads.values(), timeout=COLLECT_REAL_S)
        done = {t: task for t, task in self._reads.items() if task.done()}
        rows = []
        for terminal, task in done.items():
            del self._reads[terminal]
            reading = task.result()
            if reading is not None:
                rows.append(self._row(terminal, reading))
        if rows:
            await self._recorder.record("reading", meters=rows)

    async def _read(self, terminal: str, meter: Meter) -> MeterReading | None:
        began_s = asyncio.get_running_loop().time()
        try:
            reading = await meter.read()
        except DeviceError as error:
            self.polled(terminal, _since_ms(began_s), answered=False)
            self.failed.add(terminal)
            self.last_errors[terminal] = str(error)
            log.info("meter poll failed: %s", error)
            return None
        self.polled(terminal, _since_ms(began_s), answered=True)
        self.failed.discard(terminal)
        return reading

    def _quality(self, reading: MeterReading) -> Quality:
        """What a clock stamped that was just set, and nobody has said so yet, does not count."""
        known_us = self._recorder.state.offset_us
        if reading.quality is not Quality.GOOD or known_us is None:
            return reading.quality
        off_us = abs(reading.utc_us - reading.mono_us - known_us)
        step_us_min = max(STEP_US, self._clock.at_least(STEP_US))
        return Quality.UNCERTAIN if off_us > step_us_min else Quality.GOOD

    def _row(self, terminal: str, reading: MeterReading) -> dict[str, Any]:
        return {
            "meter": reading.meter,
            "terminal": terminal,
            "utc_us": reading.utc_us,
            "import_wh": reading.import_wh,
            "export_wh": reading.export_wh,
            "p_w": reading.p_w,
            "quality": self._quality(reading).value,
            "age_ms": max(0, (self._clock.mono_us() - reading.mono_us) // 1000),
            "registers": list(reading.registers),
        }
