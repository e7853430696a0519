"""Canonical JSON of ledger entries: the RFC 8785 subset that every decoder reads the same way.

Sorted ASCII keys, no floats, integers below 2^53, at most 65,535 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import GenericAlias
from typing import Annotated, Any

import msgspec

LEAF_BYTES_MAX = 65_535
"""A tlog-tiles bundle states each entry's length in two bytes."""

INTEGER_MAX = (1 << 53) - 1
DEPTH_MAX = 64
"""Deeper nesting is no entry anybody writes and would exhaust a reader's stack."""

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder()


def _plain(depth: int) -> Any:
    """The type of what may stand in an entry, nested so deep."""
    scalar: Any = str | bool | Annotated[int, msgspec.Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)] | None
    kind: Any = scalar
    for _ in range(depth):
        kind = scalar | GenericAlias(list, kind) | GenericAlias(dict, (str, kind))
    return kind


_plain_decoder = msgspec.json.Decoder(GenericAlias(dict, (str, _plain(6))))
"""Refuses, while it decodes, what ``check`` would refuse but for text that is not ASCII."""


class CanonicalError(ValueError):
    """An object has no canonical form, or bytes are not in theirs; ``path`` says where."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


def encode(obj: Mapping[str, object]) -> bytes:
    """Encode one entry; raise CanonicalError naming the place that cannot be encoded."""
    if not isinstance(obj, Mapping):
        raise CanonicalError("$", "an entry is an object")
    if not isinstance(obj, dict) or not sound(obj, 0):
        check(obj, "$", 0)  # names the place, or knows that it is as good
    data = _encoder.encode(obj)
    if len(data) > LEAF_BYTES_MAX:
        raise CanonicalError("$", f"{len(data)} bytes, at most {LEAF_BYTES_MAX}")
    return data


def decode(data: bytes) -> dict[str, object]:
    """Decode one entry; raise CanonicalError unless the bytes are exactly its canonical form."""
    if len(data) > LEAF_BYTES_MAX:
        raise CanonicalError("$", f"{len(data)} bytes, at most {LEAF_BYTES_MAX}")
    if data.isascii():
        with suppress(msgspec.DecodeError, RecursionError):  # the longer way says what is wrong
            plain: dict[str, object] = _plain_decoder.decode(data)
            if _encoder.encode(plain) == data:
                return plain
    try:
        obj = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CanonicalError("$", f"not JSON: {error}") from None
    if not isinstance(obj, dict):
        raise CanonicalError("$", "an entry is an object")
    if encode(obj) != data:
        raise CanonicalError("$", "not in canonical form")
    return obj


def fits(obj: dict[Any, Any], depth: int) -> None:
    """Raise CanonicalError unless an object can stand so deep inside an entry."""
    if not sound(obj, depth):
        check(obj, "$", depth)


def sound(value: dict[object, object] | list[object], depth: int) -> bool:
    """Whether an object or list can surely stand in an entry: a False says nothing yet.

    Nearly every entry passes here, and no place is named until somebody has to be told.
    """
    if depth >= DEPTH_MAX:
        return False
    items: Iterable[object] = value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or not key.isascii():
                return False
        items = value.values()
    for item in items:
        if isinstance(item, str):
            if not item.isascii():
                return False
        elif isinstance(item, int):
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                return False
        elif isinstance(item, dict | list):
            if not sound(item, depth + 1):
                return False
        elif item is not None:
            return False
    return True


def check(value: object, path: str, depth: int) -> None:
    """Raise CanonicalError unless the value can stand in an entry."""
    if depth > DEPTH_MAX:
        raise CanonicalError(path, "nested too deeply")
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if not value.isascii() and any(0xD800 <= ord(c) <= 0xDFFF for c in value):
            raise CanonicalError(path, "text has a lone surrogate")
    elif isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise CanonicalError(path, f"integer {value} is not below 2^53")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise CanonicalError(path, f"key {key!r} is not ASCII text")
            check(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            check(item, f"{path}[{position}]", depth + 1)
    else:
        raise CanonicalError(path, f"{type(value).__name__} cannot stand in an entry")
