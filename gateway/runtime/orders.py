"""What people may order of a running gateway, and under which conditions; one holder of control.

Every order becomes an entry before anything follows from it, and goes through the same decision
as a trade. Control is with the trades, with a person's setpoint until it ends, or lent to a
commissioning session for as long as its connection lives.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core import alarms, setpoints
from gateway.core.access import Person
from gateway.core.state import State
from gateway.model.reason import ReasonCode
from gateway.ports import Clock
from gateway.runtime.alarms import AlarmWatch
from gateway.runtime.borrowed import BadRecord, checked_record
from gateway.runtime.loop import Scan

MODES = ("off", "blocked", "test", "test-blocked", "on")
MANUAL_MS_MAX = 900_000  # a setpoint by hand is for a look, not for a day
LOAN_S_MAX = 4 * 3600  # an acceptance run with its pauses
PROPOSAL_US = 600_000_000  # the second engineer stands beside the first, or is called
TRADES = "trades"
TEXT_LENGTH_MAX = 200

Lines = Callable[[], Awaitable[bytes]]
Say = Callable[[Mapping[str, Any]], Awaitable[None]]
Stale = Callable[[Mapping[str, Any]], list[str]]


class OrderRefused(Exception):  # noqa: N818 - an outcome
    """An order was not carried out; ``cause`` is a word of IEC 61850's AddCause."""

    def __init__(self, cause: str, what: str) -> None:
        super().__init__(what)
        self.cause = cause
        self.what = what


@dataclass(slots=True, kw_only=True)
class Loan:
    """Control in somebody else's hands."""

    user: str
    words: str
    until_mono_us: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    intents: set[int] = field(default_factory=set)  # entries of this loan without an outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change of limits that waits for a second engineer."""

    id: str
    arguments: Mapping[str, Any]
    user: str
    until_mono_us: int


