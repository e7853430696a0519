import asyncio
import contextlib
import importlib.util
import ssl
from pathlib import Path

import pytest

from gateway.devices.connect import client_of
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.modbus.tls import role_of
from gateway.devices.profile import ModbusSettings, Table
from gateway.model.errors import ConfigError, DeviceNotSent, OutcomeUnknown

READ = frame.read(1, Table.HOLDING, 10, 2)
GOOD = bytes.fromhex("000a000b")


def certificates():
    path = Path(__file__).parents[3] / "fakes" / "certificates.py"
    spec = importlib.util.spec_from_file_location("certificates", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates().Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return certificates().Authority(tmp_path_factory.mktemp("stranger"))


class TlsDevice:
    def __init__(self, certificate, trusted, *, versions=None, answer=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        self.context.load_verify_locations(trusted)
        self.context.verify_mode = ssl.CERT_REQUIRED
        if versions:
            self.context.minimum_version, self.context.maximum_version = versions
        self.answer = answer or (lambda good: [good])
        self.requests, self.clients = 0, []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await asyncio.sleep(0.01)

    async def _serve(self, reader, writer):
        self.clients.append(writer.get_extra_info("peercert"))
        try:
            while True:
                head = await reader.readexactly(6)
                request = head + await reader.readexactly(int.from_bytes(head[4:6]))
                self.requests += 1
                for part in self.answer(request[:4] + b"\0\x07\1\3\4" + GOOD):
                    writer.write(part)  # one TLS record each
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()


def unit_to(port, authority_path, certificate, *, name=""):
    path, key = certificate
    url = f"modbus+tls://127.0.0.1:{port}?ca={authority_path}&cert={path}&key={key}"
    client = client_of(url + (f"&name={name}" if name else ""), ModbusSettings(), timeout_s=2)
    return ModbusUnit(client, name="d", timeout_s=2)


async def test_mutual_tls_with_a_role_and_answers_split_over_records(authority):
    client = authority.issue("gateway", role="operator")
    assert role_of(client[0]) == "operator"
    split = {"answer": lambda good: [good[:3], good[3:8], good[8:]]}
    async with TlsDevice(authority.issue("device", server=True), authority.path, **split) as device:
        unit = unit_to(device.port, authority.path, client)
        assert await unit.read(READ) == GOOD
        assert await unit.read(READ) == GOOD
        assert device.clients[0]["subject"][0][0] == ("commonName", "gateway")
        await unit.client.close()


@pytest.mark.parametrize(
    "case", ["stranger", "expired", "other name", "client certificate", "old tls"]
)
async def test_no_other_server_is_spoken_to(authority, stranger, case):
    certificate = {
        "stranger": lambda: stranger.issue("device", server=True),
        "expired": lambda: authority.issue("late", server=True, expired=True),
        "other name": lambda: authority.issue("other", server=True, address="127.0.0.2"),
        "client certificate": lambda: authority.issue("client", role="x"),
        "old tls": lambda: authority.issue("old", server=True),
    }[case]()
    with (
        pytest.warns(DeprecationWarning, match="TLS")
        if case == "old tls"
        else contextlib.nullcontext()
    ):
        old = (
            {"versions": (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)}
            if case == "old tls"
            else {}
        )
        device = TlsDevice(certificate, authority.path, **old)
    async with device:
        unit = unit_to(device.port, authority.path, authority.issue("gateway", role="operator"))
        with pytest.raises(DeviceNotSent):
            await unit.read(READ)
        assert device.requests == 0
        await unit.client.close()


async def test_a_server_that_does_not_know_us_gets_no_answer_out_of_us(authority, stranger):
    device = TlsDevice(authority.issue("device", server=True), authority.path)
    async with device:
        unit = unit_to(device.port, authority.path, stranger.issue("gateway", role="operator"))
        # With TLS 1.3 the refusal comes after our side of the handshake: the outcome is unknown.
        with pytest.raises((DeviceNotSent, OutcomeUnknown)):
            await unit.read(READ)
        assert device.requests == 0
        await unit.client.close()


def test_our_own_certificate_must_carry_a_role(authority):
    plain = authority.issue("plain")
    assert role_of(plain[0]) is None
    with pytest.raises(ConfigError, match="role"):
        unit_to(802, authority.path, plain)


@pytest.mark.parametrize(
    "url",
    [
        "modbus+tls://127.0.0.1",
        "modbus+tls://127.0.0.1?ca=/nowhere&cert=/nowhere&key=/nowhere",
        "modbus+rtu:///dev/ttyS0?format=9N1",
        "modbus+rtu:///dev/ttyS0?baud=fast",
        "modbus+tcp://:502",
        "modbus+tcp://host:99999",
        "http://host",
    ],
)
def test_a_wrong_url_is_named(url):
    with pytest.raises(ConfigError):
        client_of(url, ModbusSettings(), timeout_s=1)
