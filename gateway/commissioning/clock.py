"""Clock checks: is the host's clock disciplined, and does a device's clock run with it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.commissioning.finding import Finding, Punch, Verdict

UNSYNC_BITS = 0x0040  # STA_UNSYNC of adjtimex
ERROR_MS_MAX = 50.0  # a market interval's boundary is judged to this
RATE_PPM_MAX = 500.0  # a quartz is within 100; an emulated or wrong clock is not


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelClock:
    """What adjtimex says: status bits, and largest and estimated error."""

    status_bits: int
    error_us_max: int
    error_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One reading of a device's clock between two readings of ours."""

    sent_s: float
    device_s: float
    received_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClock:
    """Offset and rate of a device's clock against ours, each with its uncertainty."""

    offset_s: float
    offset_uncertainty_s: float
    rate_ppm: float | None
    rate_uncertainty_ppm: float | None


def host(clock: KernelClock) -> tuple[Verdict, Finding | None]:
    """Judge the host's own clock."""
    if clock.status_bits & UNSYNC_BITS:
        return Verdict.FAULT, Finding(
            code="clock-unsynchronised",
            where="host clock",
            what="the kernel says the clock is not synchronised",
            mend="install and start chrony, then wait for: chronyc waitsync",
            punch=Punch.A,
        )
    if clock.error_us_max > ERROR_MS_MAX * 1000:
        return Verdict.FAULT, Finding(
            code="clock-error",
            where="host clock",
            what=f"the clock may be off by {clock.error_us_max / 1000:.0f} ms, "
            f"limit {ERROR_MS_MAX:.0f} ms",
            mend="use a nearer time server, or a hardware clock",
        )
    return Verdict.OK, None


def device(exchanges: Sequence[Exchange], *, step_s: float = 0.0) -> DeviceClock | None:
    """Estimate a device's clock; ``step_s`` is the step of its reading (1 s for whole seconds).

    The narrowest exchanges count: their middle is nearest to the instant of the reading.
    """
    if not exchanges:
        return None

    def offset(e: Exchange) -> float:
        return e.device_s + step_s / 2 - (e.sent_s + e.received_s) / 2

    def uncertainty(e: Exchange) -> float:
        return (e.received_s - e.sent_s) / 2 + step_s / 2

    low = max(offset(e) - uncertainty(e) for e in exchanges)
    high = min(offset(e) + uncertainty(e) for e in exchanges)
    if low <= high:  # all exchanges agree on a common offset
        offset_s, uncertainty_s = (low + high) / 2, (high - low) / 2
    else:
        best = min(exchanges, key=uncertainty)
        offset_s, uncertainty_s = offset(best), uncertainty(best)
    first, last = exchanges[0], exchanges[-1]
    span_s = (last.sent_s + last.received_s - first.sent_s - first.received_s) / 2
    if span_s <= 0:
        return DeviceClock(
            offset_s=offset_s,
            offset_uncertainty_s=uncertainty_s,
            rate_ppm=None,
            rate_uncertainty_ppm=None,
        )
    return DeviceClock(
        offset_s=offset_s,
        offset_uncertainty_s=uncertainty_s,
        rate_ppm=1e6 * (offset(last) - offset(first)) / span_s,
        rate_uncertainty_ppm=1e6 * (uncertainty(last) + uncertainty(first)) / span_s,
    )


def device_verdict(name: str, clock: DeviceClock | None) -> tuple[Verdict, Finding | None]:
    """Judge whether the device's clock runs as ours does; undecided within the uncertainty."""
    if clock is None or clock.rate_ppm is None or clock.rate_uncertainty_ppm is None:
        return Verdict.UNDECIDED, None
    if abs(clock.rate_ppm) - clock.rate_uncertainty_ppm > RATE_PPM_MAX:
        return Verdict.FAULT, Finding(
            code="clock-rate",
            where=f"{name} clock",
            what=f"the device's clock gains {clock.rate_ppm:.0f} ppm",
            mend="set the device to follow a time server; times it records are not to be used",
            punch=Punch.C,
        )
    if abs(clock.rate_ppm) + clock.rate_uncertainty_ppm > RATE_PPM_MAX:
        return Verdict.UNDECIDED, None
    return Verdict.OK, None
