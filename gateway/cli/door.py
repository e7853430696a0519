"""Where a site's gateway listens; reads the site file once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.site_file import Site

SOCKET = "sopgw.sock"


def door_of(config_path: Path, site: Site | None = None) -> Path:
    """Return the socket of a site: beside its ledger."""
    if site is None:
        from gateway.config.site_file import load_site

        site = load_site(config_path)
    return site.ledger.dir.parent / SOCKET
