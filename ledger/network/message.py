"""Signed messages of the market and signed votes of its nodes, as exact bytes.

Both are canonical JSON, so that the bytes that were signed can be rebuilt from what was stored.
A signature covers a purpose line and the market's name: it is worth nothing anywhere else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.contracts.market import Message
from ledger.log.canonical import CanonicalError, decode, encode, fits

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE_BYTES_MAX = 48_000
"""One message must fit a block, and a block the entry of a ledger."""
MESSAGE_DEPTH = 3
"""How deep a message lies in such an entry: in a block, in its list of messages."""
SIGNATURE_LENGTH = 128
KEY_LENGTH = 64
HASH = re.compile(r"[0-9a-f]{64}")
"""What a vote names things by; longer texts could make evidence too large to be written down."""


class Sign(Protocol):
    """Whatever holds a private key."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the Ed25519 signature over the data."""
        ...


class MessageRefused(Exception):  # noqa: N818 - a verdict about what came in
    """Bytes that are no message of this market; the text says why."""


def purpose(kind: str, market: str) -> bytes:
    """First line of everything that is signed."""
    return f"sop-ledger/v1 {kind} {market}\n".encode()


def verified(key_hex: str, signature_hex: str, data: bytes) -> bool:
    """Check an Ed25519 signature; anything malformed is not a signature."""
    if len(key_hex) != KEY_LENGTH or len(signature_hex) != SIGNATURE_LENGTH:
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key_hex))
        key.verify(bytes.fromhex(signature_hex), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def sign_message(
    market: str, party: str, seq: int, body: Mapping[str, Any], key: Sign, public_hex: str
) -> bytes:
    """Make a signed message."""
    signed = {"party": party, "seq": seq, "body": dict(body), "key": public_hex}
    signature = key.sign(purpose("message", market) + encode(signed))
    return encode({**signed, "sig": signature.hex()})


def read_message(market: str, raw: bytes) -> Message:
    """Read and check a signed message; raise MessageRefused with the reason."""
    if len(raw) > MESSAGE_BYTES_MAX:
        raise MessageRefused(f"{len(raw)} bytes, at most {MESSAGE_BYTES_MAX}")
    try:
        document = decode(raw)
        fits(document, MESSAGE_DEPTH)
    except CanonicalError as error:
        raise MessageRefused(f"not canonical: {error}") from None
    if set(document) != {"party", "seq", "body", "key", "sig"}:
        raise MessageRefused("must have party, seq, body, key and sig")
    party, seq, body = document["party"], document["seq"], document["body"]
    key, signature = document["key"], document.pop("sig")
    if not (isinstance(party, str) and isinstance(key, str) and isinstance(signature, str)):
        raise MessageRefused("party, key and sig are texts")
    if isinstance(seq, bool) or not isinstance(seq, int) or seq < 0:
        raise MessageRefused("seq is an integer from 0")
    if not isinstance(body, dict):
        raise MessageRefused("body is an object")
    signed = encode(document)
    if not verified(key, signature, purpose("message", market) + signed):
        raise MessageRefused("the signature is wrong")
    return Message(id=hashlib.sha256(signed).hexdigest(), party=party, key=key, seq=seq, body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A node's countersignature: it executed this block and reached this state."""

    node: str
    height: int
    block: str
    """SHA-256 of the block's bytes."""
    transactions: str
    """Merkle root of its messages."""
    state: str
    """Hash of the market's state after it."""
    signature: str

    @property
    def subject(self) -> tuple[str, str, str]:
        """What must be identical for votes to count together."""
        return (self.block, self.transactions, self.state)

    def document(self) -> dict[str, Any]:
        """The vote as a canonical object."""
        return {**self.signed(), "sig": self.signature}

    def signed(self) -> dict[str, Any]:
        """The part under the signature."""
        return {
            "node": self.node,
            "height": self.height,
            "block": self.block,
            "transactions": self.transactions,
            "state": self.state,
        }

    def encode(self) -> bytes:
        """Canonical bytes."""
        return encode(self.document())


def sign_vote(
    market: str, node: str, height: int, subject: tuple[str, str, str], key: Sign
) -> Vote:
    """Countersign; callers make sure that it happens once a height."""
    block, transactions, state = subject
    unsigned = Vote(
        node=node, height=height, block=block, transactions=transactions, state=state, signature=""
    )
    signature = key.sign(purpose("vote", market) + encode(unsigned.signed()))
    return Vote(
        node=node,
        height=height,
        block=block,
        transactions=transactions,
        state=state,
        signature=signature.hex(),
    )


def read_vote(market: str, raw: bytes, keys: Mapping[str, str]) -> Vote | None:
    """Read a vote of a known node; None for anything else, which counts for nothing."""
    try:
        document = decode(raw)
    except CanonicalError:
        return None
    return vote_from(market, document, keys)


def vote_from(market: str, document: Mapping[str, Any], keys: Mapping[str, str]) -> Vote | None:
    """Check a vote that was already parsed."""
    if set(document) != {"node", "height", "block", "transactions", "state", "sig"}:
        return None
    height = document["height"]
    texts = [document[k] for k in ("node", "block", "transactions", "state", "sig")]
    if type(height) is not int or not all(isinstance(text, str) for text in texts):
        return None
    if not all(HASH.fullmatch(document[k]) for k in ("block", "transactions", "state")):
        return None
    vote = Vote(
        node=document["node"],
        height=height,
        block=document["block"],
        transactions=document["transactions"],
        state=document["state"],
        signature=document["sig"],
    )
    key = keys.get(vote.node, "")
    data = purpose("vote", market) + encode(vote.signed())
    return vote if verified(key, vote.signature, data) else None
