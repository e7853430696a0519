"""Which setpoints the station should hold now: the plan, followed by meter, closed in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.core import ramps, reactive, stepped, tracking
from gateway.core.energy import since
from gateway.core.envelope import foreseen_wh
from gateway.core.headroom import (
    Allowed,
    MasterLimits,
    allowed_in,
    carried,
    cut_to,
    master_beyond_w,
    within_guards,
    within_master,
)
from gateway.core.standing import stands_still
from gateway.core.state import Manual, PlanRecord, State
from gateway.model.interval import Interval
from gateway.model.reason import Reason
from gateway.model.terminal import Sop, Terminal

METER_STALE_US = 20_000_000  # four missed polls: from here on open loop
CLOSE_MS_MIN = 1_000  # two writes stand so far apart
ROUNDS = 5  # of solving for powers and the ramps between them: within 2 W
SMALL_PERCENT = 2  # of the rating: shorter moves of tracking go by the full ramp
BEYOND_PERCENT = 1  # of the rating: by more than this over what is available is taken back at once
STEP_PAUSE_MS = 1_500  # between the end of a step's ramp and the next step: seen, decided, written
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
    ramps: Mapping[str, int] = field(default_factory=dict)  # 0.1 %/s by terminal
    q_var: Mapping[str, int] = field(default_factory=dict)
    toward: Mapping[str, int] = field(default_factory=dict)  # of a step: where the steps lead
    stuck: bool = False  # no step is safe: the master has no room


IDLE = Wanted(setpoints=None, authority="", plan_index=-1, ttl_s=0, wake_ms=0)


def current_plan(state: State, at_ms: int) -> PlanRecord | None:
    """Return the plan to carry out in the interval that contains the instant."""
    for record in state.plans.values():
        if record.interval.contains(at_ms) and not record.void:
            return record
    return None


def manual(state: State, utc_ms: int) -> Manual | None:
    """Return the setpoints a person asked for, as long as they hold; an open interval ends them."""
    by_hand = state.manual
    if by_hand is None or utc_ms >= by_hand.until_ms:
        return None
    if state.mode != "test" and current_plan(state, utc_ms) is not None:
        return None
    return by_hand


def wanted(
    state: State,
    *,
    utc_ms: int,
    lead_ms: int,
    available_va: Mapping[str, int],
    measured_w: Mapping[str, int] | None = None,
    v_dv: Mapping[str, int] | None = None,
    shown_w: Mapping[str, int] | None = None,
    ttl_margin_s: int = TTL_MARGIN_S,
) -> Wanted:
    """Decide what to write; ``lead_ms`` is what a write takes, so that it acts when it should.

    ``measured_w`` is what flows (``flows_w``): where a ramp is still under way the next begins
    there. ``v_dv`` are the feeders' voltages, for reactive power by curve. ``shown_w`` are the set
    values that separate controllers show: a step begins there.
    """
    found = _wanted(state, utc_ms, lead_ms, Seen(available_va=available_va, v_dv=v_dv or {}))
    if found.setpoints is None:
        return found
    shaped = ramps_to(state, found.setpoints, measured_w or {}, small=found.authority == "tracking")
    found = replace(found, ttl_s=found.ttl_s + ttl_margin_s, ramps=shaped)
    if not state.site.separate:
        return found
    assert found.setpoints is not None
    step = step_toward(state, found.setpoints, available_va=available_va, shown_w=shown_w)
    if step is None:
        return replace(found, setpoints=None, stuck=True)
    toward = {} if step == found.setpoints else found.setpoints
    return replace(found, setpoints=step, toward=toward)


def step_toward(
    state: State,
    target_w: Mapping[str, int],
    *,
    available_va: Mapping[str, int],
    shown_w: Mapping[str, int] | None = None,
) -> dict[str, int] | None:
    """The next safe step from what is held to a target (``stepped``); None: the master is full."""
    now_w = {**state.held, **(shown_w or {})}
    # Limits of the master's feeder are for what lasts: a step is over in seconds.
    step = stepped.next_step(
        state.site.sop,
        from_w={t: _within(p_w, available_va.get(t, 0)) for t, p_w in now_w.items()},
        to_w=target_w,
        available_va=available_va,
    )
    return None if isinstance(step, Reason) else {**target_w, **step}


def flows_w(
    state: State, measured_w: Mapping[str, int], *, read_mono_us: int, acts_mono_us: int
) -> dict[str, int]:
    """What will flow when a write acts, by what the station said when it was read.

    A second is long for a ramp: from where a terminal was then, ramps would not end together.
    """
    if state.active is None:
        return dict(measured_w)
    ramp_end_us = state.active.mono_us + state.active.ramp_ms * 1000
    for_us = max(0, min(acts_mono_us, ramp_end_us) - read_mono_us)
    return ramps.moved_on(
        state.site.sop,
        held_w=state.held,
        measured_w=measured_w,
        permille=state.active.ramps,
        for_ms=for_us // 1000,
    )


def _within(p_w: int, most_w: int) -> int:
    return max(-most_w, min(p_w, most_w))


def ramps_to(
    state: State, target_w: Mapping[str, int], measured_w: Mapping[str, int], *, small: bool = False
) -> dict[str, int]:
    """Ramps from what is held to a target; ``small`` moves need no common end."""
    sop, permille = state.site.sop, state.site.ramp_permille_per_s
    if state.site.separate:  # a step is safe whoever arrives first
        return dict.fromkeys((t.id for t in sop.terminals), permille)
    from_w = ramps.start_w(sop, held_w=state.held, measured_w=measured_w)
    tiny = all(
        abs(target_w[t.id] - from_w[t.id]) * 100 <= SMALL_PERCENT * t.s_va for t in sop.slaves
    )
    if small and tiny:
        return dict.fromkeys((t.id for t in sop.terminals), permille)
    return ramps.together(sop, from_w=from_w, to_w=target_w, permille=permille)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the station says of its terminals now."""

    available_va: Mapping[str, int]
    v_dv: Mapping[str, int]


