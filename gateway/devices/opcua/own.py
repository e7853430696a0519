"""Our own OPC UA certificate and key: made once, kept, shown to whoever must trust us."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.model.errors import ConfigError

VALID_DAYS = 5 * 365
CERTIFICATE, KEY = "cert.der", "key.pem"


def own_files(folder: Path, *, name: str, now_utc_us: int) -> tuple[Path, Path]:
    """Return our certificate and key of a folder; both are made when neither is there."""
    certificate, key = folder / CERTIFICATE, folder / KEY
    if certificate.exists() != key.exists():
        there, missing = (certificate, key) if certificate.exists() else (key, certificate)
        raise ConfigError(f"{there} is there and {missing} is not: bring it back, or remove both")
    if not key.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(certificate, key, name=name, now_utc_us=now_utc_us)
    return certificate, key


def _make(certificate: Path, key: Path, *, name: str, now_utc_us: int) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    now = dt.datetime.fromtimestamp(now_utc_us // 1_000_000, dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sopgw@{name}")])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True,
        data_encipherment=True, key_agreement=False, key_cert_sign=True, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    names = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(f"urn:sop-gateway:{name}"), x509.DNSName(name)]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.DER))
