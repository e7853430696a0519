"""What every ledger test needs: a key with a known seed, and ledgers made in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log.keys import Signer, signer_of
from ledger.log.writer import LedgerWriter

ORIGIN = "gw.example/ledger"

Make = Callable[..., Path]


def seeded(name: str, first: int = 0) -> Signer:
    """A signer whose seed is the bytes first, first+1, …"""
    return signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(first, first + 32))), name)


@pytest.fixture
def signer() -> Signer:
    return seeded(ORIGIN)


@pytest.fixture
def make(tmp_path: Path, signer: Signer) -> Make:
    """Make a ledger of given batches; returns its directory."""

    def build(
        *batches: Sequence[bytes],
        name: str = "ledger",
        segment_bytes: int = 64 << 20,
        close: bool = True,
    ) -> Path:
        directory = tmp_path / name

        async def write() -> None:
            writer = LedgerWriter.open(
                directory, signer=signer, origin=signer.name, segment_bytes=segment_bytes
            )
            for batch in batches:
                await writer.append_many(batch)
            if close:
                await writer.close()
            else:
                stop(writer)

        asyncio.run(write())
        return directory

    return build


def stop(writer: LedgerWriter) -> None:
    """Leave a ledger as a killed process leaves it: no close record, lock free."""
    writer._write_close = lambda: None  # type: ignore[method-assign]
    with writer._changed:
        writer._closing = True
        writer._changed.notify()
    writer._thread.join()


@pytest.fixture
def abandon() -> Callable[[LedgerWriter], None]:
    return stop
