"""Bundles verify by themselves and refuse every changed byte that matters."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.log import bundle, tiles
from ledger.log.bundle import BundleError
from ledger.log.keys import Signer


@pytest.fixture
def tree(make: Callable[..., Path]) -> Path:
    directory = make([b"%d" % n for n in range(900)])
    tiles.materialise(directory)
    return directory


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (0, 900), (255, 257), (300, 301), (700, 900), (899, 900)]
)
def test_a_range_verifies_by_itself(
    tree: Path, tmp_path: Path, signer: Signer, start: int, end: int
) -> None:
    out = tmp_path / "b.tar"
    bundle.write(tree, start, end, out)
    found, bodies = bundle.verify(out, [signer.key])
    assert (found.first_index, found.end_index, found.tree_size) == (start, end, 900)
    assert bodies == [b"%d" % n for n in range(start, end)]
    again = tmp_path / "again.tar"
    bundle.write(tree, start, end, again)
    assert again.read_bytes() == out.read_bytes()


def test_changed_bytes_are_refused_or_change_nothing(
    tree: Path, tmp_path: Path, signer: Signer
) -> None:
    out = tmp_path / "b.tar"
    bundle.write(tree, 200, 300, out)
    good = bundle.verify(out, [signer.key])
    clean = out.read_bytes()
    rng = random.Random(1)
    refused = 0
    for _ in range(60):
        data = bytearray(clean)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        out.write_bytes(data)
        try:
            assert bundle.verify(out, [signer.key]) == good
        except BundleError:
            refused += 1
    assert refused > 20


def test_ranges_that_are_not_there(tree: Path, tmp_path: Path) -> None:
    for start, end in ((0, 901), (5, 5), (900, 901)):
        with pytest.raises(BundleError, match="no entries"):
            bundle.write(tree, start, end, tmp_path / "b.tar")


def test_another_key_is_refused(tree: Path, tmp_path: Path) -> None:
    from ledger.log.keys import create_key

    bundle.write(tree, 0, 3, tmp_path / "b.tar")
    other = create_key(tmp_path / "k", "gw.example/ledger")
    with pytest.raises(BundleError, match="not signed"):
        bundle.verify(tmp_path / "b.tar", [other.key])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=2000))
def test_any_file_is_refused(tmp_path: Path, signer: Signer, data: bytes) -> None:
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(BundleError):
        bundle.verify(tmp_path / "b", [signer.key])
