"""Modbus requests answered without any I/O: one PDU in, one PDU out."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from firmware_sim.faces.registers import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    NO_SUCH_UNIT,
    ModbusRefusalError,
    Table,
    Unit,
)

READ_MAX = 125
WRITE_MAX = 123
READ_WRITE_MAX = 121
BITS_MAX = 2000
NAME_SIZE_MAX = 64  # all three fit one answer
_REGISTERS = [struct.Struct(f">{count}H") for count in range(READ_MAX + 1)]


def answer(units: Mapping[int, Unit], unit_id: int, pdu: bytes) -> bytes:
    """Answer one request of one unit; every refusal becomes a Modbus exception."""
    function = pdu[0] if pdu else 0
    unit = units.get(unit_id)
    if unit is None:
        return bytes((function | 0x80, NO_SUCH_UNIT))
    try:
        return _serve(unit, unit_id, function, pdu)
    except ModbusRefusalError as refusal:
        return bytes((function | 0x80, refusal.exception_code))


def _serve(unit: Unit, unit_id: int, function: int, pdu: bytes) -> bytes:
    match function:
        case 3 | 4:
            return _read(unit, function, pdu)
        case 6:
            address, value = _unpack(">HH", pdu)
            unit.write(address, (value,))
            return pdu
        case 16:
            return _write(unit, pdu)
        case 2:
            return _discrete(unit, pdu)
        case 17:
            name = _ascii(" ".join(unit.identity))
            return bytes((17, len(name) + 2, unit_id)) + b"\xff" + name
        case 22:
            address, keep, put = _unpack(">HHH", pdu)
            (word,) = unit.read(Table.HOLDING, address, 1)
            unit.write(address, ((word & keep) | (put & ~keep & 0xFFFF),))
            return pdu
        case 23:
            return _read_write(unit, pdu)
        case 43:
            return _identify(unit, pdu)
        case _:
            raise ModbusRefusalError(ILLEGAL_FUNCTION)


def _unpack(layout: str, pdu: bytes) -> tuple[int, ...]:
    if len(pdu) != 1 + struct.calcsize(layout):
        raise ModbusRefusalError(ILLEGAL_VALUE)
    return struct.unpack(layout, pdu[1:])


def _span(address: int, count: int, count_max: int) -> None:
    if not 1 <= count <= count_max:
        raise ModbusRefusalError(ILLEGAL_VALUE)
    if address + count > 0x10000:
        raise ModbusRefusalError(ILLEGAL_ADDRESS)


def _read(unit: Unit, function: int, pdu: bytes) -> bytes:
    address, count = _unpack(">HH", pdu)
    _span(address, count, READ_MAX)
    words = unit.read(Table.HOLDING if function == 3 else Table.INPUT, address, count)
    return bytes((function, 2 * count)) + _REGISTERS[count].pack(*words)


def _write(unit: Unit, pdu: bytes) -> bytes:
    if len(pdu) < 6:
        raise ModbusRefusalError(ILLEGAL_VALUE)
    address, count, size = struct.unpack_from(">HHB", pdu, 1)
    _span(address, count, WRITE_MAX)
    if size != 2 * count or len(pdu) != 6 + size:
        raise ModbusRefusalError(ILLEGAL_VALUE)
    unit.write(address, _REGISTERS[count].unpack_from(pdu, 6))
    return pdu[:5]


def _read_write(unit: Unit, pdu: bytes) -> bytes:
    if len(pdu) < 10:
        raise ModbusRefusalError(ILLEGAL_VALUE)
    address, count, to, to_count, size = struct.unpack_from(">HHHHB", pdu, 1)
    _span(address, count, READ_MAX)
    _span(to, to_count, READ_WRITE_MAX)
    if size != 2 * to_count or len(pdu) != 10 + size:
        raise ModbusRefusalError(ILLEGAL_VALUE)
    unit.write(to, _REGISTERS[to_count].unpack_from(pdu, 10))
    words = unit.read(Table.HOLDING, address, count)
    reply: bytes = _REGISTERS[count].pack(*words)
    return bytes((23, 2 * count)) + reply


def _discrete(unit: Unit, pdu: bytes) -> bytes:
    address, count = _unpack(">HH", pdu)
    _span(address, count, BITS_MAX)
    bits = unit.discrete(address, count)
    packed = sum(1 << k for k, on in enumerate(bits) if on)
    return bytes((2, (count + 7) // 8)) + packed.to_bytes((count + 7) // 8, "little")


def _identify(unit: Unit, pdu: bytes) -> bytes:
    if len(pdu) != 4 or pdu[1] != 14 or pdu[2] not in (1, 2, 3, 4):
        raise ModbusRefusalError(ILLEGAL_VALUE)
    code, first = pdu[2], pdu[3]
    if code == 4 and first > 2:
        raise ModbusRefusalError(ILLEGAL_ADDRESS)
    chosen = (first,) if code == 4 else range(first if first <= 2 else 0, 3)
    names = {k: _ascii(unit.identity[k]) for k in chosen}
    objects = b"".join(bytes((k, len(name))) + name for k, name in names.items())
    return bytes((43, 14, code, 0x81, 0, 0, len(chosen))) + objects


def _ascii(name: str) -> bytes:
    """A name as the wire can carry it; a device file may call a device anything."""
    return name.encode("ascii", "replace")[:NAME_SIZE_MAX]
