"""Clients of other makers read and drive the simulated devices without special cases."""

import ctypes
import ctypes.util
import os
import shutil
import struct
import subprocess

import pytest
from pymodbus.client import AsyncModbusTcpClient
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP


def need(found, name):
    """Skip by name where a tool is missing, unless the run demands all of them."""
    if found:
        return
    if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
        pytest.fail(f"{name} is required and not installed")
    pytest.skip(f"{name} is not installed")


def sunspec(device, unit):
    client = SunSpecModbusClientDeviceTCP(
        slave_id=unit, ipaddr="127.0.0.1", ipport=device.listening["station"], timeout=5
    )
    client.scan()
    return client


def test_pysunspec2_scans_every_terminal(start):
    device = start("--seed", "5")
    for unit in (1, 2, 3, 4):
        client = sunspec(device, unit)
        assert [k for k in client.models if isinstance(k, int)] == [1, 701, 702, 703, 704, 714, 715]
        assert client.common[0].SN.value == f"SIM-5-{unit}"
        assert client.DERMeasureAC[0].LLV.cvalue == pytest.approx(400)
        assert client.DERMeasureAC[0].Hz.cvalue == pytest.approx(50)
        assert client.DERMeasureAC[0].InvSt.value == 7
        assert client.DERCapacity[0].WMaxRtg.cvalue == 250_000
        assert client.DERCapacity[0].AMaxRtg.cvalue == pytest.approx(360.8, abs=0.1)
        assert client.DERMeasureDC[0].Prt[0].DCV.cvalue == pytest.approx(800, abs=2)
        client.close()


def test_pysunspec2_writes_a_setpoint_and_the_power_follows(start):
    device = start("--speed", "20", "--bias", "0%")
    client = sunspec(device, 2)
    client.DERCtl[0].OpCtl.value = 3
    client.DERCtl[0].write()
    controls = client.DERCtlAC[0]
    controls.WSetEna.value = 1
    controls.WSet.value = -60_000
    controls.write()
    controls.read()
    assert controls.WSet.cvalue == -60_000
    measured = client.DERMeasureAC[0]
    for _ in range(500):
        measured.read()
        if abs(measured.W.cvalue + 60_000) < 1000:
            break
    assert measured.W.cvalue == pytest.approx(-60_000, abs=1000)
    client.close()


def test_pysunspec2_writes_wset_on_every_terminal(start):
    device = start()
    for unit in (1, 2, 3, 4):
        client = sunspec(device, unit)
        controls = client.DERCtlAC[0]
        controls.WSetEna.value = 1
        controls.WSet.value = 1000 * unit
        controls.write()
        controls.read()
        assert controls.WSet.cvalue == 1000 * unit
        client.close()
    truth = device.truth()
    assert truth["direct_writes"] >= 4
    # The master keeps the DC voltage: its power stays a residual.
    assert [t["p_set_w"] for t in truth["terminals"]] == [0, 2000, 3000, 4000]


async def test_pymodbus_reads_station_and_meters(start):
    device = start()
    client = AsyncModbusTcpClient("127.0.0.1", port=device.listening["station"], retries=0)
    assert await client.connect()
    station = await client.read_input_registers(1000, count=28, device_id=100)
    assert station.registers[0] == 5
    assert station.registers[12] == 1
    wrong = await client.read_input_registers(900, count=2, device_id=100)
    assert wrong.exception_code == 2
    wrong = await client.read_holding_registers(0, count=2, device_id=42)
    assert wrong.exception_code == 11
    bits = await client.read_discrete_inputs(0, count=16, device_id=100)
    assert bits.bits[1]
    wrong = await client.read_coils(0, count=1, device_id=100)
    assert wrong.exception_code == 1
    named = await client.read_device_information(device_id=100)
    assert named.information[1] == b"SOP-STATION"
    both = await client.readwrite_registers(
        read_address=4, read_count=2, write_address=4, values=[77], device_id=100
    )
    assert both.registers == [77, 50]
    masked = await client.mask_write_register(
        address=4, and_mask=0xFF00, or_mask=0x0012, device_id=100
    )
    assert not masked.isError()
    assert (await client.read_holding_registers(4, count=1, device_id=100)).registers == [0x12]
    client.close()
    for port in device.listening["meters"]:
        meter = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
        assert await meter.connect()
        answer = await meter.read_holding_registers(0x0C83, count=8, device_id=1)
        import_wh, export_wh = struct.unpack(">qq", struct.pack(">8H", *answer.registers))
        assert 0 < import_wh < 2_000_000
        assert 0 < export_wh < 2_000_000
        volts = await meter.read_holding_registers(0x0BD3, count=2, device_id=1)
        assert client.convert_from_registers(
            volts.registers, client.DATATYPE.FLOAT32
        ) == pytest.approx(230.9, abs=0.1)
        meter.close()


def test_mbpoll_reads_a_meter(start):
    need(shutil.which("mbpoll"), "mbpoll")
    device = start()
    port = device.listening["meters"][0]
    command = ["mbpoll", "-m", "tcp", "-p", str(port), "-a", "1", "-0", "-B", "-r", str(0x0BD3)]
    command += ["-c", "3", "-t", "4:float", "-1", "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    values = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("[")]
    assert [float(v) for v in values] == pytest.approx([230.94] * 3, abs=0.1)


def test_libmodbus_reads_and_writes_the_station(start):
    name = ctypes.util.find_library("modbus")
    need(name, "libmodbus")
    device = start()
    lib = ctypes.CDLL(name, use_errno=True)
    lib.modbus_new_tcp.restype = ctypes.c_void_p
    context = ctypes.c_void_p(lib.modbus_new_tcp(b"127.0.0.1", device.listening["station"]))
    try:
        assert lib.modbus_connect(context) == 0
        assert lib.modbus_set_slave(context, 100) == 0
        words = (ctypes.c_uint16 * 125)()
        assert lib.modbus_read_input_registers(context, 1000, 28, words) == 28
        assert words[0] == 5
        assert lib.modbus_read_input_registers(context, 1100, 125, words) == 125
        beat = (ctypes.c_uint16 * 1)(4711)
        assert lib.modbus_write_registers(context, 4, 1, beat) == 1
        assert lib.modbus_read_registers(context, 4, 1, words) == 1
        assert words[0] == 4711
        assert lib.modbus_read_registers(context, 500, 1, words) == -1
    finally:
        lib.modbus_close(context)
        lib.modbus_free(context)
    assert device.truth()["heartbeats"] == 1
