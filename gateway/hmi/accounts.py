"""People who may read the page: a file of names, roles and Argon2id verifiers of passwords.

Source: RFC 9106 (Argon2), second recommended choice scaled to an edge PC. The file is made and
changed by ``sopgw account``; it holds no password, and still nobody but its owner may read it.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from gateway.model.errors import ConfigError

ITERATIONS, LANES, MEMORY_KIB = 3, 1, 64 << 10
SALT_BYTES, VERIFIER_BYTES = 16, 32
PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX = 12, 256
FILE_BYTES_MAX = 256 << 10
ROLES = ("viewer", "operator", "engineer", "secadm", "secaud")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One person; ``verifier`` is Argon2id of the password with ``salt``."""

    name: str
    role: str
    salt: bytes
    verifier: bytes


class Accounts:
    """The file, read anew whenever it has changed."""

    def __init__(self, path: Path) -> None:
        """Read the file now, so that a wrong one is told at the start."""
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._people: Mapping[str, Account] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in what changed; ConfigError where the file is wrong or others can read it."""
        try:
            found = self._path.stat()
        except OSError:
            self._people = read(self._path)  # says what is wrong
            return
        if (found.st_mtime_ns, found.st_ino) != self._seen:
            self._people = read(self._path)
            self._seen = (found.st_mtime_ns, found.st_ino)

    def get(self, name: str) -> Account | None:
        """Return a person, None when nobody has that name."""
        return self._people.get(name)


def matches(account: Account | None, password: str) -> bool:
    """Tell whether a password is the person's; a stranger's costs the same time.

    Takes a tenth of a second and 64 MiB: call it from a thread, one at a time.
    """
    known = account or Account(name="", role="", salt=bytes(SALT_BYTES), verifier=bytes(32))
    try:
        typed = password.encode(errors="surrogatepass")[: 4 * PASSWORD_CHARS_MAX]
        _argon2(known.salt).verify(typed, known.verifier)
    except InvalidKey:
        return False
    return account is not None


def new_account(*, name: str, role: str, password: str) -> Account:
    """Make a person's account; ConfigError for a password that is too short or too long."""
    if role not in ROLES:
        raise ConfigError(f"no role {role!r}; there are {', '.join(ROLES)}")
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise ConfigError(f"a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters")
    salt = secrets.token_bytes(SALT_BYTES)
    verifier = _argon2(salt).derive(password.encode())
    return Account(name=name, role=role, salt=salt, verifier=verifier)


def read(path: Path) -> dict[str, Account]:
    """Return the people of a file by name; ConfigError says what is wrong with it."""
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            raw = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; make it with `sopgw account add`") from None
    if mode & 0o077:
        raise ConfigError(f"{path}: others can read it (mode {mode:04o}); chmod 600 {path}")
    try:
        rows = json.loads(raw)["people"]
        return {name: _account(name, row) for name, row in rows.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{path}: not a file of accounts; `sopgw account` writes it") from None


def write(
    path: Path, people: Mapping[str, Account], *, owner: tuple[int, int] | None = None
) -> None:
    """Replace the file by one with these people, 0600, whole or not at all.

    ``owner`` is the user and group that read it, where root writes it for them.
    """
    rows = {
        p.name: {
            "role": p.role,
            "salt": b64encode(p.salt).decode(),
            "argon2id": b64encode(p.verifier).decode(),
        }
        for p in people.values()
    }
    body = json.dumps({"version": 1, "people": rows}, indent=1, sort_keys=True) + "\n"
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(body)
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _argon2(salt: bytes) -> Argon2id:
    return Argon2id(
        salt=salt, length=VERIFIER_BYTES, iterations=ITERATIONS, lanes=LANES, memory_cost=MEMORY_KIB
    )


def _account(name: str, row: Mapping[str, Any]) -> Account:
    salt, verifier = b64decode(row["salt"]), b64decode(row["argon2id"])
    if row["role"] not in ROLES or len(salt) != SALT_BYTES or len(verifier) != VERIFIER_BYTES:
        raise ValueError(name)
    return Account(name=name, role=row["role"], salt=salt, verifier=verifier)
