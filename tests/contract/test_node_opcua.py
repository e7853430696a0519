"""An OPC UA server that is not of our making: node-opcua; found, trusted, read, written, called."""

import asyncio
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from gateway.devices.opcua.client import OpcuaClient, Trust
from gateway.devices.opcua.device import OpcuaDevice
from gateway.devices.opcua.discovery import discover
from gateway.devices.opcua.own import own_files
from gateway.devices.opcua.process import START_TIMEOUT_S, asking
from gateway.devices.profile import Kind, Node, Point, PointType, Profile, Protocol
from gateway.model.errors import ConfigError, DeviceNotSent, DeviceRefused
from gateway.model.telemetry import Quality
from gateway.runtime.clock import SystemClock

SERVER = Path(__file__).with_name("node_opcua_server.js")
NS = "nsu=urn:other:plant"


def environment():
    """Where node finds node-opcua-server: what NODE_PATH names."""
    node = shutil.which("node")
    if node is not None:
        found = subprocess.run(
            [node, "-e", "require.resolve('node-opcua-server')"], capture_output=True
        )
        if found.returncode == 0:
            return dict(os.environ)
    if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
        pytest.fail("node-opcua-server is required and not installed")
    pytest.skip("node-opcua-server is not installed")


@pytest.fixture
def other(tmp_path):
    process = subprocess.Popen(
        ["node", str(SERVER), str(tmp_path / "pki")], env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    # Its own warnings come before the address.
    yield next(line.strip() for line in process.stdout if line.startswith("opc.tcp://"))
    process.stdin.close()
    process.wait()
    process.stdout.close()


async def trust_in(url, folder):
    """What ``sopgw device trust`` does once a person has compared the fingerprint."""
    async with asking(timeout_s=START_TIMEOUT_S) as ask:
        server = await discover(ask, url, timeout_s=10)
    assert [(e.mode, e.policy) for e in server.secure] == [("SignAndEncrypt", "Basic256Sha256")]
    certificate, key = own_files(folder / "own", name="gateway", now_utc_us=now_us())
    (folder / "trusted").mkdir()
    pinned = folder / "trusted" / "server.der"
    pinned.write_bytes(server.certificate.der)
    return Trust(certificate=certificate, key=key, pinned=pinned, trusted=folder / "trusted")


def now_us():
    return time.time_ns() // 1000


async def test_a_server_of_others(other, tmp_path):
    trust = await trust_in(other, tmp_path)
    stranger = OpcuaClient(
        name="other", url=other, trust=trust, user="operator", password="guess", timeout_s=10
    )
    with pytest.raises(DeviceNotSent, match="BadUserAccessDenied"):
        await stranger.read([f"{NS};s=Setting"], utc_us=now_us)
    await stranger.close()
    client = OpcuaClient(
        name="other", url=other, trust=trust, user="operator", password="other", timeout_s=10
    )
    try:
        await everything(client)
    finally:
        await client.close()


async def everything(client):
    # This server stamps changes only: a constant value is old and good all the same.
    nodes = [f"{NS};s=Setting", f"{NS};s=Nothing"]
    reading, missing = await client.read(nodes, utc_us=now_us, stale_us=3_600_000_000)
    assert (reading.value, reading.quality) == (7, Quality.GOOD)
    assert (missing.value, missing.quality) == (None, Quality.BAD)
    arguments = [("UInt16", 40_000), ("UInt16", 30_000)]
    assert await client.call(f"{NS};s=Plant", f"{NS};s=Add", arguments) == [70_000]
    with pytest.raises(DeviceRefused):
        await client.call(f"{NS};s=Plant", f"{NS};s=Add", [("UInt16", 1)])
    seen = asyncio.Queue()
    client.on_data = lambda _node, message: seen.put_nowait(message["value"])
    watching = asyncio.get_running_loop().create_task(
        client.watch([f"{NS};s=Setting"], publish_ms=100, silence_s=20)
    )
    async with asyncio.timeout(60):
        assert await seen.get() == 7
        await client.write(f"{NS};s=Setting", 8)
        while await seen.get() != 8:
            pass
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    for unit, wrong in (("W", False), ("kW", True)):
        point = Point(
            name="p", type=PointType.FLOAT64, unit=unit, unit_check="server",
            node=Node(path="Objects/o:Plant/o:P"),
        )  # fmt: skip
        profile = Profile(
            id="other", kind=Kind.SENSOR, protocol=Protocol.OPCUA, points=(point,),
            namespaces={"o": "urn:other:plant"},
        )  # fmt: skip
        device = OpcuaDevice(client=client, profile=profile, clock=SystemClock())
        if wrong:
            with pytest.raises(ConfigError, match="p: kW here, W there"):
                await device.get()
        else:
            assert (await device.get())["p"].value == -12.5
