"""Derived files: every changed byte of them is found and placed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.log import derived, index, tiles
from ledger.log.index import Query
from ledger.log.verify import Fault


@pytest.fixture
def built(make: Callable[..., Path]) -> Path:
    directory = make([b'{"kind":"x","n":%d}' % n for n in range(300)])
    assert derived.rebuild(directory) == 300
    assert list(derived.faults(directory)) == []
    return directory


def spoiled(path: Path, offset: int, change: int) -> bytes:
    clean = path.read_bytes()
    data = bytearray(clean)
    data[offset] ^= change
    path.write_bytes(data)
    return clean


def test_every_changed_byte_of_tiles_and_checkpoint(built: Path) -> None:
    rng = random.Random(5)
    names = [
        p
        for p in built.rglob("*")
        if p.is_file() and ("tile" in p.parts or p.name == tiles.CHECKPOINT)
    ]
    assert len(names) == 6
    for path in names:
        size = path.stat().st_size
        for offset in rng.sample(range(size), min(size, 40)):
            clean = spoiled(path, offset, rng.randrange(1, 256))
            faults = list(derived.faults(built))
            assert faults, (path, offset)
            if path.relative_to(built).as_posix() == "tile/0/000":
                assert faults[0].index == offset // 32
            if "entries" in path.parts:
                wanted = path.read_bytes()[:offset].count(b'{"kind"')
                assert faults[0].index is not None
                assert abs(faults[0].index % 256 - wanted) <= 1
            path.write_bytes(clean)
    assert list(derived.faults(built)) == []


def test_changed_bytes_of_the_index_never_give_other_content(built: Path) -> None:
    """A changed byte is found, or it stands where SQLite keeps nothing (content is the same)."""
    rng = random.Random(6)
    path = built / index.FILE
    size = path.stat().st_size
    found, wanted = 0, index.find(built, Query(kind="x"))
    assert wanted == list(range(300))
    for offset in rng.sample(range(size), 60):
        clean = spoiled(path, offset, rng.randrange(1, 256))
        if list(derived.faults(built)):
            found += 1
        else:
            assert index.find(built, Query(kind="x")) == wanted
        path.write_bytes(clean)
    assert found > 5
    assert list(derived.faults(built)) == []


def test_missing_and_strange_files(built: Path) -> None:
    (built / "tile/0/000").rename(built / "tile/0/002")
    whats = " | ".join(str(f) for f in derived.faults(built))
    assert re.search(r"tile/0/000 is missing", whats)
    assert re.search(r"tile/0/002 is no tile", whats)


def test_older_partial_tiles_are_beginnings_of_the_present_ones(built: Path) -> None:
    folder = built / "tile/0/001.p"
    (folder / "7").write_bytes((folder / "44").read_bytes()[: 7 * 32])
    assert list(derived.faults(built)) == []
    spoiled(folder / "7", 3, 1)
    assert "tile/0/001.p/7" in str(next(derived.faults(built)))


def test_nothing_derived_is_nothing_wrong(make: Callable[..., Path]) -> None:
    assert list(derived.faults(make([b"{}"]))) == []


def test_a_publisher_at_work_is_no_fault(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partial tile goes away between two looks of a verifier; what is published is whole."""
    real, turns = derived.tile_faults_once, 0

    def while_publishing(directory: Path) -> Iterator[Fault]:
        nonlocal turns
        turns += 1
        if turns == 1:
            path = directory / tiles.CHECKPOINT
            path.write_bytes(path.read_bytes())
            yield Fault(what="a partial tile is missing")
            path.write_bytes(b"newer")
        else:
            path = directory / tiles.CHECKPOINT
            path.write_bytes(clean)
            yield from real(directory)

    clean = (built / tiles.CHECKPOINT).read_bytes()
    monkeypatch.setattr(derived, "tile_faults_once", while_publishing)
    assert list(derived.tile_faults(built)) == []
    assert turns == 2
    (built / "tile" / "0" / "000").unlink()
    assert len(list(derived.tile_faults(built))) == 1, "and a real one is told"