class Orders:
    """Carries out what people ask for."""

    def __init__(self, *, scan: Scan, alarms: AlarmWatch, clock: Clock, stale: Stale) -> None:
        """Order ``scan``; ``stale`` says why a plan's state is not the present one."""
        self._scan = scan
        self._alarms = alarms
        self._clock = clock
        self._stale = stale
        self._loan: Loan | None = None
        self._proposals: dict[str, Proposal] = {}

    @property
    def _state(self) -> State:
        return self._scan.state

    def holder(self) -> dict[str, Any]:
        """Return who controls the converter, for the status."""
        now_ms = self._clock.utc_us() // 1000
        if self._loan is not None:
            left_us = self._loan.until_mono_us - self._clock.mono_us()
            return {
                "holder": self._loan.user,
                "what": self._loan.words,
                "until_ms": now_ms + max(0, left_us) // 1000,
            }
        by_hand = setpoints.manual(self._state, now_ms)
        if by_hand is not None:
            return {"holder": by_hand.user, "what": "setpoint", "until_ms": by_hand.until_ms}
        return {"holder": TRADES, "what": "", "until_ms": None}

    def lent(self) -> str:
        """Say to whom control is lent, and for what; empty where it is not."""
        return f"{self._loan.user}: {self._loan.words}" if self._loan is not None else ""

    def limits(self, _arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what each terminal may carry, and what waits for a second engineer."""
        sop, bounds = self._state.site.sop, self._state.bounds or self._state.site.sop
        rows = [
            {
                "terminal": t.id,
                "p_w_min": t.p_w_min,
                "p_w_max": t.p_w_max,
                "file_p_w_min": bounds.terminal(t.id).p_w_min,
                "file_p_w_max": bounds.terminal(t.id).p_w_max,
            }
            for t in sop.terminals
        ]
        waiting = [{"id": p.id, "by": p.user, **p.arguments} for p in self._waiting().values()]
        return {"limits": rows, "proposals": waiting}

    async def write_down(
        self, person: Person, verb: str, arguments: Mapping[str, Any], reason: str = ""
    ) -> None:
        """Make what a person did, or was refused, an entry."""
        await self._scan.note(user=person.user, verb=verb, arguments=arguments, reason=reason)

    async def carry_out(
        self, verb: str, person: Person, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Carry out one order; OrderRefused when it does not count."""
        match verb:
            case "stop":
                if self._loan is not None:
                    self._loan.ended.set()
                outcome = await self._scan.operator(verb="stop", user=person.user, arguments={})
                return {"outcome": outcome}
            case "arm":
                outcome = await self._scan.operator(verb="arm", user=person.user, arguments={})
                return {"outcome": outcome}
            case "mode":
                return await self._mode(person, arguments)
            case "ack" | "shelve" | "unshelve":
                return await self._alarm(verb, person, arguments)
            case "setpoint":
                return await self._setpoint(person, arguments)
            case "borrow":
                return await self._borrow(person, arguments)
            case "limits.propose":
                return await self._propose(person, arguments)
            case "limits.confirm":
                return await self._confirm(person, arguments)
            case _:
                raise OrderRefused("inconsistent-parameters", f"{verb} is not an order")

    async def _mode(self, person: Person, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        mode = arguments.get("mode")
        if mode not in MODES:
            raise OrderRefused("inconsistent-parameters", f"mode is one of {', '.join(MODES)}")
        self._refuse_while_lent()
        outcome = await self._scan.operator(verb="mode", user=person.user, arguments={"mode": mode})
        return {"outcome": outcome}

    async def _alarm(
        self, verb: str, person: Person, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        why = alarms.refusal(self._alarms.book, self._alarms.rules, verb, arguments)
        if why is not None:
            raise OrderRefused("inconsistent-parameters", why)
        fields = {k: arguments[k] for k in ("code", "for_s") if k in arguments}
        reason = str(arguments.get("reason", ""))[:TEXT_LENGTH_MAX]
        await self.write_down(person, verb, fields, reason)
        return {"alarms": self._alarms.rows()}

    async def _setpoint(self, person: Person, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Hold powers for a while by hand; refused where a trade will need the converter."""
        wanted, for_ms = _powers(arguments, self._state)
        self._refuse_while_lent()
        if self._state.mode not in ("on", "test"):
            raise OrderRefused("blocked-by-mode", f"mode is {self._state.mode}")
        now_ms = self._clock.utc_us() // 1000
        if self._state.mode == "on":
            due = self._due_before(now_ms + for_ms)
            if due is not None:
                raise OrderRefused("locked-by-other-client", f"a trade needs the converter {due}")
        self._refuse_when_stale(arguments)
        reasons = [r for r in self._scan.obstacles() if r.code is not ReasonCode.MODE_BLOCKED]
        if reasons:
            raise OrderRefused("blocked-by-interlocking", "; ".join(r.text() for r in reasons))
        await self._scan.operator(
            verb="setpoint", user=person.user, arguments={"setpoints": wanted, "for_ms": for_ms}
        )
        manual = self._state.manual
        return {"setpoints": wanted, "until_ms": manual.until_ms if manual else now_ms}

    def _due_before(self, until_ms: int) -> str | None:
        from_ms = self._clock.utc_us() // 1000
        intervals = [p.interval for p in self._state.plans.values()]
        intervals += list(self._state.schedule)
        if any(i.start_ms < until_ms and i.end_ms > from_ms for i in intervals):
            return "before this setpoint ends"
        return None

    def _refuse_while_lent(self) -> None:
        if self._loan is not None:
            what = f"{self._loan.user} holds control for `{self._loan.words}`"
            raise OrderRefused("locked-by-other-client", what)

    def _refuse_when_stale(self, arguments: Mapping[str, Any]) -> None:
        reasons = self._stale(arguments)
        if reasons:
            raise OrderRefused("inconsistent-parameters", f"plan is stale: {'; '.join(reasons)}")

    # Limits: one engineer proposes, another one confirms.

    def _waiting(self) -> dict[str, Proposal]:
        now_us = self._clock.mono_us()
        left = {k: p for k, p in self._proposals.items() if p.until_mono_us > now_us}
        self._proposals = left
        return left

    async def _propose(self, person: Person, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        terminal, low_w, high_w = _limits(arguments, self._state)
        fields = {"terminal": terminal, "p_w_min": low_w, "p_w_max": high_w}
        proposal = Proposal(
            id=f"l-{secrets.token_hex(2)}",
            arguments=fields,
            user=person.user,
            until_mono_us=self._clock.mono_us() + PROPOSAL_US,
        )
        reason = str(arguments.get("reason", ""))[:TEXT_LENGTH_MAX]
        await self.write_down(person, "limits.propose", {**fields, "id": proposal.id}, reason)
        self._proposals[proposal.id] = proposal
        return {"id": proposal.id, **fields, "minutes": PROPOSAL_US // 60_000_000}

    async def _confirm(self, person: Person, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        proposal = self._waiting().get(str(arguments.get("id")))
        if proposal is None:
            raise OrderRefused("time-limit-over", "there is no such proposal, or it is too old")
        if proposal.user == person.user:
            raise OrderRefused("no-access-authority", "a second engineer confirms, not the first")
        self._refuse_while_lent()
        fields = {**proposal.arguments, "proposed_by": proposal.user}
        del self._proposals[proposal.id]
        await self._scan.operator(verb="limits", user=person.user, arguments=fields)
        return fields

    # Lending control

    async def _borrow(self, person: Person, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        self._refuse_while_lent()
        if self._state.mode != "test":
            raise OrderRefused(
                "blocked-by-mode", f"mode is {self._state.mode}; control is lent in mode test"
            )
        now_ms = self._clock.utc_us() // 1000
        if setpoints.manual(self._state, now_ms) is not None or any(self._state.held.values()):
            raise OrderRefused("command-already-in-execution", "a setpoint is held")
        self._refuse_when_stale(arguments)
        for_s = arguments.get("for_s", LOAN_S_MAX)
        if not isinstance(for_s, int) or not 0 < for_s <= LOAN_S_MAX:
            raise OrderRefused("inconsistent-parameters", f"for_s is 1 to {LOAN_S_MAX}")
        words = str(arguments.get("words", ""))[:TEXT_LENGTH_MAX]
        loan = Loan(
            user=person.user,
            words=words,
            until_mono_us=self._clock.mono_us() + for_s * 1_000_000,
        )
        self._loan = loan  # before anything is awaited: nobody else may come in between
        self._scan.lend()
        await self.write_down(person, "borrow", {"words": words, "for_s": for_s})
        return {
            "loan": True,
            "owner_id": self._state.site.owner_id,
            "entries": self._state.size,
        }

    async def lend(self, person: Person, lines: Lines, say: Say) -> None:
        """Serve a borrower; whatever ends it, control comes back, and at zero if it was cut."""
        loan = self._loan
        assert loan is not None, "the answer to borrow said so"
        returned = False
        try:
            while line := await self._next(loan, lines):
                answer, returned = await self._borrowed(person, loan, line)
                if returned:
                    break
                await say(answer)
        finally:
            try:
                # Whoever is gone leaves the converter as it is: it is told to stop at once.
                outcome = "" if returned else await self._scan.stop_now()
                await self._scan.take_back()
            finally:
                self._loan = None  # last: nobody borrows what is still being taken back
            verb = "return" if returned else "control.lost"
            await self.write_down(person, verb, {"words": loan.words, "outcome": outcome})
        if returned:
            await say({"ok": True})  # not before control is back and that is durable

    async def _next(self, loan: Loan, lines: Lines) -> bytes:
        """Return the borrower's next line, empty when he is gone, stopped or too late."""
        waiting = [
            asyncio.ensure_future(lines()),
            asyncio.ensure_future(loan.ended.wait()),
            asyncio.ensure_future(self._clock.sleep_until(loan.until_mono_us)),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            line = waiting[0]
            over = loan.ended.is_set() or waiting[2].done()
            if over or not line.done() or line.exception() is not None:
                return b""
            found = line.result()
            return found if isinstance(found, bytes) else b""
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _borrowed(
        self, person: Person, loan: Loan, line: bytes
    ) -> tuple[Mapping[str, Any], bool]:
        try:
            request = json.loads(line)
            if request["verb"] == "return":
                return {"ok": True}, True
            now_ms = self._clock.utc_us() // 1000
            kind, fields = checked_record(
                request, self._state, loan.intents, user=person.user, utc_ms=now_ms
            )
        except (BadRecord, ValueError, KeyError, TypeError, RecursionError) as error:
            return {"ok": False, "cause": "inconsistent-parameters", "error": str(error)}, False
        index = await self._scan.record(kind, **fields)
        if kind == "intent":
            loan.intents.add(index)
        elif kind == "outcome":
            loan.intents.discard(fields["intent_index"])
        return {"ok": True, "index": index}, False


def _powers(arguments: Mapping[str, Any], state: State) -> tuple[dict[str, int], int]:
    """Read a setpoint order; OrderRefused when it is none or beyond the limits."""
    wanted, for_ms = arguments.get("setpoints"), arguments.get("for_ms")
    slaves = {t.id: t for t in state.site.sop.slaves}
    if not isinstance(wanted, dict) or not wanted or not wanted.keys() <= slaves.keys():
        raise OrderRefused("inconsistent-parameters", f"setpoints of {', '.join(slaves)}")
    if not isinstance(for_ms, int) or not 0 < for_ms <= MANUAL_MS_MAX:
        what = f"a setpoint by hand lives 1 ms to {MANUAL_MS_MAX // 60_000} min"
        raise OrderRefused("time-limit-over", what)
    for name, p_w in wanted.items():
        terminal = slaves[name]
        if not isinstance(p_w, int) or not terminal.p_w_min <= p_w <= terminal.p_w_max:
            raise OrderRefused(
                "step-limit",
                f"{name} is limited to {terminal.p_w_min} … {terminal.p_w_max} W",
            )
    return {str(k): int(v) for k, v in wanted.items()}, for_ms


def _limits(arguments: Mapping[str, Any], state: State) -> tuple[str, int, int]:
    bounds = {t.id: t for t in (state.bounds or state.site.sop).terminals}
    name = arguments.get("terminal")
    low_w, high_w = arguments.get("p_w_min"), arguments.get("p_w_max")
    if name not in bounds or not isinstance(low_w, int) or not isinstance(high_w, int):
        raise OrderRefused("inconsistent-parameters", f"limits of one of {', '.join(bounds)}")
    file = bounds[str(name)]
    if not file.p_w_min <= low_w <= 0 <= high_w <= file.p_w_max:
        raise OrderRefused(
            "step-limit",
            f"{name}: within {file.p_w_min} … 0 … {file.p_w_max} W, as the site file says",
        )
    return str(name), low_w, high_w
