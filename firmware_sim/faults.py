"""Every lie a device or a network may tell on Modbus TCP, by name.

A lie is a pure function of the exchange and a seeded random source: it turns the honest reply into
what is sent instead, or the honest request into what the device gets instead. ``proxy`` applies
them in front of any device, simulated or real.
"""

from __future__ import annotations

import random  # noqa: TID251 (type of the injected source only)
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

_HEADER = struct.Struct(">HHHB")
READS = (1, 2, 3, 4, 23)
WRITES = (5, 6, 15, 16, 22)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One MBAP frame."""

    transaction_id: int
    unit_id: int
    pdu: bytes

    def encode(self) -> bytes:
        """The frame as it goes over the wire."""
        return _HEADER.pack(self.transaction_id, 0, len(self.pdu) + 1, self.unit_id) + self.pdu


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request with its honest reply, and what earlier exchanges left behind."""

    request: Frame
    reply: Frame
    previous: Frame | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def function(self) -> int:
        """Function code of the request."""
        return self.request.pdu[0]

    @property
    def failed(self) -> bool:
        """Whether the honest reply is an exception."""
        return bool(self.reply.pdu[0] & 0x80)


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Bytes to send after a while; dribbled byte by byte where asked."""

    data: bytes
    after_s: float = 0.0
    dribble_s: float = 0.0
    then_reset: bool = False


ReplyLie = Callable[[Exchange, random.Random], Sequence[Send]]
RequestLie = Callable[[Frame, dict[str, Any], random.Random], Frame | None]


def _one(data: bytes) -> Sequence[Send]:
    return (Send(data=data),)


def _header(x: Exchange, **changes: int) -> Sequence[Send]:
    fields = {
        "tid": x.reply.transaction_id, "protocol": 0, "length": len(x.reply.pdu) + 1,
        "unit": x.reply.unit_id,
    } | changes  # fmt: skip
    head = _HEADER.pack(
        fields["tid"] & 0xFFFF, fields["protocol"], fields["length"] & 0xFFFF, fields["unit"]
    )
    return _one(head + x.reply.pdu)


def _pdu(x: Exchange, pdu: bytes) -> Sequence[Send]:
    return _one(
        Frame(transaction_id=x.reply.transaction_id, unit_id=x.reply.unit_id, pdu=pdu).encode()
    )


def _honest(x: Exchange) -> Sequence[Send]:
    return _one(x.reply.encode())


# ------------------------------------------------------------------ frame lies


def _wrong_tid(x: Exchange, rng: random.Random) -> Sequence[Send]:
    return _header(x, tid=x.reply.transaction_id + rng.randrange(1, 65535))


def _tid_zero(x: Exchange, _rng: random.Random) -> Sequence[Send]:
    return _header(x, tid=0)


def _wrong_protocol(x: Exchange, rng: random.Random) -> Sequence[Send]:
    return _header(x, protocol=rng.randrange(1, 65536))


def _wrong_unit(x: Exchange, rng: random.Random) -> Sequence[Send]:
    return _header(x, unit=(x.reply.unit_id + rng.randrange(1, 255)) % 256)


def _wrong_function(x: Exchange, _rng: random.Random) -> Sequence[Send]:
    other = {3: 4, 4: 3, 16: 6, 6: 16}.get(x.reply.pdu[0] & 0x7F, 1)
    return _pdu(x, bytes((other | x.reply.pdu[0] & 0x80,)) + x.reply.pdu[1:])


def _exception_of_another(x: Exchange, _rng: random.Random) -> Sequence[Send]:
    return _pdu(x, bytes((0x80 | (x.function % 4 + 1), 2)))


def _length(value: int) -> ReplyLie:
    def lie(x: Exchange, _rng: random.Random) -> Sequence[Send]:
        return _header(x, length=value)

    return lie


def _length_off(by: int) -> ReplyLie:
    def lie(x: Exchange, _rng: random.Random) -> Sequence[Send]:
        return _header(x, length=len(x.reply.pdu) + 1 + by)

    return lie


def _exc_len4(x: Exchange, _rng: random.Random) -> Sequence[Send]:
    """An exception whose header counts four bytes where three follow."""
    pdu = bytes((x.function | 0x80, 2))
    return _one(_HEADER.pack(x.reply.transaction_id, 0, 4, x.reply.unit_id) + pdu)


def _byte_count(change: Callable[[int], int]) -> ReplyLie:
    def lie(x: Exchange, _rng: random.Random) -> Sequence[Send]:
        if x.function not in READS or x.failed:
            return _honest(x)
        pdu = x.reply.pdu
        return _pdu(x, bytes((pdu[0], change(pdu[1]) & 0xFF)) + pdu[2:])

    return lie


def _registers(change: int) -> ReplyLie:
    """A well-formed reply with more or fewer registers than were asked for."""

    def lie(x: Exchange, _rng: random.Random) -> Sequence[Send]:
        if x.function not in READS or x.failed:
            return _honest(x)
        data = x.reply.pdu[2:]
        data = data[: max(0, len(data) + 2 * change)] + b"\0\0" * max(0, change)
        return _pdu(x, bytes((x.reply.pdu[0], len(data) & 0xFF)) + data)

    return lie


def _extra_bytes(x: Exchange, rng: random.Random) -> Sequence[Send]:
    return _pdu(x, x.reply.pdu + rng.randbytes(rng.randrange(1, 5)))


def _truncated(x: Exchange, _rng: random.Random) -> Sequence[Send]:
    return (Send(data=x.reply.encode()[:-1], then_reset=True),)


def _echo(at: int) -> ReplyLie:
    """A write answered with another address, count or value."""

    def lie(x: Exchange, rng: random.Random) -> Sequence[Send]:
        pdu = x.reply.pdu
        if x.function not in WRITES or x.failed or len(pdu) < at + 2:
            return _honest(x)
        value = (int.from_bytes(pdu[at : at + 2], "big") + rng.randrange(1, 65535)) & 0xFFFF
        return _pdu(x, pdu[:at] + value.to_bytes(2, "big") + pdu[at + 2 :])

    return lie


def _stale_then_good(x: Exchange, _rng: random.Random) -> Sequence[Send]:
    if x.previous is None:
        return _honest(x)
    return _one(x.previous.encode() + x.reply.encode())


def _stale_content(x: Exchange, _rng: random.Random) -> Sequence[Send]:
    """The previous answer under the present transaction id."""
    return _honest(x) if x.previous is None else _pdu(x, x.previous.pdu)


def _twice(x: Exchange, _rng: random.Random) -> Sequence[Send]:
    return _one(x.reply.encode() * 2)


def _garbage(x: Exchange, rng: random.Random) -> Sequence[Send]:
    return _one(rng.randbytes(len(x.reply.pdu) + 7))


def _bit_flip(x: Exchange, rng: random.Random) -> Sequence[Send]:
    data = bytearray(x.reply.encode())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    return _one(bytes(data))


# ------------------------------------------------------------------ value lies


def _words(change: Callable[[list[int], random.Random], list[int]]) -> ReplyLie:
    """Registers of a good read changed, everything around them honest."""

    def lie(x: Exchange, rng: random.Random) -> Sequence[Send]:
        if x.function not in (3, 4, 23) or x.failed:
            return _honest(x)
        data = x.reply.pdu[2:]
        words = list(struct.unpack(f">{len(data) // 2}H", data))
        changed = change(words, rng)
        return _pdu(x, x.reply.pdu[:2] + struct.pack(f">{len(changed)}H", *changed))

    return lie


def _pairs(words: list[int], pair: tuple[int, int]) -> list[int]:
    return [pair[k % 2] if k < len(words) // 2 * 2 else w for k, w in enumerate(words)]


def _swap(words: list[int], _rng: random.Random) -> list[int]:
    out = list(words)
    for k in range(0, len(out) - 1, 2):
        out[k], out[k + 1] = out[k + 1], out[k]
    return out


def _negate(words: list[int], _rng: random.Random) -> list[int]:
    """Two's complement of each pair of registers."""
    out = list(words)
    for k in range(0, len(out) - 1, 2):
        value = -(out[k] << 16 | out[k + 1]) & 0xFFFF_FFFF
        out[k], out[k + 1] = value >> 16, value & 0xFFFF
    return out


