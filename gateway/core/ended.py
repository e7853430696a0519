"""Trades of which every interval is over: what it takes to refuse their id for ever, and no more.

An id that was decided stays decided, so something of each trade is kept for good. Of a trade that
is over that is its revision, the entry that accepted it, its start and digests of message and
content: 56 bytes, however many intervals it had.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Mapping, MutableMapping

from gateway.core.verify import Ended, Known, content_digest, message_digest
from gateway.model.interval import Interval

_FORM = struct.Struct(">qqq16s16s")


def packed(known: Known) -> bytes:
    """Write what is kept of a trade that is over."""
    return _FORM.pack(
        known.revision_number,
        known.accepted_index,
        known.start_ms,
        message_digest(known.sha256),
        content_digest(known.trade),
    )


def unpacked(raw: bytes) -> Ended:
    """Read it back."""
    revision_number, accepted_index, start_ms, message, content = _FORM.unpack(raw)
    return Ended(
        revision_number=revision_number,
        accepted_index=accepted_index,
        start_ms=start_ms,
        message=message,
        content=content,
    )


def find(
    known: Mapping[str, Known], over: Mapping[str, bytes], trade_id: str
) -> Known | Ended | None:
    """Return what is known of a trade id, whether the trade is over or not."""
    raw = over.get(trade_id)
    return known.get(trade_id) if raw is None else unpacked(raw)


def let_go(
    known: MutableMapping[str, Known],
    over: MutableMapping[str, bytes],
    schedule: Mapping[Interval, Container[str]],
    trade_id: str,
) -> None:
    """Keep only what is needed of a trade none of whose intervals is still to come."""
    found = known.get(trade_id)
    if found is None or any(
        trade_id in schedule.get(p.interval, ()) for p in found.trade.positions
    ):
        return
    over[trade_id] = packed(found)
    del known[trade_id]
