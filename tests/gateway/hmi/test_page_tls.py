"""The page over TLS: TLS 1.2 at least, and where a client certificate is asked for, only with it."""

import asyncio
import datetime
import ssl

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.hmi.page import Page

NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """A certificate authority that writes key and chain files."""

    def __init__(self, folder, name):
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key.public_key(), authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _signed(self, name, public_key, *, authority=False, days=1, usage=None):
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=2))
            .not_valid_after(NOW + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        if authority:
            made = made.add_extension(
                x509.KeyUsage(
                    digital_signature=True, key_cert_sign=True, crl_sign=True,
                    content_commitment=False, key_encipherment=False, data_encipherment=False,
                    key_agreement=False, encipher_only=False, decipher_only=False,
                ),
                critical=True,
            )  # fmt: skip
        if usage is not None:
            made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return made.sign(self.key, hashes.SHA256())

    def issue(self, name, usage, days=1):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), days=days, usage=usage)
        file = self.folder / f"{name}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file


class Records:
    async def trade_entries(self, _trade_id):
        return []

    async def latest_entries(self, _count):
        return []

    async def receipt(self, _trade_id):
        return None


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "site-ca")


@pytest.fixture
async def port(view, authority):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(authority.issue("server", ExtendedKeyUsageOID.SERVER_AUTH))
    tls.load_verify_locations(authority.file)
    tls.verify_mode = ssl.CERT_REQUIRED
    page = Page(lambda: view, Records(), tls=tls, period_s=0.1)
    yield await page.start("127.0.0.1", 0)
    await page.stop()


def client(authority, certificate=None, **changed):
    context = ssl.create_default_context(cafile=authority.file)
    for name, value in changed.items():
        setattr(context, name, value)
    if certificate:
        context.load_cert_chain(certificate)
    return context


async def ask(port, context):
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        address = f"https://localhost:{port}/en/"
        async with session.get(address, ssl=context) as response:
            return response.status, await response.text()


async def test_reader_with_a_certificate_of_the_site_is_served(port, authority):
    reader = authority.issue("reader", ExtendedKeyUsageOID.CLIENT_AUTH)
    status, text = await ask(port, client(authority, reader))
    assert status == 200
    assert "SOP-1" in text


async def test_others_are_not(port, authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other-ca")
    cases = {
        "no certificate": client(authority),
        "of another authority": client(
            authority, other.issue("x", ExtendedKeyUsageOID.CLIENT_AUTH)
        ),
        "expired": client(
            authority, authority.issue("old", ExtendedKeyUsageOID.CLIENT_AUTH, days=-1)
        ),
        "for servers only": client(
            authority, authority.issue("srv", ExtendedKeyUsageOID.SERVER_AUTH)
        ),
        "TLS 1.1": client(
            authority,
            authority.issue("late", ExtendedKeyUsageOID.CLIENT_AUTH),
            maximum_version=ssl.TLSVersion.TLSv1_2,
        ),
    }
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        cases["TLS 1.1"].minimum_version = cases["TLS 1.1"].maximum_version = ssl.TLSVersion.TLSv1_1
    for name, context in cases.items():
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            raise AssertionError((name, await ask(port, context)))


async def test_plain_http_gets_nothing(port):
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://localhost:{port}/en/")


async def test_reader_refuses_a_page_of_another_authority(port, authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other-ca")
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await ask(port, client(other, authority.issue("r", ExtendedKeyUsageOID.CLIENT_AUTH)))
