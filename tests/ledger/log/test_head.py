"""Heads made in the shortest way are the notes that everybody else reads and writes."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import checkpoint
from ledger.log.checkpoint import Checkpoint
from ledger.log.head import HeadSigner
from ledger.log.keys import Signer, signer_of
from ledger.log.note import Note


@given(
    size=st.integers(0, checkpoint.SIZE_MAX),
    root=st.binary(min_size=32, max_size=32),
    names=st.lists(st.sampled_from(["a.example/x", "städte.example", "w"]), min_size=1),
)
def test_a_head_is_the_note_of_its_checkpoint(size: int, root: bytes, names: list[str]) -> None:
    signers = [
        signer_of(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32), name)
        for n, name in enumerate(names)
    ]
    made = HeadSigner(names[0], signers).signed(size, root)
    point = Checkpoint(origin=names[0], size=size, root=root)
    text = point.text()
    assert made == Note(text=text, signatures=tuple(s.signature(text) for s in signers)).encode()
    assert checkpoint.open_checkpoint(made, signers[-1].key).checkpoint == point


def test_a_key_that_signs_elsewhere_is_asked_each_time(signer: Signer) -> None:
    asked: list[bytes] = []

    class Elsewhere:
        def sign(self, data: bytes, /) -> bytes:
            asked.append(data)
            return signer.sign(data)

    heads = HeadSigner(signer.name, [Signer(key=signer.key, private=Elsewhere())])
    for size in (1, 2):
        checkpoint.open_checkpoint(heads.signed(size, bytes(32)), signer.key)
    assert [text.split(b"\n")[1] for text in asked] == [b"1", b"2"]
