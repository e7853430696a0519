"""Tests with a person at the panel: signals, interlocks, emergency stop.

The tool is never the emergency stop. It asks, watches, and checks that everybody behaves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.commissioning.equipment import Rack, Say, silent
from gateway.commissioning.finding import Finding, Punch, Verdict, worst
from gateway.commissioning.runs.holding import LIFE_S
from gateway.commissioning.runs.person import Answer, Person
from gateway.commissioning.runs.steps import watching
from gateway.commissioning.sat.record import CheckOutcome, Row
from gateway.commissioning.session import (
    ZERO_RATIO,
    Power,
    Session,
    TestRefused,
    cause_of,
    hold,
    ramp_s,
)
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import DeviceError, DeviceRefused
from gateway.model.setpoint import Ack, Command
from gateway.model.telemetry import StationTelemetry
from gateway.ports import Journal

WAIT_S = 20.0  # after the person said it is done, the signal must follow
POLL_S = 0.1
RENEW_S = 30.0  # of the setpoint's LIFE_S: one renewal may fail and power is still there
RECENT_S = 1.0  # a contactor may be faster than the signal that reports it


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One status bit of the station map and what a person does to it."""

    name: str
    bit_index: int
    provoke: str
    restore: str
    forbids: bool  # while it is active the station refuses to move


SIGNALS: tuple[Signal, ...] = (
    Signal(
        name="local",
        bit_index=12,
        provoke="Turn the switch at the panel to LOCAL",
        restore="Turn the switch back to REMOTE",
        forbids=True,
    ),
    Signal(
        name="interlock",
        bit_index=14,
        provoke="Open the cabinet door",
        restore="Close the cabinet door",
        forbids=False,
    ),
    Signal(
        name="estop",
        bit_index=13,
        provoke="Press the emergency stop",
        restore="Release and reset the emergency stop",
        forbids=True,
    ),
)


def chosen(names: Sequence[str]) -> tuple[Signal, ...]:
    """Return the signals by name, all but the emergency stop without names; KeyError for others."""
    known = {s.name: s for s in SIGNALS}
    if not names:
        return tuple(s for s in SIGNALS if s.name != "estop")
    return tuple(known[n] for n in names)


async def run_signals(
    rack: Rack, person: Person, signals: Sequence[Signal], *, wait_s: float = WAIT_S
) -> CheckOutcome:
    """Walk the signals: each must change when a person changes it, and change back."""
    rows: list[Row] = []
    findings: list[Finding] = []
    name = rack.equipment.station.name
    for number, signal in enumerate(signals, 1):
        person.tell(
            f"{number}/{len(signals)}  {signal.name}  ({name} status bit {signal.bit_index})"
        )
        rest = _bit(await rack.station().read(), signal)
        answer = await person.ask(signal.provoke)
        if answer is Answer.QUIT:
            return CheckOutcome(
                verdict=worst([Verdict.UNDECIDED, *(r.verdict for r in rows)]),
                rows=tuple(rows),
                findings=tuple(findings),
                note="left early",
            )
        if answer is not Answer.DONE:
            verdict = Verdict.UNDECIDED if answer is Answer.SKIP else Verdict.FAULT
            rows.append(Row(name=signal.name, value_text=answer.value, verdict=verdict))
            findings += [_failed(name, signal)] if answer is Answer.FAIL else []
            continue
        changed, after_s = await _await_bit(rack, signal, active=not rest, wait_s=wait_s)
        person.tell(f"seen: {_word(rest)} → {_word(changed)} after {after_s:.1f} s")
        await person.ask(signal.restore)
        back, _after_s = await _await_bit(rack, signal, active=rest, wait_s=wait_s)
        finding = _judge(name, signal, rest=rest, changed=changed, back=back)
        findings += [finding] if finding else []
        rows.append(
            Row(
                name=signal.name,
                value_text=f"{_word(rest)} → {_word(changed)} → {_word(back)}",
                limit="inactive → active → inactive",
                verdict=Verdict.FAULT if finding else Verdict.OK,
            )
        )
    verdict = worst([r.verdict for r in rows])
    return CheckOutcome(verdict=verdict, rows=tuple(rows), findings=tuple(findings))


