"""Evidence that has left the box: cosigned checkpoints kept beside the ledger, and what they bind.

A lone machine cannot notice its own rollback. Whoever kept a checkpoint can: a witness, a
counterparty with a receipt, a time stamp. What they kept is compared with the ledger here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.log import checkpoint, note, reader, segment, tiles
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import Frontier
from ledger.log.note import Key, NoteError
from ledger.log.policy import Policy
from ledger.log.segment import LedgerCorrupt

FOLDER = "evidence"
SUFFIX = ".checkpoint"
STAMPED = ".stamped"
KEPT_COUNT = 64
"""Newer evidence binds everything older; a few are kept in case the newest is damaged."""

NOT_ANCHORED = "NOT ANCHORED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """The newest evidence that counts; ``time_s`` is when the last witness signed."""

    size: int
    time_s: int
    by: tuple[str, ...]


def keep(directory: Path, cosigned: bytes) -> Path:
    """Keep a cosigned checkpoint beside the ledger."""
    size = checkpoint.parse(cosigned).checkpoint.size
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{size:020d}{SUFFIX}"
    tiles.write_file(path, cosigned)
    for old in kept_files(directory)[:-KEPT_COUNT]:
        old.unlink()
    return path


def kept_files(directory: Path) -> list[Path]:
    """Kept evidence, oldest first."""
    return sorted((directory / FOLDER).glob(f"*{SUFFIX}"))


def kept(directory: Path) -> list[bytes]:
    """The kept checkpoints, those that were time-stamped, and the published one."""
    stamped = sorted((directory / FOLDER).glob(f"*{STAMPED}"))[-KEPT_COUNT:]
    paths = [*kept_files(directory), *stamped, directory / tiles.CHECKPOINT]
    return [path.read_bytes() for path in paths if path.is_file()]


def anchored(
    directory: Path, policy: Policy | None = None, keys: Sequence[Key] = ()
) -> Anchored | None:
    """The newest kept evidence that meets the policy, or None: the ledger is NOT ANCHORED.

    Without a policy one cosignature that a key in ``keys`` verifies is enough.
    """
    for path in reversed(kept_files(directory)):
        try:
            signed = checkpoint.parse(path.read_bytes())
            if policy is not None:
                good = policy.check(signed.note)
            else:
                good = checkpoint.verified_keys(signed.note, keys)
        except (OSError, NoteError):
            continue
        witnesses = [key for key in good if key.algorithm_code != note.ED25519]
        if not witnesses:
            continue
        times = [
            checkpoint.cosignature_time_s(key, line)
            for key in witnesses
            if (line := signed.note.by(key)) is not None
        ]
        return Anchored(
            size=signed.checkpoint.size, time_s=max(times), by=tuple(k.name for k in witnesses)
        )
    return None


def damaged(directory: Path, keys: Sequence[Key]) -> list[str]:
    """Kept evidence that cannot be read or whose signatures do not verify."""
    found = []
    for path in kept_files(directory):
        try:
            signed = checkpoint.parse(path.read_bytes())
            if not checkpoint.verified_keys(signed.note, keys):
                found.append(f"{FOLDER}/{path.name} is signed by none of the given keys")
        except (OSError, NoteError) as error:
            found.append(f"{FOLDER}/{path.name}: {error}")
    return found


def contradictions(directory: Path, known: Iterable[bytes], keys: Sequence[Key]) -> list[str]:
    """What checkpoints known elsewhere say against the ledger as it is now.

    Only checkpoints that one of our own keys signed count: nobody else can speak for this log.
    Every checkpoint ever given out stands in the segments, so each must be found there.
    """
    newest = reader.last_checkpoint(directory)
    size = checkpoint.parse(newest).checkpoint.size if newest else 0
    points = own_points(known, keys)
    own = checkpoints_at(directory, [n for n, _ in points if n <= size])
    found: list[str] = []
    for known_size, root in sorted(points):
        if known_size > size:
            found.append(
                f"a checkpoint of size {known_size} is known, the ledger has {size}: "
                "it was rolled back"
            )
        elif (own[known_size].size, own[known_size].root) != (known_size, root):
            found.append(f"a different tree of size {known_size} is known: the ledger was forked")
    return found


def own_points(known: Iterable[bytes], keys: Sequence[Key]) -> set[tuple[int, bytes]]:
    """Size and root of the checkpoints that one of our own keys signed."""
    points: set[tuple[int, bytes]] = set()
    for data in known:
        try:
            signed = checkpoint.parse(data)
            if checkpoint.verified_keys(signed.note, keys) and signed.checkpoint.size:
                points.add((signed.checkpoint.size, signed.checkpoint.root))
        except NoteError:
            continue
    return points


def checkpoints_at(directory: Path, sizes: Iterable[int]) -> dict[int, Checkpoint]:
    """The checkpoint over the last entry of each size; no segment is read twice."""
    firsts = [segment.first_index(path) for path in segment.segments(directory)]
    wanted = sorted(set(sizes), reverse=True)
    found: dict[int, Checkpoint] = {}
    while wanted:
        here, left = bisect_right(firsts, wanted[-1] - 1), len(wanted)
        for batch in reader.batches(directory, wanted[-1] - 1):
            while wanted and wanted[-1] <= batch.size:
                found[wanted.pop()] = checkpoint.parse(batch.checkpoint).checkpoint
            if not wanted or bisect_right(firsts, wanted[-1] - 1) != here:
                break
        if len(wanted) == left:
            raise LedgerCorrupt(f"no batch holds entry {wanted[-1] - 1}")
    return found


def refuse_loss(
    known: Iterable[bytes], keys: Sequence[Key], tree: Frontier, *, torn_at: str = ""
) -> None:
    """Raise LedgerCorrupt when more is known than ``tree``, the intact entries, holds.

    Asked before a start changes anything: what is cut from the disk then is cut for good.
    ``torn_at`` is where the intact entries end, when other bytes follow.
    """
    size, root = max(own_points(known, keys), default=(0, b""))
    if size > tree.size:
        damaged_at = f", or damaged at {torn_at}; nothing was changed" if torn_at else ""
        raise LedgerCorrupt(
            f"a checkpoint of size {size} is known, the ledger has {tree.size}: "
            f"it was rolled back{damaged_at}"
        )
    if size and size == tree.size and root != tree.root():
        raise LedgerCorrupt(f"a different tree of size {size} is known: the ledger was forked")


def refuse_contradictions(directory: Path, known: Iterable[bytes], keys: Sequence[Key]) -> None:
    """Raise LedgerCorrupt when anything known contradicts the ledger."""
    found = contradictions(directory, known, keys)
    if found:
        raise LedgerCorrupt("; ".join(found))
