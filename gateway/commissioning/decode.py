"""Every plausible decoding of a register block; never one where two survive.

The right decoding and its neighbour one register lower with swapped words share the high word
and so differ by less than 1 %: no range check tells them apart (see docs/commissioning.md).
"""

from __future__ import annotations

import enum
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

Readings = tuple[float, ...]  # in the unit the engineer expects; decoding knows none
OFFSETS = (0, -1, 1, -2, 2)  # manuals count from 0 or 1, and 32-bit values invite a slip by two
SCALES = (1.0, 0.1, 0.01, 10.0)


class Kind(enum.StrEnum):
    """How the bits of a value are read."""

    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    FLOAT32 = "float32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT64 = "float64"


_FORMAT = {
    Kind.UINT16: (">H", 1), Kind.INT16: (">h", 1), Kind.UINT32: (">I", 2), Kind.INT32: (">i", 2),
    Kind.FLOAT32: (">f", 2), Kind.UINT64: (">Q", 4), Kind.INT64: (">q", 4), Kind.FLOAT64: (">d", 4),
}  # fmt: skip
NARROW = (Kind.UINT16, Kind.INT16, Kind.UINT32, Kind.INT32, Kind.FLOAT32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """One way to read a value: place, type, orders and scale."""

    offset: int
    kind: Kind
    word_swap: bool  # low word first
    byte_swap: bool  # low byte first within a register
    scale: float

    @property
    def order(self) -> str:
        """Byte order in the letters of the trade: ABCD, CDAB, BADC, DCBA, or AB and BA."""
        words = _FORMAT[self.kind][1]
        letters = "ABCDEFGH"[: 2 * words]
        pairs = [letters[i : i + 2] for i in range(0, len(letters), 2)]
        if self.word_swap:
            pairs.reverse()
        return "".join(p[::-1] if self.byte_swap else p for p in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A decoding that gives plausible values, with what it gives."""

    encoding: Encoding
    values: Readings
    guessed_offset: bool  # a register outside the block was taken as zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Decodings:
    """All survivors, the profile's own spelling first, and how many were tried."""

    tried_count: int
    survivors: tuple[Survivor, ...]

    def spread_ratio(self) -> float:
        """Largest relative difference between two survivors' values."""
        columns = zip(*(s.values for s in self.survivors), strict=True)
        return max((max(c) / min(c) - 1 for c in columns if min(c) > 0), default=0.0)

    def telling(self, value: float, tolerance: float) -> tuple[Survivor, ...]:
        """Return the survivors whose first value agrees with a reading from the display."""
        return tuple(s for s in self.survivors if abs(s.values[0] - value) <= tolerance)


def encodings(kinds: tuple[Kind, ...] = NARROW) -> tuple[Encoding, ...]:
    """List every encoding that is tried; for 16 and 32 bits that makes 320."""
    found = []
    for offset in OFFSETS:
        for kind in kinds:
            swaps = (False, True) if _FORMAT[kind][1] > 1 else (False,)
            found += [
                Encoding(
                    offset=offset, kind=kind, word_swap=word_swap, byte_swap=byte_swap, scale=scale
                )
                for word_swap in swaps
                for byte_swap in (False, True)
                for scale in SCALES
            ]
    return tuple(found)


def plausible(
    registers: Mapping[int, int],
    address: int,
    *,
    low: float,
    high: float,
    count: int = 1,
    kinds: tuple[Kind, ...] = NARROW,
) -> Decodings:
    """Return every decoding that puts all ``count`` values in [low, high].

    ``registers`` maps addresses to what was read; the two addresses before and after the block
    should be in it. One that the device does not have is taken as zero and marked so.
    """
    tried = encodings(kinds)
    survivors = []
    for encoding in tried:
        values, guessed = _values(registers, address, encoding, count=count)
        if all(math.isfinite(v) and low <= v <= high for v in values):
            survivors.append(
                Survivor(encoding=encoding, values=tuple(values), guessed_offset=guessed)
            )
    survivors.sort(key=lambda s: (abs(s.encoding.offset), s.encoding.word_swap))
    return Decodings(tried_count=len(tried), survivors=tuple(survivors))


def decode(words: list[int], encoding: Encoding) -> float:
    """Read one value from its registers."""
    pattern, _size = _FORMAT[encoding.kind]
    ordered = words[::-1] if encoding.word_swap else words
    raw = b"".join(w.to_bytes(2, "little" if encoding.byte_swap else "big") for w in ordered)
    (value,) = struct.unpack(pattern, raw)
    return float(value) * encoding.scale


def _values(
    registers: Mapping[int, int], address: int, encoding: Encoding, *, count: int
) -> tuple[list[float], bool]:
    size = _FORMAT[encoding.kind][1]
    first = address + encoding.offset
    guessed = any(first + i not in registers for i in range(size * count))
    return [
        decode([registers.get(first + size * n + i, 0) for i in range(size)], encoding)
        for n in range(count)
    ], guessed
