"""Evidence that has left the box: cosigned checkpoints kept beside the ledger, and what they bind.

A lone machine cannot notice its own rollback. Whoever kept a checkpoint can: a witness, a
counterparty with a receipt, a time stamp. What they kept is compared with the ledger here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ledger.log import checkpoint, note, reader, segment, tiles
from ledger.log.checkpoint import Checkpoint, SignedCheckpoint
from ledger.log.merkle import Frontier
from ledger.log.note import Key, Note, NoteError
from ledger.log.policy import Policy
from ledger.log.record import Damage
from ledger.log.segment import LedgerCorrupt

FOLDER = "evidence"
SUFFIX = ".checkpoint"
STAMPED = ".stamped"
KEPT_COUNT = 64
"""Newer evidence binds everything older; a few are kept in case the newest is damaged.

Older evidence stays while nothing newer has the signatures of all who signed it: a witness that
is away for long takes nothing back.
"""

NOT_ANCHORED = "NOT ANCHORED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """The newest evidence that counts; ``time_s`` is when the last witness signed."""

    size: int
    time_s: int
    by: tuple[str, ...]


def keep(directory: Path, cosigned: bytes) -> Path:
    """Keep a cosigned checkpoint beside the ledger, with what is kept under the same text."""
    signed = checkpoint.parse(cosigned)
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{signed.checkpoint.size:020d}{SUFFIX}"
    lines = signed.note.signatures
    with suppress(OSError, NoteError):
        before = note.parse(path.read_bytes())
        if before.text == signed.note.text:
            lines = note.distinct((*lines, *before.signatures))
    tiles.write_file(path, Note(text=signed.note.text, signatures=lines).encode())
    thin_out(directory)
    return path


def thin_out(directory: Path) -> None:
    """Remove old evidence that newer evidence of the same signers, or more, has taken over."""
    signers: dict[Path, frozenset[tuple[str, bytes]] | None] = {}

    def of(path: Path) -> frozenset[tuple[str, bytes]] | None:
        if path not in signers:
            signers[path] = signers_of(path)
        return signers[path]

    def taken_over(old: Path, newer: Sequence[Path]) -> bool:
        mine = of(old)
        if mine is None:
            return False
        return any((theirs := of(path)) is not None and mine <= theirs for path in reversed(newer))

    files = kept_files(directory)
    for place, old in enumerate(files[:-KEPT_COUNT]):
        if taken_over(old, files[place + 1 :]):
            old.unlink()


def signers_of(path: Path) -> frozenset[tuple[str, bytes]] | None:
    """Who is named under a kept checkpoint, unverified: nobody where it is damaged.

    None where it could not be read just now, which says nothing of who signed it.
    """
    try:
        signatures = note.parse(path.read_bytes()).signatures
    except NoteError:
        return frozenset()
    except OSError:
        return None
    return frozenset((line.name, line.key_hash) for line in signatures)


def kept_files(directory: Path) -> list[Path]:
    """Kept evidence, oldest first."""
    return sorted((directory / FOLDER).glob(f"*{SUFFIX}"))


def kept(directory: Path) -> list[bytes]:
    """The kept checkpoints, those that were time-stamped, and the published one."""
    stamped = sorted((directory / FOLDER).glob(f"*{STAMPED}"))[-KEPT_COUNT:]
    paths = [*kept_files(directory), *stamped, directory / tiles.CHECKPOINT]
    return [path.read_bytes() for path in paths if path.is_file()]


def origin_of(directory: Path) -> str:
    """The ledger's name; empty where there is no ledger, or its newest header is damaged."""
    paths = segment.segments(directory)
    try:
        return segment.read_header(paths[-1]).origin if paths else ""
    except (OSError, Damage):
        return ""


