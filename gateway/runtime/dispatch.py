"""The only path to a device: intent, SELECT, read back, commit, OPERATE, outcome.

No byte leaves before its intent is durable; a write is never repeated; what timed out is *unknown*
until the device was read (architecture.md, laws 1 and 3).
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from gateway.core import readback, stepped
from gateway.core.decide import Dispatch, Settle
from gateway.core.dispatch import Phase
from gateway.core.state import Site
from gateway.model.errors import (
    BadAnswer,
    DeviceError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.reason import Reason, ReasonCode
from gateway.model.setpoint import Ack, Command, ControlMode, Instruction, Setpoint
from gateway.ports import Clock, Station
from gateway.runtime.recorder import Recorder

EXPIRES_US = 2_000_000  # from decision to wire (reliability.md §1.2) …
STALL_REAL_US = 500_000  # … and what a host may stall, in real time
HALT_US = 5_000_000  # nothing follows a stop before its entry can be durable
STOP_TRIES = 3  # a stop may be sent again: it sets a state and moves nothing
STOP_PAUSE_REAL_US = 300_000  # before the second, twice that before the third: a driver waits too
TIMES_KEPT = 8  # dispatches remembered: the slowest of them says how early to begin
LEAD_US_MAX = 5_000_000  # half of what a SELECT lives


def instruction_id(fields: Mapping[str, Any]) -> int:
    """First four bytes of the SHA-256 over the intent's own fields; never zero."""
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    return int.from_bytes(hashlib.sha256(canonical).digest()[:4], "big") or 1


async def tell_to_stop(
    station: Station, clock: Clock, *, separate: bool, trying: Callable[[], None] = lambda: None
) -> str:
    """Tell a station to go to zero; its word, or why nobody knows. ``trying`` is called each time.

    One that twice does not take the way to standby (a foreign lease, its state, no answer) is told
    to stop: last, for from there a person starts it. Converters of their own are told the same
    again: a master that opens while a slave still feeds loses its voltage.
    """
    word = ""
    for number in range(STOP_TRIES):
        trying()
        if number:
            pause_us = clock.at_least(number * STOP_PAUSE_REAL_US)
            await clock.sleep_until(clock.mono_us() + pause_us)
        last = number == STOP_TRIES - 1
        try:
            ack = await station.command(
                Command.STOP if last and not separate else Command.ENTER_STANDBY
            )
        except DeviceError as error:
            word = str(error)
        else:
            word = ack.name.lower()
            if ack in (Ack.EXECUTED, Ack.ACCEPTED):
                break
    return word


