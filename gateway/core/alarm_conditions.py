"""When each alarm of the file is due: one named condition each, over the state and what is seen.

Conditions know no delay and no other alarm: the alarm file gives both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.core import interlock
from gateway.core.delivery import tolerance_wh
from gateway.core.energy import since
from gateway.core.setpoints import current_plan, stuck
from gateway.core.state import State
from gateway.model.reason import ReasonCode
from gateway.model.telemetry import State as StationState
from gateway.model.telemetry import StationTelemetry, TerminalTelemetry
from gateway.model.terminal import Terminal

NEAR_ZERO_PERCENT = 2  # of the rating: more is power
DISAGREE_PERMILLE = 15  # converter and meter apart, of what they say
BUSY_PERCENT = 10  # of the rating: below it a difference says nothing
FOLLOWS_PERCENT = 1  # of the rating …
FOLLOWS_W_MIN = 2_000  # … or this: closer is where it was told to be (sop.md §3.5)
SETTLE_US = 2_000_000  # after the ramp
LIMIT_TEMPERATURE = 1 << 3
LIMIT_AC_VOLTAGE = 1 << 5
REFUSED_US = 600_000_000  # a refused trade is told for so long
CHECKPOINT_US = 300_000_000
DISK_FREE_PPM_MIN = 200_000
CERTIFICATE_US = 30 * 86_400_000_000  # a certificate is asked for in days, sometimes weeks
CLOCK_OK = "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look at the gateway sees besides its state; ages in microseconds.

    ``meter_age_us`` and ``meter_p_w`` are by terminal; a meter never read is missing.
    """

    utc_us: int
    station: StationTelemetry | None = None
    station_age_us: int = 0
    stale_after_us: int = interlock.STALE_US
    time_quality: str = CLOCK_OK
    clock_step_us: int = 0  # how far UTC was set a moment ago
    meter_age_us: Mapping[str, int] = field(default_factory=dict)
    meter_p_w: Mapping[str, int] = field(default_factory=dict)
    meter_stale_us: int = 15_000_000
    broker_online: bool = True
    node_online: bool = True  # the own market node; true where there is none
    ledger_wrong: str = ""  # what does not check, or what others hold against the ledger
    checkpoint_age_us: int | None = None  # since the ledger last had a checkpoint of its size
    disk_free_ppm: int | None = None
    config_changed: bool = False
    certificate: tuple[str, int] | None = None  # the first to end: its name, and when in UTC us
    station_frozen: bool = False
    refused: tuple[tuple[int, str], ...] = ()  # (UTC in us, trade and reason), the newest last


def conditions(state: State, seen: Seen) -> dict[str, str]:
    """Return the codes whose condition holds now, each with the detail to tell."""
    found = {}
    for code, test in CONDITIONS.items():
        detail = test(state, seen)
        if detail is not None:
            found[code] = detail
    return found


def _fresh(seen: Seen) -> StationTelemetry | None:
    if seen.station is None or seen.station_age_us > seen.stale_after_us:
        return None
    return seen.station


def _estop(_state: State, seen: Seen) -> str | None:
    station = _fresh(seen)
    if station is None:
        return None
    pressed = station.status_bits & interlock.STATUS_ESTOP or station.state is StationState.ESTOP
    return f"station is {station.state.name}" if pressed else None


def _unconfirmed(state: State, _seen: Seen) -> str | None:
    unknown = [i for i in state.open_intents if i.phase.value == "unknown"]
    return f"instruction {unknown[0].instr_id:#010x}" if unknown else None


def _not_at_zero(state: State, seen: Seen) -> str | None:
    """Power flows though nothing of ours holds it: by meter, which outlives the station's link."""
    if state.active is not None and state.active.moves_power and _fresh(seen) is not None:
        return None
    for terminal in state.site.sop.slaves:
        p_w = seen.meter_p_w.get(terminal.id)
        if p_w is not None and abs(p_w) * 100 > NEAR_ZERO_PERCENT * terminal.s_va:
            return f"{terminal.id} {p_w / 1000:+.1f} kW"
    return None


