"""The sealed box of a backup: a stream under ChaCha20-Poly1305 that opens whole or not at all.

The file's key is random and lies in the header, wrapped once for each way to open it: a passphrase
(Argon2id) or a recipient's X25519 key, whose private half need not be on this machine. Chunks are
numbered and the last one is marked, so that none can be changed, left out, moved or cut off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"sopgw-backup-v1\n"
CHUNK_BYTES = 1 << 20
TAG_BYTES = 16
HEADER_BYTES_MAX = 64 << 10
RECIPIENT = "sopgw-recipient-"
KEK_NONCE = bytes(12)  # each wrapping key is used once: its salt or its ephemeral half is new
MEMORY_KIB, PASSES, LANES = 64 << 10, 3, 4  # RFC 9106, second recommended choice
MEMORY_KIB_MAX, PASSES_MAX, LANES_MAX = 1 << 20, 16, 16  # a crafted header must not stall us


class BoxError(Exception):
    """The file is no backup, was changed, or was cut off."""


class WrongKey(BoxError):  # noqa: N818 - a state of the attempt, in its own word
    """It does not open with this key or passphrase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """What opens a box: a passphrase, a private key, or the file's own key."""

    passphrase: bytes | None = None
    private: X25519PrivateKey | None = None
    file_key: bytes | None = None  # of the box just sealed, to read it back


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _derived(shared: bytes, salt: bytes) -> bytes:
    return HKDF(
        algorithm=hashes.SHA256(), length=32, salt=salt, info=b"sopgw-backup-v1 x25519"
    ).derive(shared)


def new_identity(path: Path) -> str:
    """Make a recipient's private key, 0600; return the public half as it is typed."""
    private = X25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    return RECIPIENT + _text(private.public_key().public_bytes_raw())


def identity(pem: bytes) -> X25519PrivateKey:
    """Read a recipient's private key."""
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise BoxError(f"not a private key: {error}") from None
    if not isinstance(private, X25519PrivateKey):
        raise BoxError("not a key for backups: sopgw backup keygen makes one")
    return private


def recipient(text: str) -> X25519PublicKey:
    """Read a recipient as it is typed."""
    try:
        raw = base64.b64decode(text.removeprefix(RECIPIENT), validate=True)
        return X25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise BoxError(f"not a recipient: {text}") from None


def _for_passphrase(file_key: bytes, passphrase: bytes) -> dict[str, Any]:
    salt = os.urandom(16)
    kek = _stretched(passphrase, salt, memory_kib=MEMORY_KIB, passes=PASSES, lanes=LANES)
    wrapped = ChaCha20Poly1305(kek).encrypt(KEK_NONCE, file_key, b"argon2id")
    return {
        "kind": "argon2id",
        "salt": _text(salt),
        "memory_kib": MEMORY_KIB,
        "passes": PASSES,
        "lanes": LANES,
        "wrapped": _text(wrapped),
    }


def _stretched(
    passphrase: bytes, salt: bytes, *, memory_kib: int, passes: int, lanes: int
) -> bytes:
    return Argon2id(
        salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib
    ).derive(passphrase)


def _for_recipient(file_key: bytes, public: X25519PublicKey) -> dict[str, Any]:
    ephemeral = X25519PrivateKey.generate()
    ours, theirs = ephemeral.public_key().public_bytes_raw(), public.public_bytes_raw()
    kek = _derived(ephemeral.exchange(public), ours + theirs)
    wrapped = ChaCha20Poly1305(kek).encrypt(KEK_NONCE, file_key, b"x25519")
    return {"kind": "x25519", "ephemeral": _text(ours), "wrapped": _text(wrapped)}