def _float_sign(words: list[int], _rng: random.Random) -> list[int]:
    return [w ^ 0x8000 if k % 2 == 0 else w for k, w in enumerate(words)]


# --------------------------------------------------------------- request lies


def _write_parts(frame: Frame) -> tuple[int, list[int]] | None:
    pdu = frame.pdu
    if pdu[0] != 16 or len(pdu) < 6:
        return None
    address, count = struct.unpack_from(">HH", pdu, 1)
    return address, list(struct.unpack(f">{count}H", pdu[6 : 6 + 2 * count]))


def _rewrite(frame: Frame, address: int, values: list[int]) -> Frame:
    n = len(values)
    pdu = struct.pack(f">BHHB{n}H", 16, address, n, 2 * n, *values)
    return Frame(transaction_id=frame.transaction_id, unit_id=frame.unit_id, pdu=pdu)


def _partial_write(frame: Frame, settings: dict[str, Any], _rng: random.Random) -> Frame | None:
    parts = _write_parts(frame)
    if parts is None or len(parts[1]) < 2:
        return frame
    keep = int(settings.get("registers", len(parts[1]) // 2))
    return _rewrite(frame, parts[0], parts[1][: max(1, keep)])


def _clip_write(frame: Frame, settings: dict[str, Any], _rng: random.Random) -> Frame | None:
    """Setpoints (signed pairs) beyond a limit arrive as the limit."""
    parts = _write_parts(frame)
    if parts is None:
        return frame
    limit, words = int(settings.get("limit", 100_000)), parts[1]
    for k in range(0, len(words) - 1, 2):
        value = words[k] << 16 | words[k + 1]
        value -= (value & 0x8000_0000) << 1
        clipped = max(-limit, min(limit, value)) & 0xFFFF_FFFF
        words[k], words[k + 1] = clipped >> 16, clipped & 0xFFFF
    return _rewrite(frame, parts[0], words)


def _flip_write(frame: Frame, _settings: dict[str, Any], rng: random.Random) -> Frame | None:
    parts = _write_parts(frame)
    if parts is None:
        return frame
    words = parts[1]
    words[rng.randrange(len(words))] ^= 1 << rng.randrange(16)
    return _rewrite(frame, parts[0], words)


REPLY_LIES: dict[str, ReplyLie] = {
    "wrong_tid": _wrong_tid,
    "tid_zero": _tid_zero,
    "wrong_protocol": _wrong_protocol,
    "wrong_unit": _wrong_unit,
    "wrong_function": _wrong_function,
    "exception_of_another": _exception_of_another,
    "length_zero": _length(0),
    "length_one": _length(1),
    "length_huge": _length(0xFFFF),
    "length_255": _length(255),
    "length_short": _length_off(-1),
    "length_long": _length_off(1),
    "exc_len4": _exc_len4,
    "byte_count_zero": _byte_count(lambda _: 0),
    "byte_count_odd": _byte_count(lambda n: n + 1),
    "byte_count_more": _byte_count(lambda n: n + 2),
    "byte_count_less": _byte_count(lambda n: n - 2),
    "fewer_registers": _registers(-1),
    "more_registers": _registers(2),
    "no_registers": _registers(-125),
    "extra_bytes": _extra_bytes,
    "truncated": _truncated,
    "echo_address": _echo(1),
    "echo_count": _echo(3),
    "stale_then_good": _stale_then_good,
    "stale_content": _stale_content,
    "twice": _twice,
    "garbage": _garbage,
    "bit_flip": _bit_flip,
    "exception": lambda x, _: _pdu(x, bytes((x.function | 0x80, int(x.settings.get("code", 6))))),
    "nan": _words(lambda w, _: _pairs(w, (0x7FC0, 0))),
    "infinity": _words(lambda w, _: _pairs(w, (0x7F80, 0))),
    "not_implemented": _words(lambda w, _: _pairs(w, (0x8000, 0))),
    "all_ones": _words(lambda w, _: [0xFFFF] * len(w)),
    "all_zero": _words(lambda w, _: [0] * len(w)),
    "absurd": _words(lambda w, _: _pairs(w, (0x7FFF, 0xFFFF))),
    "word_swap": _words(_swap),
    "byte_swap": _words(lambda w, _: [(v << 8 | v >> 8) & 0xFFFF for v in w]),
    "sign_flip": _words(_negate),
    "float_sign_flip": _words(_float_sign),
    "noise": _words(lambda w, rng: [v ^ rng.randrange(16) for v in w]),
}
REQUEST_LIES: dict[str, RequestLie] = {
    "partial_write": _partial_write,
    "clip_write": _clip_write,
    "flip_write": _flip_write,
    "lost_write": lambda frame, _, __: None if frame.pdu[0] in WRITES else frame,
}
# Faults of time and of the connection; ``proxy`` knows how to do them.
LINK_FAULTS = (
    "delay", "jitter", "lose_request", "lose_reply", "stall", "late_reply", "half_open", "reset",
    "reset_before_reply", "refuse", "dribble", "endless", "split", "frozen",
)  # fmt: skip
FAULTS = (*REPLY_LIES, *REQUEST_LIES, *LINK_FAULTS)
