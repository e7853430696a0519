"""One signing key by whatever holds its private part."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.log import note
from ledger.log.note import NoteError
from ledger.log.signer import Signer, signer_of

TEXT = b"bench4.example/SOP-1\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_its_signature_is_the_named_keys_and_nobody_elses():
    private = Ed25519PrivateKey.generate()
    signer = signer_of(private, "bench4.example/SOP-1")
    line = signer.signature(TEXT)
    assert (line.name, line.key_hash) == (signer.name, signer.key.key_hash)
    assert line.blob == signer.sign(TEXT)
    private.public_key().verify(line.blob, TEXT)
    with pytest.raises(InvalidSignature):
        Ed25519PrivateKey.generate().public_key().verify(line.blob, TEXT)
    with pytest.raises(InvalidSignature):
        private.public_key().verify(line.blob, TEXT + b"x")


def test_the_verifier_key_it_gives_out_is_its_own():
    signer = signer_of(Ed25519PrivateKey.generate(), "bench4.example/SOP-1")
    told = note.parse_vkey(signer.vkey)
    assert told == signer.key
    Ed25519PublicKey.from_public_bytes(told.public).verify(signer.sign(TEXT), TEXT)


def test_the_private_part_may_lie_elsewhere():
    class Token:
        def sign(self, data, /):
            return bytes(reversed(data))[:64]

    key = signer_of(Ed25519PrivateKey.generate(), "n").key
    assert Signer(key=key, private=Token()).sign(TEXT) == bytes(reversed(TEXT))[:64]


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\n"])
def test_a_name_that_a_note_cannot_carry_is_refused(name):
    with pytest.raises(NoteError, match="cannot be a key name"):
        signer_of(Ed25519PrivateKey.generate(), name)
