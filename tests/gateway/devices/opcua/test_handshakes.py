"""Handshakes that must fail: files, names, policies, and servers that are none or are not ours.

The child's own session is asked in this process: what is tested is whom it believes, and starting
a process for each case would only take time.
"""

import asyncio
import datetime as dt
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.devices.opcua.child import Session

DAY = dt.timedelta(days=1)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
APPLICATION = "urn:sop-gateway:bench:opcua"


class Nowhere:
    def write(self, data):
        pass


async def connect(order):
    session = Session(Nowhere())
    try:
        answer = await session.answer({"op": "connect", "id": 1, **order})
        assert (session._client is None) == ("error" in answer)
        return answer
    finally:
        await session.close()


def certificate(path, *, days=(-2, 30), uri=APPLICATION, server=True, usage=True, key=KEY, bits=0):
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opcua-server")])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        .public_key(key.public_key()).serial_number(7)
        .not_valid_before(now + days[0] * DAY).not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
    )  # fmt: skip
    if uri:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    kinds = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(kinds), critical=False)
    if usage:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True, content_commitment=True, key_encipherment=True,
                data_encipherment=True, key_agreement=False, key_cert_sign=True, crl_sign=False,
                encipher_only=False, decipher_only=False,
            ),
            critical=False,
        )  # fmt: skip
    signed = builder.sign(key, hashes.SHA256())
    path.write_bytes(signed.public_bytes(serialization.Encoding.DER))
    return path


@pytest.fixture
def order(odd, tmp_path):
    """What connects to the odd server as it should; each case spoils one thing of it."""
    shutil.copytree(odd.trust.trusted, tmp_path / "trusted")
    return {
        "url": odd.url,
        "certificate": str(odd.trust.certificate),
        "key": str(odd.trust.key),
        "pinned": str(odd.trust.pinned),
        "trusted": str(tmp_path / "trusted"),
        "policy": "Basic256Sha256",
        "user": "operator",
        "password": "operator-bench",
        "timeout_s": 10,
    }


def pin(order, path):
    """Pin and trust another certificate."""
    shutil.copy(path, order["trusted"])
    order["pinned"] = str(path)


def set_to(**changes):
    return lambda order, _folder: order.update(changes)


def pinned(**fields):
    return lambda order, folder: pin(order, certificate(folder / "pinned.der", **fields))


def written(name, content, *, key):
    def spoil(order, folder):
        (folder / name).write_bytes(content)
        order[key] = str(folder / name)

    return spoil


def empty_store(order, folder):
    (folder / "empty").mkdir()
    order["trusted"] = str(folder / "empty")


def another_trusted(order, folder):
    empty_store(order, folder)
    certificate(folder / "empty" / "other.der")


def double_trusted(order, folder):
    """The store trusts a certificate that says the same of itself as the pinned one."""
    empty_store(order, folder)
    certificate(folder / "empty" / "double.der", key=OTHER_KEY)


def foreign_key(order, folder):
    pem = OTHER_KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    written("foreign.pem", pem, key="key")(order, folder)


# name: (what spoils it, what kind of error it must be)
SPOILED = {
    "impostor's certificate pinned": (pinned(), "refused unknown not_sent"),
    "its double, same names, other key": (pinned(key=OTHER_KEY), "refused unknown not_sent"),
    "expired": (pinned(days=(-9, -1)), "security"),
    "not yet valid": (pinned(days=(1, 9)), "security"),
    "names no application": (pinned(uri=""), "security"),
    "names another application": (pinned(uri="urn:another"), "refused unknown not_sent"),
    "a client's certificate": (pinned(server=False), "security"),
    "no key usage": (pinned(usage=False), "security"),
    "nothing trusted": (empty_store, "security"),
    "another trusted": (another_trusted, "security"),
    "a double trusted": (double_trusted, "security"),
    "no trust folder": (set_to(trusted="/nowhere/at/all"), "security"),
    "pinned file missing": (set_to(pinned="/nowhere/server.der"), "security"),
    "pinned file is no certificate": (written("p.der", b"\x30\x82", key="pinned"), "security"),
    "pinned file empty": (written("p.der", b"", key="pinned"), "security"),
    "own certificate missing": (set_to(certificate="/nowhere/own.der"), "security"),
    "own certificate is none": (written("o.der", b"no", key="certificate"), "security"),
    "own key missing": (set_to(key="/nowhere/key.pem"), "not_sent refused"),
    "own key is none": (written("k.pem", b"no", key="key"), "refused not_sent"),
    "key of another certificate": (foreign_key, "refused unknown not_sent"),
    "unknown user": (set_to(user="mallory"), "refused"),
    "wrong password": (set_to(password="guess"), "refused"),
    "no password": (set_to(password=""), "refused"),
    "nobody named": (set_to(user=""), "refused"),
    "policy not offered": (set_to(policy="Aes256_Sha256_RsaPss"), "refused unknown not_sent"),
    "another not offered": (set_to(policy="Aes128_Sha256_RsaOaep"), "refused unknown not_sent"),
    "policy None asked for": (set_to(policy="None"), "security"),
    "a policy long broken": (set_to(policy="Basic128Rsa15"), "security"),
}


