"""The C2SP tlog-tiles tree of a ledger: derived from the segments, rebuildable at any time.

Published so that a reader never sees a checkpoint whose tiles are missing: every file is written
under a temporary name, synced and renamed, and ``checkpoint`` comes last.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from ledger.log import checkpoint, merkle, note, reader, segment
from ledger.log.merkle import HASH_BYTES

TILE_WIDTH = 256
TILE_BYTES = TILE_WIDTH * HASH_BYTES
FOLDER = "tile"
CHECKPOINT = "checkpoint"
SINGLE_SYNCS_MAX = 32
"""A live ledger publishes a few files at a time; more are synced by one call for the whole disk."""

TEMPORARY = ".tmp"
"""What a file's name ends in before the file is durable."""

SETTLE_COUNT = 4_096
"""So many unnamed files at most lie around while a large tree is published."""


class TilesMissing(Exception):  # noqa: N818 - a state of derived files
    """A tile that is needed is absent or too short; the tiles must be built again."""


class ForeignTree(Exception):  # noqa: N818 - a refusal, not a defect
    """The folder holds a whole tree that this ledger did not publish; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One file of the tree: hashes of a level, or a bundle of entries (level None)."""

    level: int | None
    index: int
    width: int
    data: bytes

    @property
    def path(self) -> str:
        """Where the file stands below the tree's root."""
        return tile_path(self.level, self.index, self.width)


def tile_path(level: int | None, index: int, width: int) -> str:
    """The path of a tile; ``level`` None is a bundle of entries."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03d}")
    kind = "entries" if level is None else str(level)
    partial = f".p/{width}" if width < TILE_WIDTH else ""
    return f"{FOLDER}/{kind}/{'/'.join(groups)}{partial}"


def subtree_root(hashes: list[bytes]) -> bytes:
    """Root of a power of two of hashes."""
    while len(hashes) > 1:
        pairs = zip(hashes[0::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]


@dataclass(slots=True)
class Builder:
    """Turns entries, fed in order, into full tiles as they fill, and partial ones at the end.

    ``edges`` holds, level by level, the hashes of the tile that is not full yet; ``bundle`` the
    entries beside the lowest of them, each behind its length, None for a body that was removed.
    """

    size: int = 0
    edges: list[list[bytes]] = field(default_factory=lambda: [[]])
    bundle: list[bytes | None] = field(default_factory=list)

    def feed(self, bodies: Iterable[tuple[bytes, bool]]) -> Iterator[Tile]:
        """Take entries (data, or the hash of a removed one); gives the tiles they fill."""
        rest, place = list(bodies), 0
        while place < len(rest):
            part = rest[place : place + TILE_WIDTH - len(self.edges[0])]
            place += len(part)
            self.edges[0] += [
                body if removed else sha256(b"\x00" + body).digest() for body, removed in part
            ]
            self.bundle += [
                None if removed else len(body).to_bytes(2, "big") + body for body, removed in part
            ]
            self.size += len(part)
            if len(self.edges[0]) == TILE_WIDTH:
                yield from self.fill()

    def fill(self) -> Iterator[Tile]:
        """Give the full bundle and the tiles that became full with it."""
        yield from bundle_tiles(self.size // TILE_WIDTH - 1, self.bundle)
        self.bundle.clear()
        level, count = 0, self.size
        while len(self.edges[level]) == TILE_WIDTH:
            count //= TILE_WIDTH
            hashes = self.edges[level]
            yield Tile(level=level, index=count - 1, width=TILE_WIDTH, data=b"".join(hashes))
            if level + 1 == len(self.edges):
                self.edges.append([])
            self.edges[level + 1].append(subtree_root(hashes))
            self.edges[level] = []
            level += 1

    def partials(self) -> Iterator[Tile]:
        """The tiles that are not full at this size."""
        yield from bundle_tiles(self.size // TILE_WIDTH, self.bundle)
        for level, hashes in enumerate(self.edges):
            index = self.size >> (8 * (level + 1))
            if hashes:
                yield Tile(level=level, index=index, width=len(hashes), data=b"".join(hashes))


def bundle_tiles(index: int, bundle: list[bytes | None]) -> Iterator[Tile]:
    """A bundle of entries; none when a body in it was removed."""
    whole = [row for row in bundle if row is not None]
    if bundle and len(whole) == len(bundle):
        yield Tile(level=None, index=index, width=len(bundle), data=b"".join(whole))


class Publisher:
    """Writes files so that each appears whole and durable, or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: set[str] = set()
        self.waiting: list[str] = []

    def put(self, name: str, data: bytes) -> None:
        """Write one file under a temporary name; it is in place after ``settle``."""
        path = f"{self.root}/{name}"
        folder = path[: path.rindex("/")]
        if folder not in self.folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.folders.add(folder)
        write_new(path + TEMPORARY, data)
        self.waiting.append(path)
        if len(self.waiting) >= SETTLE_COUNT:
            self.settle()

    def settle(self) -> None:
        """Make what waits durable, then give it its names, then make those durable."""
        if len(self.waiting) > SINGLE_SYNCS_MAX:
            sync_filesystem(self.root)
        else:
            for path in self.waiting:
                sync_file(path + TEMPORARY)
        for path in self.waiting:
            os.rename(path + TEMPORARY, path)
        self.waiting.clear()
        for folder in sorted(self.folders):
            segment.sync_directory(Path(folder))


