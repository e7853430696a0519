"""One device behind all its faces at once: what one face does the others show."""

import datetime

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient, AsyncModbusTlsClient

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
