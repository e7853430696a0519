"""Interlocks: the named conditions without which no power is commanded (reliability.md §1.3).

Evaluated at the decision and again at the wire; an empty answer means that all hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.reason import Reason, ReasonCode
from gateway.model.telemetry import Quality, State, StationTelemetry
from gateway.model.terminal import Sop

STALE_US = 3_000_000  # three missed polls of the station
STATUS_REMOTE = 1 << 5
STATUS_FAILSAFE = 1 << 9
STATUS_MASTER_OK = 1 << 11
STATUS_LOCAL = 1 << 12
STATUS_ESTOP = 1 << 13
STATUS_INTERLOCK = 1 << 14
READY_STATES = frozenset({State.STANDBY, State.RUN, State.DERATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the interlocks look at besides the station itself."""

    mode: str  # operator's setting
    armed: bool
    station: StationTelemetry | None
    station_age_us: int
    configured: bool  # watchdog armed and read back on this connection
    time_quality: str
    executing: bool  # degraded time may finish what is running, not start anew
    stale_after_us: int = STALE_US
    manual: bool = False  # a person's setpoint holds: all that mode `test` lets through


def permissives(sop: Sop, conditions: Conditions, *, owner_id: int) -> tuple[Reason, ...]:
    """Return every reason why |P| > 0 must not be commanded now."""
    found: list[Reason] = []

    def unless(holds: bool, code: ReasonCode, detail: str) -> None:  # noqa: FBT001
        if not holds:
            found.append(Reason(code=code, detail=detail))

    mode_ok = conditions.mode == "on" or (conditions.mode == "test" and conditions.manual)
    unless(mode_ok, ReasonCode.MODE_BLOCKED, f"mode is {conditions.mode}")
    time_ok = conditions.time_quality == "good" or (
        conditions.time_quality == "degraded" and conditions.executing
    )
    unless(time_ok, ReasonCode.TIME_QUALITY, f"time is {conditions.time_quality}")
    station = conditions.station
    if station is None or conditions.station_age_us > conditions.stale_after_us:
        age = (
            "never read"
            if station is None
            else f"silent for {conditions.station_age_us // 1000} ms"
        )
        found.append(Reason(code=ReasonCode.LINK_LOST, detail=age))
        return tuple(found)
    found += station_reasons(sop, station, owner_id=owner_id)
    unless(conditions.configured, ReasonCode.WATCHDOG, "station watchdog is not armed yet")
    unless(conditions.armed, ReasonCode.NOT_ARMED, "after a fail-safe the site is armed by hand")
    return tuple(found)


def station_reasons(sop: Sop, station: StationTelemetry, *, owner_id: int) -> list[Reason]:
    """Reasons that the station itself gives."""
    bits = station.status_bits
    checks = [
        (station.quality is Quality.GOOD, ReasonCode.STALE, "telemetry is not good"),
        (not bits & STATUS_ESTOP and station.state is not State.ESTOP, ReasonCode.ESTOP, ""),
        (bits & STATUS_REMOTE and not bits & STATUS_LOCAL, ReasonCode.LOCAL, "control is local"),
        (station.fault_bits == 0, ReasonCode.FAULT, f"bits {station.fault_bits:#x}"),
        (station.state is not State.LOCKOUT, ReasonCode.LOCKOUT, ""),
        (not bits & STATUS_INTERLOCK, ReasonCode.BREAKER_OPEN, "station reports an interlock"),
        (station.state in READY_STATES, ReasonCode.STATE, f"station is {station.state.name}"),
        (
            station.master == sop.master and bits & STATUS_MASTER_OK,
            ReasonCode.TERMINAL_LOST,
            f"Vdc master is {station.master or 'none'}, not {sop.master}",
        ),
        (
            station.lease_owner in (0, owner_id),
            ReasonCode.LEASE,
            f"lease is held by {station.lease_owner}",
        ),
    ]
    return [Reason(code=code, detail=detail) for ok, code, detail in checks if not ok]
