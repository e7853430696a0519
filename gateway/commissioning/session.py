"""Holds the station while a test moves power: lease, armed watchdog, sign of life, back to zero.

Whatever happens to this program, the station goes to zero by its own timer: nothing is moved
before the watchdog is armed and read back. Every change is selected, read back, operated, and
written to the ledger before and after where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from gateway.commissioning.equipment import Rack, Say, silent
from gateway.model.errors import BadAnswer, DeviceError, DeviceRefused, OutcomeUnknown
from gateway.model.setpoint import Ack, Command, ControlMode, Instruction, Setpoint
from gateway.model.telemetry import State, StationTelemetry
from gateway.model.terminal import Sop, Terminal
from gateway.ports import Journal
from gateway.runtime.loop import FAILSAFE_BY_WORD

ENERGISED = frozenset({State.STANDBY, State.RUN, State.DERATED})
ENERGISING = frozenset({State.INIT, State.PRECHARGE, State.SYNC})
ENERGISING_S = 30.0  # precharge and synchronisation after a release or a start
LOCAL_BIT = 1 << 12
ZERO_RATIO = 0.01  # of the rating: at zero, noise and losses included
REST_RATIO = 0.05  # of reactive power: so much a filter may draw once a converter runs
SETTLE_S = 2.0  # what a station may take after its ramp
LIFE_S = 10  # shortest life of a test setpoint; it is renewed, never endless
STOP_TRY_US, STOP_PAUSE_US = 3_000_000, 300_000  # of real time: longer than a driver's back-off


class TestRefused(DeviceRefused):
    """The station or its state does not allow the test; nothing was moved.

    ``cause`` is a word of IEC 61850's AddCause.
    """

    __test__ = False  # not a test class, whatever a test runner thinks of its name

    def __init__(self, device: str, what: str, cause: str) -> None:
        super().__init__(device, what, 0)
        self.cause = cause


class NotBack(DeviceError):  # noqa: N818 - an outcome
    """The terminals did not come back to zero in time; the station was told to stop."""


_CAUSES = {
    Ack.REJECTED_LOCAL: "blocked-by-switching-hierarchy",
    Ack.REJECTED_LEASE: "locked-by-other-client",
    Ack.REJECTED_STATE: "blocked-by-process",
    Ack.REJECTED_RANGE: "inconsistent-parameters",
    Ack.REJECTED_CRC: "inconsistent-parameters",
    Ack.REJECTED_NOT_SELECTED: "time-limit-over",
    Ack.TIMEOUT: "time-limit-over",
}


def cause_of(ack: Ack) -> str:
    """Return the AddCause word of a station's refusal."""
    return _CAUSES.get(ack, "blocked-by-process")


