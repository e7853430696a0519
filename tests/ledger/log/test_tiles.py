"""The published tree: exact bytes, growth, proofs, and that it comes back identical."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log import checkpoint, merkle, tiles
from ledger.log.keys import Signer
from ledger.log.tiles import Builder, TilesMissing, TileTree
from ledger.log.writer import LedgerWriter


def files(root: Path) -> dict[str, bytes]:
    names = [
        p
        for p in root.rglob("*")
        if p.is_file() and p.relative_to(root).parts[0] in ("tile", "checkpoint")
    ]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in names}


def leaf(n: int) -> bytes:
    return b"%d" % n


def test_vector_f(make: Callable[..., Path], tmp_path: Path) -> None:
    """The project's own vector, verified by other implementations."""
    out = tmp_path / "out"
    assert tiles.materialise(make([b"alpha", b"beta", b"gamma"]), out) == 3
    found = files(out)
    assert sorted(found) == ["checkpoint", "tile/0/000.p/3", "tile/entries/000.p/3"]
    assert found["tile/entries/000.p/3"].hex() == "0005616c706861000462657461000567616d6d61"
    assert found["tile/0/000.p/3"].hex() == (
        "2a158d8afd48e3f88cb4195dfdb2a9e4817d95fa57fd34440d93f9aae5c4f82b"
        "e23537b050e84af2cbaab46f2f83d8d3b5febc8e5ac6200d306284f687d46924"
        "4c79d0d62f7cf5ca8874155f2d3b875f2625da2bb3abc86bbd6833f25ba90e51"
    )
    assert (
        found["checkpoint"]
        == (
            "gw.example/ledger\n3\nOF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=\n\n— gw.example/ledger "
            "1aT9Im/ymnhI/rUk1aXmS1CewNF2/uVjAzolLPRqlQGOz6VzFPbR55t7KISo4unaLcAHnghkmTxnRMM1YUbIVeV19QU=\n"
        ).encode()
    )


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "tile/0/000"), (1_234_067, 256, "tile/0/x001/x234/067"), (273, 112, "tile/0/273.p/112"),
        (1_000, 256, "tile/0/x001/000"), (999, 1, "tile/0/999.p/1"),
    ],
)  # fmt: skip
def test_paths(index: int, width: int, path: str) -> None:
    assert tiles.tile_path(0, index, width) == path


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (256, {"0/000", "1/000.p/1"}),
        (257, {"0/000", "0/001.p/1", "1/000.p/1"}),
        (70_000, {"0/273.p/112", "1/000", "1/001.p/17", "2/000.p/1"}),
    ],
)
def test_which_tiles_a_size_has(size: int, names: set[str]) -> None:
    builder = Builder()
    made = list(builder.feed([(leaf(n), False) for n in range(size)])) + list(builder.partials())
    paths = {t.path.removeprefix("tile/") for t in made if t.level is not None}
    assert names <= paths
    assert len(paths) == len([t for t in made if t.level is not None])
    if size == 70_000:
        assert len([p for p in paths if p.startswith("0/")]) == 274
    tree = merkle.Frontier()
    tree.extend(leaf(n) for n in range(size))
    assert tiles.edge_root(builder) == tree.root()


def test_growth_publishes_the_same_tree_as_one_go_and_keeps_what_clients_need(
    tmp_path: Path, signer: Signer
) -> None:
    directory, grown = tmp_path / "ledger", tmp_path / "grown"
    sizes = [1, 2, 200, 255, 256, 257, 300, 511, 512, 600]

    async def grow() -> None:
        writer = LedgerWriter.open(directory, signer=signer, origin=signer.name)
        for size in sizes:
            await writer.append_many([leaf(n) for n in range(writer.size(), size)])
            await asyncio.to_thread(tiles.materialise, directory, grown)
            assert tiles.materialise(directory, grown) == size, "doing it again changes nothing"
            view = TileTree.open(grown)
            assert view.root_of(0, size) == writer.root()
        await writer.close()

    asyncio.run(grow())
    fresh = tmp_path / "fresh"
    tiles.materialise(directory, fresh)
    found = files(grown)
    assert files(fresh).items() <= found.items()
    partial_now = {"tile/0/002.p/88", "tile/entries/002.p/88", "tile/1/000.p/2"}
    assert partial_now <= set(found)
    assert not any(name.startswith(("tile/0/000.p", "tile/entries/001.p")) for name in found)
    shutil.rmtree(grown)
    tiles.materialise(directory, grown)
    assert files(grown) == files(fresh), "deleted, it comes back identical"


