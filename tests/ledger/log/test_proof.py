"""tlog-proof files: round trip, refusal of every changed byte, no crash on any bytes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import note, proof
from ledger.log.keys import Signer
from ledger.log.merkle import ProofError
from ledger.log.note import NoteError
from ledger.log.proof import TlogProof
from ledger.log.treeview import TreeView


@pytest.fixture
def proved(make: Callable[..., Path]) -> TlogProof:
    view = TreeView.open(make([b"%d" % n for n in range(11)]))
    return TlogProof(index=6, hashes=tuple(view.inclusion(6, 11)), checkpoint=view.checkpoint)


def test_a_proof_verifies_and_survives_its_encoding(proved: TlogProof, signer: Signer) -> None:
    for one in (proved, replace(proved, extra=b""), replace(proved, extra=b"more")):
        assert proof.parse(one.encode()) == one
    assert proved.encode().startswith(b"c2sp.org/tlog-proof@v1\nindex 6\n")
    assert proof.verify(proved, b"6", [signer.key]).checkpoint.size == 11
    with pytest.raises(ProofError):
        proof.verify(proved, b"7", [signer.key])


def test_every_changed_byte_is_refused(proved: TlogProof, signer: Signer) -> None:
    data = proved.encode()
    for position in range(len(data)):
        spoiled = bytearray(data)
        spoiled[position] ^= 0x01
        with pytest.raises((NoteError, ProofError)):
            proof.verify(proof.parse(bytes(spoiled)), b"6", [signer.key])


def test_another_logs_key_is_refused(proved: TlogProof) -> None:
    other = note.parse_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    with pytest.raises(NoteError, match="not signed by"):
        proof.verify(proved, b"6", [other])


@pytest.mark.parametrize(
    "head",
    [
        "",
        "index 06\n",
        "index -1\n",
        "index\n",
        "index 1\nAAAA\n",
        "extra !\nindex 1\n",
        "index 1\n" + "A" * 43 + "=\n" * 64,
    ],
)
def test_malformed_heads_are_refused(proved: TlogProof, head: str) -> None:
    data = f"{proof.MAGIC}\n{head}\n".encode() + proved.checkpoint
    with pytest.raises(NoteError):
        proof.parse(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(NoteError):
        proof.parse(data)
    with pytest.raises(NoteError):
        proof.parse(proof.MAGIC.encode() + b"\nindex 1\n" + data)
