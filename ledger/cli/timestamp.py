"""Time stamps of checkpoints by an RFC 3161 authority."""

from __future__ import annotations

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from ledger.cli.arguments import directory_argument, first_header
from ledger.cli.output import Answer, ExampleGroup, ExitCode, Failure, command
from ledger.log import anchor, reader, timestamp
from ledger.log.owner import as_owner


@click.group("timestamp", cls=ExampleGroup)
def timestamp_group() -> None:
    """Have checkpoints stamped by a time stamping authority."""


timestamp_group.examples = (
    "sopledger timestamp query ledger -o c.tsq",
    "sopledger timestamp keep ledger --checkpoint c.stamped --token c.tsr --ca tsa.pem",
)


@command(
    "query",
    "sopledger timestamp query ledger -o c.tsq",
    "curl -H 'Content-Type: application/timestamp-query' --data-binary @c.tsq URL -o c.tsr",
    "sopledger timestamp query ledger -o c.tsq --json",
)
@directory_argument
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE")
def query(directory: Path, output: Path) -> Answer:
    """Write the query for the last checkpoint, and the checkpoint beside it as .stamped."""
    first_header(directory)
    signed = reader.last_checkpoint(directory)
    if not signed:
        raise Failure(ExitCode.INPUT, "empty", "the ledger has no entries yet")
    output.write_bytes(timestamp.query(signed, secrets.randbits(63)))
    stamped = output.with_suffix(".stamped")
    stamped.write_bytes(signed)
    data = {"query": str(output), "checkpoint": str(stamped)}
    return Answer(data=data, lines=(f"{output}: send it to the authority",))


@command(
    "keep",
    "sopledger timestamp keep ledger --checkpoint c.stamped --token c.tsr --ca tsa.pem",
    "sopledger timestamp keep ledger --checkpoint c.stamped --token c.tsr --ca tsa.pem --json",
)
@directory_argument
@click.option("--checkpoint", "stamped", required=True, type=click.Path(path_type=Path))
@click.option("--token", required=True, type=click.Path(path_type=Path))
@click.option("--ca", required=True, type=click.Path(path_type=Path), help="The authority's CA.")
def keep(directory: Path, stamped: Path, token: Path, ca: Path) -> Answer:
    """Keep the authority's answer beside the ledger once it checks.

    Of each size one is kept: another one for it is refused.
    """
    first_header(directory)
    try:
        point, answered = stamped.read_bytes(), token.read_bytes()
        with TemporaryDirectory() as aside:
            tried = timestamp.keep(Path(aside), point, answered)
            stated = timestamp.verify(directory, tried, ca)
        kept = directory / anchor.FOLDER / tried.name
        with as_owner(directory):
            refuse_another(kept, answered)
            refuse_another(kept.with_suffix(anchor.STAMPED), point)
            path = timestamp.keep(directory, point, answered)
    except timestamp.TimestampError as error:
        raise Failure(ExitCode.VERIFICATION, "timestamp", str(error)) from None
    except OSError as error:
        raise Failure(ExitCode.INPUT, "file", f"{error.filename}: {error.strerror}") from None
    return Answer(data={"file": str(path), "time": stated}, lines=(f"{path}: {stated}",))


def refuse_another(path: Path, data: bytes) -> None:
    """End the command when something else is kept already: it may be all there is."""
    if path.exists() and path.read_bytes() != data:
        raise Failure(
            ExitCode.REFUSED,
            "kept-already",
            f"{path} is another time stamp of this size",
            "where it is not wanted, move both files of that size away first",
        )


@command(
    "verify",
    "sopledger timestamp verify ledger --ca tsa.pem",
    "sopledger timestamp verify ledger --ca tsa.pem --json",
)
@directory_argument
@click.option("--ca", required=True, type=click.Path(path_type=Path), help="The authority's CA.")
def verify(directory: Path, ca: Path) -> Answer:
    """Check every kept time stamp."""
    first_header(directory)
    stamps = []
    for path in sorted((directory / anchor.FOLDER).glob(f"*{timestamp.SUFFIX}")):
        try:
            stamps.append((path.name, timestamp.verify(directory, path, ca)))
        except timestamp.TimestampError as error:
            raise Failure(ExitCode.VERIFICATION, "timestamp", f"{path.name}: {error}") from None
    lines = [f"{name}: {stated}" for name, stated in stamps]
    if not stamps:
        return Answer(lines=("no time stamps are kept",), exit_code=ExitCode.UNDECIDED)
    return Answer(data={"stamps": dict(stamps)}, lines=tuple(lines))


for one in (query, keep, verify):
    timestamp_group.add_command(one)
