"""A station controller on OPC UA: SELECT and OPERATE are Methods, the staged block is read back.

``Select`` carries the whole block in one call and gives a token that ``Operate`` takes once, so a
block is never half written. Nothing is called twice: a call without an answer is *unknown* and
the next thing is a read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.devices.guard import GuardReason, GuardRefused, StationGuard
from gateway.devices.modbus.frame import crc16
from gateway.devices.opcua.client import OpcuaClient
from gateway.devices.opcua.device import NodeValue, OpcuaDevice, node_text
from gateway.devices.profile import Point, Profile
from gateway.devices.station_reading import STATION_POINTS, TERMINAL_POINTS, telemetry_of
from gateway.model.errors import (
    BadAnswer,
    ConfigError,
    DeviceError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.setpoint import Ack, Command, Instruction
from gateway.model.telemetry import Quality, StationTelemetry
from gateway.model.terminal import Terminal
from gateway.ports import Clock

STAGED_POINTS = ("p_staged", "q_staged", "mode_staged", "ramp_staged")
CONFIGURED_POINTS = ("wdg.timeout", "wdg.failsafe", "wdg.ramp", "lease.owner")
METHODS: Mapping[Command, str] = {
    Command.START: "cmd.start",
    Command.STOP: "cmd.stop",
    Command.RESET: "cmd.reset",
    Command.ENTER_STANDBY: "cmd.enter_standby",
    Command.EXIT_STANDBY: "cmd.exit_standby",
    Command.SOFT_ESTOP: "cmd.soft_estop",
    Command.CANCEL: "cmd.cancel",
    Command.SET_MASTER: "cmd.set_master",
}
SELECT_METHOD, OPERATE_METHOD, CONFIGURE_METHOD = "cmd.select", "cmd.operate", "cmd.configure"
HEARTBEAT = "hb.ctrl"
SELECT_LIFE_US = 10_000_000
STALL_REAL_US = 500_000
ALWAYS_ALLOWED = frozenset({Command.STOP, Command.SOFT_ESTOP, Command.CANCEL})
STOPS = ALWAYS_ALLOWED | {Command.ENTER_STANDBY}
_LIMITS = {
    "p_set": Point(name="p_set"),
    "q_set": Point(name="q_set"),
    "ramp_set": Point(name="ramp_set", range=(Decimal("0.001"), Decimal(1))),
}


def points_needed() -> tuple[str, ...]:
    """The points a profile must have for this driver, those of the first terminal included."""
    return (
        *STATION_POINTS,
        *(f"t1.{name}" for name in (*TERMINAL_POINTS, *STAGED_POINTS)),
        "ttl.staged",
        "owner.staged",
        *CONFIGURED_POINTS,
        HEARTBEAT,
        SELECT_METHOD,
        OPERATE_METHOD,
        CONFIGURE_METHOD,
        *METHODS.values(),
    )


class SecurityOff(DeviceNotSent):
    """Trust files, certificate or units are wrong: nothing is sent until a person mends them."""

    retryable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selected:
    instruction: Instruction
    token_number: int
    mono_us: int


class _Poll:
    """The points of one read by name."""

    registers: tuple[int, ...] = ()

    def __init__(self, device: str, values: Mapping[str, NodeValue]) -> None:
        self._device = device
        self._values = values

    @property
    def sure(self) -> bool:
        """Whether every value is good and fresh."""
        return all(v.quality is Quality.GOOD for v in self._values.values())

    def integer(self, name: str, *, per_unit: int = 1) -> int:
        """A point as a whole count; BadAnswer when the server gave no number."""
        found = self._values[name]
        if found.quality is Quality.BAD or not isinstance(found.value, int | float):
            raise BadAnswer(self._device, f"{name} has no value ({found.status})")
        return round(found.value * per_unit)


class OpcuaStation:
    """Implements ``gateway.ports.Station``."""

    def __init__(
        self,
        *,
        client: OpcuaClient,
        profile: Profile,
        terminals: Sequence[Terminal],
        clock: Clock,
        owner: int,
    ) -> None:
        self.name = client.name
        self._client = client
        self._clock = clock
        self._terminals = tuple(sorted(terminals, key=lambda t: t.index))
        self._count = len(profile.terminals)
        assert self._terminals[-1].index < self._count, "a terminal the station has not"
        self._device = OpcuaDevice(client=client, profile=profile, clock=clock)
        self._nodes = {
            p.name: node_text(p.node, profile.namespaces)
            for p in profile.all_points()
            if p.node is not None
        }
        self._polled = (
            *STATION_POINTS,
            "lease.owner",
            *(f"t{t.index + 1}.{name}" for t in self._terminals for name in TERMINAL_POINTS),
        )
        self._staged = (
            *(f"t{n + 1}.{name}" for n in range(self._count) for name in STAGED_POINTS),
            "ttl.staged",
            "owner.staged",
            "instr.echo",
        )
        self._guard = StationGuard(name=self.name, terminals=terminals, staged=_LIMITS, owner=owner)
        self._selected: _Selected | None = None
        self._stop_count = 0  # nothing that waited for the server leaves after a stop
        self._seen: StationTelemetry | None = None

    # Reading

    async def read(self) -> StationTelemetry:
        """Read state and terminals in one request; all of it or nothing.

        After a reading that failed no power is selected until the station was read again.
        """
        utc_us, mono_us = self._clock.utc_us(), self._clock.mono_us()
        try:
            got = await self._poll(self._polled)
            telemetry = telemetry_of(
                self.name,
                got,
                self._terminals,
                utc_us=(utc_us + self._clock.utc_us()) // 2,
                mono_us=(mono_us + self._clock.mono_us()) // 2,
                lease_owner=got.integer("lease.owner"),
                sure=got.sure,
            )
        except DeviceError:
            self._seen = None
            raise
        self._seen = telemetry
        return telemetry

    async def _poll(self, names: Iterable[str]) -> _Poll:
        try:
            return _Poll(self.name, await self._device.get(names))
        except ConfigError as error:
            raise SecurityOff(self.name, str(error)) from None

    # Commands

    def staged_block(self, instruction: Instruction) -> bytes:
        """The setpoints that ``select`` hands over, as big-endian int32; raises GuardRefused."""
        return _packed(self._setpoints(instruction))

    def _setpoints(self, instruction: Instruction) -> list[int]:
        by_id = {s.terminal: s for s in instruction.setpoints}
        if len(by_id) != len(instruction.setpoints) or by_id.keys() != {
            t.id for t in self._terminals
        }:
            raise GuardRefused(self.name, GuardReason.TERMINALS, ", ".join(by_id) or "none given")
        values = [0] * (len(STAGED_POINTS) * self._count)
        for terminal in self._terminals:
            setpoint = by_id[terminal.id]
            at = len(STAGED_POINTS) * terminal.index
            values[at : at + len(STAGED_POINTS)] = (
                setpoint.p_w,
                setpoint.q_var,
                int(setpoint.mode),
                instruction.ramp_of(setpoint),
            )
        return values

    async def select(self, instruction: Instruction) -> Ack:
        """Hand the setpoints over in one call; the answer is the station's own."""
        now_us = self._clock.mono_us()
        self._guard.check(instruction, seen=self._seen, now_us=now_us)
        values = self._setpoints(instruction)
        self._selected = None
        self._guard.sent(instruction, now_us=now_us)
        token, ack = await self._call(
            SELECT_METHOD,
            ("UInt32", instruction.id),
            ("Int32", values),
            ("UInt16", crc16(_packed(values))),
            ("UInt16", instruction.ttl_s),
            ("UInt16", self._guard.owner),
            output_count=2,
        )
        if self._ack(ack) is Ack.ACCEPTED:
            self._selected = _Selected(
                instruction=instruction, token_number=token, mono_us=self._clock.mono_us()
            )
        return self._ack(ack)

    async def staged_equals(self, instruction: Instruction) -> bool:
        """Read what is staged and compare it with what was handed over, value for value."""
        raw = await self._raw(self._staged)
        wanted = [
            *self._setpoints(instruction),
            instruction.ttl_s,
            self._guard.owner,
            instruction.id,
        ]
        return raw == wanted

    async def operate(self, instruction: Instruction) -> Ack:
        """Operate what was selected: its token is good once.

        Raises OutcomeUnknown where the station took it and is still at work.
        """
        selected = self._selected
        now_us = self._clock.mono_us()
        # On a bench that runs fast a stall of the host must not look like a selection grown old.
        limit_us = max(SELECT_LIFE_US, self._clock.at_least(STALL_REAL_US))
        if (
            selected is None
            or selected.instruction != instruction
            or now_us - selected.mono_us > limit_us
        ):
            raise GuardRefused(self.name, GuardReason.NOT_SELECTED, f"{instruction.id:#010x}")
        self._guard.check_lease(self._seen)
        self._selected = None
        (ack,) = await self._call(
            OPERATE_METHOD,
            ("UInt32", selected.token_number),
            ("UInt16", instruction.ttl_s),
            until_us=selected.mono_us + limit_us,
        )
        if self._ack(ack) is Ack.ACCEPTED:
            raise OutcomeUnknown(self.name, "OPERATE accepted, not known to be executed")
        return self._ack(ack)

    async def command(self, command: Command, argument: int = 0) -> Ack:
        """Call a command without staging; STOP, SOFT_ESTOP and CANCEL always may."""
        method = METHODS.get(command)
        if method is None:
            raise GuardRefused(self.name, GuardReason.NOT_SELECTED, "use select and operate")
        if command not in ALWAYS_ALLOWED:
            self._guard.check_lease(self._seen)
        self._selected = None
        self._stop_count += command in STOPS
        (ack,) = await self._call(
            method,
            ("UInt16", argument),
            ("UInt16", self._guard.owner),
            stops=command in STOPS,
        )
        return self._ack(ack)

    async def heartbeat(self, count: int) -> None:
        """Write the sign of life."""
        try:
            await self._client.write(self._nodes[HEARTBEAT], count & 0xFFFF)
        except ConfigError as error:
            raise SecurityOff(self.name, str(error)) from None

    async def configure(
        self,
        *,
        watchdog_ds: int,
        failsafe: int,
        failsafe_ramp_permille_per_s: int,
        lease_owner: int,
    ) -> None:
        """Arm the watchdog and name the lease owner, then read all of it back.

        Once the call was answered, only what is read says that it did not take.
        """
        if not watchdog_ds:
            raise GuardRefused(self.name, GuardReason.WATCHDOG, "it must not be switched off")
        wanted = (watchdog_ds, failsafe, failsafe_ramp_permille_per_s, lease_owner)
        (code,) = await self._call(CONFIGURE_METHOD, *(("UInt16", value) for value in wanted))
        ack = self._ack(code)
        if ack is Ack.ACCEPTED:
            raise OutcomeUnknown(self.name, "settings accepted, not known to be executed")
        if ack is not Ack.EXECUTED:
            raise DeviceRefused(self.name, f"settings: {ack.name}", int(ack))
        self._guard.owner = lease_owner
        try:
            got = await self._poll(CONFIGURED_POINTS)
        except (DeviceNotSent, DeviceRefused) as error:
            raise OutcomeUnknown(self.name, f"written, but {error.what}") from None
        kept = [
            got.integer(name, per_unit=per_unit)
            for name, per_unit in zip(CONFIGURED_POINTS, (10, 1, 1000, 1), strict=True)
        ]
        if kept != list(wanted):
            raise DeviceRefused(self.name, f"settings read {kept}, not {list(wanted)}", 0)

    async def close(self) -> None:
        """End the connection and its child."""
        await self._client.close()

    async def _raw(self, names: Sequence[str]) -> list[int]:
        """Values as the server has them; BadAnswer unless each is a whole number."""
        try:
            found = await self._client.read(
                [self._nodes[n] for n in names], utc_us=self._clock.utc_us
            )
        except ConfigError as error:
            raise SecurityOff(self.name, str(error)) from None
        values: list[int] = []
        for name, reading in zip(names, found, strict=True):
            if reading.quality is Quality.BAD or not isinstance(reading.value, int):
                raise BadAnswer(self.name, f"{name} has no value ({reading.status})")
            values.append(reading.value)
        return values

    async def _call(
        self,
        method: str,
        *arguments: tuple[str, Any],
        output_count: int = 1,
        until_us: int | None = None,
        stops: bool = False,
    ) -> list[int]:
        """Call a Method once, before ``until_us``; exactly so many whole numbers must come back.

        What does not stop power itself leaves only where no stop came meanwhile.
        """
        node = self._nodes[method]
        owner = node.rpartition("|")[0]
        stop_count = self._stop_count

        def obstacle() -> str:
            """Why it may no longer leave: it waited for the server, or for a new connection."""
            if not stops and stop_count != self._stop_count:
                return "a stop was ordered"
            late = until_us is not None and self._clock.mono_us() > until_us
            return "the selection grew old" if late else ""

        try:
            outputs = await self._client.call(owner, node, arguments, obstacle=obstacle)
        except ConfigError as error:
            raise SecurityOff(self.name, str(error)) from None
        if len(outputs) != output_count or not all(
            isinstance(v, int) and not isinstance(v, bool) for v in outputs
        ):
            raise BadAnswer(self.name, f"{method} gave {outputs!r}")
        return outputs

    def _ack(self, code: int) -> Ack:
        try:
            return Ack(code)
        except ValueError:
            raise BadAnswer(self.name, f"unknown acknowledgement code {code}") from None


def _packed(values: Sequence[int]) -> bytes:
    return struct.pack(f">{len(values)}i", *values)