def _wanted(state: State, utc_ms: int, lead_ms: int, seen: Seen) -> Wanted:
    at_ms = utc_ms + lead_ms
    record = current_plan(state, at_ms)
    held = state.held
    active = state.active
    adopts = state.adopt_pending and within_guards(state.site.sop, held)
    if adopts and active is not None and _lasts(record, active.plan_index):
        assert record is not None
        again = _write(held, "adopt", active.plan_index, record.interval.end_ms, utc_ms)
        return replace(again, q_var=active.q_var)
    by_hand = manual(state, utc_ms)
    if by_hand is not None:
        span = Interval(at_ms, max(at_ms + 1, by_hand.until_ms))
        allowed = allowed_in(state.site.sop, state.feeder_limits, span)
        asked = _admitted(state, allowed, by_hand, seen.available_va)
        if asked == held and (active is None or active.utc_us >= by_hand.since_us):
            return replace(IDLE, wake_ms=by_hand.until_ms)
        return _write(asked, "operator", -1, by_hand.until_ms, utc_ms)
    if record is None:
        if any(held.values()) or (active and any(active.q_var.values())):
            zero = dict.fromkeys(held, 0)
            return _write(zero, "close", active.plan_index if active else -1, utc_ms, utc_ms)
        return _until_next(state, at_ms, lead_ms)
    opened = active is not None and active.plan_index == record.index
    if not opened and record.interval.end_ms - at_ms <= tracking.FREEZE_MS:
        return IDLE  # too late to open: what is left could not be corrected any more
    return _follow(state, record, utc_ms, lead_ms, seen, opened=opened)


