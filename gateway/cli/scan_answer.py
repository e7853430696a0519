"""What every scan ends with: the table of who answered, kept in a file where asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.cli.output import ExitCode, Finding, emit


def answer_rows(rows: Sequence[Mapping[str, Any]], *, save: Path | None) -> None:
    """Print and save what answered; nothing at all is exit code 4."""
    lines = [f" {'#':<3} {'where':<44} {'what answered':<46} profile (confidence)"]
    for row in rows:
        where = f"{row['url']} unit {row['unit']}" if row["unit"] else str(row["url"])
        profile_text = f"{row['profile']} ({row['confidence']})" if row["profile"] else "unknown"
        lines.append(f" {row['number']:<3} {where:<44} {row['said']:<46} {profile_text}")
    if save is not None:
        save.write_text(json.dumps({"found": list(rows)}, ensure_ascii=False, indent=1) + "\n")
    finding = Finding(
        code="E004", message="nothing answered", help="check addresses, ports, power and wiring"
    )
    emit(
        {"found": list(rows)},
        text="\n".join(lines) if rows else "",
        exit_code=ExitCode.OK if rows else ExitCode.UNREACHABLE,
        findings=() if rows else (finding,),
    )