def _not_armed(state: State, _seen: Seen) -> str | None:
    return None if state.armed else "after a fail-safe or a stop"


def _foreign(state: State, _seen: Seen) -> str | None:
    return "the setpoint is not ours" if state.foreign else None


def _fault(_state: State, seen: Seen) -> str | None:
    station = _fresh(seen)
    if station is None:
        return None
    parts = [f"station {station.fault_bits:#x}"] if station.fault_bits else []
    parts += [f"{t.id} {t.fault_bits:#x}" for t in station.terminals if t.fault_bits]
    if station.state is StationState.LOCKOUT:
        parts.append("locked out")
    return ", ".join(parts) or None


def _station_lost(_state: State, seen: Seen) -> str | None:
    if seen.station is None or _fresh(seen) is not None:
        return None
    return f"silent for {seen.station_age_us // 1_000_000} s"


def _meter_lost(state: State, seen: Seen) -> str | None:
    late = [
        t.meter
        for t in state.site.sop.terminals
        if seen.meter_age_us.get(t.id, 0) > seen.meter_stale_us
    ]
    return ", ".join(late) or None


def _broker_lost(_state: State, seen: Seen) -> str | None:
    return None if seen.broker_online else "no connection"


def _node_lost(_state: State, seen: Seen) -> str | None:
    return None if seen.node_online else "no answer"


def _ledger_wrong(_state: State, seen: Seen) -> str | None:
    return seen.ledger_wrong or None


def _will_miss(state: State, seen: Seen) -> str | None:
    """Not even full power to the end brings a terminal's energy within its tolerance."""
    now_ms = seen.utc_us // 1000
    record = current_plan(state, now_ms)
    if record is None:
        return None
    left_ms = record.interval.end_ms - now_ms
    for terminal in state.site.sop.slaves:
        target_wh = record.target_wh.get(terminal.id, 0)
        readings = state.readings.get(terminal.id, [])
        done_mwh = since(readings, record.interval.start_ms, seen.utc_us)
        if not target_wh or done_mwh is None:
            continue
        p_w = terminal.p_w_max if target_wh > 0 else terminal.p_w_min
        most_mwh = abs(p_w) * left_ms // 3600
        short_mwh = abs(1000 * target_wh) - (done_mwh if target_wh > 0 else -done_mwh)
        allowed_wh = tolerance_wh(
            contracted_wh=abs(target_wh), s_va=terminal.s_va, interval=record.interval
        )
        if short_mwh - most_mwh > 1000 * allowed_wh:
            lacking = (short_mwh - most_mwh) / 1_000_000
            return f"{terminal.id} will lack {lacking:.1f} kWh"
    return None


def _refused(_state: State, seen: Seen) -> str | None:
    recent = [what for at_us, what in seen.refused if seen.utc_us - at_us < REFUSED_US]
    if not recent:
        return None
    return recent[-1] if len(recent) == 1 else f"{recent[-1]} and {len(recent) - 1} more"


def _no_checkpoint(_state: State, seen: Seen) -> str | None:
    age_us = seen.checkpoint_age_us
    if age_us is None or age_us < CHECKPOINT_US:
        return None
    return f"none for {age_us // 60_000_000} min"


def _clock(_state: State, seen: Seen) -> str | None:
    return None if seen.time_quality == CLOCK_OK else f"time is {seen.time_quality}"


def _clock_set(_state: State, seen: Seen) -> str | None:
    return f"UTC was set by {seen.clock_step_us / 1e6:+.1f} s" if seen.clock_step_us else None


def _disagree(state: State, seen: Seen) -> str | None:
    for terminal, told in _busy(state, seen):
        meter_w = seen.meter_p_w.get(terminal.id)
        if meter_w is None or seen.meter_age_us.get(terminal.id, 0) > seen.meter_stale_us:
            continue
        apart_w = abs(meter_w - told.p_w)
        if apart_w * 1000 > DISAGREE_PERMILLE * abs(told.p_w):
            percent = 100 * apart_w / abs(told.p_w)
            return f"{terminal.meter} is {percent:.1f} % off {terminal.id}"
    return None


