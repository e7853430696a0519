"""One codec a point for reading and writing: registers to values and back.

A value comes out in the base unit of its point (W, Wh, V …): as an int where the scale keeps it
whole, else as the float nearest to the exact figure. What has no value (NaN, infinity, a
not-available pattern) comes out as None with quality BAD, never as a number.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

from gateway.devices.profile import (
    ModbusSettings,
    NotAvailable,
    Order,
    Point,
    PointType,
    Profile,
)
from gateway.model.telemetry import Quality

Value = int | float | str | None
Decoded = tuple[Value, Quality]

_FORMAT: Mapping[PointType, str] = MappingProxyType(
    {
        PointType.BOOL: "H",
        PointType.UINT16: "H",
        PointType.INT16: "h",
        PointType.ENUM16: "H",
        PointType.BITS16: "H",
        PointType.ACC16: "H",
        PointType.SUNSSF: "h",
        PointType.UINT32: "I",
        PointType.INT32: "i",
        PointType.ENUM32: "I",
        PointType.BITS32: "I",
        PointType.ACC32: "I",
        PointType.FLOAT32: "f",
        PointType.UINT64: "Q",
        PointType.INT64: "q",
        PointType.BITS64: "Q",
        PointType.ACC64: "Q",
        PointType.FLOAT64: "d",
    }
)
_SIGNED = frozenset({PointType.INT16, PointType.INT32, PointType.INT64, PointType.SUNSSF})
_FLOATS = frozenset({PointType.FLOAT32, PointType.FLOAT64})
_ACCUMULATORS = frozenset({PointType.ACC16, PointType.ACC32, PointType.ACC64})
_NO_FIT = "it does not fit the registers"


class EncodeError(ValueError):
    """The value cannot be written to this point."""


class PointCodec:
    """Both directions for one point of a profile."""

    __slots__ = (
        "_absent",
        "_denominator",
        "_exact",
        "_is_float",
        "_numerator",
        "_order",
        "_struct",
        "point",
        "size_bytes",
        "struct_code",
    )

    def __init__(self, point: Point, settings: ModbusSettings) -> None:
        assert point.count == 1, "a codec takes one value"
        self.point = point
        self.size_bytes = 2 * point.register_count
        self.struct_code = (
            f"{self.size_bytes}s" if point.type is PointType.STRING else _FORMAT[point.type]
        )
        self._struct = struct.Struct(">" + self.struct_code)
        self._is_float = point.type in _FLOATS
        factor = Fraction(point.to_base)
        self._numerator, self._denominator = factor.numerator, factor.denominator
        self._exact = self._denominator == 1
        words = point.word_order or settings.word_order
        octets = point.byte_order or settings.byte_order
        self._order = byte_places(
            size_bytes=self.size_bytes, word_order=words, byte_order=octets, type_=point.type
        )
        self._absent = absent_patterns(point, settings.not_available)

    @property
    def places(self) -> tuple[int, ...] | None:
        """Where each byte comes from; None when the wire order is already the natural one."""
        return self._order

    def decode_bytes(self, data: bytes, *, exponent: int = 0) -> Decoded:
        """Turn the registers' bytes into a value; ``exponent`` is the SunSpec scale factor."""
        if self._order is not None:
            data = bytes(data[i] for i in self._order)
        return self.decode_raw(self._struct.unpack(data)[0], exponent=exponent)

    def decode(self, words: Sequence[int], *, exponent: int = 0) -> Decoded:
        """Like ``decode_bytes``, from registers."""
        return self.decode_bytes(struct.pack(f">{len(words)}H", *words), exponent=exponent)

    def decode_raw(self, raw: int | float | bytes, *, exponent: int = 0) -> Decoded:
        """Give the raw number its meaning."""
        if isinstance(raw, bytes):
            return _decode_text(raw)
        if self._is_float:
            if not math.isfinite(raw):
                return None, Quality.BAD
        elif raw in self._absent:
            return None, Quality.BAD
        if self.point.bit_index is not None:
            return int(raw) >> self.point.bit_index & 1, Quality.GOOD
        if exponent:
            return self._scaled(raw, exponent), Quality.GOOD
        if self._exact:
            return raw * self._numerator, Quality.GOOD
        return raw * self._numerator / self._denominator, Quality.GOOD

    def _scaled(self, raw: int | float, exponent: int) -> int | float:
        numerator, denominator = self._numerator, self._denominator
        if exponent > 0:
            numerator *= 10**exponent
        else:
            denominator *= 10**-exponent
        if denominator == 1 or (isinstance(raw, int) and raw * numerator % denominator == 0):
            return raw * numerator // denominator if isinstance(raw, int) else raw * numerator
        return raw * numerator / denominator

    def encode(self, value: int | float | str | Decimal, *, exponent: int = 0) -> tuple[int, ...]:
        """Turn a value in base units into registers; EncodeError when it does not fit exactly."""
        if self.point.type is PointType.STRING:
            data = _encode_text(str(value), self.size_bytes)
        else:
            data = self._pack(self._raw_of(value, exponent))
        if self._order is not None:
            back = bytearray(self.size_bytes)
            for place, source in enumerate(self._order):
                back[source] = data[place]
            data = bytes(back)
        return struct.unpack(f">{len(data) // 2}H", data)

    def _raw_of(self, value: int | float | str | Decimal, exponent: int) -> int | float:
        if isinstance(value, str):
            for code, label in self.point.label_by_code.items():
                if label == value:
                    return code
            raise EncodeError(f"{self.point.name}: no such value {value!r}")
        if self.point.bit_index is not None:
            raise EncodeError(f"{self.point.name}: a single bit cannot be written by itself")
        if isinstance(value, float) and not math.isfinite(value):
            raise EncodeError(f"{self.point.name}: {value} is not a number")
        if self._is_float:
            if self._denominator == self._numerator == 1 and not exponent:
                return float(value)
            return float(Fraction(value) / self._factor(exponent))
        exact = Fraction(value) / self._factor(exponent)
        raw = round(exact)
        if raw != exact and (isinstance(value, int) or abs(raw - exact) > Fraction(1, 10**6)):
            raise EncodeError(f"{self.point.name}: {value} is finer than the register's step")
        return raw

    def _factor(self, exponent: int) -> Fraction:
        return Fraction(self._numerator, self._denominator) * Fraction(10) ** exponent

    def _pack(self, raw: int | float) -> bytes:
        try:
            data = self._struct.pack(raw)
        except (struct.error, OverflowError):
            raise EncodeError(f"{self.point.name}: {raw}: {_NO_FIT}") from None
        if self._is_float:
            if not math.isfinite(self._struct.unpack(data)[0]):
                raise EncodeError(f"{self.point.name}: {raw}: {_NO_FIT}")
        elif raw in self._absent:
            raise EncodeError(f"{self.point.name}: {raw} means that there is no value")
        return data

    def label(self, value: Value) -> str:
        """The word for an enumerated value; the number where there is none."""
        if isinstance(value, int):
            return self.point.label_by_code.get(value, str(value))
        return "" if value is None else str(value)


