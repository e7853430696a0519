"""Runs the test vectors and round trips of a profile through the codec of the drivers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from gateway.config.yaml_reader import Document, Node
from gateway.devices.codec import EncodeError, PointCodec
from gateway.devices.profile import PointType, Profile, Protocol, TestVector

FLOAT32_RELATIVE = Decimal("1e-6")  # a 24-bit mantissa keeps seven digits
FLOAT64_RELATIVE = Decimal("1e-14")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorOutcome:
    """What a vector gave."""

    vector: TestVector
    got: str
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """How many register patterns of one point came back the same after decode and encode."""

    point: str
    pattern_count: int
    failed: tuple[str, ...]


def _codec(profile: Profile, name: str) -> PointCodec:
    return PointCodec(profile.point(name), profile.modbus)


def hex_text(words: tuple[int, ...]) -> str:
    """Write registers the way vectors do."""
    return "[" + ", ".join(f"0x{word:04X}" for word in words) + "]"


def _same(codec: PointCodec, got: object, wanted: Decimal | str | None) -> bool:
    if wanted is None or got is None:
        return got is None and wanted is None
    if isinstance(wanted, str):
        if isinstance(got, str):
            return got == wanted
        return isinstance(got, int) and codec.label(got) == wanted
    if isinstance(got, str) or not isinstance(got, int | float):
        return False
    relative = {PointType.FLOAT32: FLOAT32_RELATIVE, PointType.FLOAT64: FLOAT64_RELATIVE}
    slack = abs(wanted) * relative.get(codec.point.type, Decimal("1e-14"))
    return abs(Decimal(got) - wanted) <= slack


def run_vector(profile: Profile, vector: TestVector) -> VectorOutcome:
    """Decode or encode one vector and hold it against what it should give."""
    codec = _codec(profile, vector.point)
    if vector.write:
        assert vector.value is not None, "checked: a vector writes something"
        value = vector.value
        if isinstance(value, str) and codec.point.type is not PointType.STRING:
            value = Decimal(next(n for n, w in codec.point.label_by_code.items() if w == value))
        try:
            words = codec.encode(value)
        except EncodeError as error:
            return VectorOutcome(vector=vector, got=str(error), ok=False)
        return VectorOutcome(vector=vector, got=hex_text(words), ok=words == vector.registers)
    got, _ = codec.decode(vector.registers)
    text = value_text(codec, got)
    return VectorOutcome(vector=vector, got=text, ok=_same(codec, got, vector.value))


def value_text(codec: PointCodec, got: object) -> str:
    """Write a decoded value with the unit of the profile."""
    if got is None:
        return "none"
    if isinstance(got, str):
        return got
    assert isinstance(got, int | float)
    point = codec.point
    if point.label_by_code and isinstance(got, int):
        return codec.label(got)
    factor = point.to_base / point.scale
    amount = Decimal(repr(got)) / factor
    return f"{amount.normalize():f} {point.unit}".strip()


def patterns(register_count: int) -> Iterator[tuple[int, ...]]:
    """Register patterns that tell every order apart: corners, single bits, a running sequence."""
    yield (0,) * register_count
    yield (0xFFFF,) * register_count
    yield tuple(0x0102 + 0x0202 * i for i in range(register_count))
    yield tuple(0xFEDC - 0x2222 * i for i in range(register_count))
    for bit in range(16 * register_count):
        word, place = divmod(bit, 16)
        yield tuple(1 << place if i == word else 0 for i in range(register_count))


def round_trip(profile: Profile, name: str) -> RoundTrip:
    """Decode patterns and encode them again: reading and writing must agree bit for bit."""
    codec = _codec(profile, name)
    point = codec.point
    count, failed = 0, []
    # One bit of a register, and text, do not fill their registers: nothing to come back to.
    if point.bit_index is None and point.type is not PointType.STRING:
        for words in patterns(point.register_count):
            got, _ = codec.decode(words)
            if got is None or isinstance(got, str) or _inexact(point.type, words, codec):
                continue
            count += 1
            try:
                back = codec.encode(_exact(codec, words))
            except EncodeError as error:
                failed.append(f"{hex_text(words)} decodes to {got} and then: {error}")
                continue
            if back != words:
                failed.append(f"{hex_text(words)} decodes to {got} and comes back {hex_text(back)}")
    return RoundTrip(point=name, pattern_count=count, failed=tuple(failed))


def _exact(codec: PointCodec, words: tuple[int, ...]) -> Decimal:
    """The value of the registers without the rounding a scale may bring in."""
    return Decimal(_raw(codec, words)) * codec.point.to_base


def _raw(codec: PointCodec, words: tuple[int, ...]) -> int | float:
    data = struct.pack(f">{len(words)}H", *words)
    if codec.places is not None:
        data = bytes(data[i] for i in codec.places)
    found = struct.unpack(">" + codec.struct_code, data)[0]
    assert isinstance(found, int | float)
    return found


def _inexact(kind: PointType, words: tuple[int, ...], codec: PointCodec) -> bool:
    """Minus zero, and floats that a scale could move out of range, prove nothing."""
    if kind not in (PointType.FLOAT32, PointType.FLOAT64):
        return False
    raw = _raw(codec, words)
    return any(words) and not 1e-30 < abs(raw) < 1e30


def check_vectors_decode(document: Document, root: Node, profile: Profile) -> None:
    """Note every vector that does not give its value."""
    if profile.protocol is not Protocol.MODBUS:
        return
    tests = root.get("tests")
    nodes = tests.items if tests is not None else ()
    for node, vector in zip(nodes, profile.tests, strict=True):
        outcome = run_vector(profile, vector)
        if not outcome.ok:
            verb = "encodes to" if vector.write else "decodes to"
            place = node.get("registers") or node
            message = f"this vector of “{vector.point}” {verb} {outcome.got}"
            document.add(
                28,
                message,
                place,
                help="check type, word order, scale and the example in the manual",
            )
