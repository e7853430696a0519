"""Simulated time from the machine's monotonic clock, shared by processes through one small file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBase:
    """Simulated UTC = utc_epoch_us + (monotonic − epoch_ns)·factor."""

    epoch_ns: int
    utc_epoch_us: int
    factor: float

    @classmethod
    def from_file(cls, path: Path) -> TimeBase:
        """Read the file all processes of a bench share."""
        data = json.loads(path.read_text())
        return cls(
            epoch_ns=int(data["epoch_ns"]),
            utc_epoch_us=int(data["utc_epoch_us"]),
            factor=float(data["factor"]),
        )

    def elapsed_us(self, monotonic_ns: int) -> int:
        """Simulated microseconds since the epoch."""
        return int((monotonic_ns - self.epoch_ns) * self.factor / 1000)

    def utc_us(self, monotonic_ns: int) -> int:
        """Simulated UTC in microseconds."""
        return self.utc_epoch_us + self.elapsed_us(monotonic_ns)


class SimClock:
    """The time base read through an injected monotonic clock."""

    __slots__ = ("_monotonic_ns", "_skew_us", "base")

    def __init__(self, base: TimeBase, monotonic_ns: Callable[[], int]) -> None:
        self.base = base
        self._monotonic_ns = monotonic_ns
        self._skew_us = 0

    def elapsed_us(self) -> int:
        """Simulated microseconds since the epoch."""
        return self.base.elapsed_us(self._monotonic_ns())

    def utc_us(self) -> int:
        """Simulated UTC as this device's clock shows it, with the error it was given."""
        return self.base.utc_us(self._monotonic_ns()) + self._skew_us

    def step_utc(self, skew_us: int) -> None:
        """Set the error of the device's own UTC clock."""
        self._skew_us = skew_us
