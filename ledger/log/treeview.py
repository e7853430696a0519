"""Hashes of a ledger's tree for proofs: from the tiles where they are, else from the segments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ledger.log import checkpoint, merkle, reader
from ledger.log.merkle import leaf_hash


class NothingSigned(Exception):  # noqa: N818 - a state of the ledger
    """The ledger has no entries yet, so there is nothing to prove."""


@dataclass(frozen=True, slots=True)
class TreeView:
    """A tree at one checkpoint."""

    checkpoint: bytes
    levels: list[list[bytes]]

    @classmethod
    def open(cls, directory: Path) -> TreeView:
        """Read the durable tree of a ledger; works beside a live writer."""
        hashes: list[bytes] = []
        newest = b""
        for batch in reader.batches(directory):
            hashes.extend(body if gone else leaf_hash(body) for body, gone in batch.bodies)
            newest = batch.checkpoint
        if not newest:
            raise NothingSigned(f"{directory} has no entries")
        return cls(newest, subtree_levels(hashes))

    @property
    def size(self) -> int:
        """Entries under the checkpoint."""
        return checkpoint.parse(self.checkpoint).checkpoint.size

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Inclusion proof of one entry."""
        return merkle.inclusion_proof(index, size, self.root_of)

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """Consistency proof between two sizes."""
        return merkle.consistency_proof(old_size, size, self.root_of)

    def root_of(self, start: int, end: int) -> bytes:
        """Root of a range of leaves."""
        level = (end - start).bit_length() - 1
        if end - start == 1 << level and not start & ((1 << level) - 1):
            return self.levels[level][start >> level]
        middle = start + merkle.split(end - start)
        return merkle.node_hash(self.root_of(start, middle), self.root_of(middle, end))


def subtree_levels(hashes: list[bytes]) -> list[list[bytes]]:
    """Roots of all complete subtrees, level by level from the leaves up."""
    levels = [hashes]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = zip(below[0::2], below[1::2], strict=False)
        levels.append([merkle.node_hash(left, right) for left, right in pairs])
    return levels
