"""The query index: finds, follows growth, and comes back identical."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from ledger.log import canonical, index
from ledger.log.index import IndexStale, Query
from ledger.log.keys import Signer
from ledger.log.writer import LedgerWriter


def content(directory: Path) -> list[list[tuple[Any, ...]]]:
    db = apsw.Connection(str(directory / index.FILE))
    try:
        return [list(db.execute(f"SELECT * FROM {t}")) for t in ("state", "entries", "names")]
    finally:
        db.close()


def entry(n: int) -> bytes:
    return canonical.encode(
        {
            "kind": ("reading", "plan")[n % 2], "utc_us": 1000 * n,
            "meters": [{"meter": f"m{n % 3}", "terminal": f"T{n % 3}"}],
            "trades": [{"trade_id": f"A-{n // 10}"}],
        }
    )  # fmt: skip


@pytest.fixture
def built(make: Callable[..., Path]) -> Path:
    directory = make(
        [entry(n) for n in range(30)], [b"not json", b"[1]", b'{"kind":5,"utc_us":1e999}']
    )
    assert index.build(directory) == 33
    return directory


def test_queries(built: Path) -> None:
    def find(**conditions: Any) -> list[int]:
        return index.find(built, Query(**conditions))

    assert find() == list(range(33))
    assert find(kind="plan") == list(range(1, 30, 2))
    assert find(trade="A-1") == list(range(10, 20))
    assert find(device="m2") == list(range(2, 30, 3))
    assert find(terminal="T0", trade="A-2") == [21, 24, 27]
    assert find(since_us=5000, until_us=8000) == [5, 6, 7]
    assert find(trade="A-1", kind="plan", since_us=15_000) == [15, 17, 19]
    assert find(trade="'; DROP TABLE entries; --") == []


def test_it_follows_growth_and_comes_back_identical(built: Path, signer: Signer) -> None:
    async def grow() -> None:
        writer = LedgerWriter.open(built, signer=signer, origin=signer.name)
        for n in range(40, 60):
            await writer.append(entry(n))
            if n % 7 == 0:
                assert index.build(built) == writer.size()
        await writer.close()

    asyncio.run(grow())
    assert index.build(built) == 53
    grown = content(built)
    assert list(index.differences(built)) == []
    (built / index.FILE).unlink()
    index.build(built)
    assert content(built) == grown


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE entries SET kind = 'x' WHERE idx = 7", "entry 7"),
        ("DELETE FROM entries WHERE idx = 9", "entry 9"),
        ("DELETE FROM names WHERE idx = 11 AND name = 'trade'", "entry 11"),
        ("INSERT INTO names VALUES ('trade', 'A-9', 3)", "entry 3"),
        ("INSERT INTO entries VALUES (99, 1, 'x')", "beyond"),
        ("UPDATE state SET root = x'00'", "root"),
        ("DELETE FROM state", "no state"),
        ("UPDATE state SET version = 9", "version"),
    ],
)
def test_differences_are_found_by_content(built: Path, change: str, what: str) -> None:
    db = apsw.Connection(str(built / index.FILE))
    db.execute(change)
    db.close()
    found = list(index.differences(built))
    assert found
    assert what in found[0]


def test_a_damaged_index_is_built_again(built: Path) -> None:
    good = content(built)
    (built / index.FILE).write_bytes(b"not a database" * 100)
    assert list(index.differences(built))
    with pytest.raises(IndexStale):
        index.find(built, Query())
    assert index.build(built) == 33
    assert content(built) == good


def test_an_index_of_another_ledger_is_built_again(built: Path, make: Callable[..., Path]) -> None:
    other = make([b"{}"] * 33, name="other")
    (other / index.FILE).write_bytes((built / index.FILE).read_bytes())
    assert list(index.differences(other))
    index.build(other)
    assert list(index.differences(other)) == []
    shorter = make([b"{}"] * 3, name="shorter")
    (shorter / index.FILE).write_bytes((built / index.FILE).read_bytes())
    index.build(shorter)
    assert list(index.differences(shorter)) == []


def test_no_index(tmp_path: Path) -> None:
    assert list(index.differences(tmp_path)) == ["there is no index"]
    with pytest.raises(IndexStale):
        index.find(tmp_path, Query())


def test_the_same_is_found_without_the_index(built: Path) -> None:
    from ledger.log import reader

    assert index.size(built) == 33
    assert index.size(built / "none") == 0
    for query in (
        Query(), Query(kind="plan"), Query(trade="A-1", device="m2"), Query(terminal="T0"),
        Query(since_us=5000, until_us=8000), Query(since_us=20_000, kind="reading"), Query(device="m9"),
    ):  # fmt: skip
        plain = [n for n, leaf in reader.entries(built) if index.fits(query, n, leaf)]
        assert index.find(built, query) == plain


def test_an_index_somebody_reads_is_left_alone_and_read_in_one_state(
    built: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "BUSY_MS", 10)
    inode = (built / index.FILE).stat().st_ino

    async def grow() -> None:
        writer = LedgerWriter.open(built, signer=signer, origin=signer.name)
        await writer.append_many([b"{}"] * 5)
        await writer.close()

    db = index.opened(built)
    with db:
        reading = index.compare(db, index.expected(built))
        index.state(db)
        asyncio.run(grow())
        with pytest.raises(apsw.BusyError):
            index.build(built)
        assert list(reading) == []
    db.close()
    assert index.build(built) == 38
    assert (built / index.FILE).stat().st_ino == inode
    assert list(index.differences(built)) == []
