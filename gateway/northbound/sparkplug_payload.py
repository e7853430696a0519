"""Sparkplug B payloads: the few protobuf fields that a read-only node writes and reads.

Source: Sparkplug 3.0.0 specification, §6.4 (payload, metric, property set, data types). Written by
hand because two dozen fields need no code generator; checked against another implementation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
INT64, DOUBLE, BOOLEAN, STRING = 4, 10, 11, 12
PAYLOAD_BYTES_MAX = 64 << 10  # of a command to us; ours to others are bounded by the site

Content = bool | int | float | str | None


class PayloadError(ValueError):
    """Bytes that are no Sparkplug payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One value; ``alias_number`` replaces the name after the birth."""

    datatype_code: int
    content: Content
    name: str = ""
    alias_number: int | None = None
    utc_ms: int | None = None
    unit: str = ""
    stale: bool = False


def datatype_of(kind: type[bool | int | float | str]) -> int:
    """Return the Sparkplug data type of a Python type."""
    return {bool: BOOLEAN, int: INT64, float: DOUBLE, str: STRING}[kind]


def write(*, utc_ms: int, metrics: Iterable[Metric], seq: int | None = None) -> bytes:
    """Return a payload; ``seq`` is left out of a death certificate."""
    parts = [_number(1, utc_ms)]
    parts += [_bytes(2, _metric(m)) for m in metrics]
    if seq is not None:
        parts.append(_number(3, seq))
    return b"".join(parts)


def _metric(m: Metric) -> bytes:
    parts = []
    if m.name:
        parts.append(_bytes(1, m.name.encode()))
    if m.alias_number is not None:
        parts.append(_number(2, m.alias_number))
    if m.utc_ms is not None:
        parts.append(_number(3, m.utc_ms))
    parts.append(_number(4, m.datatype_code))
    properties = _properties(m)
    if properties:
        parts.append(_bytes(9, properties))
    if m.content is None:
        parts.append(_number(7, 1))  # is_null
    else:
        parts.append(_content(m))
    return b"".join(parts)


def _content(m: Metric) -> bytes:
    content = m.content
    assert content is not None, "a null has no content"
    match m.datatype_code:
        case 11:  # BOOLEAN
            return _number(14, int(bool(content)))
        case 12:  # STRING
            return _bytes(15, str(content).encode())
        case 10:  # DOUBLE
            return _key(13, FIXED64) + struct.pack("<d", float(content))
        case _:  # INT64 as the two's complement of 64 bits
            return _number(11, int(content) & (1 << 64) - 1)


def _properties(m: Metric) -> bytes:
    """Write engineering unit and quality: 500 is stale, 0 bad, 192 good (§6.4.16)."""
    keys, values = [], []
    if m.unit:
        keys.append("engUnit")
        values.append(_number(1, STRING) + _bytes(8, m.unit.encode()))
    if m.stale:
        keys.append("Quality")
        values.append(_number(1, 3) + _number(3, 500))
    return b"".join(_bytes(1, k.encode()) for k in keys) + b"".join(_bytes(2, v) for v in values)


def read(payload: bytes) -> dict[str, Content]:
    """Return the named booleans, numbers and words of a command; the rest is passed over.

    Raises:
        PayloadError: the bytes are not a payload, or there are too many.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise PayloadError("payload too large")
    found: dict[str, Content] = {}
    try:
        for field, content in _fields(payload):
            if field == 2 and isinstance(content, bytes):
                name, value = _read_metric(content)
                found[name] = value
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise PayloadError(str(error)) from None
    return found


def _read_metric(data: bytes) -> tuple[str, Content]:
    name = ""
    value: Content = None
    for field, content in _fields(data):
        if field == 1 and isinstance(content, bytes):
            name = content.decode()
        elif field == 14 and isinstance(content, int):
            value = bool(content)
        elif field in (10, 11) and isinstance(content, int):
            value = content
        elif field == 15 and isinstance(content, bytes):
            value = content.decode()
    return name, value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        match wire:
            case 0:
                number, at = _varint(data, at)
                yield field, number
            case 1 | 5:
                size = 8 if wire == FIXED64 else 4
                piece, at = _piece(data, at, size)
                yield field, piece
            case 2:
                size, at = _varint(data, at)
                piece, at = _piece(data, at, size)
                yield field, piece
            case _:
                raise PayloadError(f"wire type {wire}")


def _piece(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - at:
        raise PayloadError("cut short")
    return data[at : at + size], at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise PayloadError("number too long")


def _key(field: int, wire: int) -> bytes:
    return _raw(field << 3 | wire)


def _raw(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, number: int) -> bytes:
    return _key(field, VARINT) + _raw(number)


def _bytes(field: int, data: bytes) -> bytes:
    return _key(field, LENGTH) + _raw(len(data)) + data
