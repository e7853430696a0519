"""Commands that write: make a ledger, append entries."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import click
import msgspec

from ledger.cli.arguments import (
    KEY_FILE,
    directory_argument,
    open_signer,
    passphrase_option,
    private_key_option,
    read_passphrase,
)
from ledger.cli.output import Answer, ExitCode, Failure, Remark, command
from ledger.log import canonical, note, segment
from ledger.log.keys import KeyFileError, Signer, create_key, load_key, names_token
from ledger.log.owner import as_owner
from ledger.log.writer import LedgerBusy, LedgerCorrupt, LedgerFailed, LedgerFull, LedgerWriter

CHUNK_COUNT = 1_000
REMARKS_MAX = 20
"""More bad lines than this say that the file is not what it should be."""

UNPROTECTED = Remark(
    code="not-protected",
    message="the log key is NOT PROTECTED: its file has no passphrase",
    help="--passphrase-file FILE",
)


@command(
    "init",
    "sopledger init ledger --origin bench4.example/SOP-1",
    "sopledger init ledger --origin bench4.example/SOP-1 --passphrase-file /run/keys/ledger",
)
@directory_argument
@click.option("--origin", required=True, metavar="NAME", help="Name of the ledger, like a URL.")
@private_key_option
@passphrase_option
def init(
    directory: Path, origin: str, key_file: Path | None, passphrase_file: Path | None
) -> Answer:
    """Make an empty ledger and its signing key."""
    if segment.segments(directory):
        raise Failure(ExitCode.REFUSED, "exists", f"{directory} is a ledger already")
    passphrase = read_passphrase(passphrase_file)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path = key_file or directory / KEY_FILE
        make = load_key if names_token(path) else create_key
        signer = make(path, origin, passphrase)
    except note.NoteError as error:
        raise Failure(ExitCode.USAGE, "origin", str(error)) from None
    except KeyFileError as error:
        raise Failure(ExitCode.REFUSED, "key-file", str(error)) from None
    except OSError as error:
        raise Failure(ExitCode.REFUSED, "directory", f"{directory}: {error.strerror}") from None
    asyncio.run(write(directory, signer, []))
    lines = (
        f"Ledger  {directory}",
        f"Origin  {origin}",
        f"Key     {key_file or directory / KEY_FILE}"
        + ("" if signer.protected else "  NOT PROTECTED"),
        f"Verifier key: {signer.vkey}",
    )
    return Answer(
        data={"origin": origin, "vkey": signer.vkey, "protected": signer.protected},
        lines=lines,
        warnings=() if signer.protected else (UNPROTECTED,),
    )


@command(
    "append",
    "sopledger append ledger --jsonl entries.jsonl",
    "jq -c '.[]' entries.json | sopledger append ledger --jsonl -",
)
@directory_argument
@click.option("--jsonl", required=True, metavar="FILE", help="One JSON object a line; - is stdin.")
@private_key_option
@passphrase_option
def append(
    directory: Path, jsonl: str, key_file: Path | None, passphrase_file: Path | None
) -> Answer:
    """Append one entry a line; all lines are checked before the first is written."""
    try:
        if jsonl == "-":
            leaves = read_leaves(sys.stdin.buffer, "stdin")
        else:
            with Path(jsonl).open("rb") as file:
                leaves = read_leaves(file, jsonl)
    except OSError as error:
        raise Failure(ExitCode.INPUT, "jsonl", f"{jsonl}: {error.strerror}") from None
    signer = open_signer(directory, key_file, passphrase_file)
    first, size = asyncio.run(write(directory, signer, leaves))
    data = {"first_index": first, "count": len(leaves), "size": size}
    line = f"{len(leaves)} entries appended, {size} in the ledger."
    return Answer(data=data, lines=(line,))


def read_leaves(lines: Iterable[bytes] | IO[bytes], name: str) -> list[bytes]:
    """Canonical leaves of JSON lines; every bad line is named."""
    leaves: list[bytes] = []
    bad: list[Remark] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            leaves.append(canonical.encode(msgspec.json.decode(line, type=dict)))
        except (msgspec.DecodeError, canonical.CanonicalError, RecursionError) as error:
            bad.append(Remark(code="entry", message=f"{name}:{number}: {error}"))
    if bad:
        left_out = len(bad) - REMARKS_MAX
        bad = bad[:REMARKS_MAX]
        if left_out > 0:
            bad.append(Remark(code="entry", message=f"{name}: {left_out} more bad lines"))
        failure = Failure(ExitCode.INPUT, "entry", "")
        failure.answer = Answer(errors=tuple(bad), exit_code=ExitCode.INPUT)
        raise failure
    return leaves


async def write(
    directory: Path, signer: Signer, leaves: Sequence[bytes], also: Sequence[Signer] = ()
) -> tuple[int, int]:
    """Append leaves and close; returns the first index and the size."""
    try:
        with as_owner(directory):
            writer = LedgerWriter.open(directory, signer=signer, origin=signer.name, also=also)
    except LedgerBusy as error:
        raise Failure(ExitCode.BUSY, "busy", str(error)) from None
    except LedgerCorrupt as error:
        raise Failure(ExitCode.VERIFICATION, "damaged", str(error),
                      "sopledger verify DIR --key FILE says more") from None  # fmt: skip
    first = writer.size()
    try:
        for start in range(0, len(leaves), CHUNK_COUNT):
            for indexes in await chunk(writer, leaves[start : start + CHUNK_COUNT]):
                first = min(first, indexes)
        size = writer.size()
        await writer.close()
    except (LedgerFull, LedgerFailed) as error:
        raise Failure(ExitCode.REFUSED, "not-written", str(error),
                      "what was acknowledged before stands") from None  # fmt: skip
    return first, size


async def chunk(writer: LedgerWriter, leaves: Sequence[bytes]) -> list[int]:
    """Append some leaves one by one, together in as few batches as they take."""
    return list(await asyncio.gather(*(writer.append(leaf) for leaf in leaves)))
