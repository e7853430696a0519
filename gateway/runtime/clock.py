"""The only file that reads the machine's clocks (D19).

``SystemClock`` is the real one. ``BenchClock`` runs faster than real on a time base shared with
the simulator (D29): ``{"epoch_ns", "utc_epoch_us", "factor"}`` over the monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.model.errors import ConfigError

EARLIEST_UTC_US = 1_790_000_000_000_000  # a clock before this program was written is wrong
ASK_US = 1_000_000  # between two questions to the kernel how good its clock is
SLEEP_S_MAX = 60.0  # look at the clock again at least this often: it may have been suspended


class SystemClock:
    """UTC of the machine and the monotonic clock that goes on during suspend."""

    def __init__(self, discipline: Callable[[], str] | None = None) -> None:
        """Take UTC on trust, or as good as ``discipline`` says: good, degraded, invalid."""
        self._discipline = discipline
        self._asked_us = 0
        self._said = "invalid"

    def utc_us(self) -> int:
        """Microseconds of UTC since 1970."""
        return time.time_ns() // 1000

    def mono_us(self) -> int:
        """Microseconds since the machine started, suspend included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    async def sleep_until(self, mono_us: int) -> None:
        """Return at or after the given monotonic instant."""
        while (left_us := mono_us - self.mono_us()) > 0:  # noqa: ASYNC110 - the clock is the event
            await asyncio.sleep(min(left_us / 1e6, SLEEP_S_MAX))

    def quality(self) -> str:
        """``invalid`` when UTC is plainly wrong; steps are watched by the scan."""
        if self.utc_us() < EARLIEST_UTC_US:
            return "invalid"
        if self._discipline is None:
            return "good"
        if not self._asked_us or self.mono_us() - self._asked_us >= ASK_US:
            self._asked_us = self.mono_us()
            self._said = self._discipline()
        return self._said

    def at_least(self, real_us: int) -> int:
        """Real time is clock time here."""
        return real_us


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchClock:
    """Simulated time that runs ``factor`` times as fast as real time."""

    epoch_ns: int
    utc_epoch_us: int
    factor: int

    @classmethod
    def load(cls, path: Path) -> BenchClock:
        """Read a time base file; ConfigError when it is not one."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                epoch_ns=int(fields["epoch_ns"]),
                utc_epoch_us=int(fields["utc_epoch_us"]),
                factor=int(fields["factor"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: not a time base file ({error})") from error

    @classmethod
    def start(cls, *, utc_epoch_us: int, factor: int) -> BenchClock:
        """Begin a time base now."""
        return cls(epoch_ns=time.monotonic_ns(), utc_epoch_us=utc_epoch_us, factor=factor)

    def save(self, path: Path) -> None:
        """Write the time base for other processes."""
        fields = {
            "epoch_ns": self.epoch_ns,
            "utc_epoch_us": self.utc_epoch_us,
            "factor": self.factor,
        }
        path.write_text(json.dumps(fields) + "\n", encoding="utf-8")

    def utc_us(self) -> int:
        """Simulated UTC."""
        return self.utc_epoch_us + self._since_us()

    def mono_us(self) -> int:
        """Simulated time since the machine started, at the same factor throughout."""
        return time.monotonic_ns() * self.factor // 1000

    async def sleep_until(self, mono_us: int) -> None:
        """Return at or after the given simulated instant."""
        while (left_us := mono_us - self.mono_us()) > 0:  # noqa: ASYNC110 - the clock is the event
            await asyncio.sleep(min(left_us / 1e6 / self.factor, SLEEP_S_MAX))

    def quality(self) -> str:
        """Simulated time is good by definition."""
        return "good"

    def at_least(self, real_us: int) -> int:
        """Simulated microseconds that pass in ``real_us`` of real time."""
        return real_us * self.factor

    def _since_us(self) -> int:
        return (time.monotonic_ns() - self.epoch_ns) * self.factor // 1000