def _busy(state: State, seen: Seen) -> list[tuple[Terminal, TerminalTelemetry]]:
    """Return the terminals that carry enough for a comparison, with what they say."""
    station = _fresh(seen)
    told = {t.id: t for t in station.terminals} if station else {}
    return [
        (t, told[t.id])
        for t in state.site.sop.terminals
        if t.id in told and abs(told[t.id].p_w) * 100 >= BUSY_PERCENT * t.s_va
    ]


def _not_following(state: State, seen: Seen) -> str | None:
    """A terminal is not where it was told to be, though its ramp is over and nothing limits it."""
    station, active = _fresh(seen), state.active
    if station is None or active is None:
        return None
    if seen.utc_us - active.utc_us < active.ramp_ms * 1000 + SETTLE_US:
        return None
    told = {t.id: t for t in station.terminals}
    for terminal in state.site.sop.slaves:
        row = told.get(terminal.id)
        if row is None or row.limit_bits:
            continue
        off_w = abs(row.p_w - active.setpoints.get(terminal.id, 0))
        if off_w > max(terminal.s_va * FOLLOWS_PERCENT // 100, FOLLOWS_W_MIN):
            return f"{terminal.id} is {off_w / 1000:.1f} kW off its setpoint"
    return None


def _frozen(state: State, seen: Seen) -> str | None:
    """Values that do not move though they must: the station's own counters, a busy meter's."""
    if seen.station_frozen:
        return "the station's sign of life stands still"
    for terminal in state.site.sop.slaves:
        if stuck(state, terminal):
            return f"{terminal.meter} stands still"
    return None


def _limited(seen: Seen, bit: int) -> str | None:
    station = _fresh(seen)
    where = [t.id for t in station.terminals if t.limit_bits & bit] if station else []
    return ", ".join(where) or None


def _voltage(_state: State, seen: Seen) -> str | None:
    return _limited(seen, LIMIT_AC_VOLTAGE)


def _hot(_state: State, seen: Seen) -> str | None:
    return _limited(seen, LIMIT_TEMPERATURE)


def _disk(_state: State, seen: Seen) -> str | None:
    free_ppm = seen.disk_free_ppm
    if free_ppm is None or free_ppm >= DISK_FREE_PPM_MIN:
        return None
    return f"{free_ppm / 10_000:.0f} % free"


def _certificate(_state: State, seen: Seen) -> str | None:
    if seen.certificate is None:
        return None
    name, end_us = seen.certificate
    left_us = end_us - seen.utc_us
    if left_us > CERTIFICATE_US:
        return None
    if left_us <= 0:
        return f"{name} has ended"
    return f"{name} ends in {left_us // 86_400_000_000} days"


def _crash_loop(state: State, _seen: Seen) -> str | None:
    reasons = state.moments[-1].reasons if state.moments else ()
    return next((r.detail for r in reasons if r.code is ReasonCode.CRASH_LOOP), None)


def _config(_state: State, seen: Seen) -> str | None:
    return "the site file was changed since the start" if seen.config_changed else None


CONDITIONS: Mapping[str, Callable[[State, Seen], str | None]] = {
    "A-101": _estop,
    "A-102": _unconfirmed,
    "A-103": _not_at_zero,
    "A-104": _not_armed,
    "A-105": _foreign,
    "A-106": _crash_loop,
    "A-110": _fault,
    "A-120": _station_lost,
    "A-121": _meter_lost,
    "A-122": _broker_lost,
    "A-123": _node_lost,
    "A-130": _will_miss,
    "A-131": _refused,
    "A-140": _ledger_wrong,
    "A-141": _no_checkpoint,
    "A-150": _clock,
    "A-151": _clock_set,
    "A-160": _disagree,
    "A-161": _not_following,
    "A-162": _frozen,
    "A-170": _voltage,
    "A-180": _disk,
    "A-181": _certificate,
    "A-190": _hot,
    "A-200": _config,
}