def _admitted(
    state: State, allowed: Allowed, by_hand: Manual, available_va: Mapping[str, int]
) -> dict[str, int]:
    """What a person asked for, cut to what each terminal and the master may and can carry now.

    A cut that moves by less than is taken back at once is not worth a write: availability flickers.
    """
    held, sop = state.held, allowed.sop
    wish = dict.fromkeys(held, 0) | dict(by_hand.setpoints) | {sop.master: 0}
    cut = cut_to(sop, wish, available_va, allowed.master)
    near = all(
        cut[t.id] == held[t.id]
        or (cut[t.id] != wish[t.id] and abs(cut[t.id] - held[t.id]) <= _spare_w(t))
        for t in sop.slaves
    )
    return held if near else cut


def _lasts(record: PlanRecord | None, plan_index: int) -> bool:
    """Whether what is held belongs to the interval that runs: what is over is not prolonged."""
    return record is not None and record.index == plan_index


def _follow(
    state: State,
    record: PlanRecord,
    utc_ms: int,
    lead_ms: int,
    seen: Seen,
    *,
    opened: bool,
) -> Wanted:
    held, available_va = state.held, seen.available_va
    at_ms = utc_ms + lead_ms
    end_ms = record.interval.end_ms
    left = Interval(min(max(at_ms, record.interval.start_ms), end_ms - 1), end_ms)
    allowed = allowed_in(state.site.sop, state.feeder_limits, left)
    sop, limits = allowed.sop, allowed.master
    course = _course(state, allowed, record, available_va)
    close_ms = end_ms - _longest_ms(state, held, course.end_w)
    closing = at_ms >= close_ms
    frozen = end_ms - at_ms <= tracking.FREEZE_MS
    target = dict(held)
    beyond = _beyond(sop, held, available_va, limits)
    if closing:
        target |= course.end_w
    elif frozen and beyond:
        target = cut_to(sop, held, available_va, limits)
    elif not frozen and (not opened or beyond or _step_due(state, utc_ms)):
        tracked = _tracked(state, sop, record, course, at_ms, available_va)
        for terminal_id, power_w in tracked.items():
            if not opened or tracking.worth_writing(
                wanted_w=power_w,
                held_w=held[terminal_id],
                s_va=sop.terminal(terminal_id).s_va,
                left_ms=end_ms - at_ms,
            ):
                target[terminal_id] = power_w
        fallback_w = carried(sop, course.schedule_w, available_va)
        target = within_master(sop, target, fallback_w, available_va, limits)
    target[sop.master] = 0
    q_var = reactive.setpoints_var(sop, target_w=target, v_dv=seen.v_dv, available_va=available_va)
    wake_ms = (end_ms if closing else close_ms) - lead_ms
    idle = not opened and not any(record.target_wh[t.id] for t in sop.slaves)
    if target == held and (
        idle or (opened and not _more_due(state, sop, q_var, utc_ms, frozen=frozen))
    ):
        return replace(IDLE, wake_ms=wake_ms)
    authority = "plan" if not opened else "close" if closing else "tracking"
    act_ms = record.interval.start_ms if not opened else close_ms if closing else 0
    # Its life counts from OPERATE, which waits for that instant.
    write = _write(target, authority, record.index, end_ms, max(utc_ms, act_ms))
    act_ms = act_ms if act_ms > utc_ms else 0
    return replace(write, wake_ms=wake_ms, act_ms=act_ms, q_var=q_var)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What each slave shall carry on average and at the interval's end."""

    schedule_w: Mapping[str, int]
    end_w: Mapping[str, int]


def _course(
    state: State, allowed: Allowed, record: PlanRecord, available_va: Mapping[str, int]
) -> _Course:
    after_w = _after_w(state, record.interval.end_ms)
    schedule_w = {t: _mean_w(wh, record.interval) for t, wh in record.target_wh.items()}
    sop = allowed.sop
    end_w = {
        t.id: max(
            t.p_w_min,
            min(tracking.boundary_w(schedule_w[t.id], after_w.get(t.id, 0)), t.p_w_max),
        )
        for t in sop.slaves
    }
    zero = dict.fromkeys(schedule_w, 0)
    end_w = within_master(sop, end_w, zero, available_va, allowed.master)
    return _Course(schedule_w=schedule_w, end_w=end_w)


