"""What the devices say: each value with its quality and its time."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Quality(enum.StrEnum):
    """How far a value may be trusted; only GOOD enters control or settlement."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class State(enum.IntEnum):
    """Operating state of the station and of each terminal (station map v1, input 1000)."""

    OFF = 0
    INIT = 1
    STOPPED = 2
    PRECHARGE = 3
    SYNC = 4
    STANDBY = 5
    RUN = 6
    DERATED = 7
    STOPPING = 8
    FAULT = 9
    LOCKOUT = 10
    ESTOP = 11
    MAINT = 12
    ISLAND = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """Two counters that only grow, as one poll saw them, with the registers they were read from."""

    meter: str
    utc_us: int  # middle of the poll's round trip, on the gateway's UTC clock
    mono_us: int
    import_wh: int
    export_wh: int
    p_w: int
    registers: tuple[int, ...]
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalTelemetry:
    """One terminal as the station reports it; power positive when injecting."""

    id: str
    state: State
    p_w: int
    q_var: int
    v_dv: int
    s_va_available: int
    p_w_set_active: int
    p_w_set_received: int
    fault_bits: int
    limit_bits: int
    export_wh: int
    import_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTelemetry:
    """The station as one poll saw it (station map v1)."""

    utc_us: int
    mono_us: int
    state: State
    status_bits: int
    fault_bits: int
    alarm_bits: int
    ack_seq: int
    ack_code: int
    heartbeat_count: int
    watchdog_remaining_ds: int  # 0.1 s
    instruction_id: int
    master: str
    v_dc_dv: int
    loss_w: int
    uptime_s: int
    lease_owner: int
    terminals: tuple[TerminalTelemetry, ...]
    quality: Quality = Quality.GOOD
    registers: tuple[int, ...] = field(default=(), repr=False)