def anchored(
    directory: Path,
    policy: Policy | None = None,
    keys: Sequence[Key] = (),
    *,
    size: int | None = None,
) -> Anchored | None:
    """The newest kept evidence that meets the policy, or None: the ledger is NOT ANCHORED.

    Without a policy one cosignature that a key in ``keys`` verifies is enough. Only evidence of
    this ledger counts, signed by a log key of its name (a policy may trust other ledgers too), and
    none that vouches for more than the ``size`` entries there are, where that is given.
    """
    origin = origin_of(directory)
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
        ours = policy is None or any(k not in witnesses and k.name == origin for k in good)
        point = signed.checkpoint
        if not witnesses or not ours or point.origin != origin:
            continue
        if size is not None and point.size > size:
            continue
        times = [
            checkpoint.cosignature_time_s(key, line)
            for key in witnesses
            if (line := signed.note.by(key)) is not None
        ]
        return Anchored(size=point.size, time_s=max(times), by=tuple(k.name for k in witnesses))
    return None


def damaged(directory: Path, keys: Sequence[Key]) -> list[str]:
    """Kept evidence that cannot be read, is another ledger's, or whose signatures do not verify."""
    found = []
    origin = origin_of(directory)
    for path in kept_files(directory):
        try:
            signed = checkpoint.parse(path.read_bytes())
            if origin and signed.checkpoint.origin != origin:
                other = signed.checkpoint.origin
                found.append(f"{FOLDER}/{path.name} is of another ledger: {other}")
            elif not (
                checkpoint.verified_keys(signed.note, keys)
                or of_an_earlier_key(directory, signed, keys)
            ):
                found.append(f"{FOLDER}/{path.name} is signed by none of the given keys")
        except (OSError, NoteError) as error:
            found.append(f"{FOLDER}/{path.name}: {error}")
    return found


def of_an_earlier_key(directory: Path, signed: SignedCheckpoint, keys: Sequence[Key]) -> bool:
    """Whether the segments hold this checkpoint, and there too it is by none of the keys."""
    batch = next(reader.batches(directory, max(0, signed.checkpoint.size - 1)), None)
    if batch is None:
        return False
    own = checkpoint.parse(batch.checkpoint).note
    return own.text == signed.note.text and not checkpoint.verified_keys(own, keys)


def contradictions(directory: Path, known: Iterable[bytes], keys: Sequence[Key]) -> list[str]:
    """What checkpoints known elsewhere say against the ledger as it is now.

    Only checkpoints that one of our own keys signed count: nobody else can speak for this log.
    Every checkpoint ever given out stands in the segments, so each must be found there.
    """
    return against(directory, own_points(known, keys))


def against(directory: Path, points: set[tuple[int, bytes]]) -> list[str]:
    """What sizes and roots that this log is known to have signed say against it as it is now."""
    newest = reader.last_checkpoint(directory)
    size = checkpoint.parse(newest).checkpoint.size if newest else 0
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


def points_of(vouched: Iterable[bytes], origin: str) -> set[tuple[int, bytes]]:
    """Size and root of a log's checkpoints that count whatever key signed them."""
    points: set[tuple[int, bytes]] = set()
    for data in vouched:
        with suppress(NoteError):
            point = checkpoint.parse(data).checkpoint
            if point.origin == origin and point.size:
                points.add((point.size, point.root))
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


def refuse_loss(points: set[tuple[int, bytes]], tree: Frontier, *, torn_at: str = "") -> None:
    """Raise LedgerCorrupt when more is known than ``tree``, the intact entries, holds.

    Asked before a start changes anything: what is cut from the disk then is cut for good.
    ``torn_at`` is where the intact entries end, when other bytes follow.
    """
    size = max((known_size for known_size, _ in points), default=0)
    if size > tree.size:
        damaged_at = f", or damaged at {torn_at}; nothing was changed" if torn_at else ""
        raise LedgerCorrupt(
            f"a checkpoint of size {size} is known, the ledger has {tree.size}: "
            f"it was rolled back{damaged_at}"
        )
    if any(known_size == tree.size and root != tree.root() for known_size, root in points):
        raise LedgerCorrupt(f"a different tree of size {size} is known: the ledger was forked")


def refuse_contradictions(directory: Path, points: set[tuple[int, bytes]]) -> None:
    """Raise LedgerCorrupt when anything known contradicts the ledger."""
    found = against(directory, points)
    if found:
        raise LedgerCorrupt("; ".join(found))
