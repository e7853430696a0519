"""Walks an acceptance run: which check comes next, where it stops, how it goes on.

A failed check does not end the walk; it opens punch items. One after which the plant is not known
to be at zero does: nothing more may be moved. A step marked ``gated`` is not begun while a punch
item A is open; a hold point is not passed without its witness.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.commissioning.sat.plan import Check, Hold, Step
from gateway.commissioning.sat.record import CheckOutcome, RecordError, RunRecord, RunState

Execute = Callable[[Check], Awaitable[CheckOutcome]]
Summon = Callable[[Step], Awaitable[str]]  # asks at a hold point who witnesses; "" for nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Why the walk ended: ``finished``, ``hold``, ``gate`` or ``open`` (something not passed)."""

    why: str
    step: str = ""
    text: str = ""


class NotAtZero(Exception):  # noqa: N818 - an outcome
    """After a check the plant is not known to be at zero; ``outcome`` is what stands in the record.

    ``ended`` is what ends the walk, once that is written.
    """

    def __init__(self, outcome: CheckOutcome, ended: Exception) -> None:
        super().__init__(str(ended))
        self.outcome = outcome
        self.ended = ended


def next_check(state: RunState, *, after: frozenset[str]) -> Check | None:
    """Return the first check not settled and not tried in this walk."""
    for check in state.plan.checks():
        if not state.checks[check.id].settled and check.id not in after:
            return check
    return None


def resume_text(record: RunRecord) -> str:
    """Say where an earlier walk is taken up again; empty for a new run."""
    state = record.state()
    waiting = next_check(state, after=frozenset())
    if waiting is None:
        return ""
    ids = [c.id for c in state.plan.checks()]
    before = [state.checks[i] for i in ids[: ids.index(waiting.id)] if state.checks[i].settled]
    if not before:
        return ""
    last = before[-1]
    return (
        f"Resuming run {record.id} at check {waiting.id} ({last.id} {last.status}, not repeated). "
        f"Use --from {last.id} to repeat."
    )


def obstacle(state: RunState, step: Step, *, witness: str) -> Stopped | None:
    """Return why a step may not be begun now; None when it may."""
    if step.gated:
        own = {c.id for c in step.checks}  # a step that failed may be repeated
        open_a = [p for p in state.open_punch("A") if p.check not in own]
        if open_a:
            numbers = ", ".join(p.number for p in open_a)
            return Stopped(
                why="gate",
                step=step.id,
                text=f"step {step.id} moves more than 10 % of the rating and waits for {numbers}",
            )
    if step.hold is Hold.HOLD and step.id not in state.witnessed and not witness:
        return Stopped(
            why="hold",
            step=step.id,
            text=f"step {step.id} is a hold point: go on with --witness NAME when the witness is "
            "there",
        )
    return None


async def walk(
    record: RunRecord,
    execute: Execute,
    *,
    by: str,
    witness: str = "",
    summon: Summon | None = None,
    start_at: str = "",
    only_step: str = "",
    announce: Callable[[Step, Check, CheckOutcome | None], None],
) -> Stopped:
    """Run checks in order until one of the reasons in Stopped.

    What ended it is raised when the plant is not known to be at zero after a check.
    """
    state = record.state()
    forced = _from(state, start_at) if start_at else []
    tried: set[str] = set()
    while True:
        state = record.state()
        check = forced.pop(0) if forced else next_check(state, after=frozenset(tried))
        if only_step:
            check = _within(state, only_step, tried)
        if check is None:
            break
        tried.add(check.id)
        step = state.plan.step_of(check.id)
        stopped = obstacle(state, step, witness=witness)
        if stopped is not None and stopped.why == "hold" and summon is not None:
            witness = await summon(step)
            stopped = obstacle(state, step, witness=witness)
        if stopped is not None:
            return stopped
        if witness and step.hold in (Hold.HOLD, Hold.WITNESS) and step.id not in state.witnessed:
            record.witnessed(step.id, witness=witness)
        announce(step, check, None)
        record.begin(check.id)
        ended: Exception | None = None
        try:
            outcome = await execute(check)
        except NotAtZero as moving:
            outcome, ended = moving.outcome, moving.ended
        record.done(check.id, outcome, by=by)
        announce(step, check, outcome)
        if ended is not None:
            raise ended
    return _end(record.state())


def _end(state: RunState) -> Stopped:
    waiting = [c.id for c in state.checks.values() if not c.settled]
    if waiting:
        return Stopped(why="open", text=f"not passed: {', '.join(waiting)}")
    return Stopped(why="finished", text=f"all checks done: {state.verdict}")


def _from(state: RunState, check_id: str) -> list[Check]:
    checks = list(state.plan.checks())
    for place, check in enumerate(checks):
        if check.id == check_id:
            return checks[place:]
    raise RecordError(f"no check {check_id} in this plan")


def _within(state: RunState, step_id: str, tried: set[str]) -> Check | None:
    """Next check of one step, settled or not: a step run on purpose is run whole."""
    step = next((s for s in state.plan.steps if s.id == step_id), None)
    if step is None:
        raise RecordError(f"no step {step_id} in this plan")
    return next((c for c in step.checks if c.id not in tried), None)
