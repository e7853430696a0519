"""Proof of one entry, in the form that others' tools read."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.arguments import directory_argument, first_header
from ledger.cli.output import Answer, ExitCode, Failure, command
from ledger.log import proof
from ledger.log.treeview import NothingSigned, TreeView


@command(
    "prove",
    "sopledger prove ledger 17 -o entry-17.tlog-proof",
    "sopledger prove ledger 17 -o - | less",
)
@directory_argument
@click.argument("index", type=click.IntRange(min=0))
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to; - is stdout.")
def prove(directory: Path, index: int, output: str) -> Answer:
    """Write a C2SP tlog-proof that an entry is in the ledger."""
    first_header(directory)
    try:
        tree = TreeView.open(directory)
    except NothingSigned as error:
        raise Failure(ExitCode.INPUT, "empty", str(error)) from None
    size = tree.size
    if index >= size:
        raise Failure(ExitCode.INPUT, "no-entry", f"the ledger has no entry {index} of {size}")
    made = proof.TlogProof(
        index=index, hashes=tuple(tree.inclusion(index, size)), checkpoint=tree.checkpoint
    )
    data = {"index": index, "tree_size": size, "file": output}
    if output == "-":
        text = made.encode().decode()
        return Answer(data={**data, "proof": text}, lines=(text.rstrip("\n"),))
    Path(output).write_bytes(made.encode())
    return Answer(data=data, lines=(f"{output}: entry {index} in the tree of {size}",))
