"""Commands that look: list, show, figures, checkpoint."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
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
from ledger.log import index, reader, segment

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
    "sopledger log ledger --trade T-1001 --json",
    "sopledger log ledger --kind reading --device m2 --since 2026-01-02T02:00Z",
)
@directory_argument
@click.option("--from", "start", type=click.IntRange(min=0), default=0, help="First index.")
@click.option("--count", type=click.IntRange(min=1), default=1000, help="At most so many.")
@click.option("--last", type=click.IntRange(min=1), help="Only the last so many.")
@click.option("--kind", help="Only entries of this kind.")
@click.option("--trade", help="Only entries that speak of this trade.")
@click.option("--device", help="Only entries that speak of this device or meter.")
@click.option("--terminal", help="Only entries that speak of this terminal.")
@click.option("--since", metavar="TIME", help="Only from this instant on, like 2026-01-02T02:00Z.")
@click.option("--until", metavar="TIME", help="Only before this instant.")
def log(
    directory: Path,
    start: int,
    count: int,
    last: int | None,
    kind: str | None,
    trade: str | None,
    device: str | None,
    terminal: str | None,
    since: str | None,
    until: str | None,
) -> Answer:
    """List entries, one a line. An index made by `sopledger rebuild` is used where it is."""
    first_header(directory)
    query = index.Query(
        kind=kind, trade=trade, device=device, terminal=terminal,
        since_us=instant_us(since), until_us=instant_us(until),
    )  # fmt: skip
    if last is not None and query == index.Query():
        newest = reader.last_checkpoint(directory)
        size = checkpoints.parse(newest).checkpoint.size if newest else 0
        start = max(start, size - last)
    found = matching(directory, start, query)
    rows = list(islice(found, count) if last is None else deque(found, maxlen=last))
    return Answer(
        data={"entries": [{"index": i, "entry": e} for i, e in rows]},
        lines=tuple(one_line(i, e) for i, e in rows),
    )


def instant_us(text: str | None) -> int | None:
    """An instant of the command line in microseconds."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Failure(ExitCode.USAGE, "time", f"{text} is not an instant like 2026-01-02T02:00Z")
    return int(moment.timestamp() * 1_000_000)


def matching(directory: Path, start: int, query: index.Query) -> Iterator[tuple[int, Any]]:
    """Entries from ``start`` on that a query fits, by the index as far as it goes."""
    place = start
    if query != index.Query():
        for number in indexed(directory, query):
            if number >= start:
                yield from ((i, decoded(b)) for i, b in entry_at(directory, number))
        place = max(start, index.size(directory))
    for number, body in reader.entries(directory, place):
        if index.fits(query, number, body):
            yield number, decoded(body)


def indexed(directory: Path, query: index.Query) -> list[int]:
    """What the index finds; nothing when there is none."""
    try:
        return index.find(directory, query)
    except index.IndexStale:
        return []


def entry_at(directory: Path, number: int) -> Iterator[tuple[int, bytes]]:
    """One entry, unless its body was removed."""
    return ((i, b) for i, b in islice(reader.entries(directory, number), 1) if i == number)


@command("show", "sopledger show ledger 17", "sopledger show ledger 17 --json")
@directory_argument
@click.argument("number", metavar="INDEX", type=click.IntRange(min=0))
def show(directory: Path, number: int) -> Answer:
    """Show one entry whole."""
    first_header(directory)
    for found, leaf in reader.entries(directory, number):
        if found == number:
            entry = decoded(leaf)
            text = json.dumps(entry, ensure_ascii=False, indent=2)
            return Answer(data={"index": number, "entry": entry}, lines=(text,))
        break
    raise Failure(ExitCode.INPUT, "no-entry", f"the ledger has no entry {number} (or its body was "
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
        "origin": header.origin, "vkey": reader.vkey_in_force(directory, header), "size": size,
        "segments": len(paths), "bytes": held, "span_s": span_s, "bytes_per_year": growth,
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
