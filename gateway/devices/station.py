"""A station controller on Modbus that takes SELECT and OPERATE over one staged block.

All addresses come from the profile's ``command:`` block and ``each_terminal:`` table. A command
is one write; no write is repeated; the sequence number only grows, and starts from what the
station reports.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gateway.devices.codec import EncodeError, codecs_of
from gateway.devices.guard import GuardReason, GuardRefused, StationGuard
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.planner import plan
from gateway.devices.profile import CommandBlock, Point, Profile, Register
from gateway.devices.reader import read_blocks
from gateway.devices.station_reading import STATION_POINTS, TERMINAL_POINTS, telemetry_of
from gateway.model.errors import (
    BadAnswer,
    DeviceError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.setpoint import Ack, Command, Instruction
from gateway.model.telemetry import StationTelemetry
from gateway.model.terminal import Terminal
from gateway.ports import Clock

# Waits between looks at the acknowledgement, in s: about one second in all.
ACK_PAUSES_S = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.45)
ACCEPTANCES = frozenset({Ack.ACCEPTED, Ack.EXECUTED})
# What ends power: nothing else leaves that was ordered before one of them.
STOPS = frozenset({Command.STOP, Command.SOFT_ESTOP, Command.ENTER_STANDBY, Command.CANCEL})
STALL_REAL_US = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selected:
    instruction: Instruction
    staged: bytes
    mono_us: int


class ModbusStation:
    """Implements ``gateway.ports.Station``."""

    def __init__(
        self,
        *,
        unit: ModbusUnit,
        unit_id: int,
        profile: Profile,
        terminals: Sequence[Terminal],
        clock: Clock,
        owner: int,
    ) -> None:
        assert profile.command is not None, f"{profile.id} has no command block"
        assert profile.each_terminal is not None
        assert len(terminals) <= profile.each_terminal.count
        self.name = unit.name
        self._unit = unit
        self._unit_id = unit_id
        self._clock = clock
        self._command: CommandBlock = profile.command
        self._profile = profile
        self._terminals = tuple(sorted(terminals, key=lambda t: t.index))
        self._codecs = codecs_of(profile)
        staged = profile.each_terminal.block("staged")
        self._staged_at = staged.register
        self._stride_size = staged.stride_size
        self._guard = StationGuard(
            name=self.name,
            terminals=terminals,
            staged={p.name: p for p in staged.points},
            owner=owner,
        )
        self._plan()
        self._shadow: list[int] | None = None  # the command registers; None: not known
        self._turns = 0  # begun writes to them
        self._arming: Mapping[str, tuple[int, ...]] = {}  # what ``configure`` is writing to them
        self._stop_count = 0
        self._seq = -1
        self._heartbeat_count = 0
        self._staged_words: tuple[int, ...] | None = None
        self._selected: _Selected | None = None
        self._seen: StationTelemetry | None = None

    def _plan(self) -> None:
        command, codecs, settings = self._command, self._codecs, self._profile.modbus
        watch = command.watchdog
        names = [
            command.sequence, command.code, command.argument, command.crc.point,
            command.heartbeat.point, watch.timeout, watch.failsafe, watch.ramp,
            command.instruction_id, command.ttl, command.lease,
        ]  # fmt: skip
        registers = [_register(codecs[name].point) for name in names]
        first = min(r.address for r in registers)
        last = max(_register(codecs[n].point).address + codecs[n].size_bytes // 2 for n in names)
        self._command_at = Register(table=registers[0].table, address=first)
        self._command_size = last - first
        terminals = [
            [f"t{t.index + 1}.{name}" for name in TERMINAL_POINTS] for t in self._terminals
        ]
        polled = [*STATION_POINTS, *(name for names in terminals for name in names)]
        self._blocks = plan(
            [codecs[name] for name in polled],
            settings,
            unit=self._unit_id,
            together=[STATION_POINTS, *terminals],
        )
        self._read_command = frame.read(
            self._unit_id, self._command_at.table, first, self._command_size
        )
        echo = command.echo
        self._ack_blocks = plan(
            [codecs[echo.sequence], codecs[echo.code], codecs[echo.instruction_id]],
            settings,
            unit=self._unit_id,
            together=[(echo.sequence, echo.code)],
        )
        self._staged_size = self._stride_size * (
            1 + max(terminal.index for terminal in self._terminals)
        )
        self._read_staged = frame.read(
            self._unit_id, self._staged_at.table, self._staged_at.address, self._staged_size
        )

    # Reading

    async def read(self) -> StationTelemetry:
        """Read state, terminals and the command registers; all of it or nothing.

        After a reading that failed no power is selected until the station was read again.
        """
        utc_us, mono_us = self._clock.utc_us(), self._clock.mono_us()
        try:
            got = await read_blocks(self._unit, self._blocks)
            shadow = await self._read_shadow()
        except DeviceError:
            self._seen = None
            raise
        lease_owner = self._of_shadow(self._command.lease, shadow)
        echo = self._command.echo
        telemetry = telemetry_of(
            self.name,
            got,
            self._terminals,
            utc_us=(utc_us + self._clock.utc_us()) // 2,
            mono_us=(mono_us + self._clock.mono_us()) // 2,
            lease_owner=lease_owner,
            echo=(echo.sequence, echo.code, echo.instruction_id),
        )
        self._seen = telemetry
        return telemetry

    async def _read_shadow(self) -> list[int]:
        turns = self._turns
        data = await self._unit.read(self._read_command)
        shadow = list(struct.unpack(f">{self._command_size}H", data))
        reported = self._of_shadow(self._command.sequence, shadow)
        if self._seq < 0:
            self._seq = reported
        if self._turns == turns:  # else it may be older than what was written meanwhile
            self._shadow = shadow
        return shadow

    async def _read_staged_words(self) -> tuple[int, ...]:
        data = await self._unit.read(self._read_staged)
        words = struct.unpack(f">{self._staged_size}H", data)
        if self._staged_words is None:  # else a SELECT is staging others
            self._staged_words = words
        return words

    def _of_shadow(self, name: str, shadow: Sequence[int]) -> int:
        codec = self._codecs[name]
        offset = _register(codec.point).address - self._command_at.address
        value, _ = codec.decode(shadow[offset : offset + codec.size_bytes // 2])
        if not isinstance(value, int | float):
            raise BadAnswer(self.name, f"{name} has no value")
        return round(value)

    # Commands

    def staged_block(self, instruction: Instruction) -> bytes:
        """The registers that ``select`` will write, as big-endian bytes; raises GuardRefused."""
        words = self._staged_of(instruction)
        return struct.pack(f">{len(words)}H", *words)

    def _staged_of(self, instruction: Instruction) -> tuple[int, ...]:
        by_id = {s.terminal: s for s in instruction.setpoints}
        if len(by_id) != len(instruction.setpoints) or by_id.keys() != {
            t.id for t in self._terminals
        }:
            raise GuardRefused(self.name, GuardReason.TERMINALS, ", ".join(by_id) or "none given")
        words = [0] * self._staged_size
        for terminal in self._terminals:
            setpoint = by_id[terminal.id]
            values: dict[str, int | Decimal] = {
                "p_set": setpoint.p_w,
                "q_set": setpoint.q_var,
                "mode_set": int(setpoint.mode),
                "ramp_set": Decimal(instruction.ramp_of(setpoint)) / 1000,
            }
            for name in self._command.staged:
                if name in values:
                    point = f"t{terminal.index + 1}.{name}"
                    offset = self._address(point) - self._staged_at.address
                    encoded = self._words(point, values[name])
                    words[offset : offset + len(encoded)] = encoded
        return tuple(words)

    async def select(self, instruction: Instruction) -> Ack:
        """Stage the setpoints, send SELECT and read the acknowledgement back."""
        self._guard.check(instruction, seen=self._seen, now_us=self._clock.mono_us())
        words = self._staged_of(instruction)
        stop_count = self._stop_count
        self._selected = None
        at = self._staged_at.address
        limit = self._profile.modbus.register_write_count_max
        assert len(words) <= limit, "a staged block is one transaction"
        self._guard.sent(instruction, now_us=self._clock.mono_us())
        self._staged_words = words  # what leaves from here on finds them staged
        try:
            await self._unit.write(frame.write_registers(self._unit_id, at, words))
        except (DeviceError, asyncio.CancelledError):
            self._staged_words = None
            raise
        ack = await self._send(
            Command.SELECT,
            instruction_id=instruction.id,
            ttl_s=instruction.ttl_s,
            stop_count=stop_count,
        )
        if ack in ACCEPTANCES and self._stop_count == stop_count:
            staged = struct.pack(f">{len(words)}H", *words)
            self._selected = _Selected(
                instruction=instruction, staged=staged, mono_us=self._clock.mono_us()
            )
        return ack

    async def staged_equals(self, instruction: Instruction) -> bool:
        """Read the staged block and the id of the selection back and compare byte for byte."""
        data = await self._unit.read(self._read_staged)
        got = await read_blocks(self._unit, self._ack_blocks)
        return (
            data == self.staged_block(instruction)
            and got.integer(self._command.echo.instruction_id) == instruction.id
        )

    async def operate(self, instruction: Instruction) -> Ack:
        """Send OPERATE for what was selected and read the acknowledgement."""
        selected = self._selected
        now_us = self._clock.mono_us()
        # On a bench that runs fast a stall of the host must not look like a selection grown old.
        limit_us = max(self._command.select_timeout_ms * 1000, self._clock.at_least(STALL_REAL_US))
        if (
            selected is None
            or selected.instruction != instruction
            or now_us - selected.mono_us > limit_us
        ):
            raise GuardRefused(self.name, GuardReason.NOT_SELECTED, f"{instruction.id:#010x}")
        self._guard.check_lease(self._seen)
        self._selected = None
        return await self._send(
            Command.OPERATE, instruction_id=instruction.id, ttl_s=instruction.ttl_s
        )

    async def command(self, command: Command, argument: int = 0) -> Ack:
        """Send a command without staging; STOP, SOFT_ESTOP and CANCEL always may."""
        if command in (Command.SELECT, Command.OPERATE):
            raise GuardRefused(self.name, GuardReason.NOT_SELECTED, "use select and operate")
        if command not in (Command.STOP, Command.SOFT_ESTOP, Command.CANCEL):
            self._guard.check_lease(self._seen)
        self._selected = None
        if command in STOPS:
            self._stop_count += 1
        return await self._send(command, argument=argument)

    async def heartbeat(self, count: int) -> None:
        """Write the sign of life alone."""
        self._heartbeat_count = count & 0xFFFF
        address = self._address(self._command.heartbeat.point)
        await self._unit.write(
            frame.write_registers(self._unit_id, address, [self._heartbeat_count])
        )

    async def configure(
        self,
        *,
        watchdog_ds: int,
        failsafe: int,
        failsafe_ramp_permille_per_s: int,
        lease_owner: int,
    ) -> None:
        """Arm the watchdog and name the lease owner, then read both back."""
        watch = self._command.watchdog
        wanted: dict[str, int | Decimal] = {
            watch.timeout: Decimal(watchdog_ds) / 10,
            watch.failsafe: failsafe,
            watch.ramp: Decimal(failsafe_ramp_permille_per_s) / 1000,
            self._command.lease: lease_owner,
        }
        if not watchdog_ds:
            raise GuardRefused(self.name, GuardReason.WATCHDOG, "it must not be switched off")
        words = {name: self._words(name, value) for name, value in wanted.items()}
        self._arming = words  # a stop that leaves meanwhile writes them along
        try:
            shadow = await self._arm(words, lease_owner)
        finally:
            self._arming = {}
        for name, raws in words.items():
            offset = self._address(name) - self._command_at.address
            found = tuple(shadow[offset : offset + len(raws)])
            if found != raws:
                raise DeviceRefused(
                    self.name, f"{name} reads {_listed(found)}, not {_listed(raws)}", 0
                )

    def _address(self, name: str) -> int:
        return _register(self._codecs[name].point).address

    def _words(self, name: str, value: int | Decimal) -> tuple[int, ...]:
        """The register words of a value in base units; GuardRefused where it does not fit."""
        try:
            return self._codecs[name].encode(value)
        except EncodeError as error:
            raise GuardRefused(self.name, GuardReason.RANGE, str(error)) from None

    async def _arm(self, wanted: Mapping[str, tuple[int, ...]], lease_owner: int) -> list[int]:
        """Write them once and read the command registers back."""
        sent = False
        for address, words in self._joined(wanted):
            self._begin_write()
            try:
                await self._unit.write(frame.write_registers(self._unit_id, address, words))
            except DeviceNotSent as error:
                if not sent:
                    raise
                raise OutcomeUnknown(self.name, f"armed in part: {error.what}") from None
            sent = True
        self._guard.owner = lease_owner
        try:
            return await self._read_shadow()
        except (DeviceNotSent, DeviceRefused) as error:
            raise OutcomeUnknown(self.name, f"armed, not read back: {error.what}") from None

    def _begin_write(self) -> None:
        """What the command registers hold is not known until this write is answered."""
        self._shadow = None
        self._turns += 1

    async def close(self) -> None:
        """Close the connection."""
        await self._unit.client.close()

    def _joined(self, by_name: Mapping[str, tuple[int, ...]]) -> list[tuple[int, list[int]]]:
        """Registers to write, neighbours in one transaction."""
        at = {self._address(name): raws for name, raws in by_name.items()}
        runs: list[tuple[int, list[int]]] = []
        for address in sorted(at):
            if runs and runs[-1][0] + len(runs[-1][1]) == address:
                runs[-1][1].extend(at[address])
            else:
                runs.append((address, list(at[address])))
        return runs

    async def _send(
        self,
        command: Command,
        *,
        argument: int = 0,
        instruction_id: int | None = None,
        ttl_s: int | None = None,
        stop_count: int | None = None,
    ) -> Ack:
        """Write the command registers once and wait for the answer to this sequence number.

        Nothing but a stop leaves after a stop that came after ``stop_count`` of them.
        """
        if stop_count is None:
            stop_count = self._stop_count
        try:
            used_seq = await self._used_seq()
            staged = self._staged_words or await self._read_staged_words()
            shadow = self._shadow or await self._read_shadow()
        except (OutcomeUnknown, BadAnswer) as error:
            # Only reads so far: the command itself has not left.
            raise DeviceNotSent(self.name, error.what) from None
        # From here to the write nothing is waited for: what is checked and copied is of now.
        if command not in STOPS and stop_count != self._stop_count:
            raise DeviceNotSent(self.name, "a stop was ordered")
        seq = self._next_seq(used_seq)
        values = {
            self._command.sequence: seq,
            self._command.code: int(command),
            self._command.argument: argument,
            self._command.crc.point: _crc(self._staged_words or staged),
            self._command.heartbeat.point: self._heartbeat_count,
            self._command.lease: self._guard.owner,
        }
        if ttl_s is not None:
            values[self._command.ttl] = ttl_s
        if instruction_id is not None:
            values[self._command.instruction_id] = instruction_id
        words = {name: self._words(name, value) for name, value in values.items()}
        shadow = self._image(shadow, words | dict(self._arming))
        self._begin_write()
        turns = self._turns
        await self._unit.write(
            frame.write_registers(self._unit_id, self._command_at.address, shadow)
        )
        ack = await self._await_ack(command, seq, instruction_id)
        if self._turns == turns:  # else another has written since
            self._shadow = shadow
        return ack

    def _image(self, shadow: Sequence[int], words: Mapping[str, tuple[int, ...]]) -> list[int]:
        """The command registers with some of their points changed."""
        image = list(shadow)
        for name, raws in words.items():
            offset = self._address(name) - self._command_at.address
            image[offset : offset + len(raws)] = raws
        return image

    async def _used_seq(self) -> int:
        got = await read_blocks(self._unit, self._ack_blocks)
        return got.integer(self._command.echo.sequence)

    def _next_seq(self, used_seq: int) -> int:
        """A sequence number that neither we nor, as far as it tells, the station has used.

        Taken as the command leaves: of two at once the later one has the greater number.
        """
        seq = self._seq % 0xFFFF + 1
        self._seq = seq if seq != used_seq else seq % 0xFFFF + 1
        return self._seq

    async def _await_ack(self, command: Command, seq: int, instruction_id: int | None) -> Ack:
        last = Ack.NONE
        for pause_s in ACK_PAUSES_S:
            if pause_s:
                await _pause(pause_s)
            try:
                got = await read_blocks(self._unit, self._ack_blocks)
            except DeviceError as error:
                # The command has left; only its answer could not be read.
                raise OutcomeUnknown(self.name, f"{command.name} {seq}: {error.what}") from None
            if got.integer(self._command.echo.sequence) != seq:
                continue
            code = got.integer(self._command.echo.code)
            try:
                last = Ack(code)
            except ValueError:
                raise BadAnswer(self.name, f"unknown acknowledgement code {code}") from None
            echoed = got.integer(self._command.echo.instruction_id)
            if last in ACCEPTANCES and instruction_id not in (None, echoed):
                raise BadAnswer(
                    self.name, f"{echoed:#010x} acknowledged, not {instruction_id:#010x}"
                )
            if last is not Ack.NONE and (last is not Ack.ACCEPTED or command is Command.SELECT):
                return last
        if last is Ack.ACCEPTED:
            if command is Command.OPERATE:  # power flows or will: neither done nor rejected
                what = f"{command.name} {seq} was accepted, not known to be done"
                raise OutcomeUnknown(self.name, what)
            return last
        raise OutcomeUnknown(self.name, f"{command.name} {seq} was not acknowledged")


def _register(point: Point) -> Register:
    assert point.register is not None
    return point.register


def _listed(words: Sequence[int]) -> str:
    return " ".join(map(str, words))


def _crc(words: Sequence[int]) -> int:
    return frame.crc16(struct.pack(f">{len(words)}H", *words))


async def _pause(pause_s: float) -> None:
    """Wait in real time: this is the protocol's patience, not the site's."""
    done = asyncio.get_running_loop().create_future()
    timer = asyncio.get_running_loop().call_later(pause_s, done.set_result, None)
    try:
        await done
    finally:
        timer.cancel()