def test_damaged_tiles_are_built_again(make: Callable[..., Path], tmp_path: Path) -> None:
    directory = make([leaf(n) for n in range(700)])
    out = tmp_path / "out"
    tiles.materialise(directory, out)
    good = files(out)
    for name in ("checkpoint", "tile/0/002.p/188", "tile/1/000.p/2"):
        data = bytearray(good[name])
        data[3] ^= 1
        (out / name).write_bytes(data)
        tiles.materialise(directory, out)
        assert files(out) == good


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_proofs_from_tiles(make: Callable[..., Path], tmp_path: Path, data: st.DataObject) -> None:
    out = tmp_path / "out"
    if not out.exists():
        tiles.materialise(
            make(*[[leaf(n) for n in range(k, k + 1000)] for k in range(0, 3000, 1000)]), out
        )
    tree = TileTree.open(out)
    root = checkpoint.parse(tree.checkpoint).checkpoint.root
    index, old = data.draw(st.integers(0, 2999)), data.draw(st.integers(1, 3000))
    merkle.verify_inclusion(
        index=index, size=3000, leaf=merkle.leaf_hash(leaf(index)), root=root,
        proof=tree.inclusion(index, 3000),
    )  # fmt: skip
    merkle.verify_consistency(
        old_size=old, size=3000, old_root=tree.root_of(0, old), root=root,
        proof=tree.consistency(old, 3000),
    )  # fmt: skip


def test_missing_tiles_are_told(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(TilesMissing):
        TileTree.open(tmp_path)
    out = tmp_path / "out"
    tiles.materialise(make([leaf(n) for n in range(700)]), out)
    (out / "tile/0/001").unlink()
    with pytest.raises(TilesMissing, match="tile/0/001"):
        TileTree.open(out).inclusion(300, 700)


def test_another_ledgers_tree_is_left_alone(make: Callable[..., Path], tmp_path: Path) -> None:
    """So is a longer state of this one: mixed with ours, neither tree could be read."""
    out = tmp_path / "out"
    whole = make([leaf(n) for n in range(600)])
    tiles.materialise(whole, out)
    before = files(out)
    others = (
        make([b"x%d" % n for n in range(900)], name="other"),
        make([leaf(n) for n in range(300)], name="shorter"),
        make(name="empty"),
    )
    for other in others:
        with pytest.raises(tiles.ForeignTree, match="another ledger"):
            tiles.materialise(other, out)
        assert run(sopledger, ["export", str(other), "--tiles", str(out)]) == 5
        assert files(out) == before
    assert tiles.materialise(whole, out) == 600


def test_bundles_cut_short_are_read_as_far_as_they_go() -> None:
    assert tiles.split_bundle(b"\x00\x01a\x00\x02bc\x00\x09x") == [b"a", b"bc"]
    assert tiles.split_bundle(b"") == []


def test_an_empty_ledger_publishes_nothing(make: Callable[..., Path], tmp_path: Path) -> None:
    assert tiles.materialise(make(), tmp_path / "out") == 0
    assert files(tmp_path) == {}


def test_removed_bodies_leave_the_hash_tiles(make: Callable[..., Path]) -> None:
    builder = Builder()
    bodies = [(leaf(n), False) for n in range(300)]
    bodies[5] = (merkle.leaf_hash(leaf(5)), True)
    made = list(builder.feed(bodies)) + list(builder.partials())
    assert "tile/entries/000" not in {t.path for t in made}
    assert {"tile/0/000", "tile/0/001.p/44", "tile/entries/001.p/44"} <= {t.path for t in made}


def test_a_short_write_is_an_error_and_publishes_nothing(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    directory = make([b"a", b"b"])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5, limit[1]))
        with pytest.raises(OSError, match="short write"):
            tiles.materialise(directory, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert not list((tmp_path / "out").rglob("*[0-9]"))
