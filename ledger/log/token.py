"""Log keys that never leave a token: PKCS#11 behind the same signer as key files.

Needs the package ``python-pkcs11``, imported only when a token is used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ledger.log import note
from ledger.log.note import Key, NoteError
from ledger.log.signer import KeyFileError, Signer

PUBLIC_BYTES = 32
SCHEME = "pkcs11:"
NEEDED = ("token", "object", "module-path")
TAKEN = frozenset({*NEEDED, "type", "pin-source"})
PIN_BYTES_MAX = 256


class TokenKey:
    """An Ed25519 private key inside a token."""

    def __init__(self, private: Any, mechanism: Any) -> None:
        self._private = private
        self._mechanism = mechanism

    def sign(self, data: bytes, /) -> bytes:
        """Have the token sign."""
        return bytes(self._private.sign(data, mechanism=self._mechanism))


def open_token(*, module: str, token: str, label: str, pin: str, name: str) -> Signer:
    """A note signer around a token's key.

    Args:
        module: Path of the token's PKCS#11 library.
        token: Label of the token.
        label: Label of the key pair inside it.
        pin: The user's PIN.
        name: Name of the key in notes; for a log its origin.
    """
    if not note.valid_name(name):
        raise NoteError(f"{name!r} cannot be a key name")
    try:
        pkcs11 = importlib.import_module("pkcs11")
    except ImportError:
        raise KeyFileError("PKCS#11 needs the package python-pkcs11") from None
    try:
        slot = pkcs11.lib(module).get_token(token_label=token)
        try:
            session = slot.open(user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:  # this process is, for another key of the token
            session = slot.open()
        kinds = pkcs11.ObjectClass
        private = session.get_key(label=label, object_class=kinds.PRIVATE_KEY)
        public = session.get_key(label=label, object_class=kinds.PUBLIC_KEY)
        point = bytes(public[pkcs11.Attribute.EC_POINT])
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        raise KeyFileError(f"token {token}: {type(error).__name__} {error}") from None
    raw = point[-PUBLIC_BYTES:]
    if len(point) not in (PUBLIC_BYTES, PUBLIC_BYTES + 2):
        raise KeyFileError(f"token {token}: key {label} is not an Ed25519 key")
    key = Key(name=name, algorithm_code=note.ED25519, public=raw)
    return Signer(key=key, private=TokenKey(private, pkcs11.Mechanism.EDDSA))


def parse_uri(text: str) -> dict[str, str]:
    """Read a PKCS#11 URI: which token, which key in it, by which library.

    Attributes that would say more than this program compares are refused, never passed over.
    """
    path, _, query = text.strip().removeprefix(SCHEME).partition("?")
    pairs = [pair.partition("=") for pair in [*path.split(";"), *query.split("&")] if pair]
    found = {name: unquote(value) for name, _, value in pairs}
    wrong = sorted(set(found) - TAKEN)
    if not text.startswith(SCHEME) or wrong or len(found) != len(pairs):
        raise KeyFileError(f"not a PKCS#11 URI of ours: {', '.join(wrong) or text[:80]!r}")
    if found.pop("type", "private") != "private":
        raise KeyFileError("a PKCS#11 URI of a signing key has type=private")
    lacking = [name for name in NEEDED if not found.get(name)]
    if lacking:
        raise KeyFileError(f"the PKCS#11 URI lacks {', '.join(lacking)}")
    return found


def open_uri(text: str, name: str, pin: bytes | None) -> Signer:
    """A note signer around the key a PKCS#11 URI names; its PIN is given or in ``pin-source``."""
    found = parse_uri(text)
    source = found.get("pin-source")
    if pin is None and source is not None:
        path = Path(source.removeprefix("file:"))
        try:
            if path.stat().st_mode & 0o077:
                raise KeyFileError(f"{path}: others can read the PIN; chmod 600")
            pin = path.read_bytes()[:PIN_BYTES_MAX].rstrip(b"\r\n")
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}") from None
    if pin is None:
        raise KeyFileError("the token is encrypted; a passphrase is needed, its PIN")
    return open_token(
        module=found["module-path"], token=found["token"], label=found["object"],
        pin=pin.decode(errors="replace"), name=name,
    )  # fmt: skip
