"""Modbus requests and the only replies that fit them; no I/O.

A reply is taken when every byte that the request determines is as it must be: transaction id,
protocol, length, unit, function, byte count, echo. Anything else is a ``WrongAnswer`` with its
kind, and the caller drops the connection. Layouts: Modbus Application Protocol V1.1b3 §6,
Modbus over TCP/IP §3.1, Modbus over serial line §2.5.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence

from gateway.devices.profile import Table

READ_COUNT_MAX = 125  # registers, application protocol §6.3
READ_BIT_COUNT_MAX = 2000
WRITE_COUNT_MAX = 123
HEADER_LENGTH = 6  # transaction id, protocol, length
ADU_LENGTH_MAX = 260
_HEADER = struct.Struct(">HHH")


class Function(enum.IntEnum):
    """Function codes that the gateway speaks."""

    READ_COILS = 1
    READ_DISCRETE = 2
    READ_HOLDING = 3
    READ_INPUT = 4
    WRITE_COIL = 5
    WRITE_REGISTER = 6
    WRITE_COILS = 15
    WRITE_REGISTERS = 16
    REPORT_ID = 17
    DEVICE_ID = 43


READ_OF = {
    Table.COIL: Function.READ_COILS,
    Table.DISCRETE: Function.READ_DISCRETE,
    Table.HOLDING: Function.READ_HOLDING,
    Table.INPUT: Function.READ_INPUT,
}


class Lie(enum.StrEnum):
    """How an answer can fail to belong to its request."""

    TRANSACTION = "transaction"
    PROTOCOL = "protocol"
    LENGTH = "length"
    UNIT = "unit"
    FUNCTION = "function"
    BYTE_COUNT = "byte_count"
    ECHO = "echo"
    EXCEPTION = "exception"
    CRC = "crc"
    EXTRA = "extra"
    UNSOLICITED = "unsolicited"


class WrongAnswer(Exception):  # noqa: N818 - it is not our error
    """An answer that does not belong to the request."""

    def __init__(self, kind: Lie, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Refusal(Exception):  # noqa: N818 - a valid answer that says no
    """The device answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code:#04x} ({EXCEPTION_TEXT.get(code, 'undefined')})")
        self.code = code


EXCEPTION_TEXT = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}


class Request:
    """One request and what its answer must look like.

    Built once for a poll and used at every poll: all that does not change is computed here.
    ``head`` is the fixed start of a right reply's PDU and ``reply_length`` the length of that
    PDU, 0 where the device decides.
    """

    __slots__ = ("body", "head", "is_write", "pdu", "reply_length", "tcp_head", "unit")

    def __init__(
        self, *, unit: int, pdu: bytes, head: bytes, reply_length: int, is_write: bool = False
    ) -> None:
        assert 0 <= unit <= 255
        self.unit = unit
        self.pdu = pdu
        self.head = head
        self.reply_length = reply_length
        self.is_write = is_write
        self.body = struct.pack(">HHB", 0, len(pdu) + 1, unit) + pdu
        self.tcp_head = struct.pack(">HHB", 0, reply_length + 1, unit) + head

    @property
    def function_code(self) -> int:
        """The function code asked for."""
        return self.pdu[0]


def read(unit: int, table: Table, address: int, count: int) -> Request:
    """Ask for ``count`` registers or bits from ``address`` on."""
    bits = table in (Table.COIL, Table.DISCRETE)
    assert 1 <= count <= (READ_BIT_COUNT_MAX if bits else READ_COUNT_MAX)
    assert address >= 0
    assert address + count <= 65536
    size = (count + 7) // 8 if bits else 2 * count
    function = READ_OF[table]
    return Request(
        unit=unit,
        pdu=struct.pack(">BHH", function, address, count),
        head=bytes((function, size)),
        reply_length=2 + size,
    )


def write_registers(unit: int, address: int, words: Sequence[int]) -> Request:
    """Write registers in one transaction (function 16)."""
    count = len(words)
    assert 1 <= count <= WRITE_COUNT_MAX
    start = struct.pack(">BHH", Function.WRITE_REGISTERS, address, count)
    data = struct.pack(f">B{count}H", 2 * count, *words)
    return Request(unit=unit, pdu=start + data, head=start, reply_length=5, is_write=True)


def write_register(unit: int, address: int, word: int) -> Request:
    """Write one register (function 6); the device echoes address and value."""
    pdu = struct.pack(">BHH", Function.WRITE_REGISTER, address, word)
    return Request(unit=unit, pdu=pdu, head=pdu, reply_length=5, is_write=True)