async def test_what_is_as_it_should_be_connects(order):
    answer = await connect(order)
    assert "error" not in answer
    assert "urn:odd:a" in answer["namespaces"]


@pytest.mark.parametrize("case", SPOILED)
async def test_a_handshake_that_must_fail_fails(order, tmp_path, case):
    spoil, kinds = SPOILED[case]
    spoil(order, tmp_path)
    if "unknown" in kinds:  # a server that cannot read us stays silent
        order["timeout_s"] = 1
    answer = await connect(order)
    assert answer.get("error") in kinds.split(), answer
    assert answer["what"]


ACK = b"ACKF" + b"".join(n.to_bytes(4, "little") for n in (28, 0, 65535, 65535, 0, 0))
NONE_POLICY = b"http://opcfoundation.org/UA/SecurityPolicy#None"
PLAIN_OPN = (
    (0).to_bytes(4, "little")
    + len(NONE_POLICY).to_bytes(4, "little") + NONE_POLICY + b"\xff" * 8
    + (1).to_bytes(4, "little") * 2 + b"\x01\x00\xc1\x01" + bytes(60)
)  # fmt: skip


def chunk(kind, body):
    return kind + (8 + len(body)).to_bytes(4, "little") + body


# What a peer that is no such server says, message by message.
PEERS = {
    "closes": [None],
    "says nothing": [b""],
    "noise": [bytes(range(256)) * 16],
    "speaks HTTP": [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"],
    "speaks Modbus": [b"\0\1\0\0\0\3\1\x83\2"],
    "speaks TLS": [b"\x15\3\3\0\2\2\x28"],
    "says error": [chunk(b"ERRF", b"\0\0\x7d\x80" + b"\xff" * 4)],
    "half an answer": [ACK[:10]],
    "an answer without room": [ACK[:12] + bytes(16)],
    "an answer of four billion bytes": [b"ACKF\xff\xff\xff\xff" + ACK[8:]],
    "data before the channel": [chunk(b"MSGF", bytes(40))],
    "a channel without security": [ACK, chunk(b"OPNF", PLAIN_OPN)],
    "a channel of noise": [ACK, chunk(b"OPNF", bytes(range(200)))],
    "data instead of a channel": [ACK, chunk(b"MSGF", bytes(64))],
    "error instead of a channel": [ACK, chunk(b"ERRF", b"\0\0\x55\x80" + b"\xff" * 4)],
    "closes before the channel": [ACK, None],
}


@pytest.mark.parametrize("peer", PEERS)
async def test_what_is_no_such_server_is_not_reached(order, peer):
    asked, serving = [], []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        try:
            for answer in PEERS[peer]:
                asked.append(await reader.read(65536))
                if answer is None:
                    break
                writer.write(answer)
            else:
                await reader.read(65536)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = await connect(order | {"url": f"opc.tcp://127.0.0.1:{port}", "timeout_s": 1.5})
    assert answer.get("error") in ("not_sent", "unknown", "refused"), answer
    assert asked[0].startswith(b"HELF")
    server.close()
    await server.wait_closed()
    await asyncio.gather(*serving)  # the client has closed its end, so they end


def test_there_are_enough_of_them():
    assert len(SPOILED) + len(PEERS) >= 30
