"""A unit of a loopback device, and the requests that the tests of the client ask it."""

from gateway.devices.connect import client_of
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.profile import ModbusSettings, Table

READ = frame.read(1, Table.HOLDING, 0, 2)
OTHER = frame.read(1, Table.HOLDING, 50, 2)
WRITE = frame.write_registers(1, 100, [4660])


def unit_at(peer, *, scheme="modbus+tcp", timeout_s=0.15, settings=None, name="d"):
    client = client_of(
        f"{scheme}://127.0.0.1:{peer.port}", settings or ModbusSettings(), timeout_s=timeout_s
    )
    return ModbusUnit(client, name=name, timeout_s=timeout_s)


def words(data):
    return [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]
