"""Removing bodies: only what was exported goes, everything still verifies and proves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.log import derived, merkle, reader, retention, tiles
from ledger.log.checkpoint import parse
from ledger.log.keys import Signer
from ledger.log.retention import NotExported
from ledger.log.treeview import TreeView
from ledger.log.verify import verify
from ledger.log.writer import LedgerWriter

LEAVES = [b'{"kind":"%s","n":%d}' % ((b"reading", b"plan")[n % 3 == 0], n) for n in range(600)]


@pytest.fixture
def ledger(make: Callable[..., Path]) -> Path:
    return make(*[LEAVES[n : n + 10] for n in range(0, 600, 10)], segment_bytes=6_000)


def old_readings(index: int, body: bytes) -> bool:
    return index < 500 and b"reading" in body


def test_bodies_go_and_proofs_stay(ledger: Path, tmp_path: Path, signer: Signer) -> None:
    derived.rebuild(ledger)
    tiles.materialise(ledger, tmp_path / "export")
    before = TreeView.open(ledger)
    done = retention.prune(ledger, tmp_path / "export", old_readings)
    assert done.removed_count > 200
    left = dict(reader.entries(ledger))
    assert all(left[n] == LEAVES[n] for n in left)
    assert all(n in left for n in range(600) if n % 3 == 0 or n >= 500)
    report = verify(ledger, [signer.vkey])
    assert report.ok
    assert (report.size, report.removed_count) == (600, done.removed_count)
    after = TreeView.open(ledger)
    assert (after.levels, after.checkpoint) == (before.levels, before.checkpoint)
    gone = next(n for n in range(600) if n not in left)
    merkle.verify_inclusion(
        index=gone, size=600, leaf=merkle.leaf_hash(LEAVES[gone]),
        proof=after.inclusion(gone, 600), root=parse(after.checkpoint).checkpoint.root,
    )  # fmt: skip
    derived.index.build(ledger)
    assert not (ledger / "tile/entries/000").exists()
    whole = b"".join(
        p.read_bytes() for p in ledger.rglob("*") if p.is_file() and "index" not in p.name
    )
    assert LEAVES[gone] not in whole


def test_what_is_derived_goes_too_and_comes_back(
    ledger: Path, tmp_path: Path, signer: Signer
) -> None:
    derived.rebuild(ledger)
    tiles.materialise(ledger, tmp_path / "export")
    nothing = retention.prune(ledger, tmp_path / "export", lambda _n, _b: False)
    assert nothing.removed_count == 0
    assert (ledger / "index.sqlite").exists(), "nothing went: it stays"
    for suffix in ("-wal", "-shm"):
        (ledger / f"index.sqlite{suffix}").write_bytes(b"")
    done = retention.prune(ledger, tmp_path / "export", old_readings)
    assert done.removed_count > 200
    assert not list(ledger.glob("index.sqlite*"))
    assert list(derived.faults(ledger)) == []
    derived.rebuild(ledger)
    assert list(derived.faults(ledger)) == []
    assert verify(ledger, [signer.vkey]).ok


def test_the_index_goes_before_the_first_body(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power cut at the first rename: the index must not know more than the ledger later holds."""
    derived.rebuild(ledger)
    tiles.materialise(ledger, tmp_path / "export")
    there: list[bool] = []

    def rename(_path: Path, _target: Path) -> None:
        there.append((ledger / "index.sqlite").exists())
        raise OSError("power cut")

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="power cut"):
        retention.prune(ledger, tmp_path / "export", old_readings)
    assert there == [False]


def test_it_goes_on_growing(ledger: Path, tmp_path: Path, signer: Signer) -> None:
    tiles.materialise(ledger, tmp_path / "export")
    retention.prune(ledger, tmp_path / "export", old_readings)

    async def grow() -> None:
        writer = LedgerWriter.open(ledger, signer=signer, origin=signer.name, segment_bytes=6_000)
        assert await writer.append(b"more") == 600
        await writer.close()

    asyncio.run(grow())
    assert verify(ledger, [signer.vkey]).ok


def test_nothing_goes_that_was_not_exported(ledger: Path, tmp_path: Path) -> None:
    files = {p: p.read_bytes() for p in (ledger / "segments").iterdir()}
    with pytest.raises(NotExported, match="entry 1 "):
        retention.prune(ledger, tmp_path / "nothing", old_readings)
    tiles.materialise(ledger, tmp_path / "export")
    bundle = tmp_path / "export/tile/entries/001"
    bundle.write_bytes(bundle.read_bytes().replace(b'"n":300', b'"n":301'))
    with pytest.raises(NotExported):
        retention.prune(ledger, tmp_path / "export", lambda n, _b: n == 300)
    assert {p: p.read_bytes() for p in (ledger / "segments").iterdir()} == files


@pytest.fixture
def grow(ledger: Path, signer: Signer) -> Callable[[int], None]:
    """Append so many more entries, in small segments."""

    def go(count: int) -> None:
        async def write() -> None:
            writer = LedgerWriter.open(
                ledger, signer=signer, origin=signer.name, segment_bytes=6_000
            )
            for n in range(count):
                await writer.append(b'{"kind":"later","n":%d}' % n)
            await writer.close()

        asyncio.run(write())

    return go


def exported(tree: Path) -> list[bytes]:
    """The bodies that stand in an exported tree's full bundles, in order."""
    paths = sorted(p for p in (tree / "tile/entries").iterdir() if p.is_file())
    return [body for path in paths for body in tiles.split_bundle(path.read_bytes())]


@pytest.mark.parametrize("again", [(), (1,)], ids=["at once", "after another export"])
def test_the_next_export_keeps_what_only_the_last_one_holds(
    ledger: Path, tmp_path: Path, grow: Callable[[int], None], again: tuple[int, ...]
) -> None:
    """Bodies that went while their bundle was not full stand in the full one, checked by hash."""
    out = tmp_path / "export"
    assert tiles.materialise(ledger, out) == 600
    grow(60)  # the segments of all that was exported are complete now
    done = retention.prune(ledger, out, lambda n, _b: 512 <= n < 600)
    assert done.removed_count == 88
    for count in (*again, 200):
        grow(count)
        tiles.materialise(ledger, out)
    assert exported(out)[:600] == LEAVES
    assert not (out / "tile/entries/002.p").exists()


def test_what_an_export_alone_still_holds_is_never_thrown_away(
    ledger: Path, tmp_path: Path, grow: Callable[[int], None]
) -> None:
    """Where some bodies of a bundle stand in another export, no full one can be made here."""
    first, second = tmp_path / "first", tmp_path / "second"
    tiles.materialise(ledger, first)
    grow(60)
    tiles.materialise(ledger, second)
    retention.prune(ledger, second, lambda n, _b: 590 <= n < 640)
    grow(200)
    tiles.materialise(ledger, first)
    (left,) = (first / "tile/entries/002.p").iterdir()
    assert tiles.split_bundle(left.read_bytes()) == LEAVES[512:]
    tiles.materialise(ledger, second)
    assert exported(second)[:600] == LEAVES
