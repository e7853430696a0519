"""Anchors of acceptance reports in the ledger, and reading a report in any of its forms.

Imported inside commands only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.cli.field import clock_of, user
from gateway.cli.output import ExitCode, fail, warn
from gateway.commissioning.sat import html
from gateway.commissioning.sat.canonical import canonical, sha256
from gateway.commissioning.sat.sign import Signed
from gateway.config.site_file import Site
from gateway.journal.ledger_journal import LedgerJournal
from gateway.model.errors import JournalError

VERB = "sat.sign"


async def anchor(
    site: Site, run: str, record: Mapping[str, Any], signed: Signed
) -> dict[str, Any] | None:
    """Note the record's digest in the ledger; None with a warning when it cannot be written."""
    digest = sha256(canonical(record))
    try:
        journal = LedgerJournal.open(
            directory=site.ledger.dir,
            origin=site.ledger.origin,
            key_file=site.ledger.key_file,
            clock=clock_of(),
        )
    except JournalError as error:
        warn("S024", f"not anchored: {error}", help="stop the service, then sign again")
        return None
    try:
        size = journal.status().size
        for _index, entry in journal.entries(max(0, size - 1)):
            journal.boot_number = int(entry.get("boot", 0))
        index, _entry = await journal.append(
            "operator",
            {
                "user": user(),
                "verb": VERB,
                "arguments": [run, digest, signed.role, signed.name],
                "reason": str(record["verdict"]),
            },
        )
    finally:
        await journal.close()
    return {"where": site.ledger.origin, "index": index, "sha256": digest}


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
    except (ValueError, ImportError) as error:
        wrong = str(error)
    return fail(ExitCode.CONFIG, f"{path} holds no report: {wrong}", code="S025")
