"""Which setpoints the station should hold now: the plan, followed by meter, closed in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.core import tracking
from gateway.core.energy import since
from gateway.core.netting import net
from gateway.core.state import PlanRecord, State
from gateway.model.interval import Interval
from gateway.model.terminal import Terminal

METER_STALE_US = 20_000_000  # four missed polls: from here on open loop
TTL_MARGIN_S = 5  # a setpoint may outlive its interval by this much and no longer (1 × speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Setpoints to write now (None: nothing to write) and when to look again."""

    setpoints: Mapping[str, int] | None
    authority: str
    plan_index: int
    ttl_s: int
    wake_ms: int  # next instant that must not be missed; 0 when the next scan will do
    act_ms: int = 0  # when OPERATE shall act; 0: at once


IDLE = Wanted(setpoints=None, authority="", plan_index=-1, ttl_s=0, wake_ms=0)


def current_plan(state: State, at_ms: int) -> PlanRecord | None:
    """Return the plan whose interval contains the instant."""
    for record in state.plans.values():
        if record.interval.contains(at_ms):
            return record
    return None


def wanted(
    state: State,
    *,
    utc_ms: int,
    lead_ms: int,
    available_va: Mapping[str, int],
    ttl_margin_s: int = TTL_MARGIN_S,
) -> Wanted:
    """Decide what to write; ``lead_ms`` is what a write takes, so that it acts when it should."""
    found = _wanted(state, utc_ms, lead_ms, available_va)
    if found.setpoints is None:
        return found
    return replace(found, ttl_s=found.ttl_s + ttl_margin_s)


def _wanted(state: State, utc_ms: int, lead_ms: int, available_va: Mapping[str, int]) -> Wanted:
    at_ms = utc_ms + lead_ms
    record = current_plan(state, at_ms)
    held = state.held
    if state.adopt_pending and state.active is not None:
        end_ms = record.interval.end_ms if record else utc_ms
        return _write(held, "adopt", state.active.plan_index, end_ms, utc_ms)
    if record is None:
        if any(held.values()):
            zero = dict.fromkeys(held, 0)
            return _write(
                zero, "close", state.active.plan_index if state.active else -1, utc_ms, utc_ms
            )
        return _until_next(state, at_ms, lead_ms)
    opened = state.active is not None and state.active.plan_index == record.index
    if not opened and record.interval.end_ms - at_ms <= tracking.FREEZE_MS:
        return IDLE  # too late to open: what is left could not be corrected any more
    return _follow(state, record, held, utc_ms, lead_ms, available_va, opened=opened)


