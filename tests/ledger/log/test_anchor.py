"""Kept evidence: what counts, what it says against a ledger (over HTTP: tests/ledger/test_witness)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log import anchor, checkpoint, note, reader, segment
from ledger.log.cosign import Cosigner
from ledger.log.keys import Signer, signer_of
from ledger.log.note import Note

WITNESS = Cosigner.ed25519(Ed25519PrivateKey.from_private_bytes(bytes([9] * 32)), "w.example")


def cosigned(data: bytes, time_s: int) -> bytes:
    parsed = note.parse(data)
    line = WITNESS.cosign(parsed.text, time_s)
    return Note(text=parsed.text, signatures=(*parsed.signatures, line)).encode()


def test_not_anchored_until_a_witness_has_signed(make: Callable[..., Path]) -> None:
    directory = make([b"a"], [b"b"])
    assert anchor.anchored(directory, keys=[WITNESS.key]) is None
    own = reader.last_checkpoint(directory)
    anchor.keep(directory, own)
    assert anchor.anchored(directory, keys=[WITNESS.key]) is None, "our own word is no evidence"
    anchor.keep(directory, cosigned(own, 77))
    found = anchor.anchored(directory, keys=[WITNESS.key])
    assert found == anchor.Anchored(size=2, time_s=77, by=("w.example",))
    assert anchor.anchored(directory, keys=[]) is None
    anchor.kept_files(directory)[-1].write_bytes(b"spoiled")
    assert anchor.anchored(directory, keys=[WITNESS.key]) is None


def test_only_some_evidence_is_kept(make: Callable[..., Path]) -> None:
    directory = make(*[[b"%d" % n] for n in range(anchor.KEPT_COUNT + 5)])
    for batch in reader.batches(directory):
        anchor.keep(directory, cosigned(batch.checkpoint, batch.size))
    assert len(anchor.kept_files(directory)) == anchor.KEPT_COUNT
    found = anchor.anchored(directory, keys=[WITNESS.key])
    assert found is not None
    assert found.size == anchor.KEPT_COUNT + 5


def test_contradictions(make: Callable[..., Path], signer: Signer) -> None:
    directory = make([b"a"], [b"b", b"c"], [b"d"])
    points = [b.checkpoint for b in reader.batches(directory)]
    shorter = make([b"a"], [b"b", b"c"], name="shorter")
    forked = make([b"a"], [b"b", b"x"], [b"d"], name="forked")
    regrouped = make([b"a", b"b", b"c", b"d"], name="regrouped")
    keys = [signer.key]
    assert anchor.contradictions(directory, points, keys) == []
    assert "rolled back" in anchor.contradictions(shorter, points, keys)[0]
    assert len(anchor.contradictions(forked, points, keys)) == 2
    assert len(anchor.contradictions(regrouped, points, keys)) == 2
    assert anchor.contradictions(make(name="empty"), points[:1], keys) != []
    stranger = signer_of(Ed25519PrivateKey.generate(), signer.name)
    text = checkpoint.Checkpoint(origin=signer.name, size=99, root=bytes(32)).text()
    foreign = Note(text=text, signatures=(stranger.signature(text),)).encode()
    assert anchor.contradictions(directory, [foreign, b"", b"junk"], keys) == []


def test_evidence_of_many_sizes_reads_each_segment_once(
    make: Callable[..., Path], signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make(*[[b"%d" % n * 20] * 3 for n in range(60)], segment_bytes=3_000)
    points = [b.checkpoint for b in reader.batches(directory)]
    names = [path.name for path in segment.segments(directory)]
    assert len(names) > 5
    read: list[str] = []
    real = reader.segment_batches

    def counted(path: Path, *arguments: Any, **more: Any) -> Any:
        read.append(path.name)
        return real(path, *arguments, **more)

    monkeypatch.setattr(reader, "segment_batches", counted)
    assert anchor.contradictions(directory, points, [signer.key]) == []
    read.remove(names[-1])  # for the newest checkpoint
    assert sorted(read) == names
    found = anchor.checkpoints_at(directory, [1, 3, 4, 180])
    assert {size: point.size for size, point in found.items()} == {1: 3, 3: 3, 4: 6, 180: 180}
