"""Kept evidence: what counts, what it says against a ledger (over HTTP: tests/ledger/test_witness)."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.cli.arguments import anchor_line
from ledger.log import anchor, checkpoint, note, policy, reader, segment
from ledger.log.checkpoint import Checkpoint
from ledger.log.cosign import Cosigner
from ledger.log.keys import Signer, signer_of
from ledger.log.note import Note

WITNESS, SECOND = (
    Cosigner.ed25519(Ed25519PrivateKey.from_private_bytes(bytes([n] * 32)), name)
    for n, name in ((9, "w.example"), (8, "w2.example"))
)


def cosigned(data: bytes, time_s: int, *by: Cosigner) -> bytes:
    parsed = note.parse(data)
    lines = [witness.cosign(parsed.text, time_s) for witness in by or (WITNESS,)]
    return Note(text=parsed.text, signatures=(*parsed.signatures, *lines)).encode()


def of_another(by: Signer, origin: str, size: int) -> bytes:
    text = Checkpoint(origin=origin, size=size, root=bytes(32)).text()
    return cosigned(Note(text=text, signatures=(by.signature(text),)).encode(), 1)


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


def test_evidence_of_another_ledger_vouches_for_nothing(
    make: Callable[..., Path], signer: Signer
) -> None:
    """Not even where the policy trusts that ledger's key too."""
    directory = make([b"a"], [b"b"])
    other = signer_of(Ed25519PrivateKey.generate(), "other.example")
    rules = policy.parse(
        f"log {signer.vkey}\nlog {other.vkey}\nwitness w {WITNESS.key.vkey}\nquorum w\n"
    )
    own = cosigned(reader.last_checkpoint(directory), 77)
    anchor.keep(directory, own)
    anchor.keep(directory, of_another(other, "other.example", 50))
    anchor.keep(directory, of_another(other, signer.name, 51))
    anchor.keep(directory, of_another(signer, signer.name, 52))
    found = anchor.Anchored(size=2, time_s=77, by=("w.example",))
    assert anchor.anchored(directory, rules, size=2) == found
    data, line = anchor_line(directory, rules)
    assert (data or {}).get("size") == 2, "of 52 entries there are two"
    assert line.startswith("Anchored  size 2 by w.example")
    anchor.kept_files(directory)[-1].unlink()
    assert anchor.anchored(directory, rules) == found
    every = [*rules.keys(), WITNESS.key]
    assert anchor.damaged(directory, every) == [
        f"evidence/{50:020d}.checkpoint is of another ledger: other.example"
    ]
    assert anchor.anchored(directory / "nowhere", rules) is None


def both_of(signer: Signer) -> policy.Policy:
    return policy.parse(
        f"log {signer.vkey}\nwitness w {WITNESS.key.vkey}\nwitness w2 {SECOND.key.vkey}\n"
        "group both all w w2\nquorum both\n"
    )


def test_a_witness_that_is_away_takes_nothing_back(
    make: Callable[..., Path], signer: Signer
) -> None:
    """What both signed stays while the newer evidence is signed by one of them only."""
    directory = make(*[[b"%d" % n] for n in range(2 * anchor.KEPT_COUNT)])
    points = [batch.checkpoint for batch in reader.batches(directory)]
    anchor.keep(directory, cosigned(points[0], 5, WITNESS, SECOND))
    anchor.keep(directory, cosigned(points[1], 6, WITNESS, SECOND))
    for point in points[2:]:
        anchor.keep(directory, cosigned(point, 7))
    found = anchor.anchored(directory, both_of(signer))
    assert found == anchor.Anchored(size=2, time_s=6, by=("w.example", "w2.example"))
    assert len(anchor.kept_files(directory)) == anchor.KEPT_COUNT + 1
    for size in (1, 2):
        anchor.keep(directory, cosigned(points[-size], 8, WITNESS, SECOND))
    assert len(anchor.kept_files(directory)) == anchor.KEPT_COUNT


@pytest.mark.parametrize("unread", [0, -1])
def test_evidence_that_can_not_be_read_just_now_is_not_removed(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, unread: int
) -> None:
    """All files of the process may be open; that the old one is nobody's is not known then."""
    count = anchor.KEPT_COUNT + 1
    directory = make(*[[b"%d" % n] for n in range(count)])
    points = [batch.checkpoint for batch in reader.batches(directory)]
    anchor.keep(directory, cosigned(points[0], 5, WITNESS, SECOND))
    for point in points[1:-1]:
        anchor.keep(directory, cosigned(point, 6))
    files = anchor.kept_files(directory)
    last = files[0].with_name(f"{count:020d}{anchor.SUFFIX}")
    last.write_bytes(cosigned(points[-1], 7, WITNESS, SECOND))
    real = Path.read_bytes

    def flaky(self: Path) -> bytes:
        if self == [files[0], last][unread]:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self)

    with monkeypatch.context() as full:
        full.setattr(Path, "read_bytes", flaky)
        anchor.thin_out(directory)
    assert anchor.kept_files(directory) == [*files, last]
    anchor.thin_out(directory)
    assert anchor.kept_files(directory) == [*files[1:], last]
    files[0].write_bytes(b"spoiled")
    anchor.thin_out(directory)
    assert files[0] not in anchor.kept_files(directory), "what is no checkpoint is nobody's"


def test_what_was_signed_at_one_size_is_kept_together(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make([b"a"], [b"b"])
    own = reader.last_checkpoint(directory)
    rules = both_of(signer)
    anchor.keep(directory, cosigned(own, 5, SECOND))
    anchor.keep(directory, cosigned(own, 6, WITNESS))
    anchor.keep(directory, cosigned(own, 7, WITNESS))
    found = anchor.anchored(directory, rules)
    assert found == anchor.Anchored(size=2, time_s=7, by=("w.example", "w2.example"))
    path = anchor.kept_files(directory)[0]
    path.write_bytes(b"spoiled")
    anchor.keep(directory, cosigned(own, 8, WITNESS, SECOND))
    assert anchor.anchored(directory, rules) == anchor.Anchored(size=2, time_s=8, by=found.by)


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
