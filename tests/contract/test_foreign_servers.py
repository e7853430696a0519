"""Servers that are not of our making: pymodbus, and libmodbus in C."""

import asyncio
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.devices.connect import client_of
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.profile import ModbusSettings, Table
from gateway.model.errors import DeviceRefused

BENCH = Path(__file__).resolve().parents[1] / "bench" / "modbus_rival.c"


def unit_at(port, scheme="modbus+tcp"):
    client = client_of(f"{scheme}://127.0.0.1:{port}", ModbusSettings(), timeout_s=2)
    return ModbusUnit(client, name="d", timeout_s=2)


def words(data):
    return [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]


async def reads_and_writes(unit):
    for count in (1, 2, 100, 125):
        assert words(await unit.read(frame.read(1, Table.HOLDING, 0, count))) == list(range(count))
    await unit.write(frame.write_registers(1, 200, [7, 8, 9]))
    await unit.write(frame.write_register(1, 203, 10))
    assert words(await unit.read(frame.read(1, Table.HOLDING, 200, 4))) == [7, 8, 9, 10]
    with pytest.raises(DeviceRefused) as caught:
        await unit.read(frame.read(1, Table.HOLDING, 60000, 2))
    assert caught.value.code == ExcCodes.ILLEGAL_ADDRESS
    assert unit.client.counts["connected"] == 1
    await unit.client.close()


async def test_pymodbus_server():
    data = [SimData(0, values=list(range(1000)), datatype=DataType.REGISTERS)]
    server = ModbusTcpServer(SimDevice(1, simdata=data), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        await reads_and_writes(unit_at(server.transport.sockets[0].getsockname()[1]))
    finally:
        await server.shutdown()
        await asyncio.sleep(0.01)


async def test_libmodbus_server(tmp_path):
    if shutil.which("gcc") is None or not Path("/usr/include/modbus/modbus.h").exists():
        pytest.skip("gcc and libmodbus-dev are not here")
    program = tmp_path / "server"
    flags = ["-O1", "-I/usr/include/modbus", "-lmodbus", "-lpthread"]
    subprocess.run(["gcc", "-o", program, BENCH, *flags], check=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(
        [program, "server", str(port), "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        await asyncio.to_thread(process.stdout.readline)
        await reads_and_writes(unit_at(port))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
