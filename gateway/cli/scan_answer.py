"""What every scan ends with: the table of who answered, kept for ``device add --from scan:N``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.cli.output import ExitCode, Finding, emit


def last_scan() -> Path:
    """Where the last scan of whoever asks is kept."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(state) / "sopgw" / "scan.json"


def answer_rows(rows: Sequence[Mapping[str, Any]], *, save: Path | None) -> None:
    """Print and save what answered; nothing at all is exit code 4."""
    lines = [f" {'#':<3} {'where':<44} {'what answered':<46} profile (confidence)"]
    for row in rows:
        where = f"{row['url']} unit {row['unit']}" if row["unit"] else str(row["url"])
        profile_text = f"{row['profile']} ({row['confidence']})" if row["profile"] else "unknown"
        lines.append(f" {row['number']:<3} {where:<44} {row['said']:<46} {profile_text}")
    text = json.dumps({"found": list(rows)}, ensure_ascii=False, indent=1) + "\n"
    if save is not None:
        save.write_text(text, encoding="utf-8")
    if rows:
        with suppress(OSError, RuntimeError):  # no home to keep it in: then there is --save
            last_scan().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            last_scan().write_text(text, encoding="utf-8")
    finding = Finding(
        code="E004", message="nothing answered", help="check addresses, ports, power and wiring"
    )
    emit(
        {"found": list(rows)},
        text="\n".join(lines) if rows else "",
        exit_code=ExitCode.OK if rows else ExitCode.UNREACHABLE,
        findings=() if rows else (finding,),
    )
