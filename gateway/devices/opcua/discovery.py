"""Asks an OPC UA server who it is before anybody trusts anybody: its endpoints, read only.

What comes back is unsigned and proves nothing; the fingerprint is for a person to compare with
the label on the device.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from gateway.devices.opcua.process import Ask
from gateway.devices.profile import Profile, Protocol
from gateway.model.errors import DeviceNotSent

SECURE_MODE = "SignAndEncrypt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What stands in a certificate, for people to compare."""

    der: bytes
    subject: str
    application_uri: str
    valid_until: dt.datetime
    sha256: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 as ``9A:4F:…``."""
        return ":".join(self.sha256[i : i + 2] for i in range(0, len(self.sha256), 2)).upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One way into a server; ``users`` are the kinds of user it takes."""

    url: str
    mode: str
    policy: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server as it describes itself."""

    url: str
    name: str
    application_uri: str
    endpoints: tuple[Endpoint, ...]
    certificate: Certificate | None

    @property
    def secure(self) -> tuple[Endpoint, ...]:
        """The endpoints that sign and encrypt: the only ones we use."""
        return tuple(e for e in self.endpoints if e.mode == SECURE_MODE)


def certificate_of(der: bytes) -> Certificate:
    """Read a certificate; ValueError when it is none."""
    found = x509.load_der_x509_certificate(der)
    names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    return Certificate(
        der=der,
        subject=str(names[0].value) if names else found.subject.rfc4514_string(),
        application_uri=uris[0] if uris else "",
        valid_until=found.not_valid_after_utc,
        sha256=found.fingerprint(hashes.SHA256()).hex(),
    )


async def discover(ask: Ask, url: str, *, timeout_s: float) -> Server:
    """Ask for the endpoints; DeviceNotSent when nobody answers as a server would."""
    answer = await ask({"op": "endpoints", "url": url, "timeout_s": timeout_s})
    if "error" in answer:
        raise DeviceNotSent(url, str(answer["what"]))
    rows: list[dict[str, Any]] = answer["endpoints"]
    ders = [base64.b64decode(row["certificate"]) for row in rows if row["certificate"]]
    return Server(
        url=url,
        name=rows[0]["name"] if rows else "",
        application_uri=rows[0]["application_uri"] if rows else "",
        endpoints=tuple(
            Endpoint(
                url=row["url"], mode=row["mode"], policy=row["policy"], users=tuple(row["users"])
            )
            for row in rows
        ),
        certificate=_certificate(ders),
    )


def _certificate(ders: list[bytes]) -> Certificate | None:
    """The server's certificate; two different ones are none that could be trusted."""
    if not ders or any(der != ders[0] for der in ders):
        return None
    try:
        return certificate_of(ders[0])
    except ValueError:
        return None


def profiles_named(server: Server, profiles: Iterable[Profile]) -> list[Profile]:
    """The OPC UA profiles whose application this server says it is."""
    return [
        profile
        for profile in profiles
        if profile.protocol is Protocol.OPCUA
        and profile.identify.application_uri
        and fnmatchcase(server.application_uri, profile.identify.application_uri)
    ]
