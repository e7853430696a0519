"""Commands about keys."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click

from ledger.cli.arguments import (
    KEY_FILE,
    directory_argument,
    first_header,
    open_signer,
    passphrase_option,
    private_key_option,
    read_passphrase,
)
from ledger.cli.output import Answer, ExampleGroup, ExitCode, Failure, command
from ledger.cli.write import write
from ledger.log import canonical, reader, segment
from ledger.log.keys import KeyFileError, create_key, names_token
from ledger.log.owner import as_owner


@click.group(cls=ExampleGroup)
def key() -> None:
    """Show and change the keys of a ledger."""


key.examples = (
    "sopledger key show ledger",
    "sopledger key show ledger | tail -1 > ledger.vkey",
)


@command("show", "sopledger key show ledger", "sopledger key show ledger | tail -1 > ledger.vkey")
@directory_argument
def show(directory: Path) -> Answer:
    """Show the verifier key; it stands alone on the last line."""
    header = first_header(directory)
    vkey = reader.vkey_in_force(directory, header)
    path = directory / KEY_FILE
    protection = "kept elsewhere"
    if path.exists():
        try:
            encrypted = b"ENCRYPTED" in path.read_bytes()[:256]
            protection = "encrypted" if encrypted else "NOT PROTECTED"
            if names_token(path):
                protection = "in a token"
        except OSError:
            protection = "not readable here"
    return Answer(
        data={"origin": header.origin, "vkey": vkey, "key_file": protection},
        lines=(f"Origin    {header.origin}", f"Key file  {protection}", vkey),
    )


@command(
    "rotate",
    "sopledger key rotate ledger",
    "sopledger key rotate ledger --passphrase-file old --new-passphrase-file new",
)
@directory_argument
@private_key_option
@passphrase_option
@click.option("--new-passphrase-file", type=click.Path(path_type=Path), metavar="FILE",
              help="File whose first line protects the new key.")  # fmt: skip
def rotate(
    directory: Path,
    key_file: Path | None,
    passphrase_file: Path | None,
    new_passphrase_file: Path | None,
) -> Answer:
    """Change the log key: an entry under the old key names the new one.

    The old file is kept as FILE.old; give verifiers the new key, printed alone on the last line.
    """
    path = key_file or directory / KEY_FILE
    old = open_signer(directory, path, passphrase_file)
    fresh, kept = path.with_suffix(".next"), path.with_suffix(path.suffix + ".old")
    if kept.exists():
        raise Failure(ExitCode.REFUSED, "key-file", f"{kept} exists; move it away first")
    passphrase = read_passphrase(new_passphrase_file)
    try:
        with as_owner(path.parent):
            new = create_key(fresh, old.name, passphrase)
    except KeyFileError as error:
        raise Failure(ExitCode.REFUSED, "key-file", str(error)) from None
    now_us = time.time_ns() // 1000
    entry = {"kind": "key", "not_before_us": now_us, "utc_us": now_us, "vkey": new.vkey}
    entry |= of_a_gateway(directory)
    index, size = asyncio.run(write(directory, old, [canonical.encode(entry)], also=(new,)))
    with as_owner(path.parent):
        path.rename(kept)
        fresh.rename(path)
        segment.sync_directory(path.parent)
    data = {"index": index, "size": size, "vkey": new.vkey, "old_vkey": old.vkey}
    return Answer(data=data, lines=(f"entry {index} names the new key", new.vkey))


def of_a_gateway(directory: Path) -> dict[str, Any]:
    """The fields that every entry of a gateway's ledger has; none for another ledger.

    The gateway stands still meanwhile: the entry belongs to its last start.
    """
    size = reader.last_size(directory)
    try:
        last = [canonical.decode(leaf) for _, leaf in reader.entries(directory, max(0, size - 1))]
        boot, mono_us = last[-1]["boot"], last[-1]["mono_us"]
    except (canonical.CanonicalError, KeyError, IndexError):
        return {}
    now_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    later_us = max(mono_us, now_us) if isinstance(mono_us, int) else now_us
    return {"boot": boot, "mono_us": later_us, "tq": "degraded"}


key.add_command(show)
key.add_command(rotate)
