"""Bundles verify by themselves and refuse every changed byte that matters."""

from __future__ import annotations

import io
import random
import tarfile
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


def spoiled(member: tarfile.TarInfo) -> bytes:
    """The header of a member, and nothing behind it."""
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g", b"S", b"0", b"V"])
@pytest.mark.parametrize("size", [1 << 80, 1 << 50, 32 << 20, 1])
def test_a_member_of_any_kind_and_size_is_refused_not_a_crash(
    tmp_path: Path, signer: Signer, kind: bytes, size: int
) -> None:
    member = tarfile.TarInfo("range")
    member.type, member.size = kind, size
    (tmp_path / "b").write_bytes(spoiled(member))
    with pytest.raises(BundleError):
        bundle.verify(tmp_path / "b", [signer.key])


def test_members_without_bytes_do_not_become_memory(
    tree: Path, tmp_path: Path, signer: Signer
) -> None:
    out = tmp_path / "b.tar"
    bundle.write(tree, 200, 300, out)
    sparse = b""
    for n in range(3):
        member = tarfile.TarInfo(f"s{n}")
        member.type = tarfile.GNUTYPE_SPARSE
        header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
        header[483:495] = b"%011o\0" % (32 << 20)
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        sparse += header
    out.write_bytes(sparse + out.read_bytes())
    with pytest.raises(BundleError, match="s0: not a plain file"):
        bundle.read(out)


def test_all_files_together_have_a_bound(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "b.tar"
    bundle.write(tree, 0, 900, out)
    monkeypatch.setattr(bundle, "BUNDLE_BYTES_MAX", 20_000)
    with pytest.raises(BundleError, match="smaller range"):
        bundle.write(tree, 0, 900, tmp_path / "c.tar")
    with pytest.raises(BundleError, match="more than 20000 bytes"):
        bundle.read(out)
    monkeypatch.undo()
    monkeypatch.setattr(bundle, "MEMBER_COUNT_MAX", 3)
    with pytest.raises(BundleError, match="too many files"):
        bundle.read(out)


def test_a_file_twice_or_cut_short_is_refused(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.tar"
    bundle.write(tree, 0, 900, out)
    data = out.read_bytes()
    for spoilt in (data[:1024] + data, data[:700], data[:5000], data + b"x"):
        out.write_bytes(spoilt)
        try:
            bundle.read(out)
        except BundleError:
            continue
        assert spoilt.startswith(data)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_bundle_packed_again_by_another_tool_is_the_same(
    tree: Path, tmp_path: Path, signer: Signer, form: int
) -> None:
    bundle.write(tree, 200, 300, tmp_path / "b.tar")
    held = bundle.read(tmp_path / "b.tar")
    with tarfile.open(tmp_path / "c.tar", "w", format=form) as archive:
        for name, data in held.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert bundle.read(tmp_path / "c.tar") == held


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=2000))
def test_any_file_is_refused(tmp_path: Path, signer: Signer, data: bytes) -> None:
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(BundleError):
        bundle.verify(tmp_path / "b", [signer.key])