def _decode_text(raw: bytes) -> Decoded:
    text = raw.split(b"\0", 1)[0]
    if not text:
        return None, Quality.BAD
    try:
        return text.decode("utf-8").strip(), Quality.GOOD
    except UnicodeDecodeError:
        return None, Quality.BAD


def _encode_text(text: str, size_bytes: int) -> bytes:
    data = text.encode()
    if len(data) > size_bytes:
        raise EncodeError(f"{text!r} is longer than {size_bytes} bytes")
    if not data or b"\0" in data:
        raise EncodeError(f"{text!r} cannot be told from no value")
    return data.ljust(size_bytes, b"\0")


def byte_places(
    *, size_bytes: int, word_order: Order, byte_order: Order, type_: PointType
) -> tuple[int, ...] | None:
    """For each byte of the natural order, its place on the wire; None when they agree."""
    places = list(range(size_bytes))
    if byte_order is Order.LITTLE:
        places = [i ^ 1 for i in places]
    if word_order is Order.LITTLE and type_ is not PointType.STRING:
        pairs = [places[i : i + 2] for i in range(0, size_bytes, 2)]
        places = [i for pair in reversed(pairs) for i in pair]
    return None if places == list(range(size_bytes)) else tuple(places)


def absent_patterns(point: Point, rule: NotAvailable) -> frozenset[int]:
    """Raw numbers that mean "no value", signed where the type is."""
    if point.type in _FLOATS or point.type is PointType.STRING:
        return frozenset()
    width = 16 * point.register_count
    signed = point.type in _SIGNED
    if point.not_available is not None:
        patterns = point.not_available
        return frozenset(p - (1 << width) if signed and p >> (width - 1) else p for p in patterns)
    if rule is NotAvailable.NONE or point.type is PointType.BOOL:
        return frozenset()
    if rule is NotAvailable.ALL_ONES:
        return frozenset({(1 << width - 1) - 1 if signed else (1 << width) - 1})
    if point.type in _ACCUMULATORS:
        return frozenset({0})
    return frozenset({-(1 << width - 1) if signed else (1 << width) - 1})


