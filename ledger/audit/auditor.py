"""The audit of a whole ledger: verify its bytes, then fold every invariant over its entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.audit import evidence, node
from ledger.audit.control import Counters, of_control
from ledger.audit.evidence import Entry
from ledger.audit.invariants import Canonical, Invariant, Recomputed, of_ledger_and_trades
from ledger.log import reader
from ledger.log.verify import Report, verify

NOT_CHECKED = (
    "what the field saw: bytes on the wire, setpoints between two entries, the devices' clocks",
    "the closing ramp's share of unscheduled energy",
    "whether entries that should exist were never written",
    "whether meters and market told the truth",
)


RESETS_MAX = 5
"""Of meters; whoever has more of them has the first to look at."""


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
    node_count: int
    findings: tuple[Finding, ...]
    resets: tuple[int, ...] = ()
    """Readings in which a meter's counters began anew."""
    unjudged_count: int = 0
    """Deliveries whose energies cannot be computed again: their readings were removed."""

    @property
    def not_checked(self) -> tuple[str, ...]:
        """What this audit says nothing about."""
        gateway = NOT_CHECKED if self.node_count < self.entry_count or not self.node_count else ()
        return (*self._passed_over(), *gateway, *(node.NOT_CHECKED if self.node_count else ()))

    def _passed_over(self) -> Iterator[str]:
        """What another key signed, what a reset meter lost, and what went after export."""
        if self.resets:
            places = ", ".join(map(str, self.resets[:RESETS_MAX]))
            more = ", …" if len(self.resets) > RESETS_MAX else ""
            yield f"what meters counted that began anew at zero, at entry {places}{more}"
        if self.report.unsigned_count:
            count = self.report.unsigned_count
            yield f"{count} earlier checkpoints signed by other keys than the given"
        if self.report.removed_count:
            yield f"bodies of {self.report.removed_count} entries that were removed after export"
        if self.unjudged_count:
            word = "delivery" if self.unjudged_count == 1 else "deliveries"
            yield f"the energies of {self.unjudged_count} {word}, whose readings were removed"

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
        self.counters = next(i for i in self.others if isinstance(i, Counters))
        self.recomputed = next(i for i in self.others if isinstance(i, Recomputed))
        self.node_form, *self.node_others = node.of_nodes()
        self._looking: dict[tuple[bool, str], list[Invariant]] = {}
        self.last: Entry | None = None
        self.entry_count = 0
        self.node_count = 0

    def see(self, entry: Entry) -> None:
        """Take in one entry; malformed ones are judged for their form alone."""
        self.entry_count += 1
        changed = entry.kind == "key" and "boot" not in entry.fields
        if entry.kind.startswith(node.PREFIX) or (self.node_count and changed):
            self.node_count += 1
            self._judge(entry, self.node_form, self._looking_at(entry.kind, of_node=True))
        elif self._judge(entry, self.canonical, self._looking_at(entry.kind)):
            self.last = entry

    def pass_over(self) -> None:
        """An entry whose body was removed after export."""
        self.recomputed.removed_count += 1

    def _looking_at(self, kind: str, *, of_node: bool = False) -> list[Invariant]:
        """The invariants beside the form that look at a kind."""
        found = self._looking.get((of_node, kind))
        if found is None:
            everyone = self.node_others if of_node else self.others
            found = [i for i in everyone if i.kinds is None or kind in i.kinds]
            self._looking[of_node, kind] = found
        return found

    def _judge(self, entry: Entry, form: Invariant, others: Sequence[Invariant]) -> bool:
        """Judge the entry's form, then everything else of a well-formed one."""
        before = form.broken_count
        form.see(entry)
        if form.broken_count > before:
            return False
        for invariant in others:
            try:
                invariant.see(entry)
            except evidence.UNUSABLE as error:
                invariant.judge(entry, holds=False, what=f"cannot be judged: {error!r}")
        return True

    def findings(self) -> Iterator[Finding]:
        """The outcome of every invariant, in order of their numbers."""
        for invariant in self.others:
            if self.last is not None:
                invariant.finish(self.last)
        everything: list[Invariant] = []
        if self.node_count < self.entry_count or not self.node_count:
            everything += sorted([self.canonical, *self.others], key=lambda i: int(i.number[1:]))
        if self.node_count:
            everything += [self.node_form, *self.node_others]
        for invariant in everything:
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
        ("I3", "checkpoints are signed by the key in force",
         report.checkpoint_count - report.unsigned_count),
    ):  # fmt: skip
        yield Finding(
            number=number, title=title, judged_count=count, broken_count=len(report.faults),
            first_index=fault.index if fault else None, first=str(fault) if fault else "",
        )  # fmt: skip


def audit(directory: Path, vkeys: Sequence[str]) -> Audit:
    """Audit a ledger with nothing but its public key."""
    report = verify(directory, vkeys)
    fold = Fold()
    if report.ok:
        for batch in reader.batches(directory):
            for index, (body, removed) in enumerate(batch.bodies, batch.first_index):
                if removed:
                    fold.pass_over()
                else:
                    fold.see(evidence.decoded(index, body))
    return Audit(
        report=report,
        entry_count=fold.entry_count,
        node_count=fold.node_count,
        findings=(*of_bytes(report), *(fold.findings() if report.ok else ())),
        resets=tuple(fold.counters.resets),
        unjudged_count=fold.recomputed.unjudged_count,
    )
