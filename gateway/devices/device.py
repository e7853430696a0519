"""Any Modbus device by its profile: read points, write one and read it back.

Addresses that the device refuses are found by halving the block and left out from then on, so
that one unknown register does not make its neighbours unreadable.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from gateway.devices import condition
from gateway.devices.codec import PointCodec, Value, codecs_of
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.planner import BIT_TABLES, Block, plan
from gateway.devices.profile import Access, Point, Profile, Span, Table, Words
from gateway.devices.reader import scaled_value
from gateway.model.errors import DeviceNotSent, DeviceRefused, OutcomeUnknown
from gateway.model.telemetry import Quality
from gateway.ports import Clock

# Illegal address and illegal value: about the addresses asked for, not about the device's health.
ADDRESS_CODES = frozenset({2, 3})


class PointValue(NamedTuple):
    """One point as a poll saw it; the value in base units."""

    name: str
    value: Value
    quality: Quality
    registers: Words
    utc_us: int
    mono_us: int


class ModbusDevice:
    """One device and the points of its profile."""

    def __init__(
        self,
        *,
        unit: ModbusUnit,
        unit_id: int,
        profile: Profile,
        clock: Clock,
        read_only: bool = True,
    ) -> None:
        self.name = unit.name
        self.profile = profile
        self.refused: dict[str, int] = {}  # point -> exception code
        self.codecs: Mapping[str, PointCodec] = codecs_of(profile)
        self._settings = profile.modbus
        self._unit = unit
        self._unit_id = unit_id
        self._clock = clock
        self._read_only = read_only
        self._plans: dict[tuple[str, ...], tuple[Block, ...]] = {}
        self._written_us: dict[str, int] = {}
        self._written_count: dict[str, int] = {}

    # Reading

    async def get(self, names: Iterable[str] | None = None) -> dict[str, PointValue]:
        """Read the named points (all readable ones by default) in the fewest requests.

        Raises the device errors when nothing can be read; a point the device refuses comes back
        without a value.
        """
        wanted = tuple(self.codecs if names is None else dict.fromkeys(names))
        raws: dict[str, tuple[int | float | bytes, Words, int, int]] = {}
        refused_count = len(self.refused)
        planned = self._plan(wanted)
        answered = [b for block in planned for b in await self._read_block(block, raws)]
        if len(self.refused) > refused_count:
            self._plans.clear()  # plan afresh, round what is now known to be refused
        elif len(answered) > len(planned):
            self._plans[wanted] = tuple(answered)  # the trouble lies between points: keep the cut
        values: dict[str, PointValue] = {}
        for name in wanted:
            values[name] = self._value(name, raws)
        return values

    @property
    def points(self) -> Mapping[str, Point]:
        """The points of the profile by name."""
        return {name: codec.point for name, codec in self.codecs.items()}

    def blocks(self, names: Iterable[str] | None = None) -> tuple[Block, ...]:
        """The requests that reading these points takes now."""
        return self._plan(tuple(self.codecs if names is None else dict.fromkeys(names)))

    def _plan(self, wanted: tuple[str, ...]) -> tuple[Block, ...]:
        found = self._plans.get(wanted)
        if found is None:
            scales = (self.codecs[name].point.scale_point for name in wanted)
            names = dict.fromkeys([*wanted, *(s for s in scales if s is not None)])
            found = plan(
                [self.codecs[n] for n in names if self._readable(n)],
                self._settings,
                unit=self._unit_id,
            )
            self._plans[wanted] = found
        return found

    def _readable(self, name: str) -> bool:
        return self.codecs[name].point.access is not Access.WRITE and name not in self.refused

    async def _read_block(
        self, block: Block, raws: dict[str, tuple[int | float | bytes, Words, int, int]]
    ) -> list[Block]:
        """Read a block, or its halves where it is refused; return the blocks that answered."""
        try:
            utc_us, mono_us = self._clock.utc_us(), self._clock.mono_us()
            data = await self._unit.read(block.request)
        except DeviceRefused as refused:
            if refused.code not in ADDRESS_CODES:
                raise
            if len(block.points) == 1:
                self._refuse(block, refused.code)
                return []
            return [b for half in self._halves(block) for b in await self._read_block(half, raws)]
        utc_us = (utc_us + self._clock.utc_us()) // 2
        mono_us = (mono_us + self._clock.mono_us()) // 2
        words = struct.unpack(f">{len(data) // 2}H", data) if block.table not in BIT_TABLES else ()
        for codec, raw in zip(block.points, block.raws(data), strict=True):
            register = codec.point.register
            assert register is not None
            start = register.address - block.address
            own = words[start : start + codec.size_bytes // 2]
            raws[codec.point.name] = (raw, own, utc_us, mono_us)
        return [block]

    def _refuse(self, block: Block, code: int) -> None:
        self.refused[block.names[0]] = code
        register = block.points[0].point.register
        assert register is not None
        hole = Span(register=register, count=block.count)
        self._settings = dataclasses.replace(
            self._settings, forbidden=(*self._settings.forbidden, hole)
        )

    def _halves(self, block: Block) -> list[Block]:
        middle = len(block.points) // 2
        return [
            half
            for points in (block.points[:middle], block.points[middle:])
            for half in plan(points, self._settings, unit=self._unit_id)
        ]

    def _value(
        self, name: str, raws: Mapping[str, tuple[int | float | bytes, Words, int, int]]
    ) -> PointValue:
        if name not in raws:
            return PointValue(
                name=name,
                value=None,
                quality=Quality.BAD,
                registers=(),
                utc_us=self._clock.utc_us(),
                mono_us=self._clock.mono_us(),
            )
        raw, words, utc_us, mono_us = raws[name]
        codec = self.codecs[name]
        scale = codec.point.scale_point
        if scale is None:
            value, quality = codec.decode_raw(raw)
        else:
            exponent = self.codecs[scale].decode_raw(raws[scale][0])[0] if scale in raws else None
            value, quality = scaled_value(codec, raw, exponent)
        return PointValue(name, value, quality, words, utc_us, mono_us)

    # Writing

    async def set(self, name: str, value: int | float | str | Decimal) -> PointValue:
        """Write one point once and return what the device then shows in its read-back point.

        Raises GuardRefused before anything leaves, EncodeError for a value that does not fit,
        and OutcomeUnknown when the write or its read-back got no answer.
        """
        codec = self.codecs[name]
        point = codec.point
        await self._check(name, value)
        exponent = 0
        if point.scale_point is not None:
            found = (await self.get([point.scale_point]))[point.scale_point].value
            if not isinstance(found, int) or not -10 <= found <= 10:
                raise GuardRefused(self.name, GuardReason.RANGE, f"{point.scale_point}: {found}")
            exponent = found
        words = codec.encode(value, exponent=exponent)
        self._written_us[name] = self._clock.mono_us()
        self._written_count[name] = self._written_count.get(name, 0) + 1
        await self._unit.write(self._write_request(name, words))
        shown = point.readback or name
        try:
            return (await self.get([shown]))[shown]
        except (DeviceRefused, DeviceNotSent) as error:
            raise OutcomeUnknown(self.name, f"written, but {error.what}") from None

    def _write_request(self, name: str, words: Sequence[int]) -> frame.Request:
        point = self.codecs[name].point
        assert point.register is not None
        address = point.register.address
        if point.register.table is Table.COIL:
            return frame.write_coil(self._unit_id, address, on=bool(words[0]))
        if point.write.fc_code == frame.Function.WRITE_REGISTER and len(words) == 1:
            return frame.write_register(self._unit_id, address, words[0])
        return frame.write_registers(self._unit_id, address, words)

    async def _check(self, name: str, value: int | float | str | Decimal) -> None:
        point = self.codecs[name].point
        if self._read_only:
            raise self._no(GuardReason.READ_ONLY, "this device was opened for reading")
        if point.access is Access.READ:
            raise self._no(GuardReason.READ_ONLY, f"{name} cannot be written")
        if point.range is not None and not isinstance(value, str):
            low, high = point.range
            if not low <= Decimal(value) <= high:
                raise self._no(GuardReason.RANGE, f"{name} {value} outside {low} … {high}")
        last_us = self._written_us.get(name)
        since_us = self._clock.mono_us() - last_us if last_us is not None else None
        if since_us is not None and since_us < point.write.interval_ms_min * 1000:
            raise self._no(
                GuardReason.WRITE_RATE, f"{name} within {point.write.interval_ms_min} ms"
            )
        worn = self._written_count.get(name, 0)
        if point.write_count_max is not None and worn >= point.write_count_max:
            raise self._no(GuardReason.WEAR, f"{name} was written {worn} times")
        await self._check_interlocks(name)

    async def _check_interlocks(self, name: str) -> None:
        locks = [lock for lock in self.profile.interlocks if name in lock.block]
        if not locks:
            return
        seen = await self.get(dict.fromkeys(n for k in locks for n in condition.points_in(k.when)))
        for lock in locks:
            if condition.holds(lock.when, lambda n: self._word(seen[n])):
                raise self._no(GuardReason.STATE, f"{lock.id} ({lock.when}): {lock.cause}")

    def _word(self, seen: PointValue) -> int | float | str | None:
        labels = self.codecs[seen.name].point.label_by_code
        if isinstance(seen.value, int) and labels:
            return labels.get(seen.value, str(seen.value))
        return seen.value

    def _no(self, reason: GuardReason, detail: str) -> GuardRefused:
        return GuardRefused(self.name, reason, detail)

    @property
    def counts(self) -> Mapping[str, int]:
        """What came of the requests so far: answers, failures and lies by kind."""
        return self._unit.counts

    async def close(self) -> None:
        """Close the connection."""
        await self._unit.client.close()
