"""Commands that write derived forms of a ledger."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.arguments import directory_argument, first_header
from ledger.cli.output import Answer, ExitCode, Failure, command
from ledger.log import checkpoint, derived, reader, tiles


@command(
    "export",
    "sopledger export ledger --tiles /srv/www/ledger",
    "sopledger export ledger --tiles out --json",
)
@directory_argument
@click.option(
    "--tiles",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="OUT",
    help="Folder for the tlog-tiles tree; an earlier export there is brought up to date.",
)
def export(directory: Path, out: Path) -> Answer:
    """Write a plain C2SP tlog-tiles tree with its checkpoint, for any third party's tools."""
    first_header(directory)
    out.mkdir(parents=True, exist_ok=True)
    size = tiles.materialise(directory, out)
    if not size:
        raise Failure(ExitCode.INPUT, "empty", "the ledger has no entries yet")
    root = checkpoint.parse((out / tiles.CHECKPOINT).read_bytes()).checkpoint.root
    data = {"size": size, "root": root.hex(), "folder": str(out)}
    return Answer(data=data, lines=(f"{out}: tlog-tiles tree of {size} entries",))


@command("rebuild", "sopledger rebuild ledger", "sopledger rebuild ledger --json")
@directory_argument
def rebuild(directory: Path) -> Answer:
    """Build tiles, checkpoint file and query index again from the entries."""
    first_header(directory)
    size = derived.rebuild(directory) if reader.last_checkpoint(directory) else 0
    return Answer(data={"size": size}, lines=(f"tiles and index at {size} entries",))
