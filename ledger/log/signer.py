"""The one shape of a signing key: whatever holds the private part, notes are signed alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log import note
from ledger.log.note import Key, NoteError


class KeyFileError(Exception):
    """A key file is missing, unreadable, in the way, or its passphrase is wrong."""


class Sign(Protocol):
    """The bare signing operation: whatever holds the private key."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the Ed25519 signature over the data."""
        ...


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs the text of a note as one named Ed25519 key."""

    key: Key
    private: Sign
    protected: bool = True

    @property
    def name(self) -> str:
        """The key's name; for a log it equals the origin."""
        return self.key.name

    @property
    def vkey(self) -> str:
        """The verifier key that others need."""
        return self.key.vkey

    def sign(self, text: bytes) -> bytes:
        """Sign the text of a note; returns the bare 64-byte signature."""
        return self.private.sign(text)

    def signature(self, text: bytes) -> note.Signature:
        """Sign the text of a note; returns the signature line."""
        return note.Signature(
            name=self.key.name, key_hash=self.key.key_hash, blob=self.private.sign(text)
        )


def signer_of(private: Ed25519PrivateKey, name: str, *, protected: bool = True) -> Signer:
    """A note signer around a private key in memory."""
    if not note.valid_name(name):
        raise NoteError(f"{name!r} cannot be a key name: no spaces, no plus sign, not empty")
    public = private.public_key().public_bytes_raw()
    key = Key(name=name, algorithm_code=note.ED25519, public=public)
    return Signer(key=key, private=private, protected=protected)
