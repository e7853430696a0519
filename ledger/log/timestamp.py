"""RFC 3161 time stamps of checkpoints: the query that is sent, and the answer checked by OpenSSL.

A token from a qualified authority carries legal weight that no witness of ours has. Sending is
left to the operator's own HTTP client; nothing here opens a connection.
"""

from __future__ import annotations

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

from ledger.log import checkpoint, reader, tiles
from ledger.log.anchor import FOLDER, STAMPED, checkpoints_at
from ledger.log.note import NoteError
from ledger.log.pkcs8 import der, integer

SHA256_ALGORITHM = bytes.fromhex("300d06096086480165030402010500")
SUFFIX = ".tsr"
TOKEN_BYTES_MAX = 64 << 10
"""A token with its certificates has a few kilobytes."""


class TimestampError(Exception):
    """A token is not for this checkpoint, or its authority is not the trusted one."""


def query(signed: bytes, nonce: int) -> bytes:
    """The TimeStampReq for a signed checkpoint's bytes, asking for the certificates."""
    imprint = der(0x30, SHA256_ALGORITHM, der(0x04, sha256(signed).digest()))
    return der(0x30, integer(1), imprint, integer(nonce), der(0x01, b"\xff"))


def keep(directory: Path, signed: bytes, token: bytes) -> Path:
    """Keep a checkpoint and the authority's answer to it beside the ledger."""
    if len(token) > TOKEN_BYTES_MAX:
        raise TimestampError("too large for a time stamp")
    try:
        size = checkpoint.parse(signed).checkpoint.size
    except NoteError as error:
        raise TimestampError(f"no checkpoint: {error}") from None
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{size:020d}{SUFFIX}"
    tiles.write_file(path.with_suffix(STAMPED), signed)
    tiles.write_file(path, token)
    return path


def of_this_ledger(directory: Path, stamped: bytes) -> None:
    """Raise TimestampError unless the ledger has exactly this checkpoint's tree at its size."""
    try:
        point = checkpoint.parse(stamped).checkpoint
    except NoteError as error:
        raise TimestampError(f"no checkpoint: {error}") from None
    newest = reader.last_checkpoint(directory)
    size = checkpoint.parse(newest).checkpoint.size if newest else 0
    if not 0 < point.size <= size:
        raise TimestampError(f"is of size {point.size}, the ledger has {size}")
    own = checkpoints_at(directory, [point.size])[point.size]
    if own != point:
        raise TimestampError(f"is of another ledger than this one, at size {point.size}")


def verify(directory: Path, token: Path, authority: Path) -> str:
    """Check a kept token against the ledger, its checkpoint and the authority's certificate.

    Returns the time it states, as OpenSSL prints it.
    """
    program = shutil.which("openssl")
    if program is None:
        raise TimestampError("time stamps are checked by openssl, which is not installed")
    stamped = token.with_suffix(STAMPED)
    try:
        of_this_ledger(directory, stamped.read_bytes())
    except OSError as error:
        raise TimestampError(f"{stamped.name}: {error.strerror}") from None
    check = [program, "ts", "-verify", "-in", str(token), "-data", str(stamped),
             "-CAfile", str(authority)]  # fmt: skip
    done = subprocess.run(check, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words and paths
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise TimestampError(lines[-1] if lines else "openssl refused it")
    show = [program, "ts", "-reply", "-in", str(token), "-text"]
    text = subprocess.run(show, capture_output=True, text=True, check=False).stdout  # noqa: S603 - fixed words and paths
    stated = [line for line in text.splitlines() if line.startswith("Time stamp:")]
    return stated[0].removeprefix("Time stamp:").strip() if stated else "unknown"
