"""Signed notes against the published examples, and parsers that neither crash nor accept."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import checkpoint, note
from ledger.log.keys import signer_of
from ledger.log.note import Key, Note, NoteError, Signature

# Vector C: the example of the Go package sumdb/note.
TEXT_C = (
    b"If you think cryptography is the answer to your problem,\n"
    b"then you don't know what your problem is.\n"
)
VKEY_C = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SEED_C = note.strict_base64("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
LINE_C = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotp"
    "RZb6KE6RyyBwJnAM=\n"
)
# Vector D: the example of C2SP signed-note.
VKEY_D = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE_D = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAl"
    "TgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()  # fmt: skip


def test_vector_c_is_reproduced_byte_for_byte() -> None:
    signer = signer_of(Ed25519PrivateKey.from_private_bytes(SEED_C), "PeterNeumann")
    assert signer.vkey == VKEY_C
    assert signer.signature(TEXT_C).line() == LINE_C


def test_vector_d_verifies() -> None:
    key = note.parse_vkey(VKEY_D)
    assert key.vkey == VKEY_D
    assert checkpoint.verified_keys(note.parse(NOTE_D), [key]) == [key]


def test_a_known_key_that_does_not_verify_condemns_the_note() -> None:
    key = note.parse_vkey(VKEY_D)
    parsed = note.parse(NOTE_D)
    good = parsed.signatures[0]
    bad = Signature(name=good.name, key_hash=good.key_hash, blob=bytes(64))
    with pytest.raises(NoteError, match="does not verify"):
        checkpoint.verified_keys(Note(text=parsed.text, signatures=(bad, good)), [key])


def test_unknown_keys_are_passed_over_even_many_of_them() -> None:
    key = note.parse_vkey(VKEY_D)
    parsed = note.parse(NOTE_D)
    others = tuple(
        Signature(name=f"w{n}.example", key_hash=bytes([n] * 4), blob=b"x" * 64) for n in range(40)
    )
    crowd = note.parse(Note(text=parsed.text, signatures=(*others, *parsed.signatures)).encode())
    assert len(crowd.signatures) == 41
    assert checkpoint.verified_keys(crowd, [key]) == [key]


def test_text_and_signatures_part_at_the_last_empty_line() -> None:
    made = Note(text=b"a\n\nb\n", signatures=note.parse(NOTE_D).signatures)
    assert note.parse(made.encode()) == made


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"no newline",
        b"text\n",
        b"text\n\n",
        b"text\n\n- wrong dash aaaa\n",
        "text\n\n— name\n".encode(),
        "text\n\n— name !!!!\n".encode(),
        "text\n\n— name AAAA\n".encode(),
        "text\n\n— na+me AAAAAAAAAAA=\n".encode(),
        "te\x01xt\n\n— name AAAAAAAAAAA=\n".encode(),
        "text\r\n\n— name AAAAAAAAAAA=\n".encode(),
        b"\xff\n\n" + "— name AAAAAAAAAAA=\n".encode(),
        "text\n\n— name AAAAAAAAAAB=\n".encode(),
    ],
)
def test_malformed_notes_are_refused(bad: bytes) -> None:
    with pytest.raises(NoteError):
        note.parse(bad)


@pytest.mark.parametrize(
    "bad",
    ["", "a+b", "a+00000000+", VKEY_D[:-1], VKEY_D.replace("530d", "530e"), "x" + VKEY_D,
     "a b" + VKEY_D[15:], "a+00000000+Ag=="],
)  # fmt: skip
def test_malformed_keys_are_refused(bad: str) -> None:
    with pytest.raises(NoteError):
        note.parse_vkey(bad)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_note_error_or_a_note_that_encodes_back(data: bytes) -> None:
    try:
        parsed = note.parse(data)
    except NoteError:
        return
    assert parsed.encode() == data


@given(st.text(max_size=200))
def test_any_text_is_a_key_error_or_a_key_that_encodes_back(text: str) -> None:
    try:
        key = note.parse_vkey(text)
    except NoteError:
        return
    assert key.vkey == text.strip()


@given(position=st.integers(0, len(NOTE_D) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_note_is_accepted(position: int, bit: int) -> None:
    key = note.parse_vkey(VKEY_D)
    spoiled = bytearray(NOTE_D)
    spoiled[position] ^= 1 << bit
    try:
        assert checkpoint.verified_keys(note.parse(bytes(spoiled)), [key]) == []
    except NoteError:
        return


@given(
    name=st.text(min_size=1, max_size=20).filter(note.valid_name),
    public=st.binary(min_size=32, max_size=32),
)
def test_every_key_survives_its_own_encoding(name: str, public: bytes) -> None:
    key = Key(name=name, algorithm_code=note.ED25519, public=public)
    assert note.parse_vkey(key.vkey) == key
