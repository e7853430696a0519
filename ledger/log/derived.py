"""Everything derived from the segments at once: build it, and compare it byte by byte."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from ledger.log import checkpoint, index, note, reader, tiles
from ledger.log.merkle import HASH_BYTES
from ledger.log.tiles import CHECKPOINT, TILE_WIDTH, Builder, Tile
from ledger.log.verify import Fault

TRIES_COUNT = 3
"""A publisher writes every few seconds; three comparisons in a row do not all meet one."""


class Follower:
    """Tiles, checkpoint file and index of a growing ledger; each turn reads only what is new."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._growth = tiles.Growth(directory)

    def advance(self) -> int:
        """Bring everything up to the ledger's durable size; returns it."""
        place = self._growth.place
        size = self._growth.advance()
        index.build(self.directory, place)
        return size


def rebuild(directory: Path) -> int:
    """Bring tiles, checkpoint file and index up to the ledger's durable size."""
    return Follower(directory).advance()


def faults(directory: Path) -> Iterator[Fault]:
    """Compare the derived files that are there with what the segments say."""
    if (directory / tiles.FOLDER).exists() or (directory / CHECKPOINT).exists():
        yield from tile_faults(directory)
    if (directory / index.FILE).exists():
        for what in index.differences(directory):
            yield Fault(what=f"{index.FILE}: {what}")


def tile_faults(directory: Path) -> Iterator[Fault]:
    """Compare tiles and the checkpoint file with the entries.

    Beside a publisher at work what was not in place is looked at again: a partial tile goes away
    when its full one is published.
    """
    path = directory / CHECKPOINT
    found: list[Fault] = []
    for _ in range(TRIES_COUNT):
        before = path.read_bytes() if path.exists() else b""
        found = list(tile_faults_once(directory))
        if not found or (path.exists() and path.read_bytes() == before):
            break
    yield from found


def tile_faults_once(directory: Path) -> Iterator[Fault]:
    """Compare what is published at this moment."""
    point = published(directory)
    if isinstance(point, Fault):
        yield point
        return
    builder = Builder()
    expected: dict[str, bytes] = {}
    for batch in reader.batches(directory):
        room = point.size - builder.size
        for tile in builder.feed(batch.bodies[:room]):
            expected[tile.path] = b""
            yield from tile_fault(directory, tile)
        if builder.size == point.size:
            break
    if builder.size < point.size:
        yield Fault(what=f"{CHECKPOINT} is over {point.size} entries, the ledger has fewer")
        return
    for tile in builder.partials():
        expected[tile.path] = tile.data
        yield from tile_fault(directory, tile)
    if tiles.edge_root(builder) != point.root:
        yield Fault(what=f"{CHECKPOINT}: its root is not that of the entries")
    yield from stray_faults(directory, expected)


def stray_faults(directory: Path, expected: dict[str, bytes]) -> Iterator[Fault]:
    """Judge files that are no tile of the present size: older partial tiles are its beginnings.

    ``expected`` holds the present tiles by path; a full one's bytes are read where needed.
    """
    for path in sorted((directory / tiles.FOLDER).rglob("*")):
        name = path.relative_to(directory).as_posix()
        if not path.is_file() or name in expected or name.endswith(".tmp"):
            continue
        full = name.rpartition(".p/")[0]
        whole = next((d for n, d in expected.items() if full and n.startswith(full)), None)
        data = path.read_bytes()
        if whole == b"":
            whole = (directory / full).read_bytes()
        if whole is None or not data or not whole.startswith(data):
            yield Fault(what=f"{name} is no tile of this ledger")


def published(directory: Path) -> checkpoint.Checkpoint | Fault:
    """The published checkpoint; it must be one that stands in the segments, byte for byte."""
    try:
        data = (directory / CHECKPOINT).read_bytes()
        point = checkpoint.parse(data).checkpoint
    except (OSError, note.NoteError) as error:
        return Fault(what=f"{CHECKPOINT} cannot be read: {error}")
    for batch in reader.batches(directory, max(0, point.size - 1)):
        if batch.size == point.size and batch.checkpoint == data:
            return point
        break
    return Fault(what=f"{CHECKPOINT} is not a checkpoint of this ledger")


def tile_fault(directory: Path, tile: Tile) -> Iterator[Fault]:
    """Compare one tile file with what it should hold."""
    try:
        data = (directory / tile.path).read_bytes()
    except OSError:
        yield Fault(what=f"{tile.path} is missing")
        return
    if data != tile.data:
        yield difference(tile, data)


def difference(tile: Tile, data: bytes) -> Fault:
    """Where a tile's bytes are not as they should be, and which entry the first of them is of."""
    ends = range(min(len(data), len(tile.data)) + 1)
    offset = bisect_left(ends, 1, key=lambda end: data[:end] != tile.data[:end]) - 1
    first = tile.index * TILE_WIDTH
    entry = None
    if tile.level == 0:
        entry = first + min(offset // HASH_BYTES, tile.width - 1)
    elif tile.level is None:
        entry = first + tiles.leaf_index_at(tile.data, offset)
    return Fault(what=f"{tile.path} differs at offset {offset}", index=entry)
