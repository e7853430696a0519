"""Receipts of trades."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from ledger.audit import receipt_check
from ledger.cli.arguments import key_option, read_vkeys
from ledger.cli.output import Answer, ExampleGroup, ExitCode, Failure, Remark, command


@click.group(cls=ExampleGroup)
def receipt() -> None:
    """Check the receipt of a trade."""


receipt.examples = (
    "sopledger receipt verify T-1001.json --key ledger.vkey",
    "sopledger receipt verify T-1001.json --key ledger.vkey --json",
)


@command(
    "verify",
    "sopledger receipt verify T-1001.json --key ledger.vkey",
    "sopledger receipt verify T-1001.json --key ledger.vkey --json",
)
@click.argument("file", type=click.Path(path_type=Path))
@key_option
def verify(file: Path, key_file: Path) -> Answer:
    """Check a receipt offline: proofs, signatures, and the energy computed again."""
    vkeys = read_vkeys(key_file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Failure(ExitCode.INPUT, "receipt", f"{file}: {error.strerror}") from None
    report = receipt_check.verify(data, vkey=vkeys[0], more_vkeys=vkeys[1:])
    found = {
        "trade_id": report.trade_id, "origin": report.origin, "tree_size": report.tree_size,
        "entries": report.entry_count, "intervals": list(report.intervals),
        "checked": list(report.checked), "not_checked": list(report.not_checked),
        "faults": [{"place": f.place, "what": f.what} for f in report.faults],
    }  # fmt: skip
    lines = [
        f"Receipt  trade {report.trade_id or 'unknown'}, {report.entry_count} entries of "
        f"{report.origin or 'unknown'} at size {report.tree_size}",
        *(
            f"  {r['start']} to {r['end']}: {r['delivered_wh']} of {r['contracted_wh']} Wh, "
            f"{r['status']}" + (f" ({reasons(r['reasons'])})" if r["reasons"] else "")
            for r in report.intervals
        ),
        "Checked",
        *(f"  + {line}" for line in report.checked),
        "Not checked",
        *(f"  - {line}" for line in report.not_checked),
    ]
    if report.ok:
        return Answer(data=found, lines=(*lines, "no errors were found"))
    lines += [f"FAILED  {f.place}: {f.what}" for f in report.faults]
    return Answer(
        data=found,
        lines=tuple(lines),
        errors=tuple(Remark(code="receipt", message=f"{f.place}: {f.what}") for f in report.faults),
        exit_code=ExitCode.VERIFICATION,
    )


def reasons(found: object) -> str:
    """Reasons on one line."""
    if isinstance(found, list) and all(isinstance(r, str) for r in found):
        return ", ".join(found)
    return msgspec.json.encode(found).decode()


receipt.add_command(verify)