def write_new(path: str, data: bytes) -> None:
    """Write a whole file."""
    with open(path, "wb", buffering=0) as file:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, "short write", path)


def sync_file(path: str) -> None:
    """Make a file's data durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(root: Path) -> None:
    """Make everything on the file system of ``root`` durable with one call."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(root))
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, sync it, give it its name."""
    temporary = f"{path}{TEMPORARY}"
    write_new(temporary, data)
    sync_file(temporary)
    os.replace(temporary, path)


def resume(root: Path) -> Builder:
    """The state of tiles already published under ``root``; a fresh one when there are none.

    The edge is read back from the partial tiles and must give the published root.
    """
    try:
        point = checkpoint.parse((root / CHECKPOINT).read_bytes()).checkpoint
        builder = Builder(size=point.size, edges=[])
        for level in range(max(1, (point.size.bit_length() + 7) // 8)):
            width = (point.size >> (8 * level)) % TILE_WIDTH
            index = point.size >> (8 * (level + 1))
            builder.edges.append(read_hashes(root, level, index, width) if width else [])
        if edge_root(builder) == point.root:
            return builder
    except (OSError, note.NoteError, TilesMissing):
        pass
    return Builder()


def stands_in(directory: Path, builder: Builder) -> bool:
    """Whether a ledger has signed the tree that was published so far; an empty one fits any."""
    if not builder.size:
        return True
    for batch in reader.batches(directory, builder.size - 1):
        point = checkpoint.parse(batch.checkpoint).checkpoint
        return (point.size, point.root) == (builder.size, edge_root(builder))
    return False


def edge_root(builder: Builder) -> bytes:
    """The root that the partial tiles lead to."""
    root: bytes | None = None
    for hashes in builder.edges:
        row = [*hashes, root] if root is not None else hashes
        if row:
            root = ragged_root(row)
    return root if root is not None else merkle.EMPTY_ROOT


def ragged_root(hashes: list[bytes]) -> bytes:
    """Root of a row of subtrees of which only the last may be incomplete."""
    if len(hashes) == 1:
        return hashes[0]
    middle = merkle.split(len(hashes))
    return merkle.node_hash(ragged_root(hashes[:middle]), ragged_root(hashes[middle:]))


def read_hashes(root: Path, level: int, index: int, width: int) -> list[bytes]:
    """Hashes of a tile, of the full one when it stands in for a partial one."""
    for name in (tile_path(level, index, width), tile_path(level, index, TILE_WIDTH)):
        try:
            data = (root / name).read_bytes()
        except OSError:
            continue
        if len(data) >= width * HASH_BYTES:
            return [data[i : i + HASH_BYTES] for i in range(0, width * HASH_BYTES, HASH_BYTES)]
    raise TilesMissing(tile_path(level, index, width))


class Growth:
    """The published tree of a ledger that grows: each turn reads only what is new."""

    def __init__(self, directory: Path, out: Path | None = None) -> None:
        self.directory = directory
        self.root = directory if out is None else out
        self.place: reader.Place | None = None
        self._builder: Builder | None = None

    def advance(self) -> int:
        """Bring the tiles up to the ledger's durable size; returns it.

        Works beside a live writer. After an error everything is taken from the disk again.
        """
        builder, self._builder = self._builder, None
        place = self.place if builder is not None else None
        if builder is None:
            builder = resume(self.root)
            if self.root != self.directory and not stands_in(self.directory, builder):
                raise ForeignTree(
                    f"{self.root} holds the tree of another ledger, or of a longer state of this"
                )
        published = start = builder.size
        if place is None:
            start -= start % TILE_WIDTH
            rewind(builder, start)
        newest: reader.Batch | None = None
        publisher = Publisher(self.root)
        held = PartialBundle(self.root, published // TILE_WIDTH)
        for newest in reader.batches(self.directory, start, place):
            bodies: Iterable[tuple[bytes, bool]]
            bodies = newest.bodies[max(0, start - newest.first_index) :]
            if newest.first_index < held.end_index:
                bodies = map(held.restored, bodies)
            for tile in builder.feed(bodies):
                publisher.put(tile.path, tile.data)
        if newest is not None and builder.size >= published:
            for tile in builder.partials():
                publisher.put(tile.path, tile.data)
            publisher.settle()
            publisher.put(CHECKPOINT, newest.checkpoint)
            publisher.settle()
            drop_partials(self.root, published, builder.size)
            self.place = reader.place_of(self.directory, newest)
            self._builder = builder
        elif place is not None:
            self._builder = builder
        return builder.size


def materialise(directory: Path, out: Path | None = None) -> int:
    """Bring the tiles under ``out`` (the ledger itself when None) up to its durable size."""
    return Growth(directory, out).advance()


def rewind(builder: Builder, start: int) -> None:
    """Go back to the last full lowest tile, whose entries are then fed again."""
    builder.size = start
    builder.edges[0] = []
    builder.bundle.clear()


class PartialBundle:
    """Bodies that a published tree still holds in a bundle that is not full yet.

    Once removed from the ledger they may stand nowhere else: the full bundle is made with them.
    """

    def __init__(self, root: Path, index: int) -> None:
        self.folder = partial_folder(root, None, index)
        self.end_index = (index + 1) * TILE_WIDTH
        self._by_hash: dict[bytes, bytes] | None = None

    def restored(self, body: tuple[bytes, bool]) -> tuple[bytes, bool]:
        """An entry as it is, or with the body that was removed where the bundle has it."""
        data, removed = body
        if not removed:
            return body
        if self._by_hash is None:
            self._by_hash = {merkle.leaf_hash(held): held for held in self._bodies()}
        return (self._by_hash[data], False) if data in self._by_hash else body

    def _bodies(self) -> Iterator[bytes]:
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                yield from split_bundle(path.read_bytes())


def split_bundle(data: bytes) -> list[bytes]:
    """Entries of a bundle; what is cut off at its end is left out."""
    found, place = [], 0
    while place + 2 <= len(data):
        end = place + 2 + int.from_bytes(data[place : place + 2], "big")
        if end > len(data):
            break
        found.append(data[place + 2 : end])
        place = end
    return found


def partial_folder(root: Path, level: int | None, index: int) -> Path:
    """Where the partial tiles stand that come before a full one."""
    return root / (tile_path(level, index, TILE_WIDTH) + ".p")


def drop_partials(root: Path, old_size: int, size: int) -> None:
    """Remove partial tiles whose full tile is published now.

    A bundle of which a body was removed has no full one: what is left of it stays.
    """
    for level in (None, *range(max(1, (size.bit_length() + 7) // 8))):
        shift = 8 * ((level or 0) + 1)
        if old_size >> shift == size >> shift:
            continue
        folder = partial_folder(root, level, old_size >> shift)
        if folder.is_dir() and folder.with_suffix("").exists():
            for partial in folder.iterdir():
                partial.unlink()
            folder.rmdir()


@dataclass(frozen=True, slots=True)
class TileTree:
    """Proofs from published tiles, each reading a handful of small files."""

    root: Path
    checkpoint: bytes
    size: int

    @classmethod
    def open(cls, root: Path) -> TileTree:
        """Open the tiles under ``root``; raises TilesMissing when none are published."""
        try:
            data = (root / CHECKPOINT).read_bytes()
            return cls(root, data, checkpoint.parse(data).checkpoint.size)
        except (OSError, note.NoteError) as error:
            raise TilesMissing(f"{root / CHECKPOINT}: {error}") from None

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Inclusion proof of one entry."""
        return merkle.inclusion_proof(index, size, self.root_of)

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """Consistency proof between two sizes."""
        return merkle.consistency_proof(old_size, size, self.root_of)

    def root_of(self, start: int, end: int) -> bytes:
        """Root of a range of leaves as RFC 6962 splits them."""
        height = (end - start).bit_length() - 1
        if end - start == 1 << height:
            return self.subtree(height, start >> height)
        middle = start + merkle.split(end - start)
        return merkle.node_hash(self.root_of(start, middle), self.root_of(middle, end))

    def subtree(self, height: int, index: int) -> bytes:
        """Root of the complete subtree of ``2**height`` leaves at ``index``."""
        level, inner = divmod(height, 8)
        first = index << inner
        tile, at = divmod(first, TILE_WIDTH)
        stored = self.size >> (8 * level)
        width = min(TILE_WIDTH, stored - tile * TILE_WIDTH)
        hashes = read_hashes(self.root, level, tile, width)
        return subtree_root(hashes[at : at + (1 << inner)])


def leaf_index_at(data: bytes, offset: int) -> int:
    """Which entry of a bundle a byte belongs to."""
    place, number = 0, 0
    while place < len(data):
        place += 2 + int.from_bytes(data[place : place + 2], "big")
        if offset < place:
            return number
        number += 1
    return max(0, number - 1)


__all__ = [
    "Builder",
    "ForeignTree",
    "Tile",
    "TileTree",
    "TilesMissing",
    "materialise",
    "split_bundle",
    "tile_path",
]
