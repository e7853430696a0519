"""Log keys that never leave a token: PKCS#11 behind the same signer as key files.

Needs the package ``python-pkcs11``, imported only when a token is used.
"""

from __future__ import annotations

import importlib
from typing import Any

from ledger.log import note
from ledger.log.keys import KeyFileError, Signer
from ledger.log.note import Key, NoteError

PUBLIC_BYTES = 32


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
        session = pkcs11.lib(module).get_token(token_label=token).open(user_pin=pin)
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
