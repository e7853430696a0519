"""Checkpoints and cosignatures against published vectors."""

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import checkpoint, note
from ledger.log.checkpoint import Checkpoint
from ledger.log.cosign import Cosigner
from ledger.log.keys import signer_of
from ledger.log.merkle import Frontier
from ledger.log.note import Note, NoteError

# Vector E: the words of a published tlog-tiles log, its root and its key.
WORDS_E = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eit",
    "nain",
    "ten",
    "ileven",
    "twelf",
    "threeten",
    "fourten",
    "fivten",
]
ROOT_E = "rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs="
SEED_E = note.strict_base64("AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg")[1:]
VKEY_E = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"

# Vector F: entries alpha, beta, gamma; a log key, a witness key, one moment.
VKEY_F = "gw.example/ledger+d5a4fd22+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
WITNESS_F = "w.example/1+8de69f4a+BHm1Vi6P5lT5QHixEuipi6eQH4U65pW+1+DjkQutBJZk"
NOTE_F = """gw.example/ledger
3
OF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=

— gw.example/ledger 1aT9Im/ymnhI/rUk1aXmS1CewNF2/uVjAzolLPRqlQGOz6VzFPbR55t7KISo4unaLcAHnghkmTxnRMM1YUbIVeV19QU=
— w.example/1 jeafSgAAAABlU/EANPYylPOt+zB7Do+BmXad/T6ddV1dCA/jDk24lNr6RrExiGq9MBHNd4UWcApcqOL50dIDIe26vHpN1byw9raVDw==
""".encode()  # fmt: skip


def test_vector_e_root_and_key() -> None:
    frontier = Frontier()
    frontier.extend([word.encode() for word in WORDS_E])
    assert b64encode(frontier.root()).decode() == ROOT_E
    signer = signer_of(Ed25519PrivateKey.from_private_bytes(SEED_E), "example.com/log/testdata")
    assert signer.vkey == VKEY_E
    text = f"example.com/log/testdata\n15\n{ROOT_E}\n".encode()
    point = Checkpoint(origin="example.com/log/testdata", size=15, root=frontier.root())
    assert point.text() == text
    signed = Note(text=text, signatures=(signer.signature(text),))
    opened = checkpoint.open_checkpoint(signed.encode(), note.parse_vkey(VKEY_E))
    assert opened.checkpoint == point


def test_vector_f_is_reproduced_byte_for_byte() -> None:
    log = signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "gw.example/ledger")
    witness = Cosigner.ed25519(
        Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))), "w.example/1"
    )
    assert (log.vkey, witness.key.vkey) == (VKEY_F, WITNESS_F)
    frontier = Frontier()
    frontier.extend([b"alpha", b"beta", b"gamma"])
    text = Checkpoint(origin="gw.example/ledger", size=3, root=frontier.root()).text()
    lines = (log.signature(text), witness.cosign(text, 1_700_000_000))
    assert Note(text=text, signatures=lines).encode() == NOTE_F


def test_vector_f_verifies() -> None:
    keys = [note.parse_vkey(VKEY_F), note.parse_vkey(WITNESS_F)]
    signed = checkpoint.parse(NOTE_F)
    assert checkpoint.verified_keys(signed.note, keys) == keys
    line = signed.note.by(keys[1])
    assert line is not None
    assert checkpoint.cosignature_time_s(keys[1], line) == 1_700_000_000


def test_ml_dsa_cosignatures_verify_and_bind_time_size_and_root() -> None:
    witness = Cosigner.mldsa44(MLDSA44PrivateKey.generate(), "w.example/pq")
    text = checkpoint.parse(NOTE_F).note.text
    line = witness.cosign(text, 1_700_000_000)
    assert len(line.blob) == 8 + 2420
    assert len(witness.key.public) == 1312
    checkpoint.check_signature(witness.key, text, line)
    for bad_text, bad_blob in (
        (text.replace(b"\n3\n", b"\n4\n"), line.blob),
        (text, (1_700_000_001).to_bytes(8, "big") + line.blob[8:]),
    ):
        bad = note.Signature(name=line.name, key_hash=line.key_hash, blob=bad_blob)
        with pytest.raises(NoteError, match="does not verify"):
            checkpoint.check_signature(witness.key, bad_text, bad)


@pytest.mark.parametrize(
    "text",
    [
        b"origin\n3\n", b"\n3\nAAAA\n", b"origin\n03\n" + ROOT_E.encode() + b"\n",
        b"origin\n-3\n" + ROOT_E.encode() + b"\n", b"origin\n3\nAAAA\n",
        b"origin\n3\n" + ROOT_E.encode() + b"\n\n", "origin\n٣\n".encode() + ROOT_E.encode() + b"\n",
        b"origin\n" + b"9" * 30 + b"\n" + ROOT_E.encode() + b"\n",
    ],
)  # fmt: skip
def test_malformed_checkpoints_are_refused(text: bytes) -> None:
    with pytest.raises(NoteError):
        checkpoint.parse_text(text)


def test_a_foreign_signature_does_not_open_a_checkpoint() -> None:
    with pytest.raises(NoteError, match="not signed by"):
        checkpoint.open_checkpoint(NOTE_F, note.parse_vkey(VKEY_E))


@given(
    origin=st.text(min_size=1, max_size=30).filter(note.valid_name),
    size=st.integers(0, checkpoint.SIZE_MAX),
    root=st.binary(min_size=32, max_size=32),
)
def test_every_checkpoint_survives_its_own_text(origin: str, size: int, root: bytes) -> None:
    point = Checkpoint(origin=origin, size=size, root=root)
    assert checkpoint.parse_text(point.text()) == point


@given(st.binary(max_size=300))
def test_any_bytes_are_a_note_error_or_a_checkpoint(data: bytes) -> None:
    try:
        found = checkpoint.parse_text(data)
    except NoteError:
        return
    assert found.text() == data
