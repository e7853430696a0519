"""Commands that look: list, show, figures, checkpoint."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from ledger.cli.arguments import (
    KEY_FILE,
    anchor_line,
    directory_argument,
    first_header,
    policy_option,
    read_policy,
)
from ledger.cli.output import Answer, ExitCode, Failure, command
from ledger.log import checkpoint as checkpoints
from ledger.log import reader, segment

TEXT_WIDTH = 60


def decoded(leaf: bytes) -> Any:
    """A leaf as JSON, or as text when it is something else."""
    try:
        return json.loads(leaf)
    except (ValueError, RecursionError):
        return {"hex": leaf.hex()}


def one_line(index: int, entry: Any) -> str:
    """An entry on one line: index, time, kind, and what fits of the rest."""
    fields = dict(entry) if isinstance(entry, dict) else {"entry": entry}
    kind = str(fields.pop("kind", "-"))
    stamp = fields.pop("utc_us", None)
    when = "-" * 8
    if isinstance(stamp, int):
        when = datetime.fromtimestamp(stamp / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for common in ("mono_us", "boot", "tq"):
        fields.pop(common, None)
    rest = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    if len(rest) > TEXT_WIDTH:
        rest = rest[: TEXT_WIDTH - 1] + "…"
    return f"{index:>8}  {when:<20}  {kind:<15}  {rest}"


@command(
    "log",
    "sopledger log ledger --last 20",
    "sopledger log ledger --from 100 --kind delivery --json",
)
@directory_argument
@click.option("--from", "start", type=click.IntRange(min=0), default=0, help="First index.")
@click.option("--count", type=click.IntRange(min=1), default=1000, help="At most so many.")
@click.option("--last", type=click.IntRange(min=1), help="Only the last so many.")
@click.option("--kind", help="Only entries of this kind.")
def log(directory: Path, start: int, count: int, last: int | None, kind: str | None) -> Answer:
    """List entries, one a line."""
    first_header(directory)
    if last is not None:
        newest = reader.last_checkpoint(directory)
        size = checkpoints.parse(newest).checkpoint.size if newest else 0
        start, count = max(start, size - last), last
    found = ((i, decoded(leaf)) for i, leaf in reader.entries(directory, start))
    wanted = ((i, e) for i, e in found if kind is None or e.get("kind") == kind)
    rows = list(islice(wanted, count))
    return Answer(
        data={"entries": [{"index": i, "entry": e} for i, e in rows]},
        lines=tuple(one_line(i, e) for i, e in rows),
    )


@command("show", "sopledger show ledger 17", "sopledger show ledger 17 --json")
@directory_argument
@click.argument("index", type=click.IntRange(min=0))
def show(directory: Path, index: int) -> Answer:
    """Show one entry whole."""
    first_header(directory)
    for found, leaf in reader.entries(directory, index):
        if found == index:
            entry = decoded(leaf)
            text = json.dumps(entry, ensure_ascii=False, indent=2)
            return Answer(data={"index": index, "entry": entry}, lines=(text,))
        break
    raise Failure(ExitCode.INPUT, "no-entry", f"the ledger has no entry {index} (or its body was "
                  "removed)")  # fmt: skip


@command("checkpoint", "sopledger checkpoint ledger", "sopledger checkpoint ledger --json")
@directory_argument
def checkpoint(directory: Path) -> Answer:
    """Print the last durable signed checkpoint."""
    first_header(directory)
    newest = reader.last_checkpoint(directory)
    if not newest:
        raise Failure(ExitCode.INPUT, "empty", "the ledger has no entries yet")
    point = checkpoints.parse(newest).checkpoint
    data = {"checkpoint": newest.decode(), "size": point.size, "root": point.root.hex()}
    return Answer(data=data, lines=(newest.decode().rstrip("\n"),))


@command("stats", "sopledger stats ledger", "sopledger stats ledger --json")
@directory_argument
@policy_option
def stats(directory: Path, policy_file: Path | None) -> Answer:
    """Print a ledger's size, time span and growth."""
    header = first_header(directory)
    newest = reader.last_checkpoint(directory)
    size = checkpoints.parse(newest).checkpoint.size if newest else 0
    paths = segment.segments(directory)
    held = sum(path.stat().st_size for path in paths)
    span_s = time_span_s(directory, size)
    anchored, anchor = anchor_line(directory, read_policy(policy_file))
    growth = int(held / span_s * 365.25 * 86_400) if span_s > 0 else None
    data = {
        "origin": header.origin, "vkey": header.vkey, "size": size, "segments": len(paths),
        "bytes": held, "span_s": span_s, "bytes_per_year": growth,
        "anchored": anchored, "key_inside": (directory / KEY_FILE).exists(),
    }  # fmt: skip
    lines = [
        f"Origin    {header.origin}",
        f"Entries   {size}",
        f"Segments  {len(paths)}, {held / 1e6:.1f} MB",
        "Growth    " + (f"{growth / 1e9:.2f} GB a year at this rate" if growth else "unknown"),
        anchor,
    ]
    return Answer(data=data, lines=tuple(lines))


def time_span_s(directory: Path, size: int) -> float:
    """Seconds between the first and the last entry that state a time."""
    ends = []
    for start in (0, max(size - 1, 0)):
        for _, leaf in islice(reader.entries(directory, start), 1):
            entry = decoded(leaf)
            if isinstance(entry, dict) and isinstance(entry.get("utc_us"), int):
                ends.append(entry["utc_us"] / 1e6)
    return float(ends[1] - ends[0]) if len(ends) == 2 else 0.0
