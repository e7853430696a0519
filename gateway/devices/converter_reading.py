"""What one converter says in a poll, and what several of them make as a station."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.interlock import (
    READY_STATES,
    STATUS_ESTOP,
    STATUS_FAILSAFE,
    STATUS_LOCAL,
    STATUS_MASTER_OK,
    STATUS_REMOTE,
)
from gateway.devices.profile import Words
from gateway.devices.station_reading import ABSURD_RATIO
from gateway.model.setpoint import Command
from gateway.model.telemetry import Quality, State, StationTelemetry, TerminalTelemetry
from gateway.model.terminal import Terminal

# Readiness, the least first: the whole is as ready as its least ready part.
READINESS = (
    State.FAULT, State.OFF, State.STOPPED, State.INIT, State.STOPPING, State.STANDBY,
    State.DERATED, State.RUN,
)  # fmt: skip

Held = tuple[int, int]  # set values of active and reactive power
NOTHING: Held = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConverterReading:
    """One converter as one poll saw it; power positive when injecting."""

    utc_us: int
    mono_us: int
    state: State
    fault_bits: int
    local: bool
    estop: bool
    p_w: int
    q_var: int
    v_dv: int
    v_dc_dv: int
    s_va_available: int
    p_w_set: int  # what it follows: the set value while that is enabled, else 0
    q_var_set: int
    left_ds: int  # what is left of its reversion timer, 0.1 s; 0: none runs
    heartbeat_count: int
    uptime_s: int
    export_wh: int
    import_wh: int
    registers: tuple[int, ...] = ()


class Converter(Protocol):
    """One converter whose set values act as soon as they are written."""

    name: str

    async def read(self) -> ConverterReading:
        """Read measured values, set values and timers."""
        ...

    def words(self, reading: ConverterReading) -> Mapping[str, Words]:
        """Return the registers of each point of a reading of its own."""
        ...

    def block(self, *, p_w: int | None, q_var: int) -> bytes:
        """Return the registers that ``hold`` will write."""
        ...

    async def hold(self, *, p_w: int | None, q_var: int) -> None:
        """Write the set values once and read them back; of a Vdc master only the reactive one."""
        ...

    async def keep(self, life_s: int) -> None:
        """Give a sign of life: restart the reversion timers, never the set values."""
        ...

    async def arm(self, life_s: int) -> None:
        """Let set values revert to zero after ``life_s``, set the ramp, read both back."""
        ...

    async def operate(self, command: Command) -> None:
        """START, STOP, ENTER_STANDBY, EXIT_STANDBY or RESET."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class Pulse:
    """One sign of life out of many: it stands still when any of them does.

    The least of the counters alone would say nothing of one that stands still far ahead.
    """

    def __init__(self) -> None:
        self.count = 0
        self.uptime_s = 0
        self._counts: dict[str, int] = {}
        self._uptimes_s: dict[str, int] = {}

    def feel(self, readings: Mapping[str, ConverterReading]) -> bool:
        """Take a poll; return whether one of them restarted since the last: ``uptime_s`` is 0."""
        restarted = any(r.uptime_s < self._uptimes_s.get(t, 0) for t, r in readings.items())
        self._uptimes_s = {t: r.uptime_s for t, r in readings.items()}
        counts = {t: r.heartbeat_count for t, r in readings.items()}
        if all(count != self._counts.get(t) for t, count in counts.items()):
            self._counts, self.count = counts, (self.count + 1) & 0xFFFF
            self.uptime_s = min(self._uptimes_s.values())
        if restarted:
            self.uptime_s = 0
        return restarted


def held(reading: ConverterReading) -> Held:
    """The set values a converter follows."""
    return reading.p_w_set, reading.q_var_set


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the driver knows beside a poll."""

    ack_seq: int
    ack_code: int
    instruction_id: int
    lease_owner: int
    heartbeat_count: int
    uptime_s: int
    failsafe: bool


def station_of(
    terminals: Sequence[Terminal],
    readings: Mapping[str, ConverterReading],
    known: Known,
    *,
    master: str,
    utc_us: int,
    mono_us: int,
) -> StationTelemetry:
    """Make one station of the readings of its terminals; UNCERTAIN unless they are possible."""
    ordered = [readings[t.id] for t in terminals]
    leader = readings[master]
    master_ok = leader.state in READY_STATES and not leader.fault_bits
    faults = 0
    for reading in ordered:
        faults |= reading.fault_bits
    absurd = any(abs(readings[t.id].p_w) > ABSURD_RATIO * t.s_va for t in terminals)
    return StationTelemetry(
        utc_us=utc_us,
        mono_us=mono_us,
        state=_least_ready(r.state for r in ordered),
        status_bits=_bits(ordered, master_ok=master_ok, failsafe=known.failsafe),
        fault_bits=faults,
        alarm_bits=0,
        ack_seq=known.ack_seq,
        ack_code=known.ack_code,
        heartbeat_count=known.heartbeat_count,
        watchdog_remaining_ds=min(r.left_ds for t, r in readings.items() if t != master),
        instruction_id=known.instruction_id,
        master=master if master_ok else "",
        v_dc_dv=leader.v_dc_dv,
        loss_w=max(0, -sum(r.p_w for r in ordered)),
        uptime_s=known.uptime_s,
        lease_owner=known.lease_owner,
        terminals=tuple(_row(t.id, readings[t.id]) for t in terminals),
        quality=Quality.UNCERTAIN if absurd else Quality.GOOD,
        registers=tuple(word for r in ordered for word in r.registers),
    )


def _bits(readings: Sequence[ConverterReading], *, master_ok: bool, failsafe: bool) -> int:
    bits = STATUS_LOCAL if any(r.local for r in readings) else STATUS_REMOTE
    if any(r.estop for r in readings):
        bits |= STATUS_ESTOP
    return bits | (STATUS_MASTER_OK if master_ok else 0) | (STATUS_FAILSAFE if failsafe else 0)


def _least_ready(states: Iterable[State]) -> State:
    """Fault before all; else the least ready of them, standby between rest and power."""
    place = {state: number for number, state in enumerate(READINESS)}
    return min(states, key=lambda state: place.get(state, 0))


def _row(terminal: str, reading: ConverterReading) -> TerminalTelemetry:
    return TerminalTelemetry(
        id=terminal,
        state=reading.state,
        p_w=reading.p_w,
        q_var=reading.q_var,
        v_dv=reading.v_dv,
        s_va_available=reading.s_va_available,
        p_w_set_active=reading.p_w_set,
        p_w_set_received=reading.p_w_set,
        fault_bits=reading.fault_bits,
        limit_bits=0,
        export_wh=reading.export_wh,
        import_wh=reading.import_wh,
    )