def ramp_permille(sop: Sop) -> int:
    """Return the one ramp of all terminals in 0.1 % of rating a second: the slowest guard's.

    The service takes the same: for setpoints, and for the way to zero after a watchdog trip.
    """
    return max(1, min(1000 * t.ramp_w_per_s // t.s_va for t in sop.terminals))


def ramp_s(sop: Sop, terminal: Terminal, way_w: float) -> float:
    """Return how long a terminal takes for a change of P or Q."""
    return 1000 * abs(way_w) / (ramp_permille(sop) * terminal.s_va)


async def timeout_found_s(rack: Rack) -> float | None:
    """Return the watchdog timeout the station held before this program first wrote it.

    None where it has no value, and for converters: they are armed by whoever takes control, and
    need not be before.
    """
    if rack.equipment.converters:
        return None
    if not rack.timeout_sought:
        command = rack.equipment.station.profile.command
        # On OPC UA commands are Methods, and the driver knows the point by its name.
        point = command.watchdog.timeout if command is not None else "wdg.timeout"
        rack.timeout_found_s = await rack.setting(rack.equipment.station.name, point)
        rack.timeout_sought = True
    return rack.timeout_found_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What one terminal shall do during a test."""

    p_w: int = 0
    q_var: int = 0


class Session:
    """Made by ``hold``; sets powers until the context ends."""

    def __init__(self, rack: Rack, *, journal: Journal | None, say: Say) -> None:
        self.rack = rack
        self.station = rack.second_station()
        self.silent = False  # True: no sign of life, for the watchdog test
        self.dropped = False  # the connection was closed for a test
        self.ending = False  # on its way to zero, which nothing may interrupt
        self.entries: list[int] = []  # ledger indexes of this session
        self._journal = journal
        self._say = say
        self._count = 0
        self._reactive = False  # Q was ordered last; what is active the station does not tell
        self._rest_var: dict[str, int] = {}  # what each terminal drew before anything was ordered

    async def set(
        self,
        powers: Mapping[str, Power],
        *,
        life_s: int = LIFE_S,
        ramp_permille_per_s: int | None = None,
    ) -> float:
        """Bring terminals to powers; the others to zero. Return when OPERATE left, in s."""
        instruction = self.instruction(
            powers, life_s=life_s, ramp_permille_per_s=ramp_permille_per_s
        )
        if any(s.p_w or s.q_var for s in instruction.setpoints):
            self.refuse_while_stopped()
        index = await self._intent(instruction)
        seen = await self.station.read()
        if seen.status_bits & LOCAL_BIT:
            raise TestRefused(
                self.station.name, "switched to local", "blocked-by-switching-hierarchy"
            )
        ack = await self.station.select(instruction)
        if ack is not Ack.ACCEPTED or not await self.station.staged_equals(instruction):
            await self._outcome(instruction, index, ack)
            raise TestRefused(
                self.station.name, f"SELECT answered {ack.name.lower()}", cause_of(ack)
            )
        sent_s = self.rack.now_s()
        reactive = any(s.q_var for s in instruction.setpoints)
        self._reactive |= reactive  # already on the way: its answer may be lost
        try:
            ack = await self.station.operate(instruction)
        except (OutcomeUnknown, BadAnswer):
            await self._outcome(instruction, index, None)
            raise
        await self._outcome(instruction, index, ack)
        if ack is not Ack.EXECUTED:
            raise TestRefused(
                self.station.name, f"OPERATE answered {ack.name.lower()}", cause_of(ack)
            )
        self._reactive = reactive
        return sent_s

    def refuse_while_stopped(self) -> None:
        """Raise TestRefused while a stop waits that a person left for a gateway to take."""
        why = self.rack.stopped()
        if why:
            raise TestRefused("gateway", why, "blocked-by-interlocking")

    def instruction(
        self,
        powers: Mapping[str, Power],
        *,
        life_s: int = LIFE_S,
        ramp_permille_per_s: int | None = None,
    ) -> Instruction:
        """Build the instruction that ``set`` would send."""
        sop = self.rack.equipment.sop
        self._count += 1
        seed = f"{self.rack.clock.utc_us()} {self._count} {sorted(powers)}".encode()
        slowest = ramp_permille(sop)
        return Instruction(
            id=int.from_bytes(hashlib.sha256(seed).digest()[:4], "big") or 1,
            sop=sop.id,
            setpoints=tuple(
                Setpoint(
                    terminal=t.id,
                    mode=ControlMode.VDC_Q if t.id == sop.master else ControlMode.P_Q,
                    p_w=0 if t.id == sop.master else powers.get(t.id, Power()).p_w,
                    q_var=powers.get(t.id, Power()).q_var,
                )
                for t in sop.terminals
            ),
            ramp_permille_per_s=min(slowest, ramp_permille_per_s or slowest),
            ttl_s=life_s,
        )

    async def zero(self) -> StationTelemetry:
        """Bring every terminal to zero and wait until the station says so; NotBack otherwise.

        Whatever comes between (a refusal, a full ledger, a lost answer), STOP is sent: the
        station's own timers are under test and must not be what ends the test.
        """
        back = False
        try:
            seen = await self._to_zero()
            back = True
        finally:
            if not back:
                await self._stop()
        return seen

    async def _to_zero(self) -> StationTelemetry:
        rack, sop = self.rack, self.rack.equipment.sop
        seen = await self.station.read()
        if seen.state not in ENERGISED:
            return seen  # a station that is not energised moves nothing
        # Q that nobody ordered is what a filter draws: no order takes it back.
        highest = max(
            max(abs(s.p_w), abs(s.q_var) if self._reactive else 0) / t.s_va
            for s, t in zip(seen.terminals, sop.terminals, strict=True)
        )
        ordered = self._reactive or any(t.p_w_set_active for t in seen.terminals)
        if highest > ZERO_RATIO or ordered:
            await self.set({})
        deadline_s = rack.now_s() + 1000 * highest / ramp_permille(sop) + SETTLE_S + 1.0
        while True:
            seen = await self.station.read()
            if at_zero(rack, seen, rest_var=self._rest_var):
                return seen
            if rack.now_s() > deadline_s:
                if at_zero(rack, seen, rest_var=self._rest_var, var_ratio=REST_RATIO):
                    return seen
                raise NotBack(self.station.name, "did not come back to zero; STOP was sent")
            await rack.pause(0.1)

    async def _stop(self) -> None:
        """Send STOP; NotBack when the station does not take it and is not known to be at zero.

        It is repeated for a while: after a lost answer a driver lets nothing leave for a moment.
        """
        name, rack = self.station.name, self.rack
        deadline_s = rack.now_s() + rack.clock.at_least(STOP_TRY_US) / 1e6
        while True:
            try:
                ack = await self.station.command(Command.STOP)
                if ack in (Ack.ACCEPTED, Ack.EXECUTED):
                    return
                seen = await self.station.read()
            except DeviceError as error:
                if rack.now_s() > deadline_s:
                    what = f"not known to be at zero, and STOP: {error.what}"
                    raise NotBack(name, what) from error
                await rack.pause(rack.clock.at_least(STOP_PAUSE_US) / 1e6)
                continue
            at_rest = at_zero(rack, seen, rest_var=self._rest_var, var_ratio=REST_RATIO)
            if seen.state in ENERGISED and not at_rest:
                raise NotBack(name, f"did not take zero, and answered STOP {ack.name.lower()}")
            return

    async def _intent(self, instruction: Instruction) -> int:
        if self._journal is None:
            return -1
        index, _entry = await self._journal.append(
            "intent",
            {
                "sop": instruction.sop,
                "instr_id": instruction.id,
                "authority": "operator",
                "plan_index": -1,
                "setpoints": [
                    {
                        "terminal": s.terminal,
                        "mode": s.mode.name.lower(),
                        "p_w": s.p_w,
                        "q_var": s.q_var,
                    }
                    for s in instruction.setpoints
                ],
                "ramp_permille_per_s": instruction.ramp_permille_per_s,
                "ttl_s": instruction.ttl_s,
                "staged": self.station.staged_block(instruction).hex(),
                "expires_mono_us": self.rack.clock.mono_us() + 10_000_000,
            },
        )
        self.entries.append(index)
        return index

    async def _outcome(self, instruction: Instruction, intent_index: int, ack: Ack | None) -> None:
        """Write what became of an instruction; without an answer it is unknown until it is read."""
        if self._journal is None:
            return
        done = ack is Ack.EXECUTED
        word = "unknown" if ack is None else "executed" if done else "rejected"
        why = "device_unknown" if ack is None else cause_of(ack)
        index, _entry = await self._journal.append(
            "outcome",
            {
                "intent_index": intent_index,
                "instr_id": instruction.id,
                "outcome": word,
                "active": {s.terminal: s.p_w for s in instruction.setpoints} if done else {},
                "reasons": [] if done else [why],
            },
        )
        self.entries.append(index)

    async def drop(self) -> None:
        """Close the connection, as a cut cable would; ``connect`` opens another."""
        self.dropped = True
        await self.station.close()

    def connect(self) -> None:
        """Use a new connection from now on."""
        self.station = self.rack.second_station()
        self.dropped = False

    async def beat(self) -> None:
        """Write the sign of life until cancelled; a missed one is the station's to judge.

        A stop ends the test also where nothing is set any more: what was set last may have
        reached the station after the stop did.
        """
        period_us = self.rack.equipment.heartbeat_ms * 1000
        count = 0
        while True:
            if not self.ending:
                self.refuse_while_stopped()
            if not self.silent:
                count += 1
                with contextlib.suppress(DeviceError):
                    await self.station.heartbeat(count)
            await self.rack.clock.sleep_until(self.rack.clock.mono_us() + period_us)

    async def awake(self) -> StationTelemetry:
        """Read the station; wait for it while it precharges or synchronises."""
        seen = await self.station.read()
        deadline_s = self.rack.now_s() + ENERGISING_S
        while seen.state in ENERGISING and self.rack.now_s() < deadline_s:
            await self.rack.pause(0.5)
            seen = await self.station.read()
        return seen

    async def arm(self) -> StationTelemetry:
        """Check the state, take the lease, arm the watchdog and read both back."""
        # As found, before it is written, and before this session's own line is open.
        await timeout_found_s(self.rack)
        seen = await self.awake()
        name = self.station.name
        if seen.state not in ENERGISED:
            raise TestRefused(name, f"the station is in {seen.state.name}", "blocked-by-process")
        if seen.status_bits & LOCAL_BIT:
            raise TestRefused(name, "switched to local", "blocked-by-switching-hierarchy")
        if seen.lease_owner not in (0, self.rack.owner) and seen.watchdog_remaining_ds > 0:
            raise TestRefused(name, f"controlled by {seen.lease_owner}", "locked-by-other-client")
        self._rest_var = {t.id: abs(t.q_var) for t in seen.terminals}
        # Whoever held a running station before may have left Q on: an order of zero ends it.
        self._reactive = seen.state is not State.STANDBY and any(
            self._rest_var[t.id] > REST_RATIO * t.s_va for t in self.rack.equipment.sop.terminals
        )
        await self.station.configure(
            watchdog_ds=self.rack.equipment.device_timeout_ms // 100,
            failsafe=FAILSAFE_BY_WORD[self.rack.equipment.on_loss],
            failsafe_ramp_permille_per_s=ramp_permille(self.rack.equipment.sop),
            lease_owner=self.rack.owner,
        )
        await self.station.heartbeat(0xFFFF)
        return seen


def at_zero(
    rack: Rack,
    seen: StationTelemetry,
    *,
    rest_var: Mapping[str, int],
    var_ratio: float = ZERO_RATIO,
) -> bool:
    """Tell whether every terminal stands at zero, P and Q; the master may carry the losses.

    ``rest_var`` is what the terminals drew before the test: so much they may draw after it.
    """
    sop = rack.equipment.sop
    losses_w = sum(sop.losses.loss_w(p_w=0, s_va=t.s_va) for t in sop.terminals)
    for telemetry, terminal in zip(seen.terminals, sop.terminals, strict=True):
        band_w = ZERO_RATIO * terminal.s_va
        if terminal.id == sop.master:
            band_w += 2 * losses_w
        rest = rest_var.get(terminal.id, 0) + ZERO_RATIO * terminal.s_va
        band_var = max(rest, var_ratio * terminal.s_va)
        if abs(telemetry.p_w) > band_w or abs(telemetry.q_var) > band_var:
            return False
    return True


@contextlib.asynccontextmanager
async def hold(
    rack: Rack, *, journal: Journal | None = None, say: Say = silent
) -> AsyncIterator[Session]:
    """Take control for a test and give it back at zero, whatever ends the test."""
    session = Session(rack, journal=journal, say=say)
    try:
        await session.arm()
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(session.beat())
            try:
                yield session
            finally:
                session.silent, session.ending = False, True
                if session.dropped:
                    session.connect()  # on a closed one nothing can be taken back
                try:
                    await session.zero()
                finally:
                    beating.cancel()
    except BaseExceptionGroup as several:
        raise first_error(several) from None
    finally:
        await session.station.close()


def first_error(several: BaseExceptionGroup) -> BaseException:
    """Return the first of the errors a task group collected: the one that ended the test."""
    inner = several.exceptions[0]
    return first_error(inner) if isinstance(inner, BaseExceptionGroup) else inner
