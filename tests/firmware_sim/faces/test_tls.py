"""Modbus over TLS: roles decide, strangers stay out."""

import asyncio
import datetime
import ssl
import struct

import pytest
from pymodbus.client import AsyncModbusTlsClient

from firmware_sim.faces.modbus_tcp import ModbusTcpServer
from firmware_sim.faces.responder import Responder
from firmware_sim.faces.station_map import StationMap
from firmware_sim.faces.tls import client_context, make_certificates, server_context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory, datetime.datetime.now(datetime.UTC))
    return directory


@pytest.fixture
async def port(rig, certificates):
    station = StationMap(
        rig.sop, lambda: rig.firmware, now_us=lambda: rig.sop.t_us, utc_us=lambda: 0
    )
    server = ModbusTcpServer(Responder({100: station}, refresh=lambda: None))
    yield await server.start(0, tls=server_context(certificates))
    await server.close()


READ = struct.pack(">BHH", 4, 1000, 1)
WRITE = struct.pack(">BHHBH", 16, 4, 1, 2, 77)


async def exchange(port, context, *pdus, split=False):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    replies = []
    try:
        for tid, pdu in enumerate(pdus, 1):
            frame = struct.pack(">HHHB", tid, 0, len(pdu) + 1, 100) + pdu
            for part in (frame[:5], frame[5:]) if split else (frame,):
                writer.write(part)
                await writer.drain()
            head = await reader.readexactly(7)
            replies.append(await reader.readexactly(struct.unpack(">H", head[4:6])[0] - 1))
    finally:
        writer.close()
    return replies


@pytest.mark.parametrize(
    ("role", "read", "write"),
    [
        ("operator", bytes((4, 2, 0, 5)), WRITE[:5]),
        ("observer", bytes((4, 2, 0, 5)), bytes((0x90, 1))),
        ("norole", bytes((0x84, 1)), bytes((0x90, 1))),
        ("stranger", bytes((0x84, 1)), bytes((0x90, 1))),
    ],
)
async def test_the_role_decides(rig, certificates, port, role, read, write):
    context = client_context(certificates, role)
    assert await exchange(port, context, READ, WRITE) == [read, write]
    assert (rig.firmware.heartbeat_code == 77) == (role == "operator")


async def test_a_frame_in_two_records(certificates, port):
    context = client_context(certificates, "operator")
    assert await exchange(port, context, READ, split=True) == [bytes((4, 2, 0, 5))]


async def test_without_a_certificate_there_is_no_connection(certificates, port):
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await exchange(port, context, READ)


async def test_a_certificate_of_another_authority_is_refused(port, tmp_path, certificates):
    make_certificates(tmp_path, datetime.datetime.now(datetime.UTC))
    context = client_context(tmp_path, "operator")
    context.load_verify_locations(certificates / "ca.pem")
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await exchange(port, context, READ)


async def test_pymodbus_over_tls(certificates, port):
    client = AsyncModbusTlsClient(
        "127.0.0.1", port=port, sslctx=client_context(certificates, "operator"), retries=0
    )
    assert await client.connect()
    read = await client.read_input_registers(1000, count=28, device_id=100)
    assert read.registers[0] == 5
    client.close()
