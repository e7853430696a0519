"""Removing old bodies after export: hashes, checkpoints and proofs stay, the texts go.

A segment is written anew beside the old one, with each chosen entry replaced by its leaf hash, and
takes its place in one rename. Only sealed segments are touched: the last one is the writer's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ledger.log import index as query_index
from ledger.log import reader, record, segment
from ledger.log.merkle import leaf_hash
from ledger.log.record import Damage, Kind
from ledger.log.segment import LedgerCorrupt
from ledger.log.tiles import TILE_WIDTH, Builder, partial_folder, split_bundle, tile_path

Chosen = Callable[[int, bytes], bool]
"""Decides by index and body whether an entry's body goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a pruning did."""

    removed_count: int
    freed_bytes: int
    segment_count: int


class NotExported(Exception):  # noqa: N818 - a refusal, not a defect
    """An entry that should go does not stand in the export; nothing was removed."""


def exported_in(tree: Path, index: int, body: bytes) -> bool:
    """Whether an exported tlog-tiles tree holds this entry's body."""
    bundle, at = divmod(index, TILE_WIDTH)
    full = tree / tile_path(None, bundle, TILE_WIDTH)
    partial = partial_folder(tree, None, bundle)
    paths = [full, *(sorted(partial.iterdir()) if partial.is_dir() else ())]
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError:
            continue
        bodies = split_bundle(data)
        if at < len(bodies) and bodies[at] == body:
            return True
    return False


def prune(directory: Path, export: Path, chosen: Chosen) -> Pruned:
    """Remove the chosen bodies from sealed segments; every one must stand in the export.

    The caller holds the ledger's lock. The query index goes too: it is derived and made again.

    Raises:
        NotExported: A chosen body is not in the export; nothing was changed.
        LedgerCorrupt: A segment is damaged; nothing was changed.
    """
    rewritten: list[tuple[Path, Path]] = []
    removed = freed = 0
    try:
        for path in segment.segments(directory)[:-1]:
            old = path.read_bytes()
            new, count = without(path, old, export, chosen)
            if count:
                temporary = path.with_suffix(".pruned")
                write_durable(temporary, new)
                rewritten.append((temporary, path))
                removed += count
                freed += len(old) - len(new)
    except BaseException:
        for temporary, _ in rewritten:
            temporary.unlink()
        raise
    if rewritten:
        query_index.drop(directory)  # before: it would know what the ledger no longer says
        segment.sync_directory(directory)
    for temporary, path in rewritten:
        temporary.rename(path)
    if rewritten:
        segment.sync_directory(rewritten[0][1].parent)
        drop_bundles(directory)
    return Pruned(removed_count=removed, freed_bytes=freed, segment_count=len(rewritten))


def without(path: Path, data: bytes, export: Path, chosen: Chosen) -> tuple[bytes, int]:
    """A segment's bytes with chosen bodies replaced by their hashes, and how many."""
    start = segment.first_index(path)
    pieces, count = [], 0
    try:
        header, offset = segment.parse_start(data, start)
        pieces.append(data[:offset])
        for item in record.walk(data, offset, header.size):
            if item.kind is Kind.LEAF and chosen(item.index, item.payload):
                if not exported_in(export, item.index, item.payload):
                    raise NotExported(f"entry {item.index} does not stand in {export}")
                pieces.append(record.encode(Kind.REMOVED, item.index, leaf_hash(item.payload)))
                count += 1
            else:
                pieces.append(data[item.offset : item.end_offset])
    except Damage as damage:
        raise LedgerCorrupt(f"{path.name} offset {damage.offset}: {damage}") from None
    return b"".join(pieces), count


def drop_bundles(directory: Path) -> None:
    """Remove bundles of the ledger's own tiles that still hold removed bodies."""
    builder = Builder()
    kept: set[str] = set()
    for batch in reader.batches(directory):
        kept.update(tile.path for tile in builder.feed(batch.bodies) if tile.level is None)
    kept.update(tile.path for tile in builder.partials() if tile.level is None)
    folder = directory / "tile" / "entries"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(directory).as_posix() not in kept:
            path.unlink()


def write_durable(path: Path, data: bytes) -> None:
    """Write a new file and sync it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
