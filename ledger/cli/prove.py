"""Proof of one entry, in the form that others' tools read."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.arguments import directory_argument, first_header
from ledger.cli.output import Answer, ExitCode, Failure, command
from ledger.log import checkpoint, merkle, reader
from ledger.log.proof import TlogProof
from ledger.log.tiles import TilesMissing, TileTree
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
    made = from_tiles(directory, index) or from_segments(directory, index)
    size = checkpoint.parse(made.checkpoint).checkpoint.size
    data = {"index": index, "tree_size": size, "file": output}
    if output == "-":
        text = made.encode().decode()
        return Answer(data={**data, "proof": text}, lines=(text.rstrip("\n"),))
    Path(output).write_bytes(made.encode())
    return Answer(data=data, lines=(f"{output}: entry {index} in the tree of {size}",))


def from_tiles(directory: Path, index: int) -> TlogProof | None:
    """A proof from published tiles, a few small files; None when they do not hold the entry."""
    try:
        tree = TileTree.open(directory)
        if index >= tree.size:
            return None
        hashes = tree.inclusion(index, tree.size)
        leaf = next((leaf for found, leaf in reader.entries(directory, index) if found == index))
        merkle.verify_inclusion(
            index=index, size=tree.size, leaf=merkle.leaf_hash(leaf), proof=hashes,
            root=checkpoint.parse(tree.checkpoint).checkpoint.root,
        )  # fmt: skip
    except (TilesMissing, merkle.ProofError, StopIteration):
        return None
    return TlogProof(index=index, hashes=tuple(hashes), checkpoint=tree.checkpoint)


def from_segments(directory: Path, index: int) -> TlogProof:
    """A proof from the entries themselves."""
    try:
        tree = TreeView.open(directory)
    except NothingSigned as error:
        raise Failure(ExitCode.INPUT, "empty", str(error)) from None
    if index >= tree.size:
        raise Failure(ExitCode.INPUT, "no-entry", f"the ledger has no entry {index} of {tree.size}")
    hashes = tuple(tree.inclusion(index, tree.size))
    return TlogProof(index=index, hashes=hashes, checkpoint=tree.checkpoint)
