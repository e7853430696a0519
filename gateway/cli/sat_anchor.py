"""Anchors an acceptance report in the ledger.

Imported inside commands only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.cli.field import clock_of, user
from gateway.cli.output import warn
from gateway.cli.sat_read import VERB
from gateway.commissioning.sat.canonical import canonical, sha256
from gateway.commissioning.sat.sign import Signed
from gateway.config.site_file import Site
from gateway.journal.ledger_journal import LedgerJournal
from gateway.model.errors import JournalError


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
            passphrase=site.ledger.passphrase(),
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
