"""Whom the OPC UA client believes: the pinned certificate, in the trust store, and nobody else.

Runs in the child. Before the first connection it must refuse an impostor that copies the pinned
certificate's names, else OPC UA stays off.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

Validator = Callable[[x509.Certificate, Any], Awaitable[None]]


class TrustError(Exception):
    """The trust files do not do what they must."""


def load_certificate(path: Path) -> x509.Certificate:
    """Read a certificate, PEM or DER; TrustError when it is none."""
    try:
        data = path.read_bytes()
        if data.startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except (OSError, ValueError) as error:
        raise TrustError(f"{path}: {error}") from None


def application_uri(certificate: x509.Certificate) -> str:
    """The application URI that a certificate names; empty when it names none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ""
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if uris else ""


async def validator_of(pinned: x509.Certificate, trusted: Path) -> Validator:
    """Refuses every certificate but the pinned one, and that too unless the store trusts it."""
    store = TrustStore([trusted], [])
    try:
        await store.load()
    except (OSError, ValueError) as error:
        raise TrustError(f"{trusted}: {error}") from None
    options = CertificateValidatorOptions.TRUSTED_VALIDATION
    options |= CertificateValidatorOptions.PEER_SERVER
    checked = CertificateValidator(options, store)
    pin = pinned.public_bytes(serialization.Encoding.DER)

    async def validate(certificate: x509.Certificate, description: Any) -> None:
        if certificate.public_bytes(serialization.Encoding.DER) != pin:
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)
        await checked.validate(certificate, description)

    return validate


async def prove_impostor_refused(validate: Validator, pinned: x509.Certificate) -> None:
    """Raise TrustError unless the pinned certificate passes and its double does not."""
    description = ua.ApplicationDescription()
    description.ApplicationUri = application_uri(pinned)
    description.ApplicationType = ua.ApplicationType.Server
    try:
        await validate(pinned, description)
    except ServiceError as error:
        raise TrustError(f"the pinned certificate is not trusted: {error}") from None
    try:
        await validate(double_of(pinned), description)
    except ServiceError:
        return
    raise TrustError("an impostor's certificate was accepted")


@functools.cache
def impostor_key() -> rsa.RSAPrivateKey:
    """A key that nobody trusts; one a process is enough, and making it costs a moment."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def double_of(certificate: x509.Certificate) -> x509.Certificate:
    """A self-signed certificate with the same names, times and usages but another key."""
    key = impostor_key()
    now = dt.datetime.fromtimestamp(certificate.not_valid_before_utc.timestamp(), dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(key.public_key())
        .serial_number(certificate.serial_number)
        .not_valid_before(now)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(key, hashes.SHA256())