def _follow(
    state: State,
    record: PlanRecord,
    held: Mapping[str, int],
    utc_ms: int,
    lead_ms: int,
    available_va: Mapping[str, int],
    *,
    opened: bool,
) -> Wanted:
    sop = state.site.sop
    at_ms = utc_ms + lead_ms
    end_ms = record.interval.end_ms
    course = _course(state, record, held)
    close_ms = end_ms - max(course.ramp_ms.values())
    closing = at_ms >= close_ms
    frozen = end_ms - at_ms <= tracking.FREEZE_MS
    target = dict(held)
    for terminal in sop.slaves:
        if closing:
            target[terminal.id] = course.end_w[terminal.id]
        elif not frozen and (not opened or _step_due(state, utc_ms)):
            power_w = _tracked_w(state, terminal, record, held, course, at_ms, available_va)
            if not opened or tracking.worth_writing(
                wanted_w=power_w,
                held_w=held[terminal.id],
                s_va=terminal.s_va,
                left_ms=end_ms - at_ms,
            ):
                target[terminal.id] = power_w
    target[sop.master] = 0
    wake_ms = (end_ms if closing else close_ms) - lead_ms
    idle = not opened and not any(record.target_wh[t.id] for t in sop.slaves)
    if target == held and (opened or idle):
        return replace(IDLE, wake_ms=wake_ms)
    authority = "plan" if not opened else "close" if closing else "tracking"
    act_ms = record.interval.start_ms if not opened else close_ms if closing else 0
    # Its life counts from OPERATE, which waits for that instant.
    write = _write(target, authority, record.index, end_ms, max(utc_ms, act_ms))
    return replace(write, wake_ms=wake_ms, act_ms=act_ms if act_ms > utc_ms else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """How each slave ends the interval: its boundary power, and the ramp it takes to get there."""

    end_w: Mapping[str, int]
    ramp_ms: Mapping[str, int]

    def early_ms(self, terminal: str) -> int:
        """All ramps begin at one instant, so that one write closes all: shorter ones end early."""
        return max(self.ramp_ms.values()) - self.ramp_ms[terminal]


def _course(state: State, record: PlanRecord, held: Mapping[str, int]) -> _Course:
    after_w = _after_w(state, record.interval.end_ms)
    before_w = {t: _mean_w(wh, record.interval) for t, wh in record.target_wh.items()}
    end_w = {
        t.id: tracking.boundary_w(before_w[t.id], after_w.get(t.id, 0))
        for t in state.site.sop.slaves
    }
    ramp_ms = {
        t.id: tracking.ramp_ms(from_w=held[t.id], to_w=end_w[t.id], ramp_w_per_s=t.ramp_w_per_s)
        for t in state.site.sop.slaves
    }
    return _Course(end_w=end_w, ramp_ms=ramp_ms)


def _tracked_w(
    state: State,
    terminal: Terminal,
    record: PlanRecord,
    held: Mapping[str, int],
    course: _Course,
    at_ms: int,
    available_va: Mapping[str, int],
) -> int:
    interval = record.interval
    held_w, end_w = held[terminal.id], course.end_w[terminal.id]
    schedule_w = _mean_w(record.target_wh[terminal.id], interval)
    readings = state.readings.get(terminal.id, [])
    done_mwh = since(readings, interval.start_ms, at_ms * 1000)
    if done_mwh is None or at_ms * 1000 - readings[-1].utc_us > METER_STALE_US:
        if at_ms - interval.start_ms > tracking.FREEZE_MS and held_w:
            return held_w  # no meter: open loop to the end of the interval
        done_mwh = 0
    early_ms = course.early_ms(terminal.id)
    power_w = tracking.solve_w(
        remaining_mwh=1000 * record.target_wh[terminal.id] - done_mwh - end_w * early_ms // 3600,
        left_ms=interval.end_ms - max(at_ms, interval.start_ms) - early_ms,
        now_w=held_w,
        end_w=end_w,
        ramp_w_per_s=terminal.ramp_w_per_s,
    )
    pairs = [(at_us, setpoints[terminal.id]) for at_us, setpoints in state.held_since_open]
    gain_ppm = tracking.gain_ppm(pairs, readings, at_ms * 1000)
    return tracking.bounded_w(
        power_w * tracking.GAIN_ONE // gain_ppm,
        schedule_w=schedule_w,
        s_va=terminal.s_va,
        p_w_min=terminal.p_w_min,
        p_w_max=terminal.p_w_max,
        available_va=available_va.get(terminal.id, 0),
    )


def _after_w(state: State, start_ms: int) -> dict[str, int]:
    """Mean powers of the interval that begins then: by its plan, before that by its trades.

    Trades are known by the gate, long before a plan is made; an end power that changed in the last
    half minute could not be followed any more.
    """
    planned = current_plan(state, start_ms)
    if planned is not None:
        return {t: _mean_w(wh, planned.interval) for t, wh in planned.target_wh.items()}
    for interval, legs in state.schedule.items():
        if interval.start_ms == start_ms:
            position_wh = net(legs.values(), [t.id for t in state.site.sop.terminals])
            return {t: _mean_w(wh, interval) for t, wh in position_wh.items()}
    return {}


def _mean_w(energy_wh: int, interval: Interval) -> int:
    return tracking.mean_w(energy_wh, interval.duration_ms)


def _step_due(state: State, utc_ms: int) -> bool:
    active = state.active
    return active is None or utc_ms * 1000 - active.utc_us >= tracking.STEP_MS * 1000


def _until_next(state: State, at_ms: int, lead_ms: int) -> Wanted:
    starts = [p.interval.start_ms for p in state.plans.values() if p.interval.start_ms > at_ms]
    wake_ms = min(starts) - lead_ms if starts else 0
    return replace(IDLE, wake_ms=wake_ms)


def _write(
    setpoints: Mapping[str, int], authority: str, plan_index: int, end_ms: int, utc_ms: int
) -> Wanted:
    ttl_s = -(-max(0, end_ms - utc_ms) // 1000)
    return Wanted(
        setpoints=setpoints, authority=authority, plan_index=plan_index, ttl_s=ttl_s, wake_ms=0
    )
