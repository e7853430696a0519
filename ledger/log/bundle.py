"""Bundles: a range of entries that verifies offline, as a tar of a partial tlog-tiles tree.

A bundle holds ``checkpoint``, the entry bundles of the range and the hash tiles that lead from
them to the root: the very files of the whole tree, so that others' tools can read it too.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from typing_extensions import override

from ledger.log import checkpoint, tiles
from ledger.log.merkle import ProofError, leaf_hash, verify_inclusion
from ledger.log.note import Key, NoteError
from ledger.log.tiles import (
    CHECKPOINT,
    TILE_WIDTH,
    TilesMissing,
    TileTree,
    split_bundle,
    tile_path,
)

MEMBER_BYTES_MAX = 32 << 20
"""A bundle of 256 of the largest entries stays below."""

MEMBER_COUNT_MAX = 1 << 20

BUNDLE_BYTES_MAX = 2 << 30
"""All of a bundle is in memory while it is checked; what is more takes two."""

PLAIN = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE})
"""Kinds of members that are nothing but their bytes: no links, no holes, no extended headers."""


class BundleError(Exception):
    """A bundle is malformed or does not prove what it holds; says the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a bundle proved."""

    origin: str
    tree_size: int
    first_index: int
    end_index: int


def members(tree: Path, start: int, end: int) -> dict[str, bytes]:
    """The files of a published tree that prove entries ``[start, end)``."""
    view = TileTree.open(tree)
    if not 0 <= start < end <= view.size:
        raise BundleError(f"no entries {start} to {end - 1} in a tree of {view.size}")
    names = {CHECKPOINT}
    for first in range(start - start % TILE_WIDTH, end, TILE_WIDTH):
        width = min(TILE_WIDTH, view.size - first)
        names.add(tile_path(None, first // TILE_WIDTH, width))
        names.update(path_tiles(first, view.size))
    names.update(edge_tiles(view.size))
    found = {}
    for name in sorted(names):
        try:
            found[name] = (tree / name).read_bytes()
        except OSError:
            raise BundleError(f"{name} is missing; bodies may have been removed") from None
    if sum(map(len, found.values())) > BUNDLE_BYTES_MAX:
        raise BundleError(f"more than {BUNDLE_BYTES_MAX} bytes: take a smaller range")
    return found


def path_tiles(index: int, size: int) -> set[str]:
    """The hash tiles above an entry."""
    names = set()
    level = 0
    while size >> (8 * level):
        tile = index >> (8 * (level + 1))
        width = min(TILE_WIDTH, (size >> (8 * level)) - tile * TILE_WIDTH)
        if width > 0:
            names.add(tile_path(level, tile, width))
        level += 1
    return names


def edge_tiles(size: int) -> set[str]:
    """The tiles at the right edge, which every proof ends in."""
    names = set()
    level = 0
    while size >> (8 * level):
        width = (size >> (8 * level)) % TILE_WIDTH
        if width:
            names.add(tile_path(level, size >> (8 * (level + 1)), width))
        level += 1
    return names


def write(tree: Path, start: int, end: int, out: Path) -> None:
    """Write the bundle of a range; the same range and tree give the same bytes."""
    files = members(tree, start, end)
    range_text = f"{start} {end}\n".encode()
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in (("range", range_text), *files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@dataclass(frozen=True, slots=True)
class Files(TileTree):
    """A tree whose tiles are in memory."""

    held: dict[str, bytes]

    @override
    def subtree(self, height: int, index: int) -> bytes:
        """Root of a complete subtree, from the held tiles."""
        level, inner = divmod(height, 8)
        tile, at = divmod(index << inner, TILE_WIDTH)
        width = min(TILE_WIDTH, (self.size >> (8 * level)) - tile * TILE_WIDTH)
        data = self.held.get(tile_path(level, tile, width), b"")
        if len(data) != width * 32:
            raise TilesMissing(tile_path(level, tile, width))
        hashes = [data[i : i + 32] for i in range(0, len(data), 32)]
        return tiles.subtree_root(hashes[at : at + (1 << inner)])


def read(path: Path) -> dict[str, bytes]:
    """The files of a bundle, from plain members alone: a stranger wrote it."""
    found: dict[str, bytes] = {}
    held_bytes = 0
    try:
        with path.open("rb") as file:
            for member in headers(file):
                if member.type not in PLAIN or not 0 <= member.size <= MEMBER_BYTES_MAX:
                    raise BundleError(f"{member.name}: not a plain file of the bundle")
                if member.name in found:
                    raise BundleError(f"{member.name} stands twice")
                held_bytes += member.size
                if held_bytes > BUNDLE_BYTES_MAX:
                    raise BundleError(f"more than {BUNDLE_BYTES_MAX} bytes")
                if len(found) == MEMBER_COUNT_MAX:
                    raise BundleError("too many files")
                padding = -member.size % tarfile.BLOCKSIZE
                data = file.read(member.size + padding)
                if len(data) != member.size + padding:
                    raise BundleError(f"{member.name} is cut short")
                found[member.name] = data[: member.size]
    except (tarfile.TarError, OSError, ValueError) as error:
        raise BundleError(f"{path}: {error}") from None
    return found


def headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Headers up to the end; the caller reads each member's bytes before it asks for the next.

    ``tarfile`` itself would follow whatever other headers a stranger wrote, of any size.
    """
    while (block := file.read(tarfile.BLOCKSIZE)).strip(b"\0"):
        yield tarfile.TarInfo.frombuf(block, "utf-8", "replace")


def verify(path: Path, keys: Sequence[Key]) -> tuple[Bundle, list[bytes]]:
    """Verify a bundle offline against the log's key; returns what it proves and the entries."""
    held = read(path)
    try:
        first, end = (int(word) for word in held.pop("range", b"").split())
        signed = checkpoint.parse(held[CHECKPOINT])
        if not checkpoint.verified_keys(signed.note, keys):
            raise BundleError("its checkpoint is not signed by the given key")
    except (ValueError, KeyError, NoteError) as error:
        raise BundleError(f"no range or no checkpoint: {error}") from None
    size, root = signed.checkpoint.size, signed.checkpoint.root
    if not 0 <= first < end <= size:
        raise BundleError(f"range {first} to {end} in a tree of {size}")
    view = Files(path, held[CHECKPOINT], size, held)
    bodies: list[bytes] = []
    row: list[bytes] = []
    for index in range(first, end):
        tile, at = divmod(index, TILE_WIDTH)
        if not bodies or at == 0:
            name = tile_path(None, tile, min(TILE_WIDTH, size - tile * TILE_WIDTH))
            row = split_bundle(held.get(name, b""))
        try:
            verify_inclusion(
                index=index, size=size, leaf=leaf_hash(row[at]), root=root,
                proof=view.inclusion(index, size),
            )  # fmt: skip
        except (IndexError, TilesMissing, ProofError) as error:
            raise BundleError(f"entry {index}: {error}") from None
        bodies.append(row[at])
    found = Bundle(
        origin=signed.checkpoint.origin, tree_size=size, first_index=first, end_index=end
    )
    return found, bodies
