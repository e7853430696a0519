"""Every TLS door of the programs against everything that must not come through it.

The contexts are the ones the programs make from their files; the other side is a real TLS stack
in memory, so that a hundred handshakes cost a second.
"""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from fakes.certificates import ROLE

from gateway.cli.web import page_tls
from gateway.config.site_doors import PageTls
from gateway.devices.modbus.tls import TlsFiles, context_of
from gateway.market.mqtt import broker_from
from ledger.cli import witness as witness_cli
from ledger.network import config as node_file
from ledger.network import tls
from ledger.network.service import door_tls

HOUR = dt.timedelta(hours=1)
HOST = "127.0.0.1"
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass
class Pair:
    """A certificate with its key, and what signs with them."""

    certificate: x509.Certificate
    key: object


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def made(
    subject,
    *,
    by=None,
    key=None,
    authority=False,
    usage=SERVER,
    hours=(-2, 1),
    san=HOST,
    role=False,
    digest=None,
):
    """Make a certificate, signed by ``by`` or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    issuer = by.certificate.subject if by else name(subject)
    signer = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + hours[0] * HOUR)
        .not_valid_after(now + hours[1] * HOUR)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if authority:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True,
                content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
    elif usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if san and not authority:
        try:
            entry = x509.IPAddress(ipaddress.ip_address(san))
        except ValueError:
            entry = x509.DNSName(san)
        builder = builder.add_extension(x509.SubjectAlternativeName([entry]), critical=False)
    if role:
        value = bytes((0x0C, 7)) + b"gateway"
        builder = builder.add_extension(x509.UnrecognizedExtension(ROLE, value), critical=False)
    return Pair(builder.sign(signer, digest or hashes.SHA256()), key)


def saved(folder, label, pair, *chain):
    """Write LABEL.pem (with the chain) and LABEL.key."""
    certificate, key = folder / f"{label}.pem", folder / f"{label}.key"
    pem = serialization.Encoding.PEM
    certificate.write_bytes(b"".join(p.certificate.public_bytes(pem) for p in (pair, *chain)))
    key.write_bytes(
        pair.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    key.chmod(0o600)
    return certificate, key


def altered(folder, label, pair):
    """The same certificate with one bit of its signature changed."""
    der = bytearray(pair.certificate.public_bytes(serialization.Encoding.DER))
    der[-3] ^= 1
    certificate, key = saved(folder, label, pair)
    certificate.write_text(ssl.DER_cert_to_PEM_cert(bytes(der)))
    return certificate, key


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """The authority everybody trusts, ours, and the certificates of every stranger."""
    folder = tmp_path_factory.mktemp("papers")
    site = made("site authority", authority=True)
    impostor = made("site authority", authority=True)  # the same name, another key
    stranger = made("another authority", authority=True)
    leaf = made("leaf", by=site)
    found = {"folder": folder}
    found["authority"] = saved(folder, "authority", site)[0]
    found["us"] = saved(folder, "us", made("us", by=site, usage=CLIENT, role=True))
    found["server"] = saved(folder, "server", made("server", by=site))
    for usage, side in ((SERVER, "server"), (CLIENT, "client")):
        other = CLIENT if usage is SERVER else SERVER

        def keep(label, *pairs, side=side):
            found[side, label] = saved(folder, f"{side}-{label.replace(' ', '-')}", *pairs)

        keep("of another authority", made("x", by=stranger, usage=usage))
        keep("of an authority of the same name", made("x", by=impostor, usage=usage))
        keep("with the impostor's chain", made("x", by=impostor, usage=usage), impostor)
        keep("that signed itself", made("x", usage=usage))
        keep("signed by a leaf", made("x", by=leaf, usage=usage), leaf)
        keep("that has expired", made("x", by=site, usage=usage, hours=(-2, -1)))
        keep("that is not valid yet", made("x", by=site, usage=usage, hours=(1, 2)))
        keep("for the other side only", made("x", by=site, usage=other))
        small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        keep("with a weak key", made("x", by=site, usage=usage, key=small))
        odd = made("x", by=site, usage=usage)
        found[side, "with an altered signature"] = altered(folder, f"{side}-altered", odd)
        keep("for another address", made(HOST, by=site, usage=usage, san="127.0.0.2"))
        keep("for another name", made(HOST, by=site, usage=usage, san="elsewhere.example"))
        keep("with the address as a name", made("x", by=site, usage=usage, san="127.0.0.1.example"))
        keep("without any name", made(HOST, by=site, usage=usage, san=None))
    return found


def client_contexts(papers):
    """What our clients make of their files."""
    certificate, key = papers["us"]
    authority = papers["authority"]
    files = TlsFiles(authority=authority, certificate=certificate, key=key)
    mqtt = broker_from(f"mqtts://{HOST}", ca_file=authority, certificate=certificate, key_file=key)
    return {
        "Modbus": context_of(files),
        "MQTT": mqtt.tls,
        "etcd and other nodes": tls.calling(
            tls.TlsFiles(authority=authority, certificate=certificate, key=key)
        ),
    }


def served_contexts(papers):
    """What our doors make of their files."""
    certificate, key = papers["server"]
    authority = papers["authority"]
    page = PageTls(certificate=certificate, key_file=key, clients=authority)
    folder = papers["folder"] / "witness"
    folder.mkdir(exist_ok=True)
    for name_, path in (("ca", authority), ("cert", certificate), ("key", key)):
        (folder / f"{name_}.pem").write_bytes(path.read_bytes())
    node = node_file.config_from(
        {
            "market": "m", "node": "n1", "key": "n1.key", "nodes": {"n1": "ab" * 32},
            "ledger": {"dir": "n1", "origin": "n1.example", "key": "n1.log.key"},
            "operator": {"id": "op", "key": "cd" * 32},
            "tls": {"ca": str(authority), "cert": str(certificate), "key": str(key)},
        },
        papers["folder"],
    )  # fmt: skip
    return {
        "page": page_tls(page), "node": door_tls(node), "witness": witness_cli.door_tls(folder),
    }  # fmt: skip


@pytest.fixture(scope="module")
def served(papers):
    return served_contexts(papers)


def server_context(pair):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A hostile server takes what it can get, down to what our side must not give.
    context.set_ciphers("ALL:@SECLEVEL=0")
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


def client_context(papers, pair, *, trusts=None):
    context = ssl.create_default_context(cafile=trusts or papers["authority"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


def shaken(client, server):
    """Shake hands in memory and say one word each way; raise what either side says against it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=HOST)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    steps = [ours.do_handshake, theirs.do_handshake]
    for _ in range(20):
        for step in list(steps):
            try:
                step()
            except ssl.SSLWantReadError:
                continue
            steps.remove(step)
        if not steps:
            break
    assert not steps, "no end of the handshake"
    # With TLS 1.3 a client is refused only after its own side is done.
    theirs.write(b"x")
    assert ours.read(1) == b"x"
    ours.write(b"y")
    assert theirs.read(1) == b"y"


