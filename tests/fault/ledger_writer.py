"""The program under fault: appends to a ledger and says what was acknowledged, line by line.

Lines on stdout, each written by one system call, so that a kill never leaves half of one unseen:
``A <first index> <count>`` after an acknowledgement, ``C <base64 checkpoint>`` now and then.
Entry ``n`` of producer ``p`` in run ``r`` is ``r/p/n`` padded with dots.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log import segment
from ledger.log.keys import Signer, signer_of
from ledger.log.writer import LedgerFailed, LedgerFull, LedgerWriter

ORIGIN = "fault.example/ledger"


def signer() -> Signer:
    """The key of every ledger under fault."""
    return signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), ORIGIN)


def leaf(run: int, producer: int, number: int, size: int) -> bytes:
    """One entry that says who wrote it."""
    return (b"%d/%d/%d" % (run, producer, number)).ljust(size, b".")


def say(descriptor: int, line: str) -> None:
    """Write one line with one system call."""
    os.write(descriptor, line.encode() + b"\n")


async def produce(
    writer: LedgerWriter, out: int, run: int, producer: int, count: int, size: int
) -> None:
    """Append one after another, each only when the one before is acknowledged."""
    for number in range(count):
        data = leaf(run, producer, number, size + number % 7)
        index = await writer.append(data)
        say(out, f"A {index} {data.decode()}")
        if number % 5 == 0:
            say(out, f"C {b64encode(writer.checkpoint()).decode()}")


async def work(
    directory: Path,
    out: int,
    *,
    run: int,
    producers: int,
    count: int,
    size: int,
    segment_bytes: int,
) -> None:
    """Open, append, close; a ledger that stopped ends the run without a close record."""
    writer = LedgerWriter.open(
        directory, signer=signer(), origin=ORIGIN, segment_bytes=segment_bytes
    )
    say(out, "O")
    jobs = (produce(writer, out, run, p, count, size) for p in range(producers))
    await asyncio.gather(*jobs, return_exceptions=True)
    with suppress(LedgerFailed, LedgerFull):
        await writer.close()


def main() -> None:
    """Run from the command line, for campaigns that need a process of their own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--run", type=int, default=0)
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--size", type=int, default=60)
    parser.add_argument("--segment-bytes", type=int, default=6_000)
    parser.add_argument("--extent-bytes", type=int, default=4_096)
    parser.add_argument("--no-sync", action="store_true", help="the control: syncs do nothing")
    given = parser.parse_args()
    segment.EXTENT_BYTES = given.extent_bytes
    if given.no_sync:
        os.fdatasync = os.fsync = lambda _descriptor: None  # type: ignore[assignment]
    asyncio.run(
        work(
            given.directory, sys.stdout.fileno(), run=given.run, producers=given.producers,
            count=given.count, size=given.size, segment_bytes=given.segment_bytes,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
