"""Reads a secret from where the site file says it lies; says how to put it there if it is not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gateway.config.problem import ConfigFileError, Problem

FOLDER_PREFIX = "secrets_"  # the unit hands over the whole folder: systemd names its files so
SECRET_BYTES_MAX = 64 << 10  # a key file or a password; anything larger is something else


def credential(name: str) -> Path | None:
    """Return the file in which systemd hands a secret over, None where it does not."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    for file in (name, FOLDER_PREFIX + name) if folder else ():
        path = Path(folder or "") / file
        if path.exists():
            return path
    return None


def _handed_over(path: Path) -> bool:
    """Whether systemd made the file: its access list shows as group bits, and lets us alone in."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.parent == Path(folder or "")


def read_secret(path: Path) -> str:
    """Return the secret without its last line end.

    Raises ConfigFileError when it is missing, empty, or readable by others than its owner.
    """
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            raw = stream.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise _wrong(
            path,
            f"the secret cannot be read: {error.strerror or type(error).__name__}",
            f"write it to {path} and `chmod 600` it, or give it by systemd's LoadCredential",
        ) from None
    if mode & (0o007 if _handed_over(path) else 0o077):
        raise _wrong(path, f"others can read the secret (mode {mode:04o})", f"chmod 600 {path}")
    if len(raw) > SECRET_BYTES_MAX or not raw.strip():
        raise _wrong(path, "the secret is empty or far too long", "check what was written to it")
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise _wrong(path, "the secret is not text", "write it as UTF-8") from None


def _wrong(path: Path, message: str, help_text: str) -> ConfigFileError:
    problem = Problem(
        code="C048", severity="error", message=message, file=str(path), help=help_text
    )
    return ConfigFileError([problem])
