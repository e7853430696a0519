"""Canonical JSON for everything the gateway signs: sorted ASCII keys, no floats, |int| < 2^53.

A subset of RFC 8785, so any implementation of that gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

INTEGER_MAX = 2**53 - 1  # the largest integer every JSON reader keeps exactly

_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode(value: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of an object; TypeError or ValueError when it has none."""
    _check(value)
    return _ENCODER.encode(value)


def _check(value: object) -> None:
    if isinstance(value, bool | str) or value is None:
        return
    if isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise ValueError(f"{value} is beyond 2^53: write it as a string")
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii()):
                raise TypeError(f"key {key!r} is not ASCII text")
            _check(item)
        return
    if isinstance(value, list | tuple):
        for item in value:
            _check(item)
        return
    raise TypeError(f"{type(value).__name__} has no canonical form here")
