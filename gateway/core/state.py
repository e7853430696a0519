"""State of the gateway: nothing but the fold of its ledger.

A running gateway and one that starts again compute the same state with this one function, so
recovery is the normal path (law 9). Only entries change it; ``decide`` reads it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.core import derating, ended, envelope, feeder, kept_mode, standing
from gateway.core.carried import active_of, half_applied, refusals_of_zero
from gateway.core.dispatch import OPEN, Event, Phase, advance
from gateway.core.energy import Counters, spare_count
from gateway.core.kept_mode import KeptMode
from gateway.core.netting import Leg
from gateway.core.records import (
    Active,
    Failed,
    Fields,
    IntentRecord,
    Manual,
    Moment,
    PlanRecord,
    Received,
    Site,
    interval_from,
    known_from,
    loses_power,
    of_each,
    plan_from,
    reasons_from,
    with_limits,
)
from gateway.core.verify import Known
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimits
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop

__all__ = [
    "Active",
    "Fields",
    "IntentRecord",
    "Manual",
    "Moment",
    "PlanRecord",
    "Received",
    "Site",
    "State",
    "interval_from",
    "reasons_from",
]

READINGS_MAX = 4096  # of one meter: over an hour at one a second; twice as many of open intervals
STEP_US = 500_000  # UTC against the monotonic clock: more than this is a step
STEADY_US = 60_000_000  # after a step nothing is begun until UTC held for this long
HISTORY_MAX = 512  # state changes kept for the causes of a shortfall


@dataclass(slots=True)
class State:
    """Everything the ledger says; ``fold`` is the only way to change it."""

    site: Site
    bounds: Sop | None = None  # limits of the site file: an order never goes beyond them
    manual: Manual | None = None
    feeder_limits: FeederLimits | None = None  # the newest a system operator sent …
    feeder_limits_index: int = -1  # … and its entry
    size: int = 0  # entries folded
    boot_number: int = 0
    boot_mono_us: int = 0
    clean: bool = True  # the last run ended in order
    previous_boot_index: int = -1
    mode: str = "off"
    mode_kept: KeptMode = field(default_factory=KeptMode)
    places: dict[str, tuple[str, int]] = field(default_factory=dict)  # last domain and index
    armed: bool = True
    rearm: str = ""  # as it was configured when what is folded was written
    adopted: bool = False  # the device was read and reconciled since this boot
    adopt_pending: bool = False  # the first write after a restart repeats what the device holds
    foreign: bool = False
    stopped_id: int = 0  # the instruction that a person's stop ended, or that had to be ended
    failed: Failed | None = None
    zero_refused_count: int = 0  # in a row: setpoints are not taken, a stop may be
    busy: dict[str, standing.Busy] = field(default_factory=dict)  # by slave under power
    high_water_ms: int = 0  # end of the last delivered interval
    received: dict[int, Received] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    over: dict[str, bytes] = field(default_factory=dict)  # what is left of trades that are over
    schedule: dict[Interval, dict[str, Leg]] = field(default_factory=dict)
    plans: dict[int, PlanRecord] = field(default_factory=dict)
    intents: dict[int, IntentRecord] = field(default_factory=dict)
    active: Active | None = None
    held_since_open: list[tuple[int, Mapping[str, int]]] = field(default_factory=list)
    last_write_mono_us: int = 0
    last_mono_us: int = 0
    offset_us: int | None = None  # UTC against the monotonic clock, as last seen without a step
    glitch_us: int = 0  # an entry was stamped so far off, and no step is recorded yet
    step_us: int = 0  # how far UTC was set since it was calm …
    stepped_mono_us: int | None = None  # … and when; None: long ago, or never
    readings: dict[str, list[Counters]] = field(default_factory=dict)
    meters: dict[str, str] = field(default_factory=dict)  # by terminal: whose readings these are
    moments: list[Moment] = field(default_factory=list)
    alarms: set[str] = field(default_factory=set)
    derated: dict[int, set[str]] = field(default_factory=dict)  # by open plan: who gave less
    narrowed: dict[int, dict[str, list[str]]] = field(default_factory=dict)  # plan, trade: limits
    settled: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # by outcome: count, Wh

    def fold(self, index: int, entry: Fields) -> None:
        """Take one entry in; indices come without a gap."""
        assert index == self.size, f"entry {index} folded after {self.size} entries"
        self.size = index + 1
        _watch_clock(self, entry)
        self.mode_kept = kept_mode.after(self.mode_kept, entry)
        fold = _FOLDS.get(entry["kind"])
        if fold is not None:
            fold(self, entry)

    @property
    def last_index(self) -> int:
        """Index of the entry folded last (or being folded)."""
        return self.size - 1

    def calm(self, mono_us: int) -> bool:
        """Tell whether UTC has held since its last step."""
        return self.stepped_mono_us is None or mono_us - self.stepped_mono_us >= STEADY_US

    def stepped_us(self, mono_us: int) -> int:
        """Return by how much UTC was set since it was calm; 0 when it is."""
        return 0 if self.calm(mono_us) else self.step_us

    @property
    def open_intents(self) -> list[IntentRecord]:
        """Instructions without an outcome, oldest first."""
        return [i for i in self.intents.values() if i.phase in OPEN]

    @property
    def held(self) -> dict[str, int]:
        """Setpoints in W the station should be holding: zero where nothing is active."""
        zero = {t.id: 0 for t in self.site.sop.terminals}
        return zero | dict(self.active.setpoints) if self.active else zero

    def reasons_during(self, interval: Interval) -> tuple[Reason, ...]:
        """Why the gateway did not execute during an interval, each word once."""
        start_us, end_us = interval.start_ms * 1000, interval.end_ms * 1000
        found: dict[ReasonCode, Reason] = {}
        for i, moment in enumerate(self.moments):
            until = self.moments[i + 1].utc_us if i + 1 < len(self.moments) else end_us
            if moment.utc_us < end_us and until > start_us:
                for reason in moment.reasons:
                    found.setdefault(reason.code, reason)
        return tuple(found.values())


def _watch_clock(state: State, entry: Fields) -> None:
    """Know after a restart what a running gateway knows: how the clocks stood, and any step."""
    mono_us = entry["mono_us"]
    offset_us = entry["utc_us"] - mono_us
    # The machine started anew: so did its monotonic clock.
    rebooted = entry["kind"] == "boot" and mono_us < state.last_mono_us
    if rebooted and state.stepped_mono_us is not None:
        state.stepped_mono_us = None if state.calm(state.last_mono_us) else mono_us
    if entry["kind"] == "time_step":
        state.step_us = state.stepped_us(mono_us) + entry["step_us"]  # steps add up until calm
        state.stepped_mono_us = mono_us
        state.offset_us, state.glitch_us = offset_us, 0
    elif rebooted or state.offset_us is None or abs(offset_us - state.offset_us) <= STEP_US:
        state.offset_us = offset_us
    else:
        state.glitch_us = offset_us - state.offset_us
    state.last_mono_us = mono_us


def _time_step(state: State, entry: Fields) -> None:
    """What is stamped later than now was stamped by a clock that was wrong."""
    for track in state.readings.values():
        while track and track[-1].utc_us > entry["utc_us"]:
            track.pop()


def _boot(state: State, entry: Fields) -> None:
    state.boot_number = entry["boot"]
    state.boot_mono_us = entry["mono_us"]
    state.previous_boot_index = state.last_index
    state.clean = entry["clean"]
    state.adopted = False
    state.adopt_pending = False
    state.foreign = False
    state.manual = None
    state.last_write_mono_us = 0
    restart = () if state.last_index == 0 else (Reason(code=ReasonCode.GATEWAY_RESTART),)
    _remember(state, Moment(utc_us=entry["utc_us"], state="INIT", reasons=restart))


def _config(state: State, entry: Fields) -> None:
    state.rearm = entry["config"].get("rearm", "")
    rows = entry["config"].get("terminals", ())
    state.places |= {t["id"]: (t["domain"], t["index"]) for t in rows}


def _mode(state: State, entry: Fields) -> None:
    if state.mode != entry["mode"]:
        state.manual = None
    state.mode = entry["mode"]
    why = reasons_from(entry["reasons"])
    _remember(state, Moment(utc_us=entry["utc_us"], state=entry["state"], reasons=why))


def _remember(state: State, moment: Moment) -> None:
    state.moments.append(moment)
    if len(state.moments) > HISTORY_MAX:
        del state.moments[: HISTORY_MAX // 2]


def _received(state: State, entry: Fields) -> None:
    payload = base64.b64decode(entry["payload"]) if "payload" in entry else b""
    state.received[state.last_index] = Received(
        index=state.last_index,
        utc_us=entry["utc_us"],
        size=entry["size"],
        sha256=entry["sha256"],
        payload=payload,
        retain=entry["retain"],
        topic=entry["topic"],
        mono_us=entry["mono_us"],
        boot_number=entry["boot"],
    )


def _decided(state: State, entry: Fields) -> None:
    received = state.received.get(entry["received_index"])
    if received is None:
        return
    if entry["last"]:
        del state.received[received.index]
    else:
        state.received[received.index] = replace(
            received, decided=received.decided | {entry["trade_id"]}
        )


def _accepted(state: State, entry: Fields) -> None:
    _decided(state, entry)
    trade_id = entry["trade_id"]
    before = state.known.get(trade_id)
    if before is not None:
        for position in before.trade.positions:
            legs = state.schedule.get(position.interval, {})
            legs.pop(trade_id, None)
            if not legs:
                state.schedule.pop(position.interval, None)
    known = known_from(state.last_index, entry, state.site)
    state.over.pop(trade_id, None)
    state.known[trade_id] = known
    for position in known.trade.positions:
        state.schedule.setdefault(position.interval, {})[trade_id] = Leg(
            trade_id=trade_id,
            revision_number=known.revision_number,
            out_terminal=entry["out_terminal"],
            in_terminal=entry["in_terminal"],
            energy_wh=position.energy_wh,
        )


def _plan(state: State, entry: Fields) -> None:
    record = plan_from(state.last_index, entry, state.site.sop)
    state.plans[record.interval.start_ms] = record
    _narrow(state, entry["utc_us"])
    if state.manual is not None and state.mode != "test":
        # For good: what a person asked for must not come back after a trade.
        until_ms = min(state.manual.until_ms, record.interval.start_ms)
        state.manual = replace(state.manual, until_ms=until_ms)


def _intent(state: State, entry: Fields) -> None:
    sop, sent_w = state.site.sop, {s["terminal"]: s["p_w"] for s in entry["setpoints"]}
    toward = entry.get("toward", {})
    state.intents[state.last_index] = IntentRecord(
        index=state.last_index,
        instr_id=entry["instr_id"],
        authority=entry["authority"],
        plan_index=entry["plan_index"],
        setpoints={} if entry.get("command") else of_each(sop, sent_w),
        command=entry.get("command"),
        mono_us=entry["mono_us"],
        boot_number=entry["boot"],
        ramps={s["terminal"]: s.get("ramp_permille_per_s", 0) for s in entry["setpoints"]},
        q_var={s["terminal"]: s["q_var"] for s in entry["setpoints"] if s["q_var"]},
        toward=of_each(sop, toward) if toward else {},
        lost=loses_power(sop, sent_w),
    )
    plan_index, said = entry["plan_index"], entry.get("image", {}).get("s_va_available", {})
    if short := derating.by_availability(state.plans.values(), plan_index, said):
        state.derated.setdefault(plan_index, set()).update(short)


def _step(state: State, entry: Fields, event: Event) -> IntentRecord:
    intent = state.intents[entry["intent_index"]]
    intent.phase = advance(intent.phase, event)
    return intent


def _abort(state: State, entry: Fields) -> None:
    intent = _step(state, entry, Event.ABORT)
    state.last_write_mono_us = entry["mono_us"]
    state.zero_refused_count = refusals_of_zero(state.zero_refused_count, intent, entry)
    del state.intents[intent.index]


def _outcome(state: State, entry: Fields) -> None:
    intent = _step(state, entry, Event(entry["outcome"]))
    if intent.phase is Phase.UNKNOWN:
        intent.mono_us = entry["mono_us"]  # only what is read from here on says how it ended
    else:
        _ended(state, intent, entry)


def _ended(state: State, intent: IntentRecord, entry: Fields) -> None:
    del state.intents[intent.index]
    state.last_write_mono_us = entry["mono_us"]
    state.zero_refused_count = refusals_of_zero(state.zero_refused_count, intent, entry)
    if intent.command is not None:
        return
    active: Active | None = None
    if intent.phase is Phase.EXECUTED:
        active = active_of(state.site, state.held, intent, entry)
    elif intent.phase is Phase.FAILED and intent.lost and entry.get("active"):
        active = active_of(state.site, state.held, intent, entry)  # nobody reads that terminal
    elif intent.phase is Phase.FAILED:
        # Of a step that some did not take the next one begins where each is now.
        active = half_applied(state.site, state.held, intent, entry)
        if active is None:
            state.failed = Failed(instr_id=intent.instr_id, setpoints=dict(intent.setpoints))
    if active is None:
        return
    state.adopt_pending = False
    if state.active is None or state.active.plan_index != intent.plan_index:
        state.held_since_open.clear()
    sent_w = {t: p_w for t, p_w in active.setpoints.items() if t != state.site.sop.master}
    held_w = {t: entry["active"].get(t, p_w) for t, p_w in sent_w.items()}
    if intent.plan_index >= 0 and (short := derating.by_echo(sent_w, held_w)):
        state.derated.setdefault(intent.plan_index, set()).update(short)
    state.held_since_open.append((entry["utc_us"], {**active.setpoints, **held_w}))
    state.busy = standing.after(state.busy, held_w, state.site.sop, entry["utc_us"])
    state.active = active


def _reconciled(state: State, entry: Fields) -> None:
    """An unknown outcome was resolved by reading the device; an interrupted one gets its entry."""
    intent = state.intents[entry["intent_index"]]
    if intent.phase is not Phase.UNKNOWN:
        return
    intent.phase = advance(intent.phase, Event(entry["outcome"]))
    _ended(state, intent, entry)


def _readback(state: State, entry: Fields) -> None:
    cause = entry["cause"]
    if cause == "reconcile":
        _reconciled(state, entry)
        return
    state.adopted = True
    state.foreign = cause == "foreign"
    if cause == "adopt" and state.active is not None:
        state.adopt_pending = any(entry["active"].values())
        state.busy = standing.after(state.busy, entry["active"], state.site.sop, entry["utc_us"])
        state.active = Active(
            instr_id=entry["instr_id"],
            setpoints=of_each(state.site.sop, entry["active"]),
            plan_index=state.active.plan_index,
            utc_us=entry["utc_us"],
            mono_us=entry["mono_us"],
            boot_number=entry["boot"],
            q_var=state.active.q_var,
            lost=loses_power(state.site.sop, entry["active"]),
        )
        return
    state.held_since_open.clear()
    state.busy.clear()
    if cause == "differs" and state.failed is not None:
        state.stopped_id = entry["instr_id"]  # until it rests
        sent = state.failed.setpoints
        # What came late is what was meant; what was cut in silence is for a person.
        now_w = of_each(state.site.sop, entry["active"])
        differs = any(now_w[t.id] != sent.get(t.id) for t in state.site.sop.slaves)
        state.armed = state.armed and not differs
    if cause == "failsafe" and (state.rearm or state.site.rearm) == "manual":
        state.armed = False
    state.active = None


def _reading(state: State, entry: Fields) -> None:
    ids = {t.id for t in state.site.sop.terminals}
    for m in entry["meters"]:
        if m["quality"] != "good" or m["terminal"] not in ids:
            continue
        track = state.readings.setdefault(m["terminal"], [])
        if state.meters.setdefault(m["terminal"], m["meter"]) != m["meter"]:
            state.meters[m["terminal"]] = m["meter"]
            track.clear()  # exchanged: its counters say nothing of the other's time
        if track and m["utc_us"] <= track[-1].utc_us:
            continue  # a clock that stepped back: never a second value for one instant
        track.append(
            Counters(
                utc_us=m["utc_us"],
                import_wh=m["import_wh"],
                export_wh=m["export_wh"],
                p_w=m["p_w"],
            )
        )
        open_ms = min(state.plans, default=None)
        del track[: spare_count(track, kept_max=READINGS_MAX, open_ms=open_ms)]


def _delivery(state: State, entry: Fields) -> None:
    interval = interval_from(entry["interval"])
    state.high_water_ms = max(state.high_water_ms, interval.end_ms)
    record = state.plans.pop(interval.start_ms, None)
    for noted in (state.derated, state.narrowed):
        noted.pop(record.index if record else -1, None)
    state.schedule.pop(interval, None)
    for t in entry["trades"]:
        n, c_wh, d_wh = state.settled.get(t["status"], (0, 0, 0))
        state.settled[t["status"]] = n + 1, c_wh + t["contracted_wh"], d_wh + t["delivered_wh"]
        ended.let_go(state.known, state.over, state.schedule, t["trade_id"])


def _operator(state: State, entry: Fields) -> None:
    if entry["verb"] == "arm":
        state.armed = True
        state.stopped_id = 0
    elif entry["verb"] == "stop":
        state.armed = False
        state.stopped_id = state.active.instr_id if state.active else state.stopped_id
        state.active = state.manual = None
        state.busy.clear()
    elif entry["verb"] == "setpoint":
        arguments = entry["arguments"]
        state.manual = Manual(
            setpoints=dict(arguments["setpoints"]),
            until_ms=entry["utc_us"] // 1000 + arguments["for_ms"],
            user=entry["user"],
            since_us=entry["utc_us"],
        )
    elif entry["verb"] == feeder.VERB:
        said, site = entry["arguments"], state.site
        state.feeder_limits = feeder.limits_from(said, site=site.site, sop=site.sop.id)
        state.feeder_limits_index = state.last_index
        _narrow(state, entry["utc_us"])
    elif entry["verb"] == "limits":
        state.site = with_limits(state.site, state.bounds, entry["arguments"])
        _narrow(state, entry["utc_us"])


def _narrow(state: State, utc_us: int) -> None:
    """Note what the limits that hold now take from plans made before, for their reports."""
    for plan in state.plans.values():
        if plan.interval.end_ms * 1000 <= utc_us:
            continue
        found = envelope.narrowed(
            plan.planned,
            sop=state.site.sop,
            interval=plan.interval,
            available_va=plan.available_va,
            limits=state.feeder_limits,
        )
        for trade_id, codes in found.items():
            noted = state.narrowed.setdefault(plan.index, {}).setdefault(trade_id, [])
            noted += [code for code in codes if code not in noted]


def _alarm(state: State, entry: Fields) -> None:
    change = state.alarms.add if entry["active"] else state.alarms.discard
    change(entry["code"])


_FOLDS: Mapping[str, Callable[[State, Fields], object]] = {
    "boot": _boot,
    "config": _config,
    "mode": _mode,
    "time_step": _time_step,
    "trade.received": _received,
    "trade.accepted": _accepted,
    "trade.refused": _decided,
    "plan": _plan,
    "intent": _intent,
    "prepared": partial(_step, event=Event.PREPARED),
    "commit": partial(_step, event=Event.COMMIT),
    "abort": _abort,
    "outcome": _outcome,
    "readback": _readback,
    "reading": _reading,
    "delivery": _delivery,
    "operator": _operator,
    "alarm": _alarm,
}
