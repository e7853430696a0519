"""The OPC UA face: browse, units, subscription, Methods, users; by a client library and by tools."""

import asyncio
import json
import os
import shutil
import ssl
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

from firmware_sim.plant.setpoints import crc16

URI = "urn:sop-gateway:bench:test-client"
OWNER = 0x0A0A


@pytest.fixture(scope="module")
def served(start_for_module, tmp_path_factory):
    certificates = tmp_path_factory.mktemp("pki")
    device = start_for_module(
        "--speed", "20", "--opcua", "0", "--certs", str(certificates), "--bias", "0%"
    )
    key, certificate = certificates / "client-key.pem", certificates / "client.der"
    asyncio.run(
        setup_self_signed_certificate(
            key, certificate, URI, "localhost", [ExtendedKeyUsageOID.CLIENT_AUTH],
            {"commonName": "c"},
        )
    )  # fmt: skip
    return device, certificates


async def connect(served, user="operator", password=None):
    device, certificates = served
    client = Client(device.listening["opcua"], timeout=60)
    client.application_uri = URI
    client.set_user(user)
    client.set_password(password or f"{user}-bench")
    await client.set_security(
        SecurityPolicyBasic256Sha256,
        str(certificates / "client.der"),
        str(certificates / "client-key.pem"),
        server_certificate=str(certificates / "opcua-server.der"),
        mode=ua.MessageSecurityMode.SignAndEncrypt,
    )
    await client.connect()
    return client


async def station_of(client):
    index = await client.get_namespace_index("urn:sop-gateway:bench:sop-station")
    return index, await client.nodes.objects.get_child(f"{index}:SOPStation")


async def order(station, index, name, argument=0, owner=OWNER):
    values = [ua.Variant(v, ua.VariantType.UInt16) for v in (argument, owner)]
    return await station.call_method(f"{index}:{name}", *values)


async def all_stopped(device):
    """Whether an earlier test stopped the station; if so, once every terminal has stopped.

    The station is called stopped when one terminal is, and one that still stops does not start.
    """
    if device.truth()["state"] not in ("STOPPING", "STOPPED"):
        return False
    async with asyncio.timeout(60):
        while {t["state"] for t in device.truth()["terminals"]} != {"STOPPED"}:
            await asyncio.sleep(0.02)
    return True


async def state_is(device, name):
    async with asyncio.timeout(60):
        while device.truth()["state"] != name:
            await asyncio.sleep(0.02)


async def test_browse_units_methods_and_subscription(served):
    client = await connect(served)
    try:
        i, station = await station_of(client)
        names = {(await n.read_browse_name()).Name for n in await station.get_children()}
        assert names >= {
            "State", "StatusWord", "FaultBits", "VdcV", "LossW", "MasterTerminal", "HeartbeatIn",
            "HeartbeatOut", "Terminals", "Select", "Operate", "Cancel", "Start", "Stop",
            "ResetFault", "SetMaster", "Configure", "SoftEstop", "Staged", "LeaseOwner",
            "WatchdogRemain", "AckSeq",
        }  # fmt: skip
        t2 = await station.get_child([f"{i}:Terminals", f"{i}:T2"])
        names = {(await n.read_browse_name()).Name for n in await t2.get_children()}
        assert names >= {
            "P", "Q", "V", "I", "F", "PSet", "PSetActive", "Mode", "SAvail", "EnergyInjWh",
            "EnergyAbsWh",
        }  # fmt: skip
        p = await t2.get_child(f"{i}:P")
        limits = await (await p.get_child("0:EURange")).read_value()
        assert (limits.Low, limits.High) == (-250_000, 250_000)
        unit = await (await p.get_child("0:EngineeringUnits")).read_value()
        assert unit.DisplayName.Text == "W"
        energy = await (await t2.get_child(f"{i}:EnergyInjWh")).read_data_value()
        assert energy.Value.VariantType is ua.VariantType.UInt64
        assert energy.SourceTimestamp is not None

        seen = asyncio.Queue()

        class Sink:
            def datachange_notification(self, node, value, data):
                seen.put_nowait(value)

        subscription = await client.create_subscription(100, Sink())
        await subscription.subscribe_data_change(p)
        values = [0, 0, 1, 200, 60_000, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200]
        crc = crc16(struct.pack(">16i", *values))

        async def select(check):
            return await station.call_method(
                f"{i}:Select",
                ua.Variant(77, ua.VariantType.UInt32),
                ua.Variant(values, ua.VariantType.Int32),
                ua.Variant(check, ua.VariantType.UInt16),
                ua.Variant(900, ua.VariantType.UInt16),
                ua.Variant(OWNER, ua.VariantType.UInt16),
            )

        async def operate(token, ttl_s=900):
            return await station.call_method(
                f"{i}:Operate",
                ua.Variant(token, ua.VariantType.UInt32),
                ua.Variant(ttl_s, ua.VariantType.UInt16),
            )

        assert (await select(crc ^ 1))[1] == 5  # rejected_crc
        token, ack = await select(crc)
        assert ack == 1
        assert await operate(token ^ 1) == 7  # rejected_not_selected
        token, ack = await select(crc)
        assert await operate(token) == 2
        async with asyncio.timeout(60):
            while abs(await seen.get() - 60_000) > 1000:
                pass
        assert served[0].truth()["active_instr_id"] == 77
        assert await order(station, i, "Stop") == 2
    finally:
        await client.disconnect()


