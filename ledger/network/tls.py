"""TLS of the doors in the network: both sides show a certificate of an authority that is named.

One way of making a context to serve with and one to call with; every door of the ledger's
programs, and the page of the gateway, goes by them.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Whom we believe, and who we are."""

    authority: Path
    certificate: Path
    key: Path


def serving(*, certificate: Path, key: Path, clients: Path | None) -> ssl.SSLContext:
    """TLS of a door; only clients signed by the authority ``clients`` come through, if it is given.

    Raises:
        OSError: a file cannot be read, or is not what it should be (``ssl.SSLError``).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


def calling(files: TlsFiles) -> ssl.SSLContext:
    """TLS to somebody's door: only one signed by the authority, and we show our certificate.

    Raises:
        OSError: a file cannot be read, or is not what it should be (``ssl.SSLError``).
    """
    context = ssl.create_default_context(cafile=str(files.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    return context


def session(files: TlsFiles | None, *, total_s: float | None = None) -> aiohttp.ClientSession:
    """A session that calls https addresses with these files; None goes by the system's."""
    connector = aiohttp.TCPConnector(ssl=calling(files)) if files is not None else None
    timeout = aiohttp.ClientTimeout(total=total_s or 300)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)
