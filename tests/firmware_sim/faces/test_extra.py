"""One device behind all its faces at once: what one face does the others show."""

import asyncio
import contextlib
import datetime
import struct
import time

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient, AsyncModbusTlsClient

from firmware_sim.faces.extra import ExtraFaces, OpenFaces
from firmware_sim.faces.rtu import seal
from firmware_sim.faces.tls import client_context, make_certificates


async def test_every_face_shows_the_same_device(start, tmp_path):
    make_certificates(tmp_path, datetime.datetime.now(datetime.UTC))
    line = tmp_path / "ttySOP"
    device = start(
        "--rtu", str(line), "--rtu-tcp", "0", "--tls", "0", "--certs", str(tmp_path)
    )  # fmt: skip
    where = device.listening
    clients = [
        AsyncModbusTcpClient("127.0.0.1", port=where["station"], retries=0),
        AsyncModbusTcpClient("127.0.0.1", port=where["rtu_tcp"], framer=FramerType.RTU, retries=0),
        AsyncModbusTlsClient(
            "127.0.0.1",
            port=where["tls"],
            sslctx=client_context(tmp_path, "operator"),
            retries=0,
        ),
        AsyncModbusSerialClient(str(line), framer=FramerType.RTU, retries=0),
    ]
    try:
        for number, client in enumerate(clients, 100):
            assert await client.connect()
            await client.write_registers(4, [number], device_id=100)
            for other in clients[: number - 99]:
                read = await other.read_holding_registers(4, count=1, device_id=100)
                assert read.registers == [number]
    finally:
        for client in clients:
            client.close()
    assert device.truth()["heartbeats"] == 4


READ = bytes((100, 4)) + struct.pack(">HH", 1000, 1)


@pytest.fixture
async def rtu(bench):
    """The station behind RTU in TCP, as ``sopsim device --rtu-tcp`` opens it."""
    faces = OpenFaces(bench.device.responder, ExtraFaces(rtu_tcp_port=0))
    bench.device.faces.extend(faces.servers)
    where = await faces.start()
    writers = []

    async def connect():
        reader, writer = await asyncio.open_connection("127.0.0.1", where["rtu_tcp"])
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    await faces.close()


async def test_a_cut_link_resets_the_further_faces_too(bench, rtu):
    reader, writer = await rtu()
    writer.write(seal(READ))
    assert len(await reader.readexactly(7)) == 7
    bench.inject("link_cut", target="station")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    reader, _ = await rtu()  # whoever comes anew is reset as well
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    bench.inject("clear")
    reader, writer = await rtu()
    writer.write(seal(READ))
    assert len(await reader.readexactly(7)) == 7


async def test_a_delay_reaches_rtu_in_tcp(bench, rtu):
    bench.inject("delay", target="station", delay_s=0.2)
    reader, writer = await rtu()
    began = time.monotonic()
    writer.write(seal(READ))
    await reader.readexactly(7)
    assert time.monotonic() - began >= 0.2