async def test_staged_block_lease_and_watchdog(served):
    device, _ = served
    client = await connect(served)
    u16, u32, i32 = ua.VariantType.UInt16, ua.VariantType.UInt32, ua.VariantType.Int32
    try:
        i, station = await station_of(client)

        async def value(*names):
            node = await station.get_child([f"{i}:{n}" for n in names])
            return await node.read_value()

        if await all_stopped(device):
            assert await order(station, i, "Start") == 2
            await state_is(device, "STANDBY")

        async def configure(watchdog_ds, owner, failsafe=1, ramp=200):
            given = (watchdog_ds, failsafe, ramp, owner)
            return await station.call_method(f"{i}:Configure", *(ua.Variant(v, u16) for v in given))

        async def select(p_w, owner, number=91):
            values = [0, 0, 1, 200, p_w, 5, 0, 150, 0, 0, 0, 200, 0, 0, 0, 200]
            crc = crc16(struct.pack(">16i", *values))
            return await station.call_method(
                f"{i}:Select", ua.Variant(number, u32), ua.Variant(values, i32),
                ua.Variant(crc, u16), ua.Variant(60, u16), ua.Variant(owner, u16),
            )  # fmt: skip

        assert await configure(9, OWNER) == 4  # rejected_range
        assert await configure(60, OWNER, failsafe=7) == 4
        assert await configure(60, OWNER) == 2
        assert await value("WatchdogTimeout") == 6.0
        beat = await station.get_child(f"{i}:HeartbeatIn")
        await beat.write_value(ua.Variant(300, u32))
        token, ack = await select(40_000, OWNER)
        assert ack == 1
        assert await value("InstrId") == 91
        assert [await value("Staged", "T2", n) for n in ("PSet", "QSet", "Mode", "Ramp")] == [
            40_000, 5, 0, 150,
        ]  # fmt: skip
        assert (await value("Staged", "TtlS"), await value("Staged", "Owner")) == (60, OWNER)
        assert await value("LeaseOwner") == OWNER
        # A stranger neither takes over nor changes what is staged; the token stays good.
        assert (await select(1_000, 7, 92))[1] == 9
        assert await configure(60, 7) == 9
        assert await order(station, i, "Cancel", owner=7) == 9
        assert await value("Staged", "T2", "PSet") == 40_000
        with pytest.raises(ua.UaError):
            await station.call_method(f"{i}:Stop")
        assert (
            await station.call_method(f"{i}:Operate", ua.Variant(token, u32), ua.Variant(60, u16))
            == 2
        )
        # No further sign of life: the fail-safe is seen through this face too.
        async with asyncio.timeout(60):
            while await value("InstrId"):
                await asyncio.sleep(0.02)
            while await value("State") != 5:
                await asyncio.sleep(0.02)
        assert await value("StatusWord") & 1 << 9
    finally:
        await client.disconnect()


async def test_users_and_roles(served):
    before = served[0].truth()
    with pytest.raises(ua.UaError):
        await connect(served, password="wrong")
    client = await connect(served, "observer")
    try:
        i, station = await station_of(client)
        assert await (await station.get_child(f"{i}:State")).read_value() in (2, 5, 6, 8)
        with pytest.raises(ua.UaError):
            await order(station, i, "Stop")
        beat = await station.get_child(f"{i}:HeartbeatIn")
        with pytest.raises(ua.UaError):
            await beat.write_value(ua.Variant(5, ua.VariantType.UInt32))
    finally:
        await client.disconnect()
    assert served[0].truth()["heartbeats"] == before["heartbeats"]
    assert served[0].truth()["state"] == before["state"]


async def test_heartbeat_and_quality(served):
    device, _ = served
    client = await connect(served)
    try:
        i, station = await station_of(client)
        beat = await station.get_child(f"{i}:HeartbeatIn")
        before = device.truth()["heartbeats"]
        await beat.write_value(ua.Variant(5, ua.VariantType.UInt32))
        async with asyncio.timeout(60):
            while device.truth()["heartbeats"] == before:
                await asyncio.sleep(0.05)
        device.ask({"inject": "bad_quality"})
        state = await station.get_child(f"{i}:State")
        async with asyncio.timeout(60):
            while (await state.read_data_value(raise_on_bad_status=False)).StatusCode.is_good():
                await asyncio.sleep(0.05)
        device.ask({"inject": "clear"})
        async with asyncio.timeout(60):
            while not (await state.read_data_value(raise_on_bad_status=False)).StatusCode.is_good():
                await asyncio.sleep(0.05)
    finally:
        await client.disconnect()


