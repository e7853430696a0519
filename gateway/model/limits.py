"""Feeder limits a system operator has sent: what each feeder may take or give, and how long."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.interval import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederLimit:
    """Limits of one region's feeder; power is positive when the converter injects into it.

    ``p_w_min`` is zero or negative, ``p_w_max`` zero or positive; both zero forbid the feeder.
    """

    domain: str
    p_w_min: int
    p_w_max: int
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederLimits:
    """One signed set of limits; the highest ``sequence_number`` holds, inside ``valid`` only."""

    site: str
    sop: str
    sequence_number: int
    created_utc_ms: int
    valid: Interval
    limits: tuple[FeederLimit, ...]

    def at(self, domain: str, utc_ms: int) -> FeederLimit | None:
        """Return the limit of a region at an instant; None when none holds."""
        if not self.valid.contains(utc_ms):
            return None
        return next((limit for limit in self.limits if limit.domain == domain), None)
