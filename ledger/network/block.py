"""Blocks: an agreed order of messages with an agreed time, and nothing else.

Whatever stands at a height counts: bytes that are no proper block are executed as an empty one,
so nobody who can write to the ordering service can jam the chain with rubbish.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.log.canonical import CanonicalError, decode, encode, fits
from ledger.log.merkle import Frontier, leaf_hash
from ledger.network.message import MESSAGE_BYTES_MAX, MESSAGE_DEPTH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BLOCK_BYTES_MAX = 60_000
"""A block is one entry of each node's ledger, which holds 65,535 bytes."""
BLOCK_DEPTH = 1
"""How deep a block lies in that entry: one nested so far that it does not fit there is no block."""
FRAME_BYTES = 400
"""Room for everything in a block but its messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One step of the market."""

    height: int
    utc_ms: int
    prev: str
    """Hash of the block before; of the market's name for the first."""
    messages: tuple[Mapping[str, Any], ...]
    """Signed messages; each is checked when it is executed."""

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(
            {
                "height": self.height,
                "utc_ms": self.utc_ms,
                "prev": self.prev,
                "messages": list(self.messages),
            }
        )


def block_hash(raw: bytes) -> str:
    """Name a block by its bytes."""
    return hashlib.sha256(raw).hexdigest()


def genesis_hash(market: str) -> str:
    """What the first block points to."""
    return hashlib.sha256(f"sop-ledger/v1 genesis {market}".encode()).hexdigest()


def transactions_root(block: Block) -> str:
    """RFC 6962 root over the block's messages."""
    tree = Frontier()
    for message in block.messages:
        tree.push(leaf_hash(encode(message)))
    return tree.root().hex()


def block_document(raw: bytes) -> dict[str, Any]:
    """Decode a block as an entry of the ledger can hold it; CanonicalError for any other bytes."""
    document: dict[str, Any] = decode(raw)
    fits(document, BLOCK_DEPTH)
    return document


def read_block(raw: bytes, *, height: int, prev: str, utc_ms_min: int) -> Block:
    """Read what stands at a height; an empty block of unchanged time where it is no block."""
    empty = Block(height=height, utc_ms=utc_ms_min, prev=prev, messages=())
    if len(raw) > BLOCK_BYTES_MAX:
        return empty
    try:
        document = block_document(raw)
    except CanonicalError:
        return empty
    messages, utc_ms = document.get("messages"), document.get("utc_ms")
    if set(document) != {"height", "utc_ms", "prev", "messages"}:
        return empty
    if document["height"] != height or document["prev"] != prev:
        return empty
    if type(utc_ms) is not int or utc_ms < utc_ms_min:
        return empty
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return empty
    return Block(height=height, utc_ms=utc_ms, prev=prev, messages=tuple(messages))


def fill(pending: Sequence[bytes]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Take as many messages as fit a block, in their order.

    Gives the messages and the bytes taken; what can never be a message is taken and dropped.
    """
    messages: list[dict[str, Any]] = []
    taken: list[bytes] = []
    room = BLOCK_BYTES_MAX - FRAME_BYTES
    for raw in pending:
        if len(raw) <= MESSAGE_BYTES_MAX:
            try:
                message: dict[str, Any] = decode(raw)
                fits(message, MESSAGE_DEPTH)
            except CanonicalError:
                taken.append(raw)
                continue
            if len(raw) + 1 > room:
                break
            room -= len(raw) + 1
            messages.append(message)
        taken.append(raw)
    return messages, taken
