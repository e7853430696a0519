"""Anchors an acceptance report in the ledger.

Imported inside commands only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.cli.borrow import BorrowedJournal, Refusal
from gateway.cli.door import door_of
from gateway.cli.field import answers, clock_of, own_ledger, user
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
    journal = await _journal(site, run)
    if journal is None:
        return None
    try:
        index, _entry = await journal.append(
            "operator",
            {
                "user": user(),
                "verb": VERB,
                "arguments": [run, digest, signed.role, signed.name],
                "reason": str(record["verdict"]),
            },
        )
    except JournalError as error:
        warn("S024", f"not anchored: {error}", help="sign again")
        return None
    finally:
        await journal.close()
    return {"where": site.ledger.origin, "index": index, "sha256": digest}


async def _journal(site: Site, run: str) -> LedgerJournal | BorrowedJournal | None:
    """Open the ledger, or borrow the running service's."""
    path = door_of(site.path, site)
    if path.exists() and await answers(path):
        try:
            return await BorrowedJournal.open(path, ("sat", "sign", run), plan={})
        except (Refusal, OSError) as no:
            warn("S024", f"not anchored: {no}", help="sopgw mode set test --yes, then sign again")
            return None
    try:
        return own_ledger(site, clock_of())
    except JournalError as error:
        warn("S024", f"not anchored: {error}", help="stop the service, then sign again")
        return None