def codecs_of(profile: Profile, terminal_count: int | None = None) -> Mapping[str, PointCodec]:
    """A codec for every point of a Modbus profile, by name."""
    return {
        point.name: PointCodec(point, profile.modbus)
        for point in profile.all_points(terminal_count)
    }


class BlockDecoder:
    """Decodes all points of one block of registers in one ``struct`` call.

    ``fields`` are (codec, offset in bytes). Points that share registers (bits of one word) are
    unpacked once a layer. The order of the results is the order of the fields.
    """

    __slots__ = ("_layers", "_meanings", "_order", "_picker")

    def __init__(self, fields: Sequence[tuple[PointCodec, int]], size_bytes: int) -> None:
        self._picker = _picker(fields, size_bytes)
        self._layers, unpacked = _layers(fields, size_bytes)
        place_of = {field: place for place, field in enumerate(unpacked)}
        order = tuple(place_of[field] for field in range(len(fields)))
        self._order = None if order == tuple(range(len(fields))) else order
        self._meanings = tuple(codec.decode_raw for codec, _ in fields)

    def raws(self, data: bytes) -> tuple[int | float | bytes, ...]:
        """The raw numbers of all fields, in the order of the fields."""
        if self._picker is not None:
            data = bytes([data[i] for i in self._picker])
        values: tuple[int | float | bytes, ...] = ()
        for layer in self._layers:
            values += layer.unpack(data)
        if self._order is None:
            return values
        return tuple([values[i] for i in self._order])

    def decode(self, data: bytes) -> list[Decoded]:
        """The values of all fields."""
        return [mean(raw) for mean, raw in zip(self._meanings, self.raws(data), strict=True)]


def _picker(fields: Sequence[tuple[PointCodec, int]], size_bytes: int) -> tuple[int, ...] | None:
    """One permutation of the block that brings every field into natural order."""
    places = list(range(size_bytes))
    for codec, offset in fields:
        if codec.places is not None:
            for i, source in enumerate(codec.places):
                places[offset + i] = offset + source
    return None if places == list(range(size_bytes)) else tuple(places)


def _layers(
    fields: Sequence[tuple[PointCodec, int]], size_bytes: int
) -> tuple[list[struct.Struct], list[int]]:
    """Structs that together unpack every field, and which field each of their values is."""
    left = sorted(range(len(fields)), key=lambda i: fields[i][1])
    layers: list[struct.Struct] = []
    order: list[int] = []
    while left:
        text, end, again = ">", 0, []
        for i in left:
            codec, offset = fields[i]
            if offset < end:
                again.append(i)
                continue
            text += f"{offset - end}x" if offset > end else ""
            text += codec.struct_code
            end = offset + codec.size_bytes
            order.append(i)
        text += f"{size_bytes - end}x" if size_bytes > end else ""
        layers.append(struct.Struct(text))
        left = again
    return layers, order


def whole(value: Value, *, per_unit: int = 1) -> int:
    """A decoded number as a whole count of 1/``per_unit`` base units, half away from zero."""
    assert isinstance(value, int | float)
    if isinstance(value, int):
        return value * per_unit
    scaled = value * per_unit
    return math.floor(scaled + 0.5) if scaled >= 0 else math.ceil(scaled - 0.5)