def _beyond(
    sop: Sop, held: Mapping[str, int], available_va: Mapping[str, int], limits: MasterLimits
) -> bool:
    """Whether a terminal was told more than it may or can carry by now: the master has the rest.

    The master too, which has every loss besides. What is cut to that is beyond it no more.
    """
    for t in sop.slaves:
        most_w = available_va.get(t.id, 0)
        low_w, high_w = max(t.p_w_min, -most_w), min(t.p_w_max, most_w)
        if not low_w - _spare_w(t) <= held[t.id] <= high_w + _spare_w(t):
            return True
    return master_beyond_w(sop, held, available_va, limits) > _spare_w(sop.terminal(sop.master))


def _spare_w(terminal: Terminal) -> int:
    return terminal.s_va * BEYOND_PERCENT // 100


def _tracked(
    state: State,
    sop: Sop,
    record: PlanRecord,
    course: _Course,
    at_ms: int,
    available_va: Mapping[str, int],
) -> dict[str, int]:
    """Power of each slave that brings its energy to the plan, all ramps ending together.

    How long ramps take depends on the answer: a few rounds settle it.
    """
    held = state.held
    interval = record.interval
    left_ms = interval.end_ms - max(at_ms, interval.start_ms)
    done_mwh = {t.id: _done_mwh(state, t, interval, at_ms) for t in sop.slaves}
    power_w = {t.id: held[t.id] for t in sop.slaves}
    gain_ppm = {t.id: _gain_ppm(state, t, at_ms) for t in sop.slaves}
    for _ in range(ROUNDS):
        opening, closing = _shape(state, held, power_w), _shape(state, power_w, course.end_w)
        all_ms = _longest_ms(state, power_w, course.end_w)
        asked = {}
        for t in sop.slaves:
            done = done_mwh[t.id]
            if done is None:
                # A counter that stood still had raised what is held before it was known to.
                open_w = course.schedule_w[t.id] if stuck(state, t) else held[t.id]
                most_w = available_va.get(t.id, 0)
                asked[t.id] = max(t.p_w_min, -most_w, min(open_w, t.p_w_max, most_w))
                continue
            solved_w = tracking.solve_w(
                remaining_mwh=1000 * record.target_wh[t.id] - done,
                left_ms=left_ms,
                now_w=held[t.id],
                end_w=course.end_w[t.id],
                open_ms=opening[t.id],
                close=tracking.Closing(own_ms=closing[t.id], all_ms=all_ms),
            )
            # Bounded at once: what one terminal cannot do must not lengthen the others' ramps.
            asked[t.id] = tracking.bounded_w(
                solved_w * tracking.GAIN_ONE // gain_ppm[t.id],
                schedule_w=course.schedule_w[t.id],
                s_va=t.s_va,
                p_w_min=t.p_w_min,
                p_w_max=t.p_w_max,
                available_va=available_va.get(t.id, 0),
            )
        power_w = asked
    return power_w


def _done_mwh(state: State, terminal: Terminal, interval: Interval, at_ms: int) -> int | None:
    """Energy of this interval so far by meter; None: no meter, so open loop to the end."""
    readings = state.readings.get(terminal.id, [])
    done_mwh = since(readings, interval.start_ms, at_ms * 1000)
    if (
        done_mwh is None
        or stuck(state, terminal)
        or at_ms * 1000 - readings[-1].utc_us > METER_STALE_US
    ):
        late = at_ms - interval.start_ms > tracking.FREEZE_MS
        return None if late and state.held[terminal.id] else 0
    return done_mwh


