"""Commands that write derived forms of a ledger."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ledger.audit import evidence
from ledger.cli.arguments import directory_argument, first_header, key_option, read_vkeys
from ledger.cli.output import Answer, ExampleGroup, ExitCode, Failure, command
from ledger.log import bundle, checkpoint, derived, note, reader, retention, tiles
from ledger.log.owner import as_owner
from ledger.log.writer import LedgerBusy, take_lock


@command(
    "export",
    "sopledger export ledger --tiles /srv/www/ledger",
    "sopledger export ledger --bundle march.tar --from 120000 --to 150000",
)
@directory_argument
@click.option("--tiles", "out", type=click.Path(path_type=Path, file_okay=False), metavar="OUT",
              help="Folder for the tlog-tiles tree; brought up to date if there.")  # fmt: skip
@click.option("--bundle", "file", type=click.Path(path_type=Path), metavar="FILE",
              help="Tar of a part of that tree, which verifies by itself.")  # fmt: skip
@click.option("--from", "start", type=click.IntRange(min=0), help="First entry of the bundle.")
@click.option("--to", "end", type=click.IntRange(min=1), help="Entry behind its last.")
def export(
    directory: Path, out: Path | None, file: Path | None, start: int | None, end: int | None
) -> Answer:
    """Write a plain C2SP tlog-tiles tree with its checkpoint, or a bundle of a range of it."""
    first_header(directory)
    if (out is None) is (file is None):
        raise Failure(ExitCode.USAGE, "what", "either --tiles OUT or --bundle FILE")
    if file is not None:
        with as_owner(directory):
            size = tiles.materialise(directory)
        first, last = start or 0, end or size
        try:
            bundle.write(directory, first, last, file)
        except (bundle.BundleError, tiles.TilesMissing) as error:
            raise Failure(ExitCode.INPUT, "bundle", str(error)) from None
        text = f"{file}: entries {first} to {last - 1} of {size}"
        return Answer(data={"from": first, "to": last, "size": size}, lines=(text,))
    if out is None:
        raise TypeError("one of the two was given")
    out.mkdir(parents=True, exist_ok=True)
    try:
        size = tiles.materialise(directory, out)
    except tiles.ForeignTree as error:
        raise Failure(
            ExitCode.REFUSED, "foreign-tree", str(error), "--tiles a new folder"
        ) from None
    if not size:
        raise Failure(ExitCode.INPUT, "empty", "the ledger has no entries yet")
    root = checkpoint.parse((out / tiles.CHECKPOINT).read_bytes()).checkpoint.root
    data = {"size": size, "root": root.hex(), "folder": str(out)}
    return Answer(data=data, lines=(f"{out}: tlog-tiles tree of {size} entries",))


@click.group("bundle", cls=ExampleGroup)
def bundle_group() -> None:
    """Check bundles: ranges of a ledger that verify by themselves."""


bundle_group.examples = (
    "sopledger bundle verify march.tar --key ledger.vkey",
    "sopledger bundle verify march.tar --key ledger.vkey --json",
)


@command(
    "verify",
    "sopledger bundle verify march.tar --key ledger.vkey",
    "sopledger bundle verify march.tar --key ledger.vkey --json",
)
@click.argument("file", type=click.Path(path_type=Path))
@key_option
def verify(file: Path, key_file: Path) -> Answer:
    """Check offline that a bundle's entries are in the ledger its checkpoint commits to."""
    keys = [note.parse_vkey(v) for v in read_vkeys(key_file)]
    try:
        found, bodies = bundle.verify(file, keys)
    except bundle.BundleError as error:
        raise Failure(ExitCode.VERIFICATION, "bundle", str(error)) from None
    data = {"origin": found.origin, "tree_size": found.tree_size, "from": found.first_index,
            "to": found.end_index, "bytes": sum(map(len, bodies))}  # fmt: skip
    line = f"entries {found.first_index} to {found.end_index - 1} of {found.origin}"
    return Answer(data=data, lines=(line, "no errors were found"))


bundle_group.add_command(verify)


@command(
    "prune",
    "sopledger prune ledger --export /srv/www/ledger --kind reading --before 120000",
    "sopledger prune ledger --export old --kind reading --kind readback --before 9000 --yes",
)
@directory_argument
@click.option("--export", "tree", required=True, type=click.Path(path_type=Path), metavar="OUT",
              help="An exported tree that holds what goes.")  # fmt: skip
@click.option("--kind", "kinds", multiple=True, required=True, help="Kind of entry that goes.")
@click.option("--before", required=True, type=click.IntRange(min=1), help="Only below this index.")
@click.option("--yes", is_flag=True, help="Do it; without this the plan is printed.")
def prune(directory: Path, tree: Path, kinds: tuple[str, ...], before: int, *, yes: bool) -> Answer:
    """Remove old bodies after export; hashes, checkpoints and proofs stay.

    The last segment is never touched. Exit code 6 when only the plan was made.
    """
    first_header(directory)
    wanted = set(kinds)

    def chosen(index: int, body: bytes) -> bool:
        return index < before and evidence.decoded(index, body).kind in wanted

    if not yes:
        count = sum(chosen(index, body) for index, body in reader.entries(directory))
        text = f"up to {count} bodies of {', '.join(sorted(wanted))} would go; add --yes"
        return Answer(data={"planned": count}, lines=(text,), exit_code=ExitCode.PLANNED)
    try:
        with as_owner(directory):
            lock = take_lock(directory)
    except LedgerBusy as error:
        raise Failure(ExitCode.BUSY, "busy", str(error)) from None
    try:
        with as_owner(directory):
            done = retention.prune(directory, tree, chosen)
    except retention.NotExported as error:
        raise Failure(ExitCode.REFUSED, "not-exported", str(error),
                      "sopledger export DIR --tiles OUT first") from None  # fmt: skip
    finally:
        os.close(lock)
    data = {"removed": done.removed_count, "freed_bytes": done.freed_bytes}
    text = f"{done.removed_count} bodies removed, {done.freed_bytes / 1e6:.1f} MB freed"
    return Answer(data=data, lines=(text,))


@command("rebuild", "sopledger rebuild ledger", "sopledger rebuild ledger --json")
@directory_argument
def rebuild(directory: Path) -> Answer:
    """Build tiles, checkpoint file and query index again from the entries."""
    first_header(directory)
    with as_owner(directory):
        size = derived.rebuild(directory) if reader.last_checkpoint(directory) else 0
    return Answer(data={"size": size}, lines=(f"tiles and index at {size} entries",))
