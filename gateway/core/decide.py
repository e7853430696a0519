"""One scan's decision: a synchronous function of the state and one frozen process image.

``scan`` changes nothing. It returns actions; the runtime carries them out and writes the entries
from which the next state is folded. The order of the actions is the order of doing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.core import interlock, planning, ramps, setpoints
from gateway.core.dispatch import Phase
from gateway.core.readback import Confirmed, active_setpoints, holds_power, judge
from gateway.core.state import IntentRecord, PlanRecord, State
from gateway.model.reason import Reason, ReasonCode
from gateway.model.setpoint import Command
from gateway.model.telemetry import Quality, StationTelemetry
from gateway.model.telemetry import State as StationState

WRITE_GAP_US = 1_000_000  # one setpoint write a second at most, but for closing and fail-safe
COMMAND_GAP_US = 5_000_000
NOT_FOLLOWING = "A-161"  # the alarm that a terminal is not where it was told to be
ARRIVAL_US = 2_000_000  # later than its ramp a step's power is waited for no longer than this
FAR_PERCENT = 5  # of the rating
ZERO_TRIES = 3  # a device that takes no setpoint of zero so often is told to stop
STEP_US_MAX = 1_000_000  # a clock that was wrong by more than this moves no power for a while
_REACHABLE_BUT_REFUSING = {
    ReasonCode.LINK_LOST,
    ReasonCode.STALE,
    ReasonCode.LEASE,
    ReasonCode.LOCAL,
    ReasonCode.ESTOP,
    ReasonCode.STATE,
    ReasonCode.FAULT,
    ReasonCode.LOCKOUT,
    ReasonCode.FOREIGN_WRITE,
}
_ONLY_OBSERVING = {
    ReasonCode.MODE_BLOCKED,
    ReasonCode.TIME_QUALITY,
    ReasonCode.FOREIGN_WRITE,
    ReasonCode.DISK,
    ReasonCode.CRASH_LOOP,
    ReasonCode.BROKER_LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What one scan sees; frozen, so that every decision of the scan sees the same."""

    utc_us: int
    mono_us: int
    time_quality: str
    station: StationTelemetry | None
    station_age_us: int
    link_up: bool  # the last poll was answered
    configured: bool
    lead_us: int  # what a dispatch may take, from decision to OPERATE
    stale_after_us: int = interlock.STALE_US
    ttl_margin_s: int = setpoints.TTL_MARGIN_S
    around: tuple[Reason, ...] = ()  # what else stands in the way: disk, peers, a crash loop

    @property
    def utc_ms(self) -> int:
        """UTC in milliseconds."""
        return self.utc_us // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """End an instruction that was left open, by what the device was read to hold."""

    intent: IntentRecord
    outcome: str  # executed | failed | abort; on the way out also unknown
    active: Mapping[str, int]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """Write down what the device holds: adopt it, or say that it is not ours."""

    cause: str  # adopt | zero | foreign | failsafe | differs
    instr_id: int
    active: Mapping[str, int]
    station_state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeState:
    """The gateway's own state changes."""

    state: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """Arm the station's watchdog and fail-safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCommand:
    """A command without setpoints."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class MakePlan:
    """Write a plan down."""

    plan: planning.Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Report an interval, by what stands in the ledger when that is written."""

    record: PlanRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Carry setpoints out."""

    setpoints: Mapping[str, int]
    authority: str
    plan_index: int
    ttl_s: int
    act_ms: int = 0  # UTC instant at which OPERATE shall act; 0: at once
    ramps: Mapping[str, int] = field(default_factory=dict)  # 0.1 %/s by terminal
    q_var: Mapping[str, int] = field(default_factory=dict)
    toward: Mapping[str, int] = field(default_factory=dict)  # of a step: where the steps lead


