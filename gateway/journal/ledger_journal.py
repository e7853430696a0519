"""The ledger as the gateway writes it: common fields added, durable before anything counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.journal.keys import explained
from gateway.model.errors import JournalError
from gateway.ports import Clock, LedgerStatus
from ledger.audit import receipt
from ledger.log import reader
from ledger.log.canonical import CanonicalError, decode, encode
from ledger.log.keys import KeyFileError, create_key, load_key
from ledger.log.owner import as_owner
from ledger.log.segment import LedgerCorrupt
from ledger.log.writer import LedgerBusy, LedgerFailed, LedgerFull, LedgerWriter

if TYPE_CHECKING:
    from gateway.journal.anchoring import Anchoring
    from ledger.log.keys import Signer

STOP_KINDS = frozenset({"operator", "abort", "outcome", "alarm", "mode"})
"""Entries of an orderly stop: they may use the space that is kept in reserve."""


def _signer(key_file: Path, origin: str, passphrase: bytes | None) -> Signer:
    """Load the log key, or make one that belongs to whoever owns the folder it lies in."""
    if key_file.exists():
        return load_key(key_file, origin, passphrase)
    with as_owner(key_file.parent):
        key_file.parent.mkdir(parents=True, exist_ok=True)
        return create_key(key_file, origin, passphrase)


class LedgerJournal:
    """Implements ``gateway.ports.Journal`` over one ledger directory."""

    def __init__(self, *, directory: Path, writer: LedgerWriter, clock: Clock) -> None:
        self.directory = directory
        self.boot_number = 0
        self.time_quality = clock.quality
        self.anchoring: Anchoring | None = None
        self._writer = writer
        self._clock = clock

    @classmethod
    def open(
        cls,
        *,
        directory: Path,
        origin: str,
        key_file: Path,
        clock: Clock,
        passphrase: bytes | None = None,
        known: Iterable[bytes] = (),
        vouched: Iterable[bytes] = (),
    ) -> LedgerJournal:
        """Open the ledger for writing, with its key; make both where there are none.

        Args:
            directory: Where the ledger lies.
            origin: Its name.
            key_file: Its signing key.
            clock: Gives every entry its time.
            passphrase: Opens the key, and protects it when it is made here.
            known: Checkpoints of this ledger that others kept.
            vouched: Those that count whatever key signed them (``anchoring.vouched``).

        Raises:
            JournalError: another process writes it, its files are damaged, the key does not
                open, or somebody knows a longer or a different ledger.
        """
        try:
            signer = _signer(key_file, origin, passphrase)
            with as_owner(directory):
                writer = LedgerWriter.open(
                    directory,
                    signer=signer,
                    origin=origin,
                    known=known,
                    vouched=vouched,
                    mono_us=clock.mono_us,
                )
        except KeyFileError as error:
            raise JournalError(explained(error)) from error
        except (LedgerBusy, LedgerCorrupt, LedgerFailed, OSError, ValueError) as error:
            raise JournalError(f"{directory}: {error}") from error
        journal = cls(directory=directory, writer=writer, clock=clock)
        journal.vkey = signer.vkey
        return journal

    vkey: str = ""

    async def append(self, kind: str, fields: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """Add one entry; return its index and the whole entry once it is durable."""
        entry: dict[str, Any] = {
            **fields,
            "kind": kind,
            "utc_us": self._clock.utc_us(),
            "mono_us": self._clock.mono_us(),
            "boot": self.boot_number,
            "tq": self.time_quality(),
        }
        try:
            leaf = encode(entry)
            index = await self._writer.append(leaf, urgent=kind in STOP_KINDS)
        except (LedgerFull, LedgerFailed, CanonicalError) as error:
            raise JournalError(f"{kind} not written: {error}") from error
        return index, entry

    def entries(self, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read durable entries from the start; raises JournalError for one that does not check."""
        return read_entries(self.directory, start)

    def status(self) -> LedgerStatus:
        """Size and last signed checkpoint; only a signature of somebody else anchors it."""
        work = self.anchoring
        found = work.anchored if work is not None else None
        against = work.contradiction if work is not None else ""
        return LedgerStatus(
            size=self._writer.size(),
            checkpoint=self._writer.checkpoint().decode(),
            anchored=found is not None and not against,
            anchored_size=found.size if found else 0,
            anchored_by=found.by if found else (),
            contradiction=against,
            damage=work.damage if work is not None else "",
        )

    @staticmethod
    def receipt_of(directory: Path, trade_id: str) -> dict[str, Any]:
        """Build the receipt of a trade from a ledger directory."""
        return receipt.build(directory, trade_id)

    async def close(self) -> None:
        """Write the close record and release the ledger.

        Raises:
            JournalError: the ledger had failed before; what was acknowledged is on disk.
        """
        try:
            await self._writer.close()
        except LedgerFailed as error:
            raise JournalError(f"{self.directory}: {error}") from error


def read_entries(directory: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the durable entries of any ledger; raises JournalError for one that does not check."""
    try:
        for index, leaf in reader.entries(directory, start):
            yield index, dict(decode(leaf))
    except (LedgerCorrupt, CanonicalError) as error:
        raise JournalError(f"{directory}: {error}") from error


def canonical_leaf(entry: Mapping[str, Any]) -> bytes:
    """Return the bytes under which an entry stands in the ledger."""
    return encode(entry)


def key_of(key_file: Path, origin: str, passphrase: bytes | None = None) -> str:
    """Return the verifier key of a log key file."""
    return load_key(key_file, origin, passphrase).vkey
