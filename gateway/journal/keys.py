"""The gateway's key files: the one that signs the ledger and the one that signs its answers."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.model.errors import JournalError
from ledger.log.keys import KeyFileError, names_token, read_private, write_key
from ledger.log.owner import as_owner


def explained(error: KeyFileError) -> str:
    """Say what is wrong with a key file, and the mend where it only lacks its passphrase."""
    words = str(error)
    if "is encrypted" in words:
        words += ": name `ledger.passphrase` in the site file"
    return words


def answer_key(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """Load the key that signs answers, or make one; encrypted where there is a passphrase.

    Raises:
        JournalError: it cannot be read, does not open, or is no Ed25519 key.
    """
    try:
        if not path.exists():
            with as_owner(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_key(path, Ed25519PrivateKey.generate(), passphrase)
        private, _encrypted = read_private(path, passphrase)
    except KeyFileError as error:
        raise JournalError(explained(error)) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise JournalError(f"{path}: not an Ed25519 key")
    return private


def is_protected(path: Path) -> bool:
    """Tell whether a key file needs a passphrase to be read."""
    return names_token(path) or b"ENCRYPTED" in path.read_bytes()[:200]