Action = (
    Settle | ReadBack | ChangeState | Configure | StationCommand | MakePlan | Deliver | Dispatch
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now and, where timing matters, when to look again (UTC ms, 0: next scan)."""

    actions: tuple[Action, ...]
    wake_ms: int = 0


def scan(state: State, image: Image) -> Decision:
    """Decide one scan."""
    fresh = image.station is not None and image.station_age_us <= image.stale_after_us
    if fresh and image.station is not None:
        settled = _settle(state, image.station)
        if settled:
            return Decision(actions=settled, wake_ms=image.utc_ms)
        if _still_moves(state, image.station):
            return _to_standby(state, image, gap_us=WRITE_GAP_US)
        noticed = None if state.open_intents else _notice(state, image.station)  # read before it
        if noticed:
            return Decision(actions=(noticed,), wake_ms=image.utc_ms)
        if _unseen_power(state, image.station):
            return _to_standby(state, image, gap_us=COMMAND_GAP_US)
    reasons = blocking(state, image)
    available = available_va(state, image.station if fresh else None)
    actions, planned = _written_down(state, image, reasons, available)
    if planned or state.open_intents:
        # A plan counts from its entry on; an open instruction must be read back first.
        return Decision(actions=tuple(actions), wake_ms=image.utc_ms if planned else 0)
    moves, wake_ms = _move(state, image, reasons, available)
    return Decision(actions=(*actions, *moves), wake_ms=wake_ms)


def _to_standby(state: State, image: Image, *, gap_us: int) -> Decision:
    """Tell the station to stop, and between that go on with all but power: a command takes time."""
    if not 0 <= image.mono_us - state.last_write_mono_us < gap_us:
        stop = StationCommand(command=Command.ENTER_STANDBY)
        return Decision(actions=(stop,), wake_ms=image.utc_ms + 1)
    good = image.station is not None and image.station.quality is Quality.GOOD
    available = available_va(state, image.station if good else None)
    beside, _ = _written_down(state, image, blocking(state, image), available)
    return Decision(actions=tuple(beside))


def _written_down(
    state: State, image: Image, reasons: tuple[Reason, ...], available: Mapping[str, int]
) -> tuple[list[Action], bool]:
    """What is due beside power: the own state, plans (and if there is one), deliveries."""
    plans = planning.plans_due(state, utc_ms=image.utc_ms, available_va=available)
    reports = planning.deliveries_due(state, utc_ms=image.utc_ms)
    return [
        *_own_state(state, image, reasons),
        *(MakePlan(plan=plan) for plan in plans),
        *(Deliver(record=record) for record in reports),
    ], bool(plans)


def blocking(state: State, image: Image) -> tuple[Reason, ...]:
    """Every reason why no power may be commanded now."""
    conditions = interlock.Conditions(
        mode=state.mode,
        armed=state.armed,
        station=image.station,
        station_age_us=image.station_age_us,
        configured=image.configured,
        time_quality=image.time_quality,
        executing=state.active is not None and state.active.moves_power,
        stale_after_us=image.stale_after_us,
        manual=setpoints.manual(state, image.utc_ms) is not None,
    )
    found = interlock.permissives(state.site.sop, conditions, owner_id=state.site.owner_id)
    if abs(step_us := state.stepped_us(image.mono_us)) > STEP_US_MAX:
        detail = f"UTC was set by {step_us / 1e6:+.1f} s"
        found += (Reason(code=ReasonCode.TIME_QUALITY, detail=detail),)
    if far := _far_off(state, image):
        found += (Reason(code=ReasonCode.EFFECT_MISSING, detail=far),)
    if state.foreign:
        found += (Reason(code=ReasonCode.FOREIGN_WRITE, detail="the setpoint is not ours"),)
    if state.open_intents:
        found += (Reason(code=ReasonCode.DEVICE_UNKNOWN, detail="an outcome is not known yet"),)
    return found + image.around


def _far_off(state: State, image: Image) -> str:
    """A terminal that does not follow by far takes the power of all away: the alarm has waited."""
    station = image.station
    if NOT_FOLLOWING not in state.alarms or station is None:
        return ""
    for t in state.site.sop.slaves:
        p_w = next((row.p_w for row in station.terminals if row.id == t.id), 0)
        if abs(p_w - state.held[t.id]) * 100 > FAR_PERCENT * t.s_va:
            return f"{t.id} does not follow"
    return ""


def available_va(state: State, station: StationTelemetry | None) -> dict[str, int]:
    """What each terminal can carry: as the station says, its rating where nothing is known."""
    said = {t.id: t.s_va_available for t in station.terminals} if station else {}
    return {t.id: min(t.s_va, said.get(t.id, t.s_va)) for t in state.site.sop.terminals}


def _settle(state: State, station: StationTelemetry) -> tuple[Settle, ...]:
    """End what was left open, now that the device was read after it."""
    found = []
    for intent in state.open_intents:
        after_it = station.mono_us > intent.mono_us or state.boot_number != intent.boot_number
        if not after_it:
            continue
        active = active_setpoints(station)
        restart = Reason(code=ReasonCode.GATEWAY_RESTART)
        unknown = Reason(code=ReasonCode.DEVICE_UNKNOWN, detail="decided by read-back")
        if intent.never_left:  # presumed abort
            settle = Settle(intent=intent, outcome="abort", active={}, reasons=(restart,))
        elif intent.command is not None:
            settle = Settle(intent=intent, outcome="failed", active=active, reasons=(unknown,))
        else:
            verdict = judge(
                setpoints=intent.setpoints,
                instr_id=intent.instr_id,
                master=state.site.sop.master,
                station=station,
                q_var=intent.q_var,
                separate=state.site.separate,
            )
            same = isinstance(verdict, Confirmed)
            settle = Settle(
                intent=intent,
                outcome="executed" if same and not intent.lost else "failed",
                active=active,
                reasons=(unknown, *verdict.reasons) if same else verdict.reasons,
            )
        found.append(settle)
    return tuple(found)


def endings(state: State, station: StationTelemetry | None, why: Reason) -> tuple[Settle, ...]:
    """How instructions end that an orderly stop interrupted; ``station`` was read after them.

    What never left is aborted, what was read is settled, the rest stays unknown until the next
    start reads it.
    """
    read = {s.intent.index: s for s in (_settle(state, station) if station else ())}
    found = []
    for intent in state.open_intents:
        if intent.never_left:
            found.append(Settle(intent=intent, outcome="abort", active={}, reasons=(why,)))
        elif intent.index in read:
            found.append(read[intent.index])
        elif intent.phase is not Phase.UNKNOWN:
            found.append(Settle(intent=intent, outcome="unknown", active={}, reasons=(why,)))
    return tuple(found)


def _still_moves(state: State, station: StationTelemetry) -> bool:
    """Whether a stop was lost, or never ordered: what it should have ended is still held."""
    powered = station.state in (StationState.RUN, StationState.DERATED)
    if state.active is not None and state.active.lost and powered:  # nobody reads that terminal
        shown, ours = station.instruction_id, state.active.instr_id
        return shown == ours if state.site.separate else shown != 0
    ended = state.stopped_id != 0 and station.instruction_id == state.stopped_id
    # Of separate controllers one may fall to its fail-safe alone: then the others end as well.
    alone = state.site.separate and bool(station.status_bits & interlock.STATUS_FAILSAFE)
    return (ended or alone) and holds_power(station, state.site.sop.master)


def _unseen_power(state: State, station: StationTelemetry) -> bool:
    """Whether power is held by a station that answers, but not of now.

    It is told as well: its watchdog may be lost in a restart nobody saw. A stop may be repeated.
    """
    return station.quality is not Quality.GOOD and any(state.held.values())


def _notice(state: State, station: StationTelemetry) -> ReadBack | None:
    """See what the device holds that we did not know: after a start, a fail-safe, a stranger."""
    holds = active_setpoints(station)
    moves = holds_power(station, state.site.sop.master)
    failsafe = bool(station.status_bits & interlock.STATUS_FAILSAFE)
    active = state.active
    # A SELECT that was aborted leaves its id behind, so equal setpoints are ours as well.
    ours = active is not None and (
        station.instruction_id == active.instr_id
        or all(holds.get(t.id) == active.setpoints[t.id] for t in state.site.sop.slaves)
    )

    def as_read(cause: str) -> ReadBack:
        return ReadBack(
            cause=cause,
            instr_id=station.instruction_id,
            active=holds,
            station_state=StationState(station.state).name,
        )

    expected = active is not None and active.moves_power
    if expected and active is not None and station.mono_us > active.mono_us - 1:
        if failsafe or not moves:
            return as_read("failsafe")
    elif expected and (failsafe or not moves) and not state.adopted:
        return as_read("failsafe")
    slaves = state.site.sop.slaves
    if (
        ours
        and moves
        and state.site.separate
        and any(holds[t.id] != state.held[t.id] for t in slaves)
    ):
        return as_read("adopt")  # another part of our last step than was seen after it
    if moves and not failsafe and not ours:
        failed = state.failed
        if failed and failed.is_held(station.instruction_id, holds, [t.id for t in slaves]):
            return as_read("differs")
        return None if state.foreign else as_read("foreign")
    if not state.adopted:
        return as_read("adopt" if ours and active is not None and moves else "zero")
    if state.foreign and not moves:
        return as_read("zero")
    return None


def _own_state(state: State, image: Image, reasons: tuple[Reason, ...]) -> list[Action]:
    codes = {r.code for r in reasons}
    plan = setpoints.current_plan(state, image.utc_ms)
    if ReasonCode.ESTOP in codes:
        name = "ESTOP"
    elif ReasonCode.LOCKOUT in codes:
        name = "LOCKOUT"
    elif ReasonCode.LOCAL in codes:
        name = "LOCAL"
    elif image.station is None:
        name = "INIT"
    elif codes & _ONLY_OBSERVING:
        name = "OBSERVE"
    elif codes - {ReasonCode.DEVICE_UNKNOWN}:
        name = "FAILSAFE"
    elif setpoints.manual(state, image.utc_ms) is not None:
        name = "MAINT"
    elif plan is not None:
        name = "EXECUTING"
    else:
        name = "ARMED" if state.plans else "READY"
    now = state.moments[-1] if state.moments else None
    shown = tuple(r for r in reasons if r.code is not ReasonCode.DEVICE_UNKNOWN)
    told = (now.state, {r.code for r in now.reasons}) if now else None
    same = told == (name, {r.code for r in shown})
    return [] if same else [ChangeState(state=name, reasons=shown)]


def _move(
    state: State, image: Image, reasons: tuple[Reason, ...], available: Mapping[str, int]
) -> tuple[list[Action], int]:
    """Decide the one write of this scan, if any."""
    codes = {r.code for r in reasons}
    station = image.station
    if station is None or not state.adopted:
        return [], 0
    since_write_us = image.mono_us - state.last_write_mono_us
    rested = since_write_us >= WRITE_GAP_US or since_write_us < 0
    if ReasonCode.WATCHDOG in codes and not codes & _REACHABLE_BUT_REFUSING - {ReasonCode.STATE}:
        return ([Configure()], 0) if rested and image.link_up else ([], 0)
    if reasons:
        refusing = codes & _REACHABLE_BUT_REFUSING
        if state.held and any(state.held.values()) and not refusing and rested:
            return _to_zero(state, image, station, available), 0
        return [], 0
    wanted = setpoints.wanted(
        state,
        utc_ms=image.utc_ms,
        lead_ms=image.lead_us // 1000,
        available_va=available,
        measured_w=_flows_w(state, image, station),
        v_dv={t.id: t.v_dv for t in station.terminals},
        shown_w=active_setpoints(station),
        ttl_margin_s=image.ttl_margin_s,
    )
    soon = setpoints.current_plan(state, image.utc_ms + planning.ARM_MS)
    now = setpoints.current_plan(state, image.utc_ms)
    latched = station.status_bits & interlock.STATUS_FAILSAFE  # only a new SELECT ends that
    by_hand = setpoints.manual(state, image.utc_ms)
    if station.state is StationState.STANDBY and not latched and (soon or now or by_hand):
        gap = since_write_us >= COMMAND_GAP_US or since_write_us < 0
        return ([StationCommand(command=Command.EXIT_STANDBY)] if gap else []), 0
    if wanted.stuck:
        return (_to_zero(state, image, station, available) if rested else []), 0
    if wanted.setpoints is None:
        return [], wanted.wake_ms
    timed = wanted.authority in ("close", "plan")
    if not rested and not timed:
        return [], wanted.wake_ms
    if not state.active and _on_its_way(state, station):
        return [], wanted.wake_ms
    if _steps_on(state, image, station):
        return [], wanted.wake_ms
    dispatch = Dispatch(
        setpoints=wanted.setpoints,
        authority=wanted.authority,
        plan_index=wanted.plan_index,
        ttl_s=wanted.ttl_s,
        act_ms=wanted.act_ms,
        ramps=wanted.ramps,
        q_var=wanted.q_var,
        toward=wanted.toward,
    )
    return [dispatch], wanted.wake_ms


def _on_its_way(state: State, station: StationTelemetry) -> bool:
    """Whether power still runs down after a fail-safe: no ramps from there could end together."""
    now_w = {t.id: t.p_w for t in station.terminals}
    told_w = state.held | (active_setpoints(station) if state.site.separate else {})
    return ramps.start_w(state.site.sop, held_w=told_w, measured_w=now_w) != told_w


def _flows_w(state: State, image: Image, station: StationTelemetry) -> dict[str, int]:
    return setpoints.flows_w(
        state,
        {t.id: t.p_w for t in station.terminals},
        read_mono_us=station.mono_us,
        acts_mono_us=image.mono_us + image.lead_us,
    )


def _steps_on(state: State, image: Image, station: StationTelemetry) -> bool:
    """Whether separate controllers are on the ramps of the last step still; the next one waits."""
    active = state.active
    if not state.site.separate or active is None:
        return False
    waited_us = image.mono_us - active.mono_us
    over = waited_us > active.ramp_ms * 1000 + ARRIVAL_US or waited_us < 0
    return not over and (station.mono_us <= active.mono_us or _on_its_way(state, station))


def _to_zero(
    state: State, image: Image, station: StationTelemetry, available: Mapping[str, int]
) -> list[Action]:
    if state.zero_refused_count >= ZERO_TRIES:
        return [StationCommand(command=Command.ENTER_STANDBY)]
    if _steps_on(state, image, station):
        return []
    zero = {t.id: 0 for t in state.site.sop.terminals}
    shaped = setpoints.ramps_to(state, zero, _flows_w(state, image, station))
    return [replace(leaving(state, image, available), ramps=shaped)]


def leaving(state: State, image: Image, available: Mapping[str, int]) -> Dispatch:
    """The fail-safe: to zero at once, or by the next safe step where controllers are separate."""
    zero = {t.id: 0 for t in state.site.sop.terminals}
    step = None
    if state.site.separate:
        shown_w = active_setpoints(image.station) if image.station else None
        step = setpoints.step_toward(state, zero, available_va=available, shown_w=shown_w)
    return Dispatch(
        setpoints=step or zero,
        authority="failsafe",
        plan_index=-1,
        ttl_s=setpoints.TTL_MARGIN_S,
        toward=zero if step not in (None, zero) else {},
    )
