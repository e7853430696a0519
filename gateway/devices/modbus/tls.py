"""Modbus/TCP Security: mutual TLS and the role in the client's certificate.

Source: Modbus/TCP Security protocol specification; port 802, role extension
1.3.6.1.4.1.50316.802.1 as a UTF8String.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from gateway.devices.modbus.client import harden
from gateway.devices.modbus.link import Link
from gateway.model.errors import ConfigError

TLS_PORT = 802
ROLE_OID = x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
_UTF8_STRING_TAG = 0x0C


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The authority we trust, and who we are."""

    authority: Path
    certificate: Path
    key: Path
    server_name: str = ""  # when the certificate names something else than the URL


def role_of(certificate: Path) -> str | None:
    """The Modbus role in a certificate; None when it carries none."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    try:
        extension = loaded.extensions.get_extension_for_oid(ROLE_OID)
    except x509.ExtensionNotFound:
        return None
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    raw = extension.value.value
    if len(raw) < 2 or raw[0] != _UTF8_STRING_TAG or raw[1] != len(raw) - 2:
        return None
    return raw[2:].decode()


def context_of(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or newer, our certificate, and no server that the authority did not sign."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(files.authority))
        context.load_cert_chain(files.certificate, files.key)
        role = role_of(files.certificate)
    except (OSError, ValueError) as error:
        raise ConfigError(f"TLS of {files.certificate}: {error}") from None
    if role is None:
        raise ConfigError(f"{files.certificate} carries no Modbus role ({ROLE_OID.dotted_string})")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def tls_opener(
    host: str, port: int, files: TlsFiles
) -> Callable[[Callable[[], Link]], Awaitable[Link]]:
    """Connect over TLS; a handshake that fails is a connection that was not made."""
    context = context_of(files)

    async def open_link(factory: Callable[[], Link]) -> Link:
        loop = asyncio.get_running_loop()
        transport, link = await loop.create_connection(
            factory, host, port, ssl=context, server_hostname=files.server_name or host
        )
        harden(transport.get_extra_info("socket"))
        return link

    return open_link
