"""Reads the blocks of one device and keeps an answer only when all of it came."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from gateway.devices.codec import Decoded, PointCodec, Value
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.planner import Block
from gateway.model.errors import BadAnswer
from gateway.model.telemetry import Quality


class Snapshot:
    """The decoded points of one poll and the registers they came from."""

    __slots__ = ("_device", "_values", "registers")

    def __init__(
        self, device: str, values: Mapping[str, Decoded], registers: tuple[int, ...]
    ) -> None:
        self._device = device
        self._values = values
        self.registers = registers

    def value(self, name: str) -> Value:
        """A point's value; None where the device says that there is none."""
        return self._values[name][0]

    def number(self, name: str) -> int | float:
        """A point's number; BadAnswer when the device gave none."""
        value = self._values[name][0]
        if not isinstance(value, int | float):
            raise BadAnswer(self._device, f"{name} has no value")
        return value

    def integer(self, name: str, *, per_unit: int = 1) -> int:
        """A point's number as a whole count of 1/``per_unit`` base units."""
        value = self.number(name)
        if isinstance(value, int):
            return value * per_unit
        return round(value * per_unit)


async def read_blocks(unit: ModbusUnit, blocks: Sequence[Block]) -> Snapshot:
    """Read every block; raise before anything is used when one of them fails."""
    values: dict[str, Decoded] = {}
    scaled: list[tuple[PointCodec, int | float | bytes]] = []
    words: list[int] = []
    for block in blocks:
        data = await unit.read(block.request)
        values.update(zip(block.names, block.decode(data), strict=True))
        if block.scaled:
            raws = block.raws(data)
            scaled += [(block.points[i], raws[i]) for i in block.scaled]
        words += struct.unpack(f">{len(data) // 2}H", data)
    for codec, raw in scaled:
        assert codec.point.scale_point is not None
        exponent = values[codec.point.scale_point][0]
        values[codec.point.name] = scaled_value(codec, raw, exponent)
    return Snapshot(unit.name, values, tuple(words))


def scaled_value(codec: PointCodec, raw: int | float | bytes, exponent: Value) -> Decoded:
    """Apply a SunSpec scale factor; without a sane one there is no value."""
    if not isinstance(exponent, int) or not -10 <= exponent <= 10:
        return None, Quality.BAD
    return codec.decode_raw(raw, exponent=exponent)
