"""Verification of a whole ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from ledger.cli.arguments import (
    anchor_line,
    directory_argument,
    first_header,
    key_option,
    policy_option,
    read_policy,
    read_vkeys,
)
from ledger.cli.output import Answer, ExitCode, Failure, Remark, command, progress
from ledger.log import anchor, checkpoint, derived, note, tiles
from ledger.log import verify as verification
from ledger.log.policy import Policy
from ledger.log.verify import Fault, Report

CHECKED = (
    "every byte of every segment: record checksums, lengths, indexes, unused space",
    "the Merkle root of every signed checkpoint, recomputed from the entries",
    "every signature against the given key",
    "that segments continue one another without a gap",
    "tiles, checkpoint file, index and kept evidence against the entries, where they are",
)
NOT_CHECKED = (
    "whether entries were cut off at the end that nobody outside has seen",
    "what the entries mean (sopledger audit)",
    "whether the machine wrote the truth",
)


@command(
    "verify",
    "sopledger verify ledger --key ledger.vkey",
    "sopledger verify ledger --key ledger.vkey --json",
)
@directory_argument
@key_option
@policy_option
@click.option("--remember", type=click.Path(path_type=Path), metavar="FILE",
              help="Keep the last verified checkpoint here and hold later ones to it.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on behind the remembered checkpoint.")
def verify(
    directory: Path,
    key_file: Path,
    policy_file: Path | None,
    remember: Path | None,
    *,
    resume: bool,
) -> Answer:
    """Recompute a ledger from its bytes and check every signature.

    Exit code 0 when no errors were found, 8 otherwise.
    """
    vkeys, policy = read_vkeys(key_file), read_policy(policy_file)
    if not directory.is_dir():
        first_header(directory)
    total = sum(p.stat().st_size for p in (directory / "segments").glob("*.seg"))
    keys = [note.parse_vkey(v) for v in vkeys]
    known = remembered(remember)
    if resume and remember is None:
        raise Failure(ExitCode.USAGE, "remember", "--resume needs --remember FILE")
    verified_size = checkpoint.parse(known).checkpoint.size if known and resume else 0
    keep = (lambda _c: None) if remember is None else partial(tiles.write_file, remember)
    with progress("verify", total) as advance:
        report = verification.verify(
            directory, vkeys, advance, verified_size=verified_size, reached=keep
        )
        if report.ok:
            trusted = [*keys, *map(note.parse_vkey, report.adopted_vkeys)]
            report = replace(report, faults=tuple(beside(directory, trusted, policy, known)))
    if report.faults and remember is not None and known:
        tiles.write_file(remember, known)
    anchored, line = anchor_line(directory, policy)
    return answer(report, anchored, line, verified_size)


def remembered(path: Path | None) -> bytes:
    """The checkpoint an earlier run kept; empty when there is none."""
    if path is None or not path.exists():
        return b""
    data = path.read_bytes()
    try:
        checkpoint.parse(data)
    except note.NoteError as error:
        raise Failure(ExitCode.INPUT, "remember", f"{path}: {error}") from None
    return data


def beside(
    directory: Path, keys: Sequence[note.Key], policy: Policy | None, known: bytes
) -> Iterator[Fault]:
    """Faults of what stands beside the segments: evidence, derived files, what was remembered."""
    every = [*keys, *(policy.keys() if policy else ())]
    for what in (
        *anchor.contradictions(directory, anchor.kept(directory), keys),
        *since_remembered(directory, known),
        *anchor.damaged(directory, every),
    ):
        yield Fault(what=what)
    yield from derived.faults(directory)


def since_remembered(directory: Path, known: bytes) -> list[str]:
    """What the remembered checkpoint says against the ledger.

    It was verified when it was remembered: by a key, perhaps, that an entry named which is gone.
    """
    if not known:
        return []
    point = checkpoint.parse(known).checkpoint
    origin = first_header(directory).origin
    if point.origin != origin:
        return [f"what is remembered is of another ledger, {point.origin}, not {origin}"]
    return anchor.against(directory, {(point.size, point.root)} if point.size else set())


def answer(report: Report, anchored: dict[str, Any] | None, line: str, skipped: int) -> Answer:
    """Put a report into words."""
    checked, unchecked = list(CHECKED), list(NOT_CHECKED)
    if report.unsigned_count:
        unchecked.insert(
            0, f"{report.unsigned_count} earlier checkpoints signed by other keys than the given"
        )
    if skipped:
        unchecked.insert(0, f"again, the segments before entry {skipped}: verified earlier")
    if report.removed_count:
        unchecked.insert(0, f"bodies of {report.removed_count} entries that were removed after "
                         "export; their hashes are under the checkpoints")  # fmt: skip
    if report.in_flight_count:
        unchecked.insert(0, f"{report.in_flight_count} entries being written at this moment")
    data = {
        "origin": report.origin, "size": report.size, "segments": report.segment_count,
        "checkpoints": report.checkpoint_count, "bytes": report.byte_count,
        "anchored": anchored, "closed": report.closed, "live": report.live,
        "removed": report.removed_count,
        "intact": [0, report.good_size], "checkpoint": report.checkpoint.decode(),
        "checked": checked, "not_checked": unchecked,
        "faults": [
            {"place": f.place(), "what": f.what, "index": f.index, "last_index": f.last_index,
             "segment": f.segment, "offset": f.offset}
            for f in report.faults
        ],
    }  # fmt: skip
    state = "closed" if report.closed else "being written" if report.live else "open, not closed"
    lines = [
        f"Ledger   {report.origin or 'unknown'}: {report.size} entries, "
        f"{report.checkpoint_count} checkpoints, {report.segment_count} segments ({state})",
        line,
        "Checked",
        *(f"  + {line}" for line in checked),
        "Not checked",
        *(f"  - {line}" for line in unchecked),
    ]
    if report.ok:
        lines.append("no errors were found")
        return Answer(data=data, lines=tuple(lines))
    intact = (
        f"entries 0 to {report.good_size - 1} are intact" if report.good_size else "nothing intact"
    )
    lines += [f"FAILED  {fault}" for fault in report.faults]
    lines.append(f"first bad: {report.faults[0].place()}; {intact}")
    return Answer(
        data=data,
        lines=tuple(lines),
        errors=tuple(Remark(code="tampered", message=str(f)) for f in report.faults),
        exit_code=ExitCode.VERIFICATION,
    )
