"""C2SP signed notes: a text and signature lines, keys named by verifier-key strings.

Knows Ed25519 note signatures (0x01), timestamped Ed25519 cosignatures (0x04) and timestamped
ML-DSA-44 cosignatures (0x06); other signature types are carried along and never counted.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

ED25519 = 0x01
COSIGNATURE = 0x04
MLDSA_COSIGNATURE = 0x06

KEY_BYTES = {ED25519: 32, COSIGNATURE: 32, MLDSA_COSIGNATURE: 1312}
SIGNATURE_BYTES = {ED25519: 64, COSIGNATURE: 8 + 64, MLDSA_COSIGNATURE: 8 + 2420}

NOTE_BYTES_MAX = 1 << 20
"""A note with hundreds of post-quantum cosignatures stays below this; more is an attack."""

SIGNATURES_MAX = 256
"""Far above any witness policy; bounds the work an unknown note can cause."""

DASH = "\u2014 "


class NoteError(Exception):
    """A note, a signature or a verifier key is malformed or does not verify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A verifier key: who may sign, with which algorithm, and the public key bytes."""

    name: str
    algorithm_code: int
    public: bytes

    @property
    def key_hash(self) -> bytes:
        """The four bytes that stand before each signature of this key."""
        return key_hash(self.name, self.algorithm_code, self.public)

    @property
    def vkey(self) -> str:
        """The key as one word: name, hash and public key."""
        blob = b64encode(bytes([self.algorithm_code]) + self.public).decode()
        return f"{self.name}+{self.key_hash.hex()}+{blob}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature line; ``blob`` is what follows the key hash."""

    name: str
    key_hash: bytes
    blob: bytes

    def line(self) -> str:
        """The line as it stands in a note, with its newline."""
        return f"{DASH}{self.name} {b64encode(self.key_hash + self.blob).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text that ends in a newline, and the signatures under it."""

    text: bytes
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note's bytes."""
        return self.text + b"\n" + "".join(s.line() for s in self.signatures).encode()

    def by(self, key: Key) -> Signature | None:
        """The first signature line that names this key, unverified."""
        wanted = key.key_hash
        for signature in self.signatures:
            if signature.name == key.name and signature.key_hash == wanted:
                return signature
        return None


def valid_name(name: str) -> bool:
    """Whether a key name is non-empty and has neither spaces, controls nor a plus sign."""
    return bool(name) and name.isprintable() and "+" not in name and not any(map(str.isspace, name))


def key_hash(name: str, algorithm_code: int, public: bytes) -> bytes:
    """First four bytes of SHA-256 over name, newline, algorithm and public key."""
    return sha256(name.encode() + b"\n" + bytes([algorithm_code]) + public).digest()[:4]


def strict_base64(text: str) -> bytes:
    """Decode standard base64 that re-encodes to the same characters; else raise NoteError.

    Spare bits in the last character would let one byte change without a trace.
    """
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"not base64: {error}") from None
    if b64encode(data).decode() != text:
        raise NoteError("base64 is not in its only form")
    return data


def parse_vkey(text: str) -> Key:
    """Parse a verifier key of a known algorithm."""
    parts = text.strip().split("+", 2)
    if len(parts) != 3 or not valid_name(parts[0]):
        raise NoteError("a verifier key has the form name+hash+base64")
    name, hex_hash, encoded = parts
    blob = strict_base64(encoded)
    if not blob or blob[0] not in KEY_BYTES:
        raise NoteError(f"verifier key {name}: unknown algorithm")
    key = Key(name=name, algorithm_code=blob[0], public=blob[1:])
    if len(key.public) != KEY_BYTES[key.algorithm_code]:
        raise NoteError(f"verifier key {name}: wrong length")
    if key.key_hash.hex() != hex_hash:
        raise NoteError(f"verifier key {name}: its hash does not fit")
    return key


def check_text(text: bytes) -> None:
    """Raise NoteError unless the text is UTF-8, ends in a newline and has no other controls."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise NoteError(f"note is not UTF-8: {error.reason}") from None
    if not decoded.endswith("\n"):
        raise NoteError("note text does not end in a newline")
    if any(ord(c) < 0x20 and c != "\n" for c in decoded):
        raise NoteError("note text has control characters")


def parse(data: bytes) -> Note:
    """Split a note into text and signatures; verifies nothing."""
    if len(data) > NOTE_BYTES_MAX:
        raise NoteError("note is too large")
    check_text(data)
    cut = data.rfind(b"\n\n")
    if cut < 0:
        raise NoteError("note has no signatures")
    text, tail = data[: cut + 1], data[cut + 2 :].decode()
    lines = tail.split("\n")
    if lines.pop() != "" or not 1 <= len(lines) <= SIGNATURES_MAX:
        raise NoteError("note has no signatures or too many")
    return Note(text=text, signatures=tuple(parse_signature(line) for line in lines))


def parse_signature(line: str) -> Signature:
    """Parse one signature line, without its newline."""
    words = line.removeprefix(DASH).split(" ")
    if not line.startswith(DASH) or len(words) != 2 or not valid_name(words[0]):
        raise NoteError("malformed signature line")
    blob = strict_base64(words[1])
    if len(blob) < 5:
        raise NoteError("signature is too short")
    return Signature(name=words[0], key_hash=blob[:4], blob=blob[4:])


def distinct(signatures: Iterable[Signature]) -> tuple[Signature, ...]:
    """The signatures with later lines of an already seen key left out."""
    seen: dict[tuple[str, bytes], Signature] = {}
    for signature in signatures:
        seen.setdefault((signature.name, signature.key_hash), signature)
    return tuple(seen.values())
