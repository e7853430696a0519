"""One converter with a controller of its own, on Modbus: SunSpec models 701 to 715.

It cannot stage: a set value acts as soon as it is written. Its dead-man is the reversion timer of
each set value. All addresses come from the profile by the names of points, scale factors from the
device. No write is repeated; each set value is read back after it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType

from gateway.devices.codec import EncodeError, codecs_of
from gateway.devices.converter_reading import ConverterReading
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.planner import Block, plan
from gateway.devices.profile import Access, Profile, Register, Words
from gateway.devices.reader import Snapshot, read_blocks
from gateway.model.errors import (
    BadAnswer,
    DeviceError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.setpoint import Command
from gateway.model.telemetry import State
from gateway.ports import Clock

MEASURED = (
    "state.code", "fault.bits", "p", "q", "v", "dc.v", "s_available", "e.inject", "e.absorb",
    "local", "hb.device",
)  # fmt: skip
HELD = (
    "p_set", "p_set.enable", "p_set.reversion", "p_set.reversion_enable", "p_set.reversion_time",
    "p_set.reversion_left", "q_set", "q_set.enable", "q_set.reversion", "q_set.reversion_enable",
    "q_set.reversion_time", "q_set.reversion_left", "ramp_set",
)  # fmt: skip
ORDERED = ("hb.ctrl", "cmd.op", "cmd.reset")
POINTS_NEEDED = (*MEASURED, *HELD, *ORDERED)
MODES = {"p_set": "watts", "q_set": "vars"}  # where the device has a choice: `p_set.mode` …

# Model 701, InvSt: the words of a profile's `state.code`.
STATES: Mapping[str, State] = MappingProxyType(
    {
        "off": State.STOPPED,
        "sleeping": State.STOPPED,
        "starting": State.INIT,
        "running": State.RUN,
        "throttled": State.DERATED,
        "shutting-down": State.STOPPING,
        "fault": State.FAULT,
        "standby": State.STANDBY,
    }
)
# Model 715, OpCtl: the words of a profile's `cmd.op`.
OPERATIONS: Mapping[Command, str] = MappingProxyType(
    {
        Command.START: "start",
        Command.STOP: "stop",
        Command.ENTER_STANDBY: "enter-standby",
        Command.EXIT_STANDBY: "exit-standby",
    }
)
# Words that the driver reads or writes by name, where a profile has the point.
WORDS_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "local": ("remote",),
        "cmd.op": tuple(OPERATIONS.values()),
        **{f"{name}.mode": (word,) for name, word in MODES.items()},
        **{f"{n}.{part}": ("enabled",) for n in MODES for part in ("enable", "reversion_enable")},
    }
)
MANUAL_SHUTDOWN = "manual-shutdown"
HALF_A_SECOND_DS = 5
COUNT_MAX = 0xFFFF_FFFE


def lacking(profile: Profile) -> tuple[str, ...]:
    """What a profile would need to be driven: points, and words of those it has."""
    there = {point.name: point for point in profile.points}
    words = [
        f"“{word}” of {name}"
        for name, needed in WORDS_NEEDED.items()
        if name in there
        for word in needed
        if word not in there[name].label_by_code.values()
    ]
    return (*(name for name in POINTS_NEEDED if name not in there), *words)


class ModbusConverter:
    """Implements ``gateway.devices.converters.Converter``."""

    def __init__(
        self,
        *,
        unit: ModbusUnit,
        unit_id: int,
        profile: Profile,
        clock: Clock,
        ramp_percent_per_s: int,
    ) -> None:
        self.name = unit.name
        self._unit = unit
        self._unit_id = unit_id
        self._clock = clock
        self._codecs = codecs_of(profile)
        missing = [name for name in POINTS_NEEDED if name not in self._codecs]
        assert not missing, f"{profile.id} has no {', '.join(missing)}"
        self._ramp_ratio = Decimal(ramp_percent_per_s) / 100
        uptime = ("uptime",) if "uptime" in self._codecs else ()
        modes = tuple(mode for name in MODES if self._readable(mode := f"{name}.mode"))
        settings = profile.modbus
        scales = (self._codecs[name].point.scale_point for name in HELD)
        self._scales = tuple(dict.fromkeys(s for s in scales if s is not None))
        self._all_blocks, self._held_blocks = (
            plan([self._codecs[n] for n in self._with_scales(names)], settings, unit=unit_id)
            for names in ((*MEASURED, *uptime, *HELD, *modes), (*HELD, *modes))
        )
        self._seen: Snapshot | None = None  # the newest set values; None: not known
        self._exponents: dict[str, int] = {}
        self._count = -1

    def _with_scales(self, names: Iterable[str]) -> list[str]:
        scales = (self._codecs[name].point.scale_point for name in names)
        return list(dict.fromkeys([*names, *(s for s in scales if s is not None)]))

    def _readable(self, name: str) -> bool:
        return name in self._codecs and self._codecs[name].point.access is not Access.WRITE

    # Reading

    async def read(self) -> ConverterReading:
        """Read measured values, set values and their timers; all of it or nothing."""
        utc_us, mono_us = self._clock.utc_us(), self._clock.mono_us()
        got = await self._snapshot(self._all_blocks)
        faults = self._codecs["fault.bits"].point.bits
        bits = _count(got, "fault.bits")
        heartbeat = _count(got, "hb.device")
        return ConverterReading(
            utc_us=(utc_us + self._clock.utc_us()) // 2,
            mono_us=(mono_us + self._clock.mono_us()) // 2,
            state=self._state(got),
            fault_bits=bits,
            local=self._word(got, "local") != "remote",
            estop=any(bits >> i & 1 and word == MANUAL_SHUTDOWN for i, word in faults.items()),
            p_w=got.integer("p"),
            q_var=got.integer("q"),
            v_dv=got.integer("v", per_unit=10),
            v_dc_dv=got.integer("dc.v", per_unit=10),
            s_va_available=got.integer("s_available"),
            p_w_set=self._followed(got, "p_set"),
            q_var_set=self._followed(got, "q_set"),
            left_ds=self._left_ds(got),
            heartbeat_count=heartbeat,
            uptime_s=_count(got, "uptime") if "uptime" in self._codecs else heartbeat,
            export_wh=got.integer("e.inject"),
            import_wh=got.integer("e.absorb"),
            registers=got.registers,
        )

    def words(self, reading: ConverterReading) -> dict[str, Words]:
        """Return the registers of each point of a reading, as they came."""
        found: dict[str, Words] = {}
        first = 0
        for block in self._all_blocks:
            own = reading.registers[first : first + block.count]
            for codec in block.points:
                at = self._register(codec.point.name).address - block.address
                found[codec.point.name] = own[at : at + codec.size_bytes // 2]
            first += block.count
        return found

    async def _snapshot(self, blocks: Sequence[Block]) -> Snapshot:
        self._seen = None
        got = await read_blocks(self._unit, blocks)
        for name in self._scales:
            value = got.value(name)
            if not isinstance(value, int) or not -10 <= value <= 10:
                raise BadAnswer(self.name, f"{name} has no value")
            self._exponents[name] = value
        self._seen = got
        return got

    def _word(self, got: Snapshot, name: str) -> str:
        return self._codecs[name].label(got.value(name))

    def _state(self, got: Snapshot) -> State:
        word = self._word(got, "state.code")
        state = STATES.get(word)
        if state is None:
            raise BadAnswer(self.name, f"unknown operating state {word or 'none'}")
        return state

    def _enabled(self, got: Snapshot, name: str) -> bool:
        return self._word(got, f"{name}.enable") == "enabled"

    def _followed(self, got: Snapshot, name: str) -> int:
        """The set value it obeys; BadAnswer where it obeys one that is told otherwise."""
        if not self._enabled(got, name):
            return 0
        mode = f"{name}.mode"
        if self._readable(mode) and (word := self._word(got, mode)) != MODES[name]:
            raise BadAnswer(self.name, f"{name} is held as {word or 'none'}, not {MODES[name]}")
        return got.integer(name)

    def _known(self, name: str) -> int | None:
        """The set value it was last seen to obey; None where that cannot be told."""
        try:
            return None if self._seen is None else self._followed(self._seen, name)
        except BadAnswer:
            return None

    def _left_ds(self, got: Snapshot) -> int:
        """The least of the timers that run; one in its last second still does."""
        left_ds = []
        for name in ("p_set", "q_set"):
            held = self._followed(got, name)
            if not self._enabled(got, name) or (name == "q_set" and not held):
                continue
            one_ds = _count(got, f"{name}.reversion_left") * 10
            if held and not one_ds and self._armed(got, name):
                one_ds = HALF_A_SECOND_DS  # counted in whole seconds
            left_ds.append(one_ds)
        return min(left_ds, default=0)

    def _armed(self, got: Snapshot, name: str) -> bool:
        """Whether a set value falls to zero by itself once nobody renews it."""
        return (
            self._word(got, f"{name}.reversion_enable") == "enabled"
            and _count(got, f"{name}.reversion_time") > 0
            and got.value(f"{name}.reversion") == 0
        )

    # Set values

    def block(self, *, p_w: int | None, q_var: int) -> bytes:
        """What the registers of the set values hold after ``hold``, as big-endian bytes."""
        runs = [
            run
            for name, value in (("p_set", p_w), ("q_set", q_var))
            if value is not None
            for run in self._set_runs(name, value)
        ]
        return b"".join(struct.pack(f">{len(words)}H", *words) for _, words in runs)

    async def hold(self, *, p_w: int | None, q_var: int) -> None:
        """Write the set values once and read them back; with ``p_w`` None that of power is not set.

        Zero is written whatever else is the matter. Anything else only where the device will
        take it back by itself when nobody renews it. Raises OutcomeUnknown when a part was
        written and the rest is not known to be.
        """
        if p_w or q_var:
            await self._check_armed(p_w=p_w, q_var=q_var)
        asked = {"p_set": p_w, "q_set": q_var}
        wanted = dict(asked)
        if self._known("q_set") == q_var:
            del wanted["q_set"]  # it holds that: one write, all or nothing
        runs = [
            run
            for name in self._order(wanted)
            if (value := wanted[name]) is not None
            for run in self._set_runs(name, value)
        ]
        self._seen = None
        sent = False
        for address, words in runs:
            try:
                await self._write(address, words)
            except (DeviceNotSent, DeviceRefused) as error:
                if not sent:
                    raise
                raise OutcomeUnknown(self.name, f"set in part: {error.what}") from None
            sent = True
        try:
            got = await self._snapshot(self._held_blocks)
            kept = {n: self._followed(got, n) for n, value in asked.items() if value is not None}
        except DeviceError as error:
            raise OutcomeUnknown(self.name, f"set, not read back: {error.what}") from None
        for name, value in kept.items():
            if value != asked[name]:
                raise OutcomeUnknown(self.name, f"{name} reads {value}, not {asked[name]}")

    async def _check_armed(self, *, p_w: int | None, q_var: int) -> None:
        """Look at what it holds and whether that ends by itself; nothing was sent if it fails."""
        try:
            got = await self._snapshot(self._held_blocks)
        except (OutcomeUnknown, BadAnswer) as error:
            raise DeviceNotSent(self.name, error.what) from None
        for name, value in (("p_set", p_w), ("q_set", q_var)):
            if value and not self._armed(got, name):
                raise GuardRefused(self.name, GuardReason.WATCHDOG, f"{name} would never end")

    def _order(self, wanted: Mapping[str, int | None]) -> list[str]:
        """Who becomes smaller goes first, so that no pair on the way is larger than both."""

        def growth(name: str) -> int:
            return abs(wanted[name] or 0) - abs(self._known(name) or 0)

        return sorted(wanted, key=growth)

    def _set_runs(self, name: str, value: int) -> list[tuple[int, list[int]]]:
        """Registers of a set value: the value first, then its mode, what enables it last.

        Neighbours go in one write, in which all of it acts at once.
        """
        words: dict[str, tuple[int, ...]] = {name: self._encode(name, value)}
        mode = f"{name}.mode"
        if mode in self._codecs:
            words[mode] = self._encode(mode, MODES[name])
        words[f"{name}.enable"] = self._encode(f"{name}.enable", "enabled")
        runs = self._joined(words)
        at = self._register(name).address
        first = [r for r in runs if r[0] <= at < r[0] + len(r[1])]
        return first + [r for r in reversed(runs) if r not in first]

    # Signs of life and orders

    async def keep(self, life_s: int) -> None:
        """Restart the reversion timers of the set values that are in use, and count on.

        Not a set value is written: one that fell stays where it is.
        """
        seen = self._seen
        for name in ("p_set", "q_set"):
            if seen is None or self._enabled(seen, name):
                for address, words in self._joined(self._timer(name, life_s)):
                    await self._write(address, words)
        self._count = (self._count + 1) % COUNT_MAX
        for address, words in self._joined({"hb.ctrl": self._encode("hb.ctrl", self._count)}):
            await self._write(address, words)

    async def arm(self, life_s: int) -> None:
        """Let both set values revert to zero after ``life_s``, set the ramp, read all of it back.

        Set values that are held are left as they are.
        """
        parts = [{"ramp_set": self._encode("ramp_set", self._ramp_ratio)}]
        for name in ("p_set", "q_set"):
            reversion = f"{name}.reversion"
            parts += [{reversion: self._encode(reversion, 0)}, self._timer(name, life_s)]
        self._seen = None
        for part in parts:
            for address, run in self._joined(part):
                await self._write(address, run)
        got = await self._snapshot(self._held_blocks)
        for name, words in [item for part in parts for item in part.items()]:
            wanted, kept = self._codecs[name].decode(words)[0], got.value(name)
            if kept != wanted:
                raise DeviceRefused(self.name, f"{name} reads {kept}, not {wanted}", 0)

    def _timer(self, name: str, life_s: int) -> dict[str, tuple[int, ...]]:
        enable, time = f"{name}.reversion_enable", f"{name}.reversion_time"
        return {enable: self._encode(enable, "enabled"), time: self._encode(time, life_s)}

    async def operate(self, command: Command) -> None:
        """START, STOP, ENTER_STANDBY, EXIT_STANDBY or RESET; the state afterwards is read."""
        if command is Command.RESET:
            words = {"cmd.reset": self._encode("cmd.reset", 1)}
        else:
            words = {"cmd.op": self._encode("cmd.op", OPERATIONS[command])}
        for address, run in self._joined(words):
            await self._write(address, run)

    async def close(self) -> None:
        """Close the connection."""
        await self._unit.client.close()

    # Registers

    def _register(self, name: str) -> Register:
        register = self._codecs[name].point.register
        assert register is not None
        return register

    def _encode(self, name: str, value: int | Decimal | str) -> tuple[int, ...]:
        """Registers of a value; zero is zero in every scale."""
        codec, exponent = self._codecs[name], 0
        scale = codec.point.scale_point
        if scale is not None and value:
            if scale not in self._exponents:
                raise DeviceNotSent(self.name, f"{scale} has not been read yet")
            exponent = self._exponents[scale]
        try:
            return codec.encode(value, exponent=exponent)
        except EncodeError as error:
            raise GuardRefused(self.name, GuardReason.RANGE, str(error)) from None

    def _joined(self, words: Mapping[str, tuple[int, ...]]) -> list[tuple[int, list[int]]]:
        """Registers to write by address, neighbours in one transaction."""
        runs: list[tuple[int, list[int]]] = []
        for name in sorted(words, key=lambda n: self._register(n).address):
            address = self._register(name).address
            if runs and runs[-1][0] + len(runs[-1][1]) == address:
                runs[-1][1].extend(words[name])
            else:
                runs.append((address, list(words[name])))
        return runs

    async def _write(self, address: int, words: Sequence[int]) -> None:
        await self._unit.write(frame.write_registers(self._unit_id, address, words))


def _count(got: Snapshot, name: str) -> int:
    """A whole number that the device need not give: without one it is 0."""
    value = got.value(name)
    return round(value) if isinstance(value, int | float) else 0