class BoxWriter:
    """Seals what is written to it; ``close`` marks the end, without which nothing opens."""

    def __init__(
        self,
        file: BinaryIO,
        about: Mapping[str, Any],
        *,
        passphrase: bytes | None = None,
        recipients: Sequence[X25519PublicKey] = (),
    ) -> None:
        """Write the header; ``about`` is readable by anybody, so it says little."""
        file_key = os.urandom(32)
        keys = [_for_recipient(file_key, one) for one in recipients]
        if passphrase is not None:
            keys.append(_for_passphrase(file_key, passphrase))
        if not keys:
            raise BoxError("nobody could open this: no passphrase and no recipient")
        header = MAGIC + json.dumps({**about, "keys": keys}, sort_keys=True).encode() + b"\n"
        self.opener = Opener(file_key=file_key)
        self._file, self._aead = file, ChaCha20Poly1305(file_key)
        self._about = hashlib.sha256(header).digest()
        self._waiting = bytearray()
        self._count = 0
        file.write(header)

    def write(self, data: bytes) -> int:
        """Take more of the stream."""
        self._waiting += data
        while len(self._waiting) > CHUNK_BYTES:
            self._seal(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]
        return len(data)

    def close(self) -> None:
        """Seal the last chunk."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._aead.encrypt(_nonce(self._count, last=last), chunk, self._about))
        self._count += 1


def _nonce(count: int, *, last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes([last])


def read_about(file: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """Read the header of a box; return it and its bytes."""
    if file.read(len(MAGIC)) != MAGIC:
        raise BoxError("not a backup of sopgw")
    line = file.readline(HEADER_BYTES_MAX)
    try:
        about = json.loads(line)
        keys = about["keys"]
        if not line.endswith(b"\n") or not all(isinstance(k["kind"], str) for k in keys):
            raise BoxError("the header is damaged")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BoxError("the header is damaged") from None
    return about, MAGIC + line


class BoxReader:
    """Opens a box and reads its stream; BoxError at the first byte that is not as written."""

    def __init__(self, file: BinaryIO, opener: Opener) -> None:
        """Read the header and find the file's key."""
        self.about, header = read_about(file)
        self._file = file
        self._aead = ChaCha20Poly1305(_file_key(self.about["keys"], opener))
        self._about = hashlib.sha256(header).digest()
        self._ready = bytearray()
        self._next = file.read(CHUNK_BYTES + TAG_BYTES)
        self._count = 0
        self._ended = False

    def read(self, count: int = -1) -> bytes:
        """Read up to ``count`` bytes of the stream; everything that is left for -1."""
        while not self._ended and (count < 0 or len(self._ready) < count):
            self._open_chunk()
        wanted = len(self._ready) if count < 0 else count
        found = bytes(self._ready[:wanted])
        del self._ready[:wanted]
        return found

    def _open_chunk(self) -> None:
        chunk, self._next = self._next, self._file.read(CHUNK_BYTES + TAG_BYTES)
        last = not self._next
        try:
            self._ready += self._aead.decrypt(_nonce(self._count, last=last), chunk, self._about)
        except InvalidTag:
            at = f"chunk {self._count}"
            raise BoxError(f"{at} was changed, or the file was cut off there") from None
        self._count += 1
        self._ended = last


def _file_key(keys: Sequence[Mapping[str, Any]], opener: Opener) -> bytes:
    if opener.file_key is not None:
        return opener.file_key
    for key in keys:
        try:
            found = _unwrapped(key, opener)
        except (KeyError, TypeError, ValueError):
            raise BoxError("the header is damaged") from None
        if found is not None:
            return found
    known = ", ".join(sorted({k["kind"] for k in keys}))
    raise WrongKey(f"this key or passphrase does not open it (sealed for {known})")


def _unwrapped(key: Mapping[str, Any], opener: Opener) -> bytes | None:
    wrapped = base64.b64decode(key["wrapped"], validate=True)
    if key["kind"] == "argon2id" and opener.passphrase is not None:
        cost = {"memory_kib": key["memory_kib"], "passes": key["passes"], "lanes": key["lanes"]}
        limits = {"memory_kib": MEMORY_KIB_MAX, "passes": PASSES_MAX, "lanes": LANES_MAX}
        if any(not isinstance(v, int) or not 0 < v <= limits[k] for k, v in cost.items()):
            raise BoxError("the header asks for more memory or time than any backup of ours")
        salt = base64.b64decode(key["salt"], validate=True)
        kek = _stretched(opener.passphrase, salt, **cost)
    elif key["kind"] == "x25519" and opener.private is not None:
        ephemeral = base64.b64decode(key["ephemeral"], validate=True)
        ours = opener.private.public_key().public_bytes_raw()
        shared = opener.private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        kek = _derived(shared, ephemeral + ours)
    else:
        return None
    try:
        return ChaCha20Poly1305(kek).decrypt(KEK_NONCE, wrapped, str(key["kind"]).encode())
    except InvalidTag:
        return None
