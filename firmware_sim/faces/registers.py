"""How a face answers for one Modbus unit: tables of 16-bit registers and typed refusals."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence
from typing import Protocol


class Table(enum.Enum):
    """Which of the two register tables a request names."""

    HOLDING = "holding"
    INPUT = "input"


class ModbusRefusalError(Exception):
    """The unit answers with a Modbus exception."""

    def __init__(self, exception_code: int) -> None:
        super().__init__(f"exception {exception_code:02X}")
        self.exception_code = exception_code


ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
DEVICE_BUSY = 6
NO_SUCH_UNIT = 11


class Unit(Protocol):
    """One Modbus unit."""

    identity: tuple[str, str, str]

    def read(self, table: Table, address: int, count: int, /) -> Sequence[int]:
        """Registers of one read; raises ModbusRefusalError."""
        ...

    def write(self, address: int, values: Sequence[int], /) -> None:
        """One write of consecutive holding registers, all or nothing."""
        ...

    def discrete(self, address: int, count: int, /) -> Sequence[bool]:
        """Discrete inputs."""
        ...


def u16(value: float) -> int:
    """Low 16 bits of a rounded value."""
    return round(value) & 0xFFFF


def i32(value: float) -> tuple[int, int]:
    """Two registers, high word first; also right for unsigned values."""
    bits = round(value) & 0xFFFF_FFFF
    return bits >> 16, bits & 0xFFFF


def u64(value: float) -> tuple[int, int, int, int]:
    """Four registers, high word first."""
    bits = int(value) & 0xFFFF_FFFF_FFFF_FFFF
    return bits >> 48, bits >> 32 & 0xFFFF, bits >> 16 & 0xFFFF, bits & 0xFFFF


def f32(value: float) -> tuple[int, int]:
    """IEEE 754 single precision, high word first."""
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return high, low


def text(value: str, registers: int) -> tuple[int, ...]:
    """ASCII padded with NUL, two characters a register; what is longer or foreign is cut."""
    data = value.encode("ascii", "replace")[: 2 * registers]
    return struct.unpack(f">{registers}H", data.ljust(2 * registers, b"\0"))


def signed32(high: int, low: int) -> int:
    """Value of two registers as a signed number."""
    value = high << 16 | low
    return value - (1 << 32) if value & 0x8000_0000 else value


class Sparse:
    """Blocks of registers at fixed addresses; whatever lies between them does not exist."""

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words: dict[int, int] = {}

    def put(self, address: int, words: Iterable[int]) -> None:
        """Place consecutive registers."""
        for offset, word in enumerate(words):
            self._words[address + offset] = word

    def fill(self, first: int, last: int, word: int = 0) -> None:
        """Make a stretch of addresses exist."""
        for address in range(first, last + 1):
            self._words.setdefault(address, word)

    def get(self, address: int, count: int) -> list[int]:
        """Registers of one read, exception 02 where one of them does not exist."""
        try:
            return [self._words[a] for a in range(address, address + count)]
        except KeyError:
            raise ModbusRefusalError(ILLEGAL_ADDRESS) from None
