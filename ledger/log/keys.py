"""Signing keys: Ed25519 in PKCS#8 files, one note signer shape for every kind of key.

Keys never come from environment variables. A file without a passphrase is readable by its owner
only and every listing says that it is not protected.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ledger.log import pkcs8, token
from ledger.log.signer import KeyFileError, Sign, Signer, signer_of

KEY_FILE_BYTES_MAX = 64 << 10
"""A PEM file is a few hundred bytes; anything large is the wrong file."""


def create_key(path: Path, name: str, passphrase: bytes | None = None) -> Signer:
    """Make a key and write it as PKCS#8 PEM, readable by the owner only.

    Refuses to overwrite. With a passphrase the file is encrypted (PBES2 with scrypt).
    """
    signer = signer_of(Ed25519PrivateKey.generate(), name, protected=bool(passphrase))
    write_key(path, signer.private, passphrase)
    return signer


def write_key(path: Path, private: object, passphrase: bytes | None) -> None:
    """Write a private key to a new file and make it durable."""
    if not isinstance(private, Ed25519PrivateKey | MLDSA44PrivateKey):
        raise KeyFileError("this key cannot leave its token")
    encoding = Encoding.DER if passphrase else Encoding.PEM
    pem = private.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())
    if passphrase:
        pem = pkcs8.encrypt(pem, passphrase)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} exists; keys are never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    try:
        os.write(descriptor, pem)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_key(path: Path, name: str, passphrase: bytes | None = None) -> Signer:
    """Read a PKCS#8 PEM file of an Ed25519 key, or open the token that the file names.

    The file of a token is one line, a PKCS#11 URI (RFC 7512); the passphrase is its PIN.
    """
    if names_token(path):
        return token.open_uri(path.read_text(), name, passphrase)
    private, encrypted = read_private(path, passphrase)
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: not an Ed25519 key")
    return signer_of(private, name, protected=encrypted)


def names_token(path: Path) -> bool:
    """Tell whether a key file holds no key but says in which token it is."""
    try:
        with path.open("rb") as file:
            return file.read(len(token.SCHEME)) == token.SCHEME.encode()
    except OSError:
        return False


def read_private(path: Path, passphrase: bytes | None) -> tuple[object, bool]:
    """Read a PKCS#8 PEM file; returns the private key and whether the file is encrypted."""
    try:
        with path.open("rb") as file:
            pem = file.read(KEY_FILE_BYTES_MAX)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    encrypted = b"ENCRYPTED" in pem
    if encrypted and not passphrase:
        raise KeyFileError(f"{path} is encrypted; a passphrase is needed")
    try:
        private = load_pem_private_key(pem, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path}: not a PEM key, or the passphrase is wrong") from None
    return private, encrypted


def load_credential(credential: str, name: str) -> Signer:
    """Read a key that systemd decrypted for this service (``LoadCredentialEncrypted=``).

    The file lies in memory, readable by this service alone, so it counts as protected.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise KeyFileError("this process was given no systemd credentials")
    if "/" in credential or credential in ("", ".", ".."):
        raise KeyFileError(f"{credential!r} is not the name of a credential")
    signer = load_key(Path(folder) / credential, name)
    return Signer(key=signer.key, private=signer.private)


__all__ = [
    "KeyFileError",
    "Sign",
    "Signer",
    "create_key",
    "load_credential",
    "load_key",
    "names_token",
    "read_private",
    "signer_of",
    "write_key",
]