def _judge(name: str, signal: Signal, *, rest: bool, changed: bool, back: bool) -> Finding | None:
    where = f"{name} {signal.name}"
    if rest and not changed:
        return Finding(
            code="signal-inverted",
            where=where,
            what=f"{signal.name} reads active at rest and inactive when provoked: wired or mapped "
            "the wrong way round",
            mend="use the other contact (NC for NO) or the input's other polarity",
            punch=Punch.A,
        )
    if rest == changed:
        return Finding(
            code="signal-dead",
            where=where,
            what=f"{signal.name} did not change",
            mend="check contact, wire and input; then address and bit in the profile",
            punch=Punch.A,
        )
    if back != rest:
        return Finding(
            code="signal-stuck",
            where=where,
            what=f"{signal.name} did not come back",
            mend="check contact and wire for a welded or stuck contact",
            punch=Punch.A,
        )
    return None


def _failed(name: str, signal: Signal) -> Finding:
    """What a person found at the panel, and no bit tells."""
    return Finding(
        code="signal-failed",
        where=f"{name} {signal.name}",
        what=f"{signal.name} was tried and failed, says the person at the panel",
        mend="have the panel mended, then repeat this test",
        punch=Punch.A,
    )


def _word(active: bool) -> str:  # noqa: FBT001 - a bit and its word
    return "active" if active else "inactive"


def _bit(seen: StationTelemetry, signal: Signal) -> bool:
    return bool(seen.status_bits >> signal.bit_index & 1)


async def _await_bit(
    rack: Rack,
    signal: Signal,
    *,
    active: bool,
    wait_s: float = WAIT_S,
) -> tuple[bool, float]:
    """Wait until the bit is as wanted; return what it is at the end and after how long."""
    began_s = rack.now_s()
    while True:
        now = _bit(await rack.station().read(), signal)
        after_s = rack.now_s() - began_s
        if now is active or after_s > wait_s:
            return now, after_s
        await rack.pause(POLL_S)


async def run_interlocks(
    rack: Rack, person: Person, signals: Sequence[Signal], *, wait_s: float = WAIT_S
) -> CheckOutcome:
    """Provoke each interlock and see the station itself refuse a SELECT of zero power."""
    rows: list[Row] = []
    findings: list[Finding] = []
    for signal in (s for s in signals if s.forbids):
        row, finding = await _interlock(rack, person, signal, wait_s=wait_s)
        rows.append(row)
        findings += [finding] if finding else []
    verdict = worst([r.verdict for r in rows])
    return CheckOutcome(verdict=verdict, rows=tuple(rows), findings=tuple(findings))


async def _interlock(
    rack: Rack, person: Person, signal: Signal, *, wait_s: float
) -> tuple[Row, Finding | None]:
    """Select at rest, provoke, select again: only what was accepted before proves a refusal."""
    name = rack.equipment.station.name
    at_rest = await _select_zero(rack)
    if at_rest is not Ack.ACCEPTED:
        return _undecided(signal, f"refused at rest: {cause_of(at_rest)}"), None
    rest = _bit(await rack.station().read(), signal)
    answer = await person.ask(signal.provoke)
    if answer is Answer.FAIL:
        failed = Row(name=signal.name, value_text="failed", limit="refused", verdict=Verdict.FAULT)
        return failed, _failed(name, signal)
    if answer is not Answer.DONE:
        return _undecided(signal, "not tried"), None
    changed, _after_s = await _await_bit(rack, signal, active=not rest, wait_s=wait_s)
    ack = await _select_zero(rack)
    await person.ask(signal.restore)
    back, _after_s = await _await_bit(rack, signal, active=rest, wait_s=wait_s)
    accepted = ack in (Ack.ACCEPTED, Ack.EXECUTED)
    if accepted and changed:
        finding: Finding | None = Finding(
            code="interlock-open",
            where=f"{name} {signal.name}",
            what=f"the station accepted a selection while {signal.name} was active",
            mend="the interlock does not reach the converter's controller: check its wire",
            punch=Punch.A,
        )
    else:
        finding = _judge(name, signal, rest=rest, changed=changed, back=back)
    value = "accepted a selection" if accepted else cause_of(ack)
    if finding is None and signal.name == "local" and ack is not Ack.REJECTED_LOCAL:
        return _undecided(signal, value, limit=cause_of(Ack.REJECTED_LOCAL)), None
    row = Row(
        name=signal.name,
        value_text=value if changed else f"{value}; {signal.name} not seen",
        limit="refused",
        verdict=Verdict.FAULT if finding else Verdict.OK,
    )
    return row, finding


