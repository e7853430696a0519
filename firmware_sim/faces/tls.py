"""Modbus over TLS: both sides show a certificate, and the client's role says what it may do.

The role stands in the client's certificate under 1.3.6.1.4.1.50316.802.1 as a UTF8String. Whoever
lacks the permission gets exception 01 and nothing happens.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROLE_OID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
READ_FUNCTIONS: Final = frozenset((1, 2, 3, 4, 17, 43))
ALL_FUNCTIONS: Final = frozenset(range(1, 128))
PERMISSIONS: Final = {"operator": ALL_FUNCTIONS, "observer": READ_FUNCTIONS}
UTF8_STRING: Final = 0x0C


def role_of(certificate: bytes) -> str | None:
    """Role in a DER certificate; None where there is none or it is malformed."""
    parsed = x509.load_der_x509_certificate(certificate)
    try:
        extension = parsed.extensions.get_extension_for_oid(ROLE_OID).value
    except x509.ExtensionNotFound:
        return None
    assert isinstance(extension, x509.UnrecognizedExtension)
    value = extension.value
    if len(value) < 2 or value[0] != UTF8_STRING or value[1] != len(value) - 2:
        return None
    return value[2:].decode("utf-8", "replace")


def permitted(ssl_object: ssl.SSLObject | None) -> frozenset[int]:
    """Functions the peer of a connection may use; without TLS all of them."""
    if ssl_object is None:
        return ALL_FUNCTIONS
    certificate = ssl_object.getpeercert(binary_form=True)
    role = role_of(certificate) if certificate else None
    return PERMISSIONS.get(role or "", frozenset())


def server_context(directory: Path) -> ssl.SSLContext:
    """Context of the device: TLS 1.2 at least, a client certificate of our authority required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(directory: Path, name: str) -> ssl.SSLContext:
    """Context of a bench client by the name of its certificate."""
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    return context


def make_certificates(directory: Path, now: datetime.datetime) -> None:
    """An authority, a server and clients with and without roles, for the bench only."""
    directory.mkdir(parents=True, exist_ok=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("sopsim bench authority")
    ca = (
        _builder(ca_name, ca_name, ca_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(_key_usage(signs=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    _store(directory, "ca", ca, ca_key)
    for name, role in (
        ("server", None), ("operator", "operator"), ("observer", "observer"), ("norole", None),
        ("stranger", "stranger"),
    ):  # fmt: skip
        key = ec.generate_private_key(ec.SECP256R1())
        usage = (
            ExtendedKeyUsageOID.SERVER_AUTH
            if name == "server"
            else (ExtendedKeyUsageOID.CLIENT_AUTH)
        )
        builder = (
            _builder(_name(name), ca_name, key, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
                ),
                critical=False,
            )
        )
        if role is not None:
            text = role.encode()
            value = bytes((UTF8_STRING, len(text))) + text
            builder = builder.add_extension(
                x509.UnrecognizedExtension(ROLE_OID, value), critical=False
            )
        _store(directory, name, builder.sign(ca_key, hashes.SHA256()), key)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=signs, crl_sign=signs,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
    )


def _store(
    directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path = directory / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