async def test_a_value_that_is_suddenly_an_enormous_array(served):
    device, _ = served
    client = await connect(served)
    try:
        i, station = await station_of(client)
        loss = await station.get_child(f"{i}:LossW")
        assert device.ask({"inject": "opcua_bomb", "size": 5000})["ok"]
        async with asyncio.timeout(60):
            while not isinstance(await loss.read_value(), list):
                await asyncio.sleep(0.05)
        assert len(await loss.read_value()) == 5000
        assert device.ask({"inject": "clear"})["ok"]
        async with asyncio.timeout(60):
            while isinstance(await loss.read_value(), list):
                await asyncio.sleep(0.05)
    finally:
        await client.disconnect()


async def test_an_endpoint_below_the_promised_security(start, tmp_path):
    device = start("--opcua", "0", "--certs", str(tmp_path), "--opcua-security", "none")
    client = Client(device.listening["opcua"], timeout=60)
    found = await client.connect_and_get_server_endpoints()
    assert [e.SecurityMode for e in found] == [ua.MessageSecurityMode.None_]


async def test_a_fault_of_the_wire_that_leaves_this_face_out_is_refused(start, tmp_path):
    device = start("--opcua", "0", "--certs", str(tmp_path), "--opcua-security", "none")
    for fault in ("link_cut", "delay", "exception"):
        answer = device.ask({"inject": fault, "target": "station"})
        assert not answer["ok"]
        assert "does not reach OPC UA" in answer["error"]
    assert device.wire().read(4, 1000, 1) == [5]
    assert device.ask({"inject": "exception", "target": "station", "face": "modbus"})["ok"]
    assert device.wire().read(4, 1000, 1) == 6


async def test_nothing_without_security(served):
    client = Client(served[0].listening["opcua"], timeout=60)
    with pytest.raises((ua.UaError, ConnectionError, asyncio.TimeoutError)):
        await client.connect()
    await asyncio.gather(client.disconnect(), return_exceptions=True)


async def test_the_library_s_own_tool_browses(served):
    device, certificates = served
    tool = Path(sys.executable).with_name("uals")
    security = (
        f"Basic256Sha256,SignAndEncrypt,{certificates}/client.der,{certificates}/client-key.pem"
    )
    process = await asyncio.create_subprocess_exec(
        str(tool), "-u", device.listening["opcua"], "--security", security, "--user", "operator",
        "--password", "operator-bench", "-p", "0:Objects", "-d", "1",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert "SOPStation" in out.decode()


def node_environment():
    """Where node finds node-opcua: the global folder, or what NODE_PATH names."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        return None
    paths = [os.environ.get("NODE_PATH", "")]
    if npm is not None:
        done = subprocess.run([npm, "root", "-g"], capture_output=True, text=True)
        paths.append(done.stdout.strip())
    environment = {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, paths))}
    for name in ("node-opcua", "node-opcua-client"):
        found = subprocess.run(
            [node, "-e", f"require.resolve('{name}')"], env=environment, capture_output=True
        )
        if found.returncode == 0:
            return environment
    return None


async def test_node_opcua_browses_subscribes_and_calls(served, tmp_path):
    environment = node_environment()
    if environment is None:
        if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
            pytest.fail("node-opcua is required and not installed")
        pytest.skip("node-opcua is not installed")
    device, certificates = served
    if await all_stopped(device):
        wire = device.wire()
        seq = wire.read(4, 1006, 1)[0] + 1
        assert wire.write(0, [seq, 1, 0, 0, 0, 50, 1, 200, 0, 0, 0, 0x0A0A]) == 0
        await state_is(device, "STANDBY")
    values = [0, 0, 1, 200, 60_000, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200]
    pem = tmp_path / "client.pem"
    der = (certificates / "client.der").read_bytes()
    pem.write_text(ssl.DER_cert_to_PEM_cert(der))
    process = await asyncio.create_subprocess_exec(
        "node", str(Path(__file__).with_name("opcua_client.js")), device.listening["opcua"],
        str(pem), str(certificates / "client-key.pem"), str(tmp_path / "pki"), "operator",
        "operator-bench", URI, ",".join(map(str, values)), str(crc16(struct.pack(">16i", *values))),
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    told = json.loads(out.decode().splitlines()[-1])
    assert {"State", "Terminals", "Select", "Operate"} <= set(told["names"])
    assert told["label"] == "W"
    assert told["selected"][1] == 1
    assert told["operated"] == [2]
    assert abs(told["seen"] - 60_000) < 2000
    assert told["stopped"] == [2]
