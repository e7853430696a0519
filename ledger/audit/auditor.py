"""The audit of a whole ledger: verify its bytes, then fold every invariant over its entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.audit import evidence
from ledger.audit.control import of_control
from ledger.audit.delivery import EntryError
from ledger.audit.evidence import Entry
from ledger.audit.invariants import Canonical, Invariant, of_ledger_and_trades
from ledger.log import reader
from ledger.log.verify import Report, verify

NOT_CHECKED = (
    "what the field saw: bytes on the wire, setpoints between two entries, the devices' clocks",
    "the closing ramp's share of unscheduled energy",
    "whether entries that should exist were never written",
    "whether meters and market told the truth",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one invariant found."""

    number: str
    title: str
    judged_count: int
    broken_count: int
    first_index: int | None
    first: str

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.broken_count == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The outcome of an audit."""

    report: Report
    entry_count: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the bytes verify and every invariant holds."""
        return self.report.ok and all(f.ok for f in self.findings)


class Fold:
    """Runs all invariants over entries; one that cannot read an entry counts it as broken."""

    def __init__(self) -> None:
        self.canonical = Canonical()
        self.others: list[Invariant] = [
            i for i in (*of_ledger_and_trades(), *of_control()) if not isinstance(i, Canonical)
        ]
        self.last: Entry | None = None
        self.entry_count = 0

    def see(self, entry: Entry) -> None:
        """Take in one entry; malformed ones are judged for their form alone."""
        self.entry_count += 1
        before = self.canonical.broken_count
        self.canonical.see(entry)
        if self.canonical.broken_count > before:
            return
        self.last = entry
        for invariant in self.others:
            try:
                invariant.see(entry)
            except (EntryError, KeyError, TypeError, ValueError, AttributeError) as error:
                invariant.judge(entry, holds=False, what=f"cannot be judged: {error!r}")

    def findings(self) -> Iterator[Finding]:
        """The outcome of every invariant, in order of their numbers."""
        for invariant in self.others:
            if self.last is not None:
                invariant.finish(self.last)
        everything: list[Invariant] = [self.canonical, *self.others]
        for invariant in sorted(everything, key=lambda i: int(i.number[1:])):
            index, what = invariant.first or (None, "")
            yield Finding(
                number=invariant.number, title=invariant.title,
                judged_count=invariant.judged_count, broken_count=invariant.broken_count,
                first_index=index, first=what,
            )  # fmt: skip


def of_bytes(report: Report) -> Iterator[Finding]:
    """The invariants that the verification of the bytes proves."""
    fault = report.faults[0] if report.faults else None
    for number, title, count in (
        ("I1", "indexes are contiguous from 0", report.size),
        ("I2", "every checkpoint's root recomputes", report.checkpoint_count),
        ("I3", "checkpoints are signed by the key in force", report.checkpoint_count),
    ):
        yield Finding(
            number=number, title=title, judged_count=count, broken_count=len(report.faults),
            first_index=fault.index if fault else None, first=str(fault) if fault else "",
        )  # fmt: skip


def audit(directory: Path, vkeys: Sequence[str]) -> Audit:
    """Audit a ledger with nothing but its public key."""
    report = verify(directory, vkeys)
    fold = Fold()
    if report.ok:
        for index, leaf in reader.entries(directory):
            fold.see(evidence.decoded(index, leaf))
    return Audit(
        report=report,
        entry_count=fold.entry_count,
        findings=(*of_bytes(report), *(fold.findings() if report.ok else ())),
    )
