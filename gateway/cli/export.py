"""``sopgw export``: readings and settlements out of a ledger as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import ExitCode, command, emit, fail

if TYPE_CHECKING:
    from datetime import datetime


@command(
    "export",
    schema="export",
    impact="rw",
    examples=(
        ("sopgw export readings ledger --to readings.csv", "every reading of every meter"),
        (
            "sopgw export settlements ledger --since 2026-01-02 --to january.parquet",
            "what was delivered, from a day on, as Parquet",
        ),
    ),
)
@click.argument("table", type=click.Choice(("readings", "settlements")))
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File to write, ending in .csv or .parquet; one that exists is left alone.",
)
@click.option(
    "--since",
    type=click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ")),
    help="Leave out entries before this instant, UTC.",
)
@click.option(
    "--until",
    type=click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ")),
    help="Leave out entries from this instant on, UTC.",
)
def export(
    *,
    table: str,
    directory: Path,
    target: Path,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Write readings or settlements of a ledger as a table: CSV for people, Parquet for programs.

    Whole numbers in base units, UTC, the entry's index in each row. The ledger is read, not
    verified: `sopledger verify` does that.
    """
    from gateway.hmi.export import TABLES, csv_lines, parquet_file
    from gateway.journal.ledger_journal import read_entries

    if target.suffix not in (".csv", ".parquet"):
        message = f"{target}: neither .csv nor .parquet"
        fail(ExitCode.USAGE, message, code="L110", help="the ending says which is written")
    if target.exists():
        fail(ExitCode.USAGE, f"{target} exists", code="L111", help="name another file")
    found = within(({"index": k, **e} for k, e in read_entries(directory)), since, until)
    count = 0

    def counted() -> Iterator[Mapping[str, Any]]:
        nonlocal count
        for entry in found:
            count += 1
            yield entry

    fresh = target.with_name(f".{target.name}.part")
    try:
        if target.suffix == ".csv":
            with fresh.open("x", encoding="utf-8", newline="") as file:
                file.writelines(csv_lines(table, counted()))
        else:
            fresh.write_bytes(parquet_file(table, counted()))
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    columns = [c.name for c in TABLES[table][0]]
    data = {"file": str(target), "table": table, "entries": count, "columns": columns}
    emit(data, text=f"{target}: {table} of {count} entries")


def within(
    entries: Iterable[Mapping[str, Any]], since: datetime | None, until: datetime | None
) -> Iterator[Mapping[str, Any]]:
    """Return the entries of a span of time, from ``since`` up to but not with ``until``, UTC."""
    from datetime import UTC

    low = since.replace(tzinfo=UTC).timestamp() * 1e6 if since else float("-inf")
    high = until.replace(tzinfo=UTC).timestamp() * 1e6 if until else float("inf")
    return (e for e in entries if low <= e["utc_us"] < high)
