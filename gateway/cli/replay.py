"""``sopgw replay``: every decision of a ledger made again, and compared byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import ExitCode, Finding, command, emit, fail

if TYPE_CHECKING:
    from gateway.cli.replay_decisions import Replay

SHOWN_CHARS = 400


@command(
    "replay",
    examples=(
        ("sopgw replay ledger --key ledger.vkey", "verify, then make every decision again"),
        ("sopgw replay ledger --json", "counts and the first difference for a script"),
    ),
    schema="replay",
)
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Verifier key: check the ledger's bytes first.",
)
def replay(directory: Path, key_file: Path | None) -> None:
    """Recompute every decision of a ledger from the ledger alone.

    Verdicts on trades, plans, setpoints and delivery reports are made again with the core of this
    program and must come out with the same bytes. Ends with 8 when one does not, with 9 when there
    is nothing to judge.
    """
    from gateway.cli.replay_decisions import replay as make_again
    from gateway.journal.ledger_journal import read_entries

    if key_file is not None:
        _verify(directory, key_file)
    found = make_again([entry for _, entry in read_entries(directory)])
    data = _data(found, verified=key_file is not None)
    judged = sum(found.recomputed.values())
    if found.differences:
        first = found.differences[0]
        finding = Finding(
            code="L101",
            message=f"entry {first.index} ({first.kind}) comes out otherwise",
            help="another version of the program decided, or the ledger was changed",
            where=f"entry {first.index}",
        )
        emit(data, text=_text(found), exit_code=ExitCode.TAMPERED, findings=[finding])
    elif not judged:
        finding = Finding(code="L102", message="no decision stands in this ledger")
        emit(data, text=_text(found), exit_code=ExitCode.UNDECIDED, findings=[finding])
    else:
        emit(data, text=_text(found))


def _verify(directory: Path, key_file: Path) -> None:
    from ledger.log.verify import verify

    report = verify(directory, [key_file.read_text(encoding="utf-8").strip()])
    if not report.ok:
        first = str(report.faults[0]) if report.faults else "does not verify"
        fail(ExitCode.TAMPERED, first, code="L001", help=f"sopledger verify {directory}")


def _data(found: Replay, *, verified: bool) -> dict[str, Any]:
    first = found.differences[0] if found.differences else None
    return {
        "entries": found.entry_count,
        "verified": verified,
        "recomputed": sum(found.recomputed.values()),
        "undecided": sum(found.undecided.values()),
        "different": len(found.differences),
        "kinds": [
            {"kind": kind, "recomputed": found.recomputed[kind], "undecided": found.undecided[kind]}
            for kind in sorted({*found.recomputed, *found.undecided})
        ],
        "first": None
        if first is None
        else {
            "index": first.index,
            "kind": first.kind,
            "recorded": first.recorded,
            "recomputed": first.recomputed,
        },
    }


def _text(found: Replay) -> str:
    judged = sum(found.recomputed.values())
    lines = [f"{found.entry_count} entries, {judged} decisions made again:"]
    for kind in sorted({*found.recomputed, *found.undecided}):
        left = found.undecided[kind]
        tail = f", {left} not in the ledger alone" if left else ""
        lines.append(f"  {kind:<15} {found.recomputed[kind]:>6}{tail}")
    if not found.differences:
        lines.append("every one with the same bytes" if judged else "nothing to judge")
        return "\n".join(lines)
    first = found.differences[0]
    lines += [
        f"{len(found.differences)} different; the first is entry {first.index} ({first.kind}):",
        f"  ledger     {_from_difference(first.recorded, first.recomputed)}",
        f"  recomputed {_from_difference(first.recomputed, first.recorded)}",
    ]
    return "\n".join(lines)


def _from_difference(text: str, other: str) -> str:
    """Cut a leaf to what surrounds its first difference."""
    same = next(
        (i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b),
        min(len(text), len(other)),
    )
    start = max(0, same - 40)
    head = "…" if start else ""
    return head + text[start : start + SHOWN_CHARS]
