"""Reads an acceptance report in any of its forms, and finds its anchor in a ledger.

Light on purpose: an auditor verifies with it, without site file or devices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.cli.output import ExitCode, fail
from gateway.commissioning.sat import html

VERB = "sat.sign"


def find_anchor(ledger: Path, wanted: Mapping[str, Any]) -> str:
    """Return "" when the ledger holds the anchor, else what is wrong."""
    from ledger.log import reader
    from ledger.log.canonical import decode
    from ledger.log.segment import LedgerCorrupt

    try:
        for index, leaf in reader.entries(ledger, int(wanted["index"])):
            if index != wanted["index"]:
                break
            entry: dict[str, Any] = dict(decode(leaf))
            arguments = entry.get("arguments", [])
            if entry.get("verb") == VERB and str(wanted["sha256"]) in map(str, arguments):
                return ""
            return f"entry {index} is of something else"
    except (LedgerCorrupt, OSError, ValueError, KeyError) as error:
        return f"the ledger cannot be read: {error}"
    return "the ledger has no such entry"


def read_report(path: Path) -> Mapping[str, Any]:
    """Read the report a file carries; exit 3 when it carries none. Nothing is verified."""
    document = path.read_bytes()
    try:
        if document.startswith(b"%PDF-"):
            from gateway.commissioning.sat import pdf

            found = pdf.attached(document)
        elif document.startswith(b"<!doctype html>"):
            found = html.embedded(document)
        else:
            found = json.loads(document)
        if isinstance(found, dict) and "record" in found:
            return found
        wrong = "it holds something else"
    except (ValueError, ImportError, RecursionError) as error:
        wrong = str(error)
    return fail(ExitCode.CONFIG, f"{path} holds no report: {wrong}", code="S025")
