"""What must hold after any fault: nothing acknowledged is lost, no checkpoint is contradicted."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ledger.log import checkpoint, reader
from ledger.log.treeview import NothingSigned, TreeView
from ledger.log.verify import verify
from ledger.log.writer import LedgerWriter

from ledger_writer import ORIGIN, signer  # isort: skip


@dataclass
class Promises:
    """Everything a ledger has said in all runs so far."""

    acknowledged: dict[int, str] = field(default_factory=dict)
    checkpoints: dict[int, bytes] = field(default_factory=dict)

    def hear(self, lines: Iterable[bytes]) -> int:
        """Take in the lines of a run; a line cut off by the kill says nothing."""
        heard = 0
        for line in lines:
            words = line.decode(errors="replace").split(" ", 2)
            if not line.endswith(b"\n"):
                continue
            if words[0] == "A":
                index, data = int(words[1]), words[2].rstrip("\n")
                assert self.acknowledged.setdefault(index, data) == data, f"two entries {index}"
                heard += 1
            elif words[0] == "C":
                note = b64decode(words[1])
                point = checkpoint.open_checkpoint(note, signer().key).checkpoint
                before = self.checkpoints.setdefault(point.size, point.root)
                assert before == point.root, f"two roots for size {point.size}"
        return heard


def broken_promises(directory: Path, promises: Promises) -> list[str]:
    """Open the ledger as a start would, then compare it with everything it promised."""

    async def recover() -> None:
        writer = LedgerWriter.open(directory, signer=signer(), origin=ORIGIN)
        await writer.close()

    asyncio.run(recover())
    report = verify(directory, [signer().vkey])
    broken = [str(fault) for fault in report.faults]
    found = dict(reader.entries(directory))
    for index, data in promises.acknowledged.items():
        if found.get(index) != data.encode():
            broken.append(f"acknowledged entry {index} is lost or another one")
    try:
        tree = TreeView.open(directory)
    except NothingSigned:
        return broken + [f"checkpoint {s} but no entries" for s in promises.checkpoints if s]
    for size, root in promises.checkpoints.items():
        if size > report.size or (size and tree.root_of(0, size) != root):
            broken.append(f"checkpoint of size {size} is contradicted")
    return broken
