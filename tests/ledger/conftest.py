"""What every ledger test needs: a key with a known seed, and ledgers made in one line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log import canonical
from ledger.log.keys import Signer, signer_of
from ledger.log.writer import LedgerWriter

ORIGIN = "gw.example/ledger"

Make = Callable[..., Path]
Entry = dict[str, Any]

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))
from gateway_day import Day, full_day  # noqa: E402 - tests are no package


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
    writer._take_no_more()
    writer._thread.join()


@pytest.fixture
def abandon() -> Callable[[LedgerWriter], None]:
    return stop


@pytest.fixture
def day() -> Day:
    return full_day()


Write = Callable[[list[Entry]], Path]


@pytest.fixture
def write(tmp_path: Path, signer: Signer) -> Write:
    """Write entries to a ledger."""

    def build(entries: list[Entry]) -> Path:
        directory = tmp_path / "ledger"

        async def go() -> None:
            writer = LedgerWriter.open(directory, signer=signer, origin=signer.name)
            for start in range(0, len(entries), 7):
                await writer.append_many([canonical.encode(e) for e in entries[start : start + 7]])
            await writer.close()

        asyncio.run(go())
        return directory

    return build
