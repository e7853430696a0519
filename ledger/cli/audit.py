"""Audit: the invariants that a ledger proves about itself."""

from __future__ import annotations

from pathlib import Path

from ledger.audit import auditor
from ledger.cli.arguments import directory_argument, first_header, key_option, read_vkeys
from ledger.cli.output import Answer, ExitCode, Remark, command


@command(
    "audit",
    "sopledger audit ledger --key ledger.vkey",
    "sopledger audit ledger --key ledger.vkey --json",
)
@directory_argument
@key_option
def audit(directory: Path, key_file: Path) -> Answer:
    """Prove the gateway's rules from the ledger alone, with a count for each.

    Exit code 0 when every rule holds, 8 otherwise.
    """
    first_header(directory)
    found = auditor.audit(directory, read_vkeys(key_file))
    lines = [f"Audit  {found.entry_count} entries of {found.report.origin}"]
    errors = []
    for one in found.findings:
        word = "PASS" if one.ok else "FAIL"
        lines.append(f"  {word}  {one.number:<4}{one.judged_count:>9}  {one.title}")
        if not one.ok:
            place = f"entry {one.first_index}" if one.first_index is not None else "ledger"
            lines.append(f"        first of {one.broken_count}: {place}: {one.first}")
            message = f"{one.number} {place}: {one.first}"
            errors.append(Remark(code=one.number, message=message, help=one.title))
    lines += ["Not checked", *(f"  - {line}" for line in found.not_checked)]
    if found.ok:
        lines.append("no errors were found")
    data = {
        "entries": found.entry_count,
        "findings": [
            {"number": f.number, "title": f.title, "ok": f.ok, "judged": f.judged_count,
             "broken": f.broken_count, "first_index": f.first_index, "first": f.first}
            for f in found.findings
        ],
        "not_checked": list(found.not_checked),
    }  # fmt: skip
    return Answer(
        data=data,
        lines=tuple(lines),
        errors=tuple(errors),
        exit_code=ExitCode.DONE if found.ok else ExitCode.VERIFICATION,
    )