def write_coil(unit: int, address: int, *, on: bool) -> Request:
    """Write one coil (function 5)."""
    pdu = struct.pack(">BHH", Function.WRITE_COIL, address, 0xFF00 if on else 0)
    return Request(unit=unit, pdu=pdu, head=pdu, reply_length=5, is_write=True)


def write_coils(unit: int, address: int, values: Sequence[bool]) -> Request:
    """Write coils in one transaction (function 15)."""
    count = len(values)
    assert 1 <= count <= 1968
    packed = bytearray((count + 7) // 8)
    for place, value in enumerate(values):
        packed[place // 8] |= value << (place % 8)
    start = struct.pack(">BHH", Function.WRITE_COILS, address, count)
    pdu = start + bytes((len(packed),)) + packed
    return Request(unit=unit, pdu=pdu, head=start, reply_length=5, is_write=True)


def report_id(unit: int) -> Request:
    """Ask for the server id (function 17)."""
    pdu = bytes((Function.REPORT_ID,))
    return Request(unit=unit, pdu=pdu, head=pdu, reply_length=0)


def device_id(unit: int, *, level_code: int = 1, object_id: int = 0) -> Request:
    """Ask for identification objects (function 43/14); level 1 basic, 2 regular, 3 extended."""
    pdu = bytes((Function.DEVICE_ID, 14, level_code, object_id))
    return Request(unit=unit, pdu=pdu, head=bytes((43, 14, level_code)), reply_length=0)


def judge_pdu(request: Request, pdu: bytes) -> bytes:
    """Return what the reply carries, or raise Refusal or WrongAnswer.

    For reads that is the data alone, for writes nothing, for identification all after the
    function code.
    """
    function = request.pdu[0]
    if not pdu:
        raise WrongAnswer(Lie.LENGTH, "empty answer")
    if pdu[0] == function | 0x80:
        if len(pdu) != 2:
            raise WrongAnswer(Lie.LENGTH, f"exception of {len(pdu)} bytes")
        if pdu[1] == 0:
            raise WrongAnswer(Lie.EXCEPTION, "exception code 0")
        raise Refusal(pdu[1])
    if pdu[0] != function:
        raise WrongAnswer(Lie.FUNCTION, f"function {pdu[0]} for {function}")
    if not request.reply_length:
        _judge_identification(request, pdu)
        return pdu[1:]
    if request.is_write:
        if len(pdu) != request.reply_length:
            raise WrongAnswer(Lie.LENGTH, f"{len(pdu)} bytes for {request.reply_length}")
        if pdu != request.head:
            raise WrongAnswer(Lie.ECHO, f"{pdu.hex()} for {request.head.hex()}")
        return b""
    if len(pdu) < 2 or pdu[1] != request.head[1]:
        raise WrongAnswer(Lie.BYTE_COUNT, f"{pdu[1] if len(pdu) > 1 else None}")
    if len(pdu) != request.reply_length:
        raise WrongAnswer(Lie.LENGTH, f"{len(pdu)} bytes for {request.reply_length}")
    return pdu[2:]


def _judge_identification(request: Request, pdu: bytes) -> None:
    if request.pdu[0] == Function.REPORT_ID:
        if len(pdu) < 2 or pdu[1] != len(pdu) - 2:
            raise WrongAnswer(Lie.BYTE_COUNT, "server id")
        return
    if len(pdu) < 7 or pdu[1] != 14 or pdu[2] != request.pdu[2]:
        raise WrongAnswer(Lie.ECHO, "identification")
    if identification_length(pdu) != len(pdu):
        raise WrongAnswer(Lie.LENGTH, "identification objects")


def identification_length(pdu: bytes) -> int:
    """Length of a 43/14 reply PDU by its own object list; 0 while more bytes are needed."""
    if len(pdu) < 7:
        return 0
    place = 7
    for _ in range(pdu[6]):
        if len(pdu) < place + 2:
            return 0
        place += 2 + pdu[place + 1]
    return place


def judge_tcp(
    request: Request,
    transaction_id: int,
    data: bytes,
    *,
    transaction_zero_ok: bool = False,
    exception_length_four_ok: bool = False,
) -> tuple[bytes, int] | None:
    """Return data and length of the reply at the start of ``data``; None if it is not whole.

    Raises WrongAnswer as soon as the bytes that are there cannot become a right answer.
    """
    whole = HEADER_LENGTH + 1 + request.reply_length
    if (
        request.reply_length
        and len(data) >= whole
        and data.startswith(request.tcp_head, 2)
        and data[0] << 8 | data[1] == transaction_id
    ):
        if request.is_write:
            return b"", whole
        return data[9:whole], whole
    if len(data) < HEADER_LENGTH + 2:
        _judge_tcp_start(request, transaction_id, data, zero_ok=transaction_zero_ok)
        return None
    got_id, protocol, length = _HEADER.unpack_from(data)
    if got_id != transaction_id and not (transaction_zero_ok and got_id == 0):
        raise WrongAnswer(Lie.TRANSACTION, f"{got_id} for {transaction_id}")
    if protocol != 0:
        raise WrongAnswer(Lie.PROTOCOL, str(protocol))
    if not 3 <= length <= 254:
        raise WrongAnswer(Lie.LENGTH, f"header says {length}")
    if data[6] != request.unit:
        raise WrongAnswer(Lie.UNIT, f"{data[6]} for {request.unit}")
    refused = data[7] == request.pdu[0] | 0x80
    if refused and length == 4 and exception_length_four_ok:
        length = 3
    elif refused and length != 3:
        raise WrongAnswer(Lie.LENGTH, f"header says {length} for an exception")
    elif not refused and data[7] != request.pdu[0]:
        raise WrongAnswer(Lie.FUNCTION, f"function {data[7]} for {request.pdu[0]}")
    elif not refused and request.reply_length and length != request.reply_length + 1:
        raise WrongAnswer(Lie.LENGTH, f"header says {length} for {request.reply_length + 1}")
    end = HEADER_LENGTH + length
    if len(data) < end:
        return None
    return judge_pdu(request, data[7:end]), end


def _judge_tcp_start(request: Request, transaction_id: int, data: bytes, *, zero_ok: bool) -> None:
    """Refuse early what is shorter than a header but already wrong."""
    if len(data) >= 2:
        got_id = data[0] << 8 | data[1]
        if got_id != transaction_id and not (zero_ok and got_id == 0):
            raise WrongAnswer(Lie.TRANSACTION, f"{got_id} for {transaction_id}")
    if len(data) >= 4 and data[2:4] != b"\0\0":
        raise WrongAnswer(Lie.PROTOCOL, data[2:4].hex())
    if len(data) >= 6 and not 3 <= data[4] << 8 | data[5] <= 254:
        raise WrongAnswer(Lie.LENGTH, data[4:6].hex())
    if len(data) >= 7 and data[6] != request.unit:
        raise WrongAnswer(Lie.UNIT, f"{data[6]} for {request.unit}")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: Iterable[int]) -> int:
    """CRC-16/MODBUS: reflected 0xA001, start 0xFFFF."""
    crc = 0xFFFF
    table = _CRC
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def rtu_frame(request: Request) -> bytes:
    """The request on a serial line: unit, PDU, CRC low byte first."""
    body = bytes((request.unit,)) + request.pdu
    return body + crc16(body).to_bytes(2, "little")


def judge_rtu(request: Request, data: bytes) -> tuple[bytes, int] | None:
    """Like ``judge_tcp`` for a serial line, where the request alone tells the length."""
    if data and data[0] != request.unit:
        raise WrongAnswer(Lie.UNIT, f"{data[0]} for {request.unit}")
    if len(data) < 2:
        return None
    function = request.pdu[0]
    if data[1] == function | 0x80:
        length = 2
    elif data[1] != function:
        raise WrongAnswer(Lie.FUNCTION, f"function {data[1]} for {function}")
    elif request.reply_length:
        length = request.reply_length
        known = min(len(data) - 1, len(request.head))
        if data[1 : 1 + known] != request.head[:known]:
            kind = Lie.ECHO if request.is_write else Lie.BYTE_COUNT
            raise WrongAnswer(kind, data[1 : 1 + known].hex())
    elif function == Function.REPORT_ID:
        length = 2 + data[2] if len(data) > 2 else 0
    else:
        length = identification_length(data[1:])
    if length > 253:
        raise WrongAnswer(Lie.LENGTH, f"answer of {length} bytes")
    end = 1 + length + 2
    if not length or len(data) < end:
        if len(data) > ADU_LENGTH_MAX:
            raise WrongAnswer(Lie.LENGTH, "no end")
        return None
    if crc16(data[: end - 2]) != int.from_bytes(data[end - 2 : end], "little"):
        raise WrongAnswer(Lie.CRC, data[end - 2 : end].hex())
    return judge_pdu(request, data[1 : end - 2]), end