def _undecided(signal: Signal, value: str, *, limit: str = "refused") -> Row:
    return Row(name=signal.name, value_text=value, limit=limit, verdict=Verdict.UNDECIDED)


async def _select_zero(rack: Rack) -> Ack:
    """Select zero power everywhere, which moves nothing, and take the selection back."""
    session = Session(rack, journal=None, say=silent)
    try:
        await session.awake()
        ack = await session.station.select(session.instruction({}, life_s=1))
        if ack is Ack.ACCEPTED:
            await session.station.command(Command.CANCEL)
        return ack
    finally:
        await session.station.close()


class _Notes:
    """Rows and findings of the emergency stop test."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.findings: list[Finding] = []
        self.note = ""

    def add(self, name: str, value: str, limit: str, *, good: bool, code: str, what: str) -> None:
        self.rows.append(
            Row(
                name=name,
                value_text=value,
                limit=limit,
                verdict=Verdict.OK if good else Verdict.FAULT,
            )
        )
        if not good:
            self.findings.append(_estop_finding(code, what))

    def unknown(self, name: str, value: str, limit: str) -> None:
        self.rows.append(Row(name=name, value_text=value, limit=limit, verdict=Verdict.UNDECIDED))

    def outcome(self) -> CheckOutcome:
        return CheckOutcome(
            verdict=worst([r.verdict for r in self.rows]),
            rows=tuple(self.rows),
            findings=tuple(self.findings),
            note=self.note,
        )


async def run_estop(
    rack: Rack,
    person: Person,
    *,
    terminal: str,
    p_w: int,
    limit_s: float = 1.0,
    journal: Journal | None = None,
    say: Say = silent,
) -> CheckOutcome:
    """Put a little power on, let a person press, watch power, state, refusal and re-arming."""
    tested = rack.equipment.sop.terminal(terminal)
    band_w = ZERO_RATIO * tested.s_va
    estop = next(s for s in SIGNALS if s.name == "estop")
    notes = _Notes()
    async with (
        watching(rack, terminal, period_s=0.02) as watch,
        hold(rack, journal=journal, say=say) as session,
    ):
        powers = {terminal: Power(p_w=p_w)}
        await session.set(powers, life_s=LIFE_S)
        await rack.pause(ramp_s(rack.equipment.sop, tested, p_w) + 2.0)

        def flows() -> bool:
            last = watch.seen[-1][1] if watch.seen else None
            return last is not None and abs(_p(last, terminal)) > band_w and not _bit(last, estop)

        async with _kept_up(session, powers, flows):
            answer = await person.ask("Press the emergency stop at the panel now")
        if answer is Answer.FAIL:
            what = "the emergency stop was tried and failed, says the person at the panel"
            found = (_estop_finding("estop-failed", what),)
            return CheckOutcome(verdict=Verdict.FAULT, findings=found)
        if answer is not Answer.DONE:
            return CheckOutcome(verdict=Verdict.UNDECIDED, note="not pressed")
        pressed, _after_s = await _await_bit(rack, estop, active=True)
        await rack.pause(limit_s)
        _power_note(notes, [s for _w, s in watch.seen], terminal, estop, band_w, limit_s)
        notes.add(
            "emergency stop seen", "yes" if pressed else "no", "yes", good=pressed,
            code="estop-unseen", what="the station does not report the emergency stop",
        )  # fmt: skip
        refused, word = await _refused(session, terminal, p_w)
        if refused is None:
            notes.unknown("a test write was", f"not known to be refused: {word}", "refused")
        else:
            notes.add(
                "a test write was", word, "refused", good=refused,
                code="estop-open", what="the station accepted a setpoint while stopped",
            )  # fmt: skip
        await _release_note(notes, rack, person, estop, terminal=terminal, band_w=band_w)
    return notes.outcome()


@contextlib.asynccontextmanager
async def _kept_up(
    session: Session, powers: Mapping[str, Power], flows: Callable[[], bool]
) -> AsyncIterator[None]:
    """Renew the setpoint while a person walks to the panel.

    Once no power flows any more, whoever ended it, nothing is set again: the person may be
    at the panel already.
    """
    rack = session.rack
    over = asyncio.Event()

    async def renew() -> None:
        due_s = rack.now_s() + RENEW_S
        while not over.is_set() and flows():
            if rack.now_s() >= due_s:
                due_s += RENEW_S
                with contextlib.suppress(DeviceError):  # the stop came first, or the next is heard
                    await session.set(powers, life_s=LIFE_S)
            await rack.pause(POLL_S)

    async with asyncio.TaskGroup() as group:
        group.create_task(renew())
        try:
            yield
        finally:
            over.set()  # not cancelled: a select is followed by its operate


def _power_note(
    notes: _Notes,
    seen: Sequence[StationTelemetry],
    terminal: str,
    estop: Signal,
    band_w: float,
    limit_s: float,
) -> None:
    """Time from the last poll before the stop to the first one at zero.

    Power that went long before the signal came was taken away by something else.
    """
    pressed = next((s.mono_us for s in seen if _bit(s, estop)), None)
    loaded = [s.mono_us for s in seen if abs(_p(s, terminal)) > band_w and not _bit(s, estop)]
    zero = [s.mono_us for s in seen if abs(_p(s, terminal)) <= band_w]
    fell_us = min((t - loaded[-1] for t in zero if loaded and t > loaded[-1]), default=None)
    recent_us = round(1e6 * max(limit_s, RECENT_S))
    for_another_reason = pressed is None or (loaded and pressed - loaded[-1] > recent_us)
    if not loaded or (fell_us is not None and for_another_reason):
        notes.unknown("power to zero", "no power when it was pressed", f"≤ {limit_s:g} s")
        return
    notes.add(
        "power to zero",
        "not reached" if fell_us is None else f"≤ {fell_us / 1e6:.2f} s",
        f"≤ {limit_s:g} s",
        good=fell_us is not None and fell_us <= limit_s * 1e6,
        code="estop-slow",
        what="power did not go to zero at once",
    )


def _estop_finding(code: str, what: str) -> Finding:
    return Finding(
        code=code,
        where="emergency stop",
        what=what,
        mend="do not operate; have the stop circuit checked, then repeat this test",
        punch=Punch.A,
    )


def _p(seen: StationTelemetry, terminal: str) -> int:
    return next(t.p_w for t in seen.terminals if t.id == terminal)


async def _refused(session: Session, terminal: str, p_w: int) -> tuple[bool | None, str]:
    """Try to set power; tell whether that was refused, and why; None where nobody knows.

    Only a no of the station is a refusal, or a state that it reports.
    """
    try:
        await session.set({terminal: Power(p_w=p_w)})
    except TestRefused as no:
        # Another than the station: who keeps the ledger, or somebody who stopped everything.
        return (True, no.cause) if no.device == session.station.name else (None, no.what)
    except DeviceRefused:
        return True, "blocked-by-process"
    except GuardRefused as no:
        shut = no.reason is GuardReason.STATE
        return (True, "blocked-by-process") if shut else (None, no.what)
    except DeviceError as lost:
        return None, lost.what
    return False, "accepted"


async def _release_note(
    notes: _Notes, rack: Rack, person: Person, estop: Signal, *, terminal: str, band_w: float
) -> None:
    """Have the stop released: it must be seen to be, and power must not come back by itself."""
    name, limit = "power after the release", "0 kW until armed"
    answer = await person.ask(estop.restore)
    active = False
    if answer is Answer.DONE:
        active, _after_s = await _await_bit(rack, estop, active=False)
    await rack.pause(2.0)
    seen = await rack.station().read()
    flows = abs(_p(seen, terminal)) > band_w
    value = f"{_p(seen, terminal) / 1000:.1f} kW, {seen.state.name}"
    if answer in (Answer.SKIP, Answer.QUIT) and not flows:
        notes.note = "the emergency stop was not released"
        notes.unknown(name, "not released", limit)
        return
    notes.add(
        name, value, limit, good=not flows,
        code="estop-returned", what="power came back with the release",
    )  # fmt: skip
    if answer is Answer.FAIL or active:
        stuck = _judge(rack.equipment.station.name, estop, rest=False, changed=True, back=True)
        notes.rows.append(Row(name="released", value_text="no", limit="yes", verdict=Verdict.FAULT))
        notes.findings += [stuck] if stuck else []
