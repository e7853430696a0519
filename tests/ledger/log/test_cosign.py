"""Cosigners: names and kinds of keys (the signatures themselves: test_checkpoint)."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log import note
from ledger.log.cosign import Cosigner
from ledger.log.keys import signer_of


def test_a_cosigner_of_the_same_secret_is_another_key_than_the_log() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    log, witness = signer_of(private, "a.example"), Cosigner.ed25519(private, "a.example")
    assert log.key.key_hash != witness.key.key_hash
    assert note.parse_vkey(witness.key.vkey) == witness.key


def test_a_name_that_cannot_stand_in_a_note_is_refused() -> None:
    with pytest.raises(note.NoteError):
        Cosigner.ed25519(Ed25519PrivateKey.generate(), "two words")