SERVERS = (
    "of another authority", "of an authority of the same name", "with the impostor's chain",
    "that signed itself", "signed by a leaf", "that has expired", "that is not valid yet",
    "for the other side only", "with a weak key", "with an altered signature",
    "for another address", "for another name", "with the address as a name", "without any name",
)  # fmt: skip
CLIENTS = SERVERS[:10]
DOORS = ("Modbus", "MQTT", "etcd and other nodes")
SERVED = ("page", "node", "witness")


@pytest.mark.parametrize("door", DOORS)
def test_the_right_server_is_spoken_to(papers, door):
    shaken(client_contexts(papers)[door], server_context(papers["server"]))


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("door", DOORS)
def test_no_server_is_spoken_to_with_a_certificate(papers, door, kind):
    with pytest.raises(ssl.SSLError):
        shaken(client_contexts(papers)[door], server_context(papers["server", kind]))


VERSIONS = {"TLS 1.0": ssl.TLSVersion.TLSv1, "TLS 1.1": ssl.TLSVersion.TLSv1_1}
CIPHERS = ("NULL", "aNULL", "PSK")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_no_server_is_spoken_to_over(papers, door, version):
    server = server_context(papers["server"])
    server.minimum_version = server.maximum_version = VERSIONS[version]
    with pytest.raises(ssl.SSLError):
        shaken(client_contexts(papers)[door], server)


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("door", DOORS)
def test_nothing_goes_out_in_the_clear_or_to_nobody_in_particular(papers, door, cipher):
    server = server_context(papers["server"])
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    server.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shaken(client_contexts(papers)[door], server)


@pytest.mark.parametrize("door", SERVED)
def test_the_right_reader_is_served(papers, served, door):
    shaken(client_context(papers, papers["us"]), served[door])


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("door", SERVED)
def test_no_reader_is_served_with_a_certificate(papers, served, door, kind):
    with pytest.raises(ssl.SSLError):
        shaken(client_context(papers, papers["client", kind]), served[door])


@pytest.mark.parametrize("door", SERVED)
def test_no_reader_is_served_without_a_certificate(papers, served, door):
    with pytest.raises(ssl.SSLError):
        shaken(client_context(papers, None), served[door])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("door", SERVED)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_no_reader_is_served_over(papers, served, door, version):
    reader = client_context(papers, papers["us"])
    reader.minimum_version = reader.maximum_version = VERSIONS[version]
    with pytest.raises(ssl.SSLError):
        shaken(reader, served[door])


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("door", SERVED)
def test_no_reader_is_served_by_a_cipher_that_hides_nothing(papers, served, door, cipher):
    reader = client_context(papers, papers["us"])
    reader.maximum_version = ssl.TLSVersion.TLSv1_2
    reader.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shaken(reader, served[door])


RUBBISH = {
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(64),
    "SSL 2": bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0")
    + bytes(16),
    "a record without end": bytes.fromhex("1603010000") * 40,
    "a record too long": bytes.fromhex("160301ffff") + bytes(300),
    "an alert first": bytes.fromhex("15030100020228"),
}


@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.parametrize("door", SERVED)
def test_rubbish_at_a_door_is_refused(served, door, kind):
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = served[door].wrap_bio(to_server, to_client, server_side=True)
    to_server.write(RUBBISH[kind])
    to_server.write_eof()
    with pytest.raises(ssl.SSLError) as told:
        side.do_handshake()
    assert not isinstance(told.value, ssl.SSLWantReadError)


@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.parametrize("door", DOORS)
def test_rubbish_instead_of_a_server_is_refused(papers, door, kind):
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_contexts(papers)[door].wrap_bio(to_us, to_them, server_hostname=HOST)
    to_us.write(RUBBISH[kind])
    to_us.write_eof()
    with pytest.raises(ssl.SSLError) as told:
        client.do_handshake()
    assert not isinstance(told.value, ssl.SSLWantReadError)


def test_there_are_no_fewer_refusals_than_promised(request):
    """With the doors of OPC UA counted where they stand; docs/security.md names the number."""
    here = len(DOORS) * (len(SERVERS) + len(VERSIONS) + len(CIPHERS) + len(RUBBISH))
    here += len(SERVED) * (len(CLIENTS) + 1 + len(VERSIONS) + len(CIPHERS) + len(RUBBISH))
    assert here >= 140
