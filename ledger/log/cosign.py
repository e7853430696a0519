"""Cosigning checkpoints as a witness: timestamped Ed25519 or ML-DSA-44 signatures.

A cosigner's key is its own and never a log's: one key, one kind of statement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.log import checkpoint, note
from ledger.log.keys import KeyFileError, read_private, write_key
from ledger.log.note import Key, NoteError, Signature


@dataclass(frozen=True, slots=True)
class Cosigner:
    """Signs what a witness says: at this time I saw this checkpoint, consistent with all before."""

    key: Key
    sign: Callable[[bytes], bytes]

    @classmethod
    def ed25519(cls, private: Ed25519PrivateKey, name: str) -> Cosigner:
        """A cosigner with an Ed25519 key."""
        public = private.public_key().public_bytes_raw()
        return cls(named(name, note.COSIGNATURE, public), private.sign)

    @classmethod
    def mldsa44(cls, private: MLDSA44PrivateKey, name: str) -> Cosigner:
        """A cosigner with a post-quantum key."""
        public = private.public_key().public_bytes_raw()
        return cls(named(name, note.MLDSA_COSIGNATURE, public), private.sign)

    def cosign(self, text: bytes, time_s: int) -> Signature:
        """Cosign the text of a checkpoint at a unix time in seconds."""
        stamp = time_s.to_bytes(8, "big")
        message, _ = checkpoint.signed_message(key=self.key, text=text, blob=stamp)
        return Signature(
            name=self.key.name, key_hash=self.key.key_hash, blob=stamp + self.sign(message)
        )


def named(name: str, algorithm_code: int, public: bytes) -> Key:
    """A key under a name that can stand in a note."""
    if not note.valid_name(name):
        raise NoteError(f"{name!r} cannot be a key name")
    return Key(name=name, algorithm_code=algorithm_code, public=public)


def create_cosigner(
    path: Path, name: str, passphrase: bytes | None = None, *, post_quantum: bool = False
) -> Cosigner:
    """Make a cosigner's key file; refuses to overwrite."""
    private = MLDSA44PrivateKey.generate() if post_quantum else Ed25519PrivateKey.generate()
    made = cosigner_of(private, name)
    write_key(path, private, passphrase)
    return made


def load_cosigner(path: Path, name: str, passphrase: bytes | None = None) -> Cosigner:
    """Read a cosigner's key file."""
    private = read_private(path, passphrase)[0]
    if not isinstance(private, Ed25519PrivateKey | MLDSA44PrivateKey):
        raise KeyFileError(f"{path}: neither an Ed25519 nor an ML-DSA-44 key")
    return cosigner_of(private, name)


def cosigner_of(private: Ed25519PrivateKey | MLDSA44PrivateKey, name: str) -> Cosigner:
    """A cosigner around a private key in memory."""
    if isinstance(private, Ed25519PrivateKey):
        return Cosigner.ed25519(private, name)
    return Cosigner.mldsa44(private, name)
