"""Converters with a controller each, driven as one station (``gateway.ports.Station``).

There is no SELECT on the wire: what a station would stage is looked at before and after, and what
it would do at once is done one terminal after the other, in the caller's order, to the first
failure. Each terminal alone keeps its dead-man: the reversion timer of its set values.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.core.interlock import READY_STATES, STATUS_FAILSAFE
from gateway.devices.converter_reading import (
    NOTHING,
    Converter,
    ConverterReading,
    Held,
    Known,
    Pulse,
    held,
    station_of,
)
from gateway.devices.guard import GuardReason, GuardRefused, StationGuard
from gateway.devices.profile import Point, Words
from gateway.model.errors import (
    BadAnswer,
    DeviceError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.setpoint import Ack, Command, ControlMode, Instruction, Setpoint
from gateway.model.telemetry import State, StationTelemetry
from gateway.model.terminal import Terminal
from gateway.ports import Clock

SELECT_US = 10_000_000
STALL_REAL_US = 500_000
SURE = (DeviceNotSent, DeviceRefused)  # nothing happened
GUARDED = ("p_set", "q_set", "ramp_set")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selected:
    instruction: Instruction
    before: Mapping[str, Held]
    states: Mapping[str, State]
    mono_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    """The last instruction of which something was written, and what each slave may hold of it."""

    id: int
    allowed: Mapping[str, frozenset[Held]]


class Converters:
    """Implements ``gateway.ports.Station`` over the converters of all terminals."""

    def __init__(
        self,
        *,
        name: str,
        converters: Mapping[str, Converter],
        terminals: Sequence[Terminal],
        master: str,
        clock: Clock,
        owner: int,
        guard: StationGuard | None = None,
    ) -> None:
        self._terminals = tuple(sorted(terminals, key=lambda t: t.index))
        assert converters.keys() == {t.id for t in self._terminals}
        assert master in converters
        self.name = name
        self._converters = {t.id: converters[t.id] for t in self._terminals}
        self._slaves = tuple(t.id for t in self._terminals if t.id != master)
        self._master = master
        self._clock = clock
        self._guard = guard or StationGuard(
            name=name,
            terminals=self._terminals,
            staged={point: Point(name=point) for point in GUARDED},
            owner=owner,
        )
        self._owned = False  # armed by us, and no reading has failed since
        self._life_s = 0
        self._life_end_us: int | None = None  # end of the last instruction's time to live
        self._wrote: dict[str, Held] = {}  # as far as known; where not, the next reading says
        self._fallen: set[str] = set()
        self._turns: Counter[str] = Counter()  # begun and ended writes of set values
        self._master_turns = 0  # of them, those that the last reading saw
        self._one_by_one = {t: asyncio.Lock() for t in converters}
        self._stop_count = 0
        self._pulse = Pulse()
        self._applied: _Applied | None = None
        self._selected: _Selected | None = None
        self._readings: dict[str, ConverterReading] = {}
        # For people who look on: what each said last, who is silent, who failed how often and why.
        self.last: dict[str, ConverterReading] = {}
        self.silent: frozenset[str] = frozenset()
        self.failures: Counter[str] = Counter()
        self.last_errors: dict[str, str] = {}
        self._seen: StationTelemetry | None = None
        self._operation_count = 0
        self._ack = Ack.NONE

    # Reading

    async def read(self) -> StationTelemetry:
        """Read all converters at once; all of them or nothing."""
        utc_us, mono_us = self._clock.utc_us(), self._clock.mono_us()
        readings: dict[str, ConverterReading] = {}
        turns = self._turns.copy()

        async def read_one(terminal: str) -> None:
            readings[terminal] = await self._converters[terminal].read()

        failed = await self._each(self._converters, read_one)
        self.last |= readings
        self.silent = frozenset(failed)
        self.failures.update(failed.keys())
        self.last_errors |= {t: str(error) for t, error in failed.items()}
        if failed:
            self._forget()
            raise next(iter(failed.values()))
        self._readings = {t: readings[t] for t in self._converters}
        self._master_turns = turns[self._master]
        # What was written meanwhile, this reading may not have seen.
        settled = [t for t in self._slaves if self._turns[t] == turns[t]]
        for t in settled:
            self._wrote.setdefault(t, held(readings[t]))
            self._watch(t, readings[t])
        if self._pulse.feel(readings):
            self._owned = False  # what it was armed with is gone
        known = Known(
            ack_seq=self._operation_count & 0xFFFF,
            ack_code=int(self._ack),
            instruction_id=self._instruction_id(),
            lease_owner=self._guard.owner if self._owned else 0,
            heartbeat_count=self._pulse.count,
            uptime_s=self._pulse.uptime_s,
            failsafe=bool(self._fallen),
        )
        self._seen = station_of(
            self._terminals,
            self._readings,
            known,
            master=self._master,
            utc_us=(utc_us + self._clock.utc_us()) // 2,
            mono_us=(mono_us + self._clock.mono_us()) // 2,
        )
        return self._seen

    def words(self, terminal: str) -> Mapping[str, Words]:
        """Return the registers of each point in what a converter said last."""
        reading = self.last.get(terminal)
        return self._converters[terminal].words(reading) if reading is not None else {}

    def _forget(self) -> None:
        self._seen, self._readings, self._owned = None, {}, False

    def _watch(self, terminal: str, reading: ConverterReading) -> None:
        """Notice power of ours that is gone, until it is set anew.

        By its reversion timer, a restart or a stranger: a timer that runs again does not say.
        """
        if reading.p_w_set:
            self._fallen.discard(terminal)
        elif self._wrote[terminal][0]:
            self._fallen.add(terminal)

    def _instruction_id(self) -> int:
        """The last instruction while each slave holds a value of it: these keep no id."""
        applied = self._applied
        if applied is None:
            return 0
        for terminal in self._slaves:
            p_w, q_var = held(self._readings[terminal])
            allowed = applied.allowed[terminal] | {NOTHING}
            if p_w not in {p for p, _ in allowed} or q_var not in {q for _, q in allowed}:
                return 0
        return applied.id

    # Set values

    def staged_block(self, instruction: Instruction) -> bytes:
        """The registers of all set values in the instruction's order; raises GuardRefused."""
        given = [s.terminal for s in instruction.setpoints]
        if len(given) != len(set(given)) or set(given) != self._converters.keys():
            raise GuardRefused(self.name, GuardReason.TERMINALS, ", ".join(given) or "none given")
        for setpoint in instruction.setpoints:
            master = setpoint.terminal == self._master
            if setpoint.mode is not (ControlMode.VDC_Q if master else ControlMode.P_Q):
                detail = f"{setpoint.terminal} cannot be told {setpoint.mode.name}"
                raise GuardRefused(self.name, GuardReason.MASTER, detail)
        return b"".join(
            self._converters[s.terminal].block(p_w=self._p_w(s), q_var=s.q_var)
            for s in instruction.setpoints
        )

    def _p_w(self, setpoint: Setpoint) -> int | None:
        return None if setpoint.terminal == self._master else setpoint.p_w

    async def select(self, instruction: Instruction) -> Ack:
        """Look whether all converters can follow, and remember what they hold; nothing is sent.

        What holds something else than when it was last read is refused: the step was made for that.
        """
        self._guard.check(instruction, seen=self._seen, now_us=self._clock.mono_us())
        self.staged_block(instruction)
        self._selected = None
        was = {t: {held(r), self._wrote.get(t, held(r))} for t, r in self._readings.items()}
        await self._look()
        rows = self._readings.values()
        if any(r.local for r in rows):
            return self._answered(Ack.REJECTED_LOCAL)
        changed = any(held(r) not in was[t] for t, r in self._readings.items() if t in was)
        if changed or not all(_able(r) for r in rows):
            return self._answered(Ack.REJECTED_STATE)
        self._selected = _Selected(
            instruction=instruction,
            before={t: held(r) for t, r in self._readings.items()},
            states={t: r.state for t, r in self._readings.items()},
            mono_us=self._clock.mono_us(),
        )
        return self._answered(Ack.ACCEPTED)

    async def staged_equals(self, instruction: Instruction) -> bool:
        """Read again whether each converter still holds what it held when it was selected."""
        selected = self._selected
        if selected is None or selected.instruction != instruction:
            return False
        await self._look()
        return all(held(r) == selected.before[t] for t, r in self._readings.items())

    async def _look(self) -> None:
        """Read; what fails then has sent nothing."""
        try:
            await self.read()
        except (OutcomeUnknown, BadAnswer) as error:
            raise DeviceNotSent(self.name, str(error)) from None

    async def operate(self, instruction: Instruction) -> Ack:
        """Write the set values that change, one terminal after the other, to the first failure.

        What fails first is raised as it is while nothing was applied; after that OutcomeUnknown
        names who has its new set value and who has not.
        """
        selected, now_us = self._selected, self._clock.mono_us()
        # On a bench that runs fast a stall of the host must not look like a selection grown old.
        limit_us = max(SELECT_US, self._clock.at_least(STALL_REAL_US))
        if (
            selected is None
            or selected.instruction != instruction
            or now_us - selected.mono_us > limit_us
        ):
            raise GuardRefused(self.name, GuardReason.NOT_SELECTED, f"{instruction.id:#010x}")
        self._selected = None
        self._guard.sent(instruction, now_us=now_us)
        stop_count, applied = self._stop_count, self._applied
        await self._wake(selected)
        self._begin(selected)
        changing = [s for s in instruction.setpoints if self._changes(s, selected)]
        done: list[str] = []
        end_us = now_us + instruction.ttl_s * 1_000_000
        # In part it lives no longer than either.
        self._life_end_us = min(end_us, self._life_end_us or end_us)
        for setpoint in changing:
            try:
                await self._hold(
                    setpoint.terminal,
                    p_w=self._p_w(setpoint),
                    q_var=setpoint.q_var,
                    stop_count=stop_count,
                )
            except DeviceError as error:
                if not done:
                    if isinstance(error, SURE):
                        self._applied = applied
                    raise
                left = [s.terminal for s in changing[len(done) + 1 :]]
                raise self._in_part(error, done=done, failed=setpoint.terminal, left=left) from None
            done.append(setpoint.terminal)
        if self._stop_count == stop_count:
            self._life_end_us = end_us
        return self._answered(Ack.EXECUTED)

    async def _wake(self, selected: _Selected) -> None:
        """Bring those out of standby that are to carry power: at zero still, the master first."""
        if not any(s.p_w or s.q_var for s in selected.instruction.setpoints):
            return
        for terminal in (self._master, *self._slaves):
            if selected.states[terminal] is State.STANDBY:
                await self._converters[terminal].operate(Command.EXIT_STANDBY)

    def _begin(self, selected: _Selected) -> None:
        """From here on what a slave holds is the value before, the value after, or zero."""
        after = {s.terminal: (s.p_w, s.q_var) for s in selected.instruction.setpoints}
        self._applied = _Applied(
            id=selected.instruction.id,
            allowed={t: frozenset({selected.before[t], after[t]}) for t in self._slaves},
        )
        self._wrote = {t: selected.before[t] for t in self._slaves}
        self._fallen.clear()

    def _changes(self, setpoint: Setpoint, selected: _Selected) -> bool:
        before_w, before_var = selected.before[setpoint.terminal]
        p_w = self._p_w(setpoint)
        return setpoint.q_var != before_var or (p_w is not None and p_w != before_w)

    async def _hold(
        self, terminal: str, *, p_w: int | None, q_var: int, stop_count: int | None = None
    ) -> None:
        """Write once; what became of a write without an answer is for the next reading to say.

        Nothing is written after a stop that came after ``stop_count`` of them.
        """
        async with self._one_by_one[terminal]:
            if stop_count is not None and stop_count != self._stop_count:
                raise DeviceNotSent(self.name, "a stop was ordered")
            self._turns[terminal] += 1
            before = self._wrote.pop(terminal, None)
            try:
                await self._converters[terminal].hold(p_w=p_w, q_var=q_var)
            except DeviceError as error:
                self._wrote.pop(terminal, None)
                if before is not None and isinstance(error, SURE):
                    self._wrote[terminal] = before
                raise
            finally:
                self._turns[terminal] += 1
            self._fallen.discard(terminal)
            if terminal != self._master:
                self._wrote[terminal] = (p_w or 0, q_var)

    def _in_part(
        self, error: DeviceError, *, done: Sequence[str], failed: str, left: Sequence[str]
    ) -> OutcomeUnknown:
        word = "may be" if isinstance(error, OutcomeUnknown | BadAnswer) else "is not"
        rest = f", {_list(left)} not written" if left else ""
        return OutcomeUnknown(self.name, f"{_list(done)} set, {failed} {word} ({error}){rest}")

    # Signs of life

    async def heartbeat(self, count: int) -> None:
        """Restart the timers of all, unless one has fallen or the instruction's life is over."""
        del count  # each converter counts for itself
        life_s = self._kept_life_s()
        if life_s:
            failed = await self._each(self._converters, lambda t: self._converters[t].keep(life_s))
            if failed:
                raise next(iter(failed.values()))

    def _kept_life_s(self) -> int:
        """How long a set value may live without the next sign of life; 0: it is to fall."""
        if self._seen is not None and self._seen.status_bits & STATUS_FAILSAFE:
            return 0
        if self._life_end_us is None or not self._powered():
            return self._life_s
        left_us = self._life_end_us - self._clock.mono_us()
        return min(self._life_s, max(1, left_us // 1_000_000)) if left_us > 0 else 0

    def _powered(self) -> bool:
        pairs = [held(r) for r in self._readings.values()] + list(self._wrote.values())
        unknown = not self._readings or len(self._wrote) < len(self._slaves)
        return unknown or any(pair != NOTHING for pair in pairs)

    async def configure(
        self,
        *,
        watchdog_ds: int,
        failsafe: int,
        failsafe_ramp_permille_per_s: int,
        lease_owner: int,
    ) -> None:
        """Arm every converter: set values revert to zero by its ramp, whatever ``failsafe`` asks.

        Its ramp is the one its driver was made with.
        """
        del failsafe, failsafe_ramp_permille_per_s
        if not watchdog_ds:
            raise GuardRefused(self.name, GuardReason.WATCHDOG, "it must not be switched off")
        self._owned = False
        life_s = -(-watchdog_ds // 10)
        failed = await self._each(self._converters, lambda t: self._converters[t].arm(life_s))
        if failed:
            raise next(iter(failed.values()))
        self._life_s, self._owned, self._guard.owner = life_s, True, lease_owner

    # Commands

    async def command(self, command: Command, argument: int = 0) -> Ack:
        """Carry out a command; ENTER_STANDBY and STOP reach whoever can be reached."""
        del argument
        if command in (Command.SELECT, Command.OPERATE):
            raise GuardRefused(self.name, GuardReason.NOT_SELECTED, "use select and operate")
        if command is Command.SET_MASTER:
            raise GuardRefused(self.name, GuardReason.MASTER, f"{self._master} holds Vdc for good")
        self._selected = None
        match command:
            case Command.CANCEL:
                pass
            case Command.ENTER_STANDBY:
                failed = await self._zero()
                self._demand(failed, "not known to be at zero", whole=len(self._slaves))
            case Command.STOP | Command.SOFT_ESTOP:
                failed = await self._zero()
                for group in (self._slaves, (self._master,)):
                    failed |= await self._tell(group, Command.STOP)
                self._demand(failed, "not known to stop")
            case Command.EXIT_STANDBY:
                await self._exit_standby()
            case _:
                failed = await self._tell(self._converters, command)
                self._demand(failed, "did not take it", whole=len(self._converters))
        return self._answered(Ack.EXECUTED)

    async def _zero(self) -> dict[str, DeviceError]:
        """Zero on all at once: no contactor opens, power ramps down, nobody waits for another."""
        self._stop_count += 1
        self._life_end_us = self._clock.mono_us()  # who keeps power shall not keep it long
        reading = self._readings.get(self._master)
        unmoved = self._turns[self._master] == self._master_turns
        at_rest = reading is not None and not reading.q_var_set and unmoved
        return await self._each(
            self._slaves if at_rest else self._converters,
            lambda t: self._hold(t, p_w=None if t == self._master else 0, q_var=0),
        )

    async def _tell(self, group: Iterable[str], command: Command) -> dict[str, DeviceError]:
        return await self._each(group, lambda t: self._converters[t].operate(command))

    async def _exit_standby(self) -> None:
        """The master first; then the slaves that stand by."""
        await self._look()
        resting = [t for t, r in self._readings.items() if r.state is State.STANDBY]
        if self._master in resting:
            await self._converters[self._master].operate(Command.EXIT_STANDBY)
        slaves = [t for t in self._slaves if t in resting]
        self._demand(await self._tell(slaves, Command.EXIT_STANDBY), "not known to run")

    def _demand(self, failed: Mapping[str, DeviceError], what: str, *, whole: int = 0) -> None:
        """Raise what came of those who failed; as it is where all of them surely did nothing."""
        if not failed:
            return
        errors = list(failed.values())
        if len(errors) >= whole > 0 and all(isinstance(e, SURE) for e in errors):
            raise errors[0]
        why = "; ".join(map(str, errors))
        raise OutcomeUnknown(self.name, f"{_list(list(failed))} {what} ({why})")

    async def close(self) -> None:
        """Close all connections."""
        for converter in self._converters.values():
            await converter.close()

    # All at once

    async def _each(
        self, terminals: Iterable[str], act: Callable[[str], Awaitable[None]]
    ) -> dict[str, DeviceError]:
        """Do it at all of them at once, to the end of all; return who failed and how."""
        failed: dict[str, DeviceError] = {}
        chosen = list(terminals)

        async def attempt(terminal: str) -> None:
            try:
                await act(terminal)
            except DeviceError as error:
                failed[terminal] = error

        async with asyncio.TaskGroup() as group:
            for terminal in chosen:
                group.create_task(attempt(terminal))
        return {t: failed[t] for t in chosen if t in failed}

    def _answered(self, ack: Ack) -> Ack:
        self._operation_count += 1
        self._ack = ack
        return ack


def _able(reading: ConverterReading) -> bool:
    """Whether it can follow: well, ready, and what it holds ends by itself."""
    if reading.fault_bits or reading.estop or reading.state not in READY_STATES:
        return False
    if held(reading) == NOTHING:
        return True
    return reading.left_ds > 0 and reading.state is not State.STANDBY


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
