"""The first certificate to end is named, from files that may be renewed or wrong."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from fakes.memory_journal import ManualClock

from gateway.runtime.certificates import LOOK_US, Certificates, end_us

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def certificate(days, encoding=serialization.Encoding.PEM):
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + dt.timedelta(days=days))
    )
    return builder.sign(key, None).public_bytes(encoding)


def after(days):
    return int((START + dt.timedelta(days=days)).timestamp()) * 1_000_000


def test_the_first_of_a_bundle_in_either_encoding(tmp_path):
    (tmp_path / "bundle").write_bytes(certificate(90) + certificate(30) + certificate(60))
    (tmp_path / "der").write_bytes(certificate(7, serialization.Encoding.DER))
    assert end_us(tmp_path / "bundle") == after(30)
    assert end_us(tmp_path / "der") == after(7)


def test_what_is_none_has_no_end(tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    for name in ("text", "broken", "missing"):
        assert end_us(tmp_path / name) is None


def test_a_renewed_file_is_noticed_within_the_hour(tmp_path):
    clock = ManualClock()
    (tmp_path / "web.pem").write_bytes(certificate(10))
    (tmp_path / "ca.pem").write_bytes(certificate(1000))
    names = [tmp_path / n for n in ("web.pem", "ca.pem", "missing")]
    found = Certificates(names, clock)
    assert found.first_to_end() == ("web.pem", after(10))
    (tmp_path / "web.pem").write_bytes(certificate(400))
    assert found.first_to_end() == ("web.pem", after(10))
    clock.now_us += LOOK_US
    assert found.first_to_end() == ("web.pem", after(400))


def test_a_site_without_certificates():
    assert Certificates((), ManualClock()).first_to_end() is None