class Dispatcher:
    """Carries decisions to one station, one at a time."""

    def __init__(self, *, station: Station, recorder: Recorder, site: Site, clock: Clock) -> None:
        self.permitted: Callable[[], bool] = lambda: True
        self._prepare_us: deque[int] = deque(maxlen=TIMES_KEPT)
        self._operate_us: deque[int] = deque(maxlen=TIMES_KEPT)
        self._halted_until_us = clock.mono_us()
        self._station = station
        self._recorder = recorder
        self._site = site
        self._clock = clock

    async def dispatch(self, decision: Dispatch, image: Mapping[str, Any]) -> None:
        """Carry one set of setpoints out, to an outcome that is written down."""
        began_us = self._clock.mono_us()
        expires_us = self._expires_us(decision, began_us)
        instruction, intent_index, refused = await self._intend(decision, image, expires_us)
        try:
            if refused:
                raise refused
            if refusal := self._refusal(decision, expires_us):  # the disk took its time
                await self._record("abort", intent_index, instruction, reasons=[refusal.fields()])
                return
            if not await self._prepare(instruction, intent_index):
                return
            self._prepare_us.append(self._clock.mono_us() - began_us)
            await self._until(decision.act_ms)
            if refusal := self._refusal(decision, expires_us):
                await self._record("abort", intent_index, instruction, reasons=[refusal.fields()])
                return
            operating_us = self._clock.mono_us()
            await self._record("commit", intent_index, instruction, reasons=[])
            committed_us = self._clock.mono_us()
            if refusal := self._refusal(decision, expires_us):  # the disk or a stall took its time
                await self._record(
                    "outcome",
                    intent_index,
                    instruction,
                    outcome="expired",
                    active={},
                    reasons=[refusal.fields()],
                )
                return
            ack = await self._station.operate(instruction)
            # The station acts somewhere between the write and its answer: take the middle.
            acted_us = (committed_us + self._clock.mono_us()) // 2
            self._operate_us.append(acted_us - operating_us)
            await self._conclude(instruction, intent_index, ack)
        except DeviceNotSent as error:
            await self._outcome(
                intent_index, instruction, "failed", {}, ReasonCode.LINK_LOST, str(error)
            )
        except DeviceRefused as error:
            await self._outcome(
                intent_index, instruction, "rejected", {}, ReasonCode.DEVICE_REJECTED, str(error)
            )
        except (OutcomeUnknown, BadAnswer) as error:
            await self._outcome(
                intent_index, instruction, "unknown", {}, ReasonCode.DEVICE_UNKNOWN, str(error)
            )

    async def command(self, command: Command, authority: str) -> None:
        """Send a command that carries no setpoints; nothing but a stop follows a stop at once."""
        if self._halted and command is not Command.ENTER_STANDBY:
            return
        index, instr_id, expires_us = await self._intend_command(command.name, authority)
        if refusal := self._expired(expires_us):
            await self._end_command(index, instr_id, "expired", refusal)
            return
        await self._attempt(index, instr_id, command)

    async def configure(self, *, watchdog_ds: int, failsafe: int) -> bool:
        """Arm the station's watchdog and fail-safe; return whether both read back as written."""
        if self._halted:
            return False
        index, instr_id, expires_us = await self._intend_command("CONFIGURE", "configure")
        if refusal := self._expired(expires_us):
            await self._end_command(index, instr_id, "expired", refusal)
            return False
        try:
            await self._station.configure(
                watchdog_ds=watchdog_ds,
                failsafe=failsafe,
                failsafe_ramp_permille_per_s=self._site.ramp_permille_per_s,
                lease_owner=self._site.owner_id,
            )
        except DeviceError as error:
            unknown = isinstance(error, OutcomeUnknown | BadAnswer)
            word = "unknown" if unknown else "failed"
            await self._end_command(index, instr_id, word, _why(word, error))
            return False
        await self._end_command(index, instr_id, "executed", None)
        return True

    async def stop_now(self) -> str:
        """Take the station to zero at once; recorded afterwards, never waiting for the ledger."""
        try:
            return await tell_to_stop(
                self._station, self._clock, separate=self._site.separate, trying=self._halt
            )
        finally:
            self._halt()

    def _halt(self) -> None:
        self._halted_until_us = self._clock.mono_us() + HALT_US

    @property
    def _halted(self) -> bool:
        """Whether a stop is under way or just was: its entry may not be durable yet."""
        return self._clock.mono_us() < self._halted_until_us

    async def settle(self, settle: Settle, instr_id: int, station_state: str) -> None:
        """Write down how an instruction that was left open ended."""
        reasons = [r.fields() for r in settle.reasons]
        common = {"intent_index": settle.intent.index, "instr_id": settle.intent.instr_id}
        if settle.outcome == "abort":
            await self._recorder.record("abort", **common, reasons=reasons)
            return
        if settle.outcome == "unknown":
            await self._recorder.record(
                "outcome", **common, outcome="unknown", active={}, reasons=reasons
            )
            return
        was_unknown = settle.intent.phase is Phase.UNKNOWN  # the read-back's fold changes it
        await self._recorder.record(
            "readback",
            sop=self._site.sop.id,
            instr_id=instr_id,
            active=dict(settle.active),
            state=station_state,
            cause="reconcile",
            intent_index=settle.intent.index,
            outcome=settle.outcome,
        )
        if was_unknown:
            return  # its one outcome stands; the read-back says how it turned out
        await self._recorder.record(
            "outcome", **common, outcome=settle.outcome, active=dict(settle.active), reasons=reasons
        )

    @property
    def lead_us(self) -> int:
        """How early a timed dispatch begins: the slowest of the last ones, within limits."""
        if not self._prepare_us or not self._operate_us:
            return 0
        return min(max(self._prepare_us) + self._operating_us(), LEAD_US_MAX)

    def _operating_us(self) -> int:
        """What OPERATE takes: the middle of the last ones, for it decides when power moves."""
        ordered = sorted(self._operate_us)
        return ordered[len(ordered) // 2] if ordered else 0

    async def _until(self, act_ms: int) -> None:
        """Wait, selected, until OPERATE is due."""
        ahead_us = act_ms * 1000 - self._clock.utc_us() - self._operating_us()
        if act_ms and 0 < ahead_us <= LEAD_US_MAX:
            await self._clock.sleep_until(self._clock.mono_us() + ahead_us)

    def _expires_us(self, decision: Dispatch, began_us: int) -> int:
        """From when on no byte of an instruction may leave; a timed one may wait selected."""
        waits_us = LEAD_US_MAX if decision.act_ms else 0
        return began_us + EXPIRES_US + self._clock.at_least(STALL_REAL_US) + waits_us

    def _refusal(self, decision: Dispatch, expires_us: int) -> Reason | None:
        """The last look before the wire: still fresh, still permitted."""
        if refusal := self._expired(expires_us):
            return refusal
        if self._halted:
            return Reason(code=ReasonCode.OPERATOR, detail="a stop was ordered")
        if decision.authority != "failsafe" and not self.permitted():
            return Reason(code=ReasonCode.STATE, detail="no longer permitted")
        return None

    def _expired(self, expires_us: int) -> Reason | None:
        late_us = self._clock.mono_us() - expires_us
        if late_us <= 0:
            return None
        return Reason(code=ReasonCode.EXPIRED, detail=f"{late_us // 1000} ms too late")

    async def _intend(
        self, decision: Dispatch, image: Mapping[str, Any], expires_us: int
    ) -> tuple[Instruction, int, DeviceNotSent | None]:
        master = self._site.sop.master
        setpoints = tuple(
            Setpoint(
                terminal=t.id,
                mode=ControlMode.VDC_Q if t.id == master else ControlMode.P_Q,
                p_w=decision.setpoints[t.id],
                q_var=decision.q_var.get(t.id, 0),
                ramp_permille_per_s=decision.ramps.get(t.id, self._site.ramp_permille_per_s),
            )
            for t in map(self._site.sop.terminal, self._order(decision.setpoints))
        )
        fields: dict[str, Any] = {
            "sop": self._site.sop.id,
            "authority": decision.authority,
            "plan_index": decision.plan_index,
            "setpoints": [
                {
                    "terminal": s.terminal,
                    "mode": s.mode.name,
                    "p_w": s.p_w,
                    "q_var": s.q_var,
                    "ramp_permille_per_s": s.ramp_permille_per_s,
                }
                for s in setpoints
            ],
            "ramp_permille_per_s": self._site.ramp_permille_per_s,
            "ttl_s": decision.ttl_s,
            "act_ms": decision.act_ms,
            "expires_mono_us": expires_us,
            "image": dict(image),
        }
        if decision.toward:
            fields["toward"] = dict(decision.toward)
        instruction = Instruction(
            id=instruction_id(fields),
            sop=self._site.sop.id,
            setpoints=setpoints,
            ramp_permille_per_s=self._site.ramp_permille_per_s,
            ttl_s=decision.ttl_s,
        )
        staged, refused = "", None
        try:
            staged = self._station.staged_block(instruction).hex()
        except DeviceNotSent as error:  # no such power can be told; tried it was
            refused = error
        index = await self._recorder.record(
            "intent", **fields, instr_id=instruction.id, staged=staged
        )
        return instruction, index, refused

    def _order(self, setpoints: Mapping[str, int]) -> list[str]:
        """Terminals as they are written: separate controllers one after the other."""
        sop = self._site.sop
        if not self._site.separate:
            return [t.id for t in sop.terminals]
        return stepped.writing_order(sop, self._recorder.state.held, setpoints)

    async def _intend_command(self, command: str, authority: str) -> tuple[int, int, int]:
        expires_us = self._clock.mono_us() + EXPIRES_US + self._clock.at_least(STALL_REAL_US)
        fields: dict[str, Any] = {
            "sop": self._site.sop.id,
            "authority": authority,
            "plan_index": -1,
            "setpoints": [],
            "command": command,
            "ramp_permille_per_s": self._site.ramp_permille_per_s,
            "ttl_s": 0,
            "expires_mono_us": expires_us,
        }
        instr_id = instruction_id(fields)
        index = await self._recorder.record("intent", **fields, instr_id=instr_id, staged="")
        return index, instr_id, expires_us

    async def _attempt(self, index: int, instr_id: int, command: Command) -> None:
        try:
            ack = await self._station.command(command)
        except (OutcomeUnknown, BadAnswer) as error:
            await self._end_command(index, instr_id, "unknown", _why("unknown", error))
        except DeviceError as error:
            await self._end_command(index, instr_id, "failed", _why("failed", error))
        else:
            accepted = ack in (Ack.ACCEPTED, Ack.EXECUTED)
            outcome = "executed" if accepted else "rejected"
            refused = DeviceError(self._station.name, ack.name.lower())
            why = None if accepted else _why(outcome, refused)
            await self._end_command(index, instr_id, outcome, why)

    async def _end_command(
        self, index: int, instr_id: int, outcome: str, why: Reason | None
    ) -> None:
        await self._recorder.record(
            "outcome",
            intent_index=index,
            instr_id=instr_id,
            outcome=outcome,
            active={},
            reasons=[why.fields()] if why else [],
        )

    async def _prepare(self, instruction: Instruction, intent_index: int) -> bool:
        ack = await self._station.select(instruction)
        if ack is not Ack.ACCEPTED:
            reason = Reason(code=ReasonCode.SELECT_FAILED, detail=ack.name.lower())
            await self._record("abort", intent_index, instruction, reasons=[reason.fields()])
            return False
        if not await self._station.staged_equals(instruction):
            reason = Reason(code=ReasonCode.READBACK_DIFFERS, detail="staged block")
            await self._record("abort", intent_index, instruction, reasons=[reason.fields()])
            return False
        await self._record("prepared", intent_index, instruction)
        return True

    async def _conclude(self, instruction: Instruction, intent_index: int, ack: Ack) -> None:
        if ack is not Ack.EXECUTED:
            await self._outcome(
                intent_index,
                instruction,
                "rejected",
                {},
                ReasonCode.DEVICE_REJECTED,
                ack.name.lower(),
            )
            return
        try:
            station = await self._station.read()
        except DeviceError as error:
            await self._outcome(
                intent_index, instruction, "unknown", {}, ReasonCode.DEVICE_UNKNOWN, str(error)
            )
            return
        verdict = readback.judge(
            setpoints={s.terminal: s.p_w for s in instruction.setpoints},
            instr_id=instruction.id,
            master=self._site.sop.master,
            station=station,
            q_var={s.terminal: s.q_var for s in instruction.setpoints},
            separate=self._site.separate,
        )
        confirmed = isinstance(verdict, readback.Confirmed)
        await self._record(
            "outcome",
            intent_index,
            instruction,
            outcome="executed" if confirmed else "failed",
            active=dict(verdict.active),
            reasons=[r.fields() for r in verdict.reasons],
        )

    async def _outcome(
        self,
        intent_index: int,
        instruction: Instruction,
        outcome: str,
        active: Mapping[str, int],
        code: ReasonCode,
        detail: str = "",
    ) -> None:
        await self._record(
            "outcome",
            intent_index,
            instruction,
            outcome=outcome,
            active=dict(active),
            reasons=[Reason(code=code, detail=detail).fields()],
        )

    async def _record(
        self,
        kind: str,
        intent_index: int,
        instruction: Instruction,
        **fields: Any,
    ) -> None:
        await self._recorder.record(
            kind, intent_index=intent_index, instr_id=instruction.id, **fields
        )


def _why(outcome: str, error: DeviceError) -> Reason:
    """Say in the ledger's words what became of a command."""
    code = ReasonCode.DEVICE_REJECTED
    if outcome == "unknown":
        code = ReasonCode.DEVICE_UNKNOWN
    elif isinstance(error, DeviceNotSent):
        code = ReasonCode.LINK_LOST
    return Reason(code=code, detail=str(error))
