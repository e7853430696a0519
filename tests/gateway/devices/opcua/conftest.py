"""Certificates and a server of ours that misbehaves on order."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.devices.opcua.client import OpcuaClient, Trust

ODD = Path(__file__).with_name("odd_server.py")
BOTH = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


async def certificates_in(folder):
    """A server's and our own certificate, each with its key, and a trust folder."""
    (folder / "trusted").mkdir()
    for stem, uri in (("opcua-server", "urn:sop-gateway:bench:opcua"), ("own", "urn:sop:client")):
        await setup_self_signed_certificate(
            folder / f"{stem}-key.pem", folder / f"{stem}.der", uri, "localhost", BOTH,
            {"commonName": stem},
        )  # fmt: skip
    shutil.copy(folder / "opcua-server.der", folder / "trusted")
    return Trust(
        certificate=folder / "own.der",
        key=folder / "own-key.pem",
        pinned=folder / "opcua-server.der",
        trusted=folder / "trusted",
    )


class OddServer:
    """``odd_server.py`` as a process; started again at the same port it is another server."""

    def __init__(self, folder, trust):
        self.folder, self.trust, self.port, self.process = folder, trust, 0, None

    def start(self, *namespaces):
        self.process = subprocess.Popen(
            [sys.executable, ODD, str(self.port), str(self.folder), *namespaces],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.split(":")[2].split("/")[0])
        return self.url

    def order(self, text):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def client(self, **fields):
        return OpcuaClient(
            name="ua",
            url=self.url,
            trust=self.trust,
            user="operator",
            password="operator-bench",
            **({"timeout_s": 15} | fields),
        )


@pytest.fixture(scope="module")
def odd_trust(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    return folder, asyncio.run(certificates_in(folder))


@pytest.fixture(scope="module")
def odd_process(odd_trust):
    server = OddServer(*odd_trust)
    yield server
    server.stop()


@pytest.fixture
def odd(odd_process):
    """The server with two namespaces, running."""
    if odd_process.process is None:
        odd_process.start("urn:odd:a", "urn:odd:bcd")
    return odd_process
