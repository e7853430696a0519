"""Commands about keys."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.arguments import KEY_FILE, directory_argument, first_header
from ledger.cli.output import Answer, ExampleGroup, command


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
    path = directory / KEY_FILE
    protection = "kept elsewhere"
    if path.exists():
        try:
            encrypted = b"ENCRYPTED" in path.read_bytes()[:256]
            protection = "encrypted" if encrypted else "NOT PROTECTED"
        except OSError:
            protection = "not readable here"
    return Answer(
        data={"origin": header.origin, "vkey": header.vkey, "key_file": protection},
        lines=(f"Origin    {header.origin}", f"Key file  {protection}", header.vkey),
    )


key.add_command(show)