def stuck(state: State, terminal: Terminal) -> bool:
    """Whether a terminal's meter stands still since power was to move it."""
    readings = state.readings.get(terminal.id, [])
    return stands_still(state.busy.get(terminal.id), readings, s_va=terminal.s_va)


def _gain_ppm(state: State, terminal: Terminal, at_ms: int) -> int:
    pairs = [(at_us, setpoints[terminal.id]) for at_us, setpoints in state.held_since_open]
    readings = state.readings.get(terminal.id, [])
    return tracking.gain_ppm(pairs, readings, at_ms * 1000)


def _shape(state: State, from_w: Mapping[str, int], to_w: Mapping[str, int]) -> Mapping[str, int]:
    """Duration of each slave's ramp when all end together, or of the one that is like its steps."""
    sop, permille = state.site.sop, state.site.ramp_permille_per_s
    if state.site.separate:
        return _steps(state, from_w, to_w).own_ms
    shaped = ramps.together(sop, from_w=from_w, to_w=to_w, permille=permille)
    return {
        t.id: ramps.duration_ms(
            move_w=to_w[t.id] - from_w[t.id], s_va=t.s_va, permille=shaped[t.id]
        )
        for t in sop.slaves
    }


def _longest_ms(state: State, from_w: Mapping[str, int], to_w: Mapping[str, int]) -> int:
    """How long before its end an interval is closed: the opening after it is a write too."""
    permille = state.site.ramp_permille_per_s
    if state.site.separate:
        longest_ms = _steps(state, from_w, to_w).whole_ms
    else:
        longest_ms = ramps.longest_ms(state.site.sop, from_w=from_w, to_w=to_w, permille=permille)
    return max(longest_ms, CLOSE_MS_MIN) if longest_ms else 0


def _steps(state: State, from_w: Mapping[str, int], to_w: Mapping[str, int]) -> stepped.Course:
    return stepped.course(
        state.site.sop,
        from_w=from_w,
        to_w=to_w,
        permille=state.site.ramp_permille_per_s,
        pause_ms=STEP_PAUSE_MS,
    )


def _after_w(state: State, start_ms: int) -> dict[str, int]:
    """Mean powers of the interval that begins then: by its plan, before that by its trades.

    Trades are known by the gate and limits when they are sent, long before a plan is made; an end
    power that changed in the last half minute could not be followed any more.
    """
    planned = current_plan(state, start_ms)
    if planned is not None:
        return {t: _mean_w(wh, planned.interval) for t, wh in planned.target_wh.items()}
    for interval, legs in state.schedule.items():
        if interval.start_ms == start_ms and start_ms not in state.plans:
            net_wh = foreseen_wh(
                tuple(legs.values()), state.site.sop, interval, state.feeder_limits
            )
            return {t: _mean_w(wh, interval) for t, wh in net_wh.items()}
    return {}


def _mean_w(energy_wh: int, interval: Interval) -> int:
    return tracking.mean_w(energy_wh, interval.duration_ms)


def _step_due(state: State, utc_ms: int) -> bool:
    """Follow the meter every few seconds, and not before the ramps of the last write ended."""
    active = state.active
    assert active is not None, "asked only of what has opened"
    if active.stepping:
        return True
    pause_us = max(tracking.STEP_MS * 1000, active.ramp_ms * 1000)
    return utc_ms * 1000 - active.utc_us >= pause_us


def _more_due(
    state: State, sop: Sop, q_var: Mapping[str, int], utc_ms: int, *, frozen: bool
) -> bool:
    """Whether something else than power calls for a write: ramps slowed, reactive power off.

    Ramps slowed for a common end are given back once it is reached: a stop may need them.
    """
    active = state.active
    if active is None or frozen or not _step_due(state, utc_ms):
        return False
    return active.slowed or reactive.worth_writing(
        sop, target_w=state.held, wanted=q_var, held=active.q_var
    )


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
