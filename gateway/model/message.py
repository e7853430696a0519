"""Messages from the market as the runtime sees them: bytes in, a verdict about their content."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.reason import Reason
from gateway.model.trade import Trade


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """One message as it came; acknowledged to the broker only after its entry is durable.

    ``connection_seq`` and ``mid_number`` are the broker's handle: an acknowledgement of another
    connection's message does nothing, the broker sends that message again.
    """

    topic: str
    payload: bytes
    retain: bool
    qos_level: int
    connection_seq: int
    mid_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """A message whose signatures and form are right; what it means is still to be decided."""

    sha256: str  # of the message as received: its name in every answer
    document: str  # mRID of the market document
    revision_number: int
    trades: tuple[Trade, ...]
    keyids: tuple[str, ...]  # the signers that count


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A message refused for what it is, with every reason that could be found.

    ``trade_ids`` are those that could be read; they are nobody's word when ``authentic`` is
    false, so answers then go to the message's own topic.
    """

    sha256: str
    reasons: tuple[Reason, ...]
    trade_ids: tuple[str, ...] = ()
    revision_number: int = 0
    authentic: bool = False
