"""Signed tree heads of one log, made in the shortest way.

Every batch waits for its head before it can be written, so what stays the same from one head to
the next, the origin, the names and hashes of the keys, is put together once.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence

from ledger.log import note
from ledger.log.signer import Signer


class HeadSigner:
    """Signs the checkpoints of one log with all its keys."""

    __slots__ = ("_keys", "_origin")

    def __init__(self, origin: str, signers: Sequence[Signer]) -> None:
        self._origin = f"{origin}\n".encode()
        self._keys = tuple(
            (signer.private.sign, f"{note.DASH}{signer.name} ".encode(), signer.key.key_hash)
            for signer in signers
        )

    def signed(self, size: int, root: bytes) -> bytes:
        """The signed checkpoint over a tree: the bytes that a ``Note`` of it encodes to."""
        text = b"%b%d\n%b" % (self._origin, size, b2a_base64(root))
        lines = [name + b2a_base64(key_hash + sign(text)) for sign, name, key_hash in self._keys]
        return b"".join((text, b"\n", *lines))
