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
ORIGIN_E = "example.com/log/testdata"
ROOT_E = "rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs="
SEED_E = note.strict_base64("AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg")[1:]
VKEY_E = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"

# Root and signature at every size from 0 to 15, as published with that log.
CHECKPOINTS_E = """
47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU= M9e0lhxJACzE1KoUdqKuPa+9p6R7dSW8BlEvrg/noo8FkGg6PbJoRNOcdjqjOq89wVvTA60eubCc4oufo5BvIVEgtQc=
0Nc2CrefWKseHj/mStd+LqC8B+NrX0btIiPt2SmN+ek= M9e0lhr9kuLxGdAtaUrhm84TQffVsLdcy808sN0a3WyniNlfcr9+bywoiIke1YYciCNjJGkCgIlQ8b16jhsmg/SChAM=
T1X2GdkhUjV3iyufF9b0kVsWFxIU0VI4EpNml2Teci4= M9e0llH4NKmlf0u7C8tkJioQOmi7l5ELqljXgKRg6R3G5JJ7vx7emDWo5fpqKuA/Dk/jRrI6il+7QCVirNhyUAWGoAk=
Wqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk= M9e0lvAQRtH832pk2RTbeSeZMkp4FZSdJYFBUjO5SKxuRbywPUF3cx+HUrb50kjd3rUWW/fj53Wj1dwcwh9bGQnqVAg=
zY1lN35vrXYAPixXSd59LsU29xUJtuW4o2dNNg5Y2Co= M9e0lnFuWt0cp60moO4jAkeXvMNLIIOGn4WdyeHQurBt9mBi0tWdfkldiAt9k0FpwuZymvttsVn9uwyouXU3vPpeNAc=
gy5gl3aksFyiCO95a/1vLXz88A3dRq+0l9Sxte8ZqZQ= M9e0lmn5eDHyHP10zJObZdFAX2y1V8fdDKBi4IiHbDYf1TCUBwxZOhqwv2QZCqrdda2zTRTrmnwjwscN5RBTEmZUYAs=
a6sWvsc2eEzmj72vah7mZ5dwFltivehh2b11qwlp5Jg= M9e0ln+nHSdGSHEZBcjvqyYDXDbG8WxDwCDjbbGAMv/NTynAtJWhckSXIpuwpN3yJ4PTtzUbD34YGqIZr6RgJRn16gU=
IrSXADBqJ7EQoUODSDKROySgNveeL6CFhik2w/+fS7U= M9e0luA5JhTRUki/BBQD0QNiH6AEJ2pdtsA5CQjqJErViuuKrN6513RCTL2640wXJv0dCed3neRGI6dMzBq9uANf2Qc=
bC+VwvrJbalNVjfkdI8kUgs7mJoXrqiXCE7bgnD28pY= M9e0lq1EK37dHtgv9O3UzPxisw5vwIPcJsX9ab0xt4mvVfbdUR1fbMjN6sBFYpBoBEmD4+cWhj/AVgI5MitCO5+mews=
CvhHViE3S9E3htHLR+25mapWoGCJ3WckMq1UtC3VmEY= M9e0ls3mdnWX0qk4P3uGG0eYiFRWSwPR+RdeD1ARmrHPHjXP0x9UJWASPFTOTqJo0mp7Epck2O9RFB0J9IjDdAewagw=
y8/gZsZCtitsMan09tY+k8I7Qpr7Y5fbO2tLi9GQnfU= M9e0lrmwaVEOWFZ+HS5ITnRd2YMOSWE5QeoYu+6DHwJLnJ+SVeJ2ZiYeD7lVC5oGJx76gbfLSyCUEq6D8JkarrsuiQQ=
Yok1cS5VdokGLBy73BC2I16b3atss6KBN9jnIi6Fz/A= M9e0lqbRtWirJwbUy4w3VrK2RyzfW8P+OIkc8t6b6AVG/tQd1Q2SN+uCLYzNNFnf/PhzeCdURSGQe1MRnohCxPu21wg=
uZo6M+IhVna+CLgWCrJs0xBPUHbozHkYTQASduHSLME= M9e0lrFzoTgi+ovhrqX0DpsEAp3wLu1coMLIkeCwSkGfS4Ox4pLXo2LHudqm4merh0ZkCNzHr8kQwq5gS5mmimIvdA4=
av0kLH0VkkVDrTuZzBGIx7d9z5G1l/GlKz/nAV/8woQ= M9e0liO8x8xfEOGmZVYODUjQajkEpjccPQ9EkG3yEEDet4K3BWE/DFRPH6H+b6gFFFaG5KS1bBmYS/xeZJs8lj+z+wM=
SvCd38yNade7xEPY1a/aAc1M3A2AHYVF8lIiUnsH1ao= M9e0lu8roIpjC+NXEG7JDkajIahoYDYWgxDtxfx/6rzLoztU9t/PvivZ48xt8ygJpjzaboSpkbVv3Jb+D3NdXWQf5wo=
rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs= M9e0luh4jTG+UMBqOUo9/q+yAEvx1ilBEniMvjf1zfcBOhg+CKubMt53MvIt/uEWP6zdkdIQzd/fmwlM/dlPWF74ewI=
"""

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


@pytest.mark.parametrize("size", range(16))
def test_vector_e_checkpoints_are_reproduced_byte_for_byte(size: int) -> None:
    root, signature = CHECKPOINTS_E.split()[2 * size : 2 * size + 2]
    published = (f"{ORIGIN_E}\n{size}\n{root}\n\n\u2014 {ORIGIN_E} {signature}\n").encode()
    frontier = Frontier()
    frontier.extend([word.encode() for word in WORDS_E[:size]])
    text = Checkpoint(origin=ORIGIN_E, size=size, root=frontier.root()).text()
    signer = signer_of(Ed25519PrivateKey.from_private_bytes(SEED_E), ORIGIN_E)
    assert Note(text=text, signatures=(signer.signature(text),)).encode() == published
    checkpoint.open_checkpoint(published, note.parse_vkey(VKEY_E))


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
