"""Market time units: half-open UTC intervals in whole milliseconds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

RESOLUTIONS_MS = {"PT1M": 60_000, "PT5M": 300_000, "PT15M": 900_000}


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """One market time unit ``[start_ms, end_ms)`` in UTC milliseconds since 1970.

    Source: EU 543/2013 art. 2(19), market time unit.
    """

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        assert self.start_ms < self.end_ms, "an interval ends after it starts"

    @property
    def duration_ms(self) -> int:
        """Length in milliseconds."""
        return self.end_ms - self.start_ms

    def contains(self, utc_ms: int) -> bool:
        """Tell whether the instant lies inside, the start included and the end not."""
        return self.start_ms <= utc_ms < self.end_ms


def utc_text(utc_ms: int) -> str:
    """Write an instant the way market documents do: ``2026-01-02T02:00Z``, seconds only if any."""
    moment = dt.datetime.fromtimestamp(utc_ms / 1000, tz=dt.UTC)
    if utc_ms % 60_000 == 0:
        return moment.strftime("%Y-%m-%dT%H:%MZ")
    if utc_ms % 1000 == 0:
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc_ms % 1000:03d}Z"


def utc_ms_from(text: str) -> int:
    """Read an ISO 8601 UTC instant; raise ValueError unless it ends in ``Z``."""
    if not text.endswith("Z"):
        raise ValueError(f"{text!r} is not UTC: write it with a final Z")
    moment = dt.datetime.fromisoformat(text[:-1] + "+00:00")
    return round(moment.timestamp() * 1000)
