"""The OPC UA client against the simulated station's server, and against servers that are not it."""

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.config.profile_file import load_profile
from gateway.devices.opcua import pipe
from gateway.devices.opcua.child import MEMORY_BYTES_MAX
from gateway.devices.opcua.client import OpcuaClient, Trust, reading_of
from gateway.devices.opcua.device import OpcuaDevice, node_text
from gateway.devices.profile import Node
from gateway.model.errors import ConfigError, DeviceRefused, OutcomeUnknown
from gateway.model.telemetry import Quality
from gateway.runtime.clock import SystemClock

ROOT = Path(__file__).resolve().parents[4]
NS = "urn:sop-gateway:bench:sop-station"
STATION = f"path=Objects|{NS}:SOPStation"


def at(*names):
    return "|".join([STATION, *(f"{NS}:{n}" for n in names)])


def now_us():
    return time.time_ns() // 1000


def start(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0", "--opcua", "0", "--certs", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    return process, json.loads(process.stdout.readline())["listening"]["opcua"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """The station's server, our own files and who trusts whom."""
    folder = tmp_path_factory.mktemp("opcua")
    process, url = start(folder / "station")
    own = folder / "own"
    own.mkdir()
    asyncio.run(
        setup_self_signed_certificate(
            own / "key.pem",
            own / "cert.der",
            "urn:sop-gateway:client",
            "localhost",
            [ExtendedKeyUsageOID.CLIENT_AUTH],
            {"commonName": "gateway"},
        )
    )
    (folder / "trust-station").mkdir()
    shutil.copy(folder / "station" / "opcua-server.der", folder / "trust-station" / "server.der")
    (folder / "trust-nobody").mkdir()
    yield {"folder": folder, "station": url}
    process.terminate()
    process.wait()
    process.stdout.close()


def trust_of(servers, *, pinned="station", trusted="station"):
    folder = servers["folder"]
    return Trust(
        certificate=folder / "own" / "cert.der",
        key=folder / "own" / "key.pem",
        pinned=folder / pinned / "opcua-server.der",
        trusted=folder / f"trust-{trusted}",
    )


@contextlib.asynccontextmanager
async def client_to(servers, *, url=None, trust=None, **fields):
    options = {"user": "operator", "password": "operator-bench", "timeout_s": 15.0} | fields
    client = OpcuaClient(
        name="ua", url=url or servers["station"], trust=trust or trust_of(servers), **options
    )
    try:
        yield client
    finally:
        await client.close()


async def test_batch_reads_typed_writes_and_methods(servers):
    async with client_to(servers) as client:
        nodes = [
            at("State"),
            at("VdcV"),
            at("Terminals", "T2", "SAvail"),
            at("Terminals", "T1", "EnergyInjWh"),
        ]
        async with asyncio.timeout(60):  # a busy machine may make the first values old
            while True:
                got = await client.read(nodes, utc_us=now_us)
                if [r.quality for r in got] == [Quality.GOOD] * 4:
                    break
        assert got[0].value == 5
        assert 700 < got[1].value < 900
        assert got[2].value == 250_000
        await client.write(at("HeartbeatIn"), 9)
        assert (await client.read([at("HeartbeatIn")], utc_us=now_us))[0].value == 9
        owner = [("UInt16", 0), ("UInt16", 7)]
        assert await client.call(STATION, at("Cancel"), owner) == [2]
        assert client.counts == {"started": 1, "connected": 1}


async def test_a_device_by_its_profile_with_units_checked(servers):
    profile = load_profile("sop-station-opcua")
    async with client_to(servers) as client:
        device = OpcuaDevice(client=client, profile=profile, clock=SystemClock())
        got = await device.get()
        assert set(got) == {p.name for p in profile.all_points() if not p.node.method}
        assert [n for n, v in got.items() if v.value is None] == []
        assert got["state.code"].value == 5
        assert isinstance(got["t2.e.inject"].value, int)
        kilo = replace(profile.point("t1.p"), unit="kW")
        points = tuple(kilo if p.name == "t1.p" else p for p in profile.points)
        other = OpcuaDevice(
            client=client, profile=replace(profile, points=points), clock=SystemClock()
        )
        for _ in range(2):  # and it stays so
            with pytest.raises(ConfigError, match=r"t1\.p: kW here, W there"):
                await other.get(["t1.p"])


def test_nodes_are_named_by_their_namespace_and_never_by_an_index():
    spaces = {"c": "http://acme.example/UA/"}
    assert node_text(Node(node="nsu=c;s=T.P"), spaces) == "nsu=http://acme.example/UA/;s=T.P"
    assert node_text(Node(path="Objects/c:SOP/c:V"), spaces) == (
        "path=Objects|http://acme.example/UA/:SOP|http://acme.example/UA/:V"
    )


async def test_a_bad_or_missing_node_is_no_number(servers):
    async with client_to(servers) as client:
        (missing,) = await client.read([f"nsu={NS};s=Nothing"], utc_us=now_us)
        assert (missing.value, missing.quality) == (None, Quality.BAD)
        assert missing.status.startswith("Bad")
        with pytest.raises(DeviceRefused, match="namespace"):
            await client.read(["nsu=urn:not:there;s=X"], utc_us=now_us)
        with pytest.raises(DeviceRefused):
            await client.call(STATION, at("Select"), [("UInt32", 1)])
        # The connection is still good.
        assert (await client.read([at("State")], utc_us=now_us))[0].value == 5


async def test_a_subscription_reports_changes(servers):
    async with client_to(servers) as client:
        seen, enough = [], asyncio.Event()

        def on_data(node, message):
            seen.append((node, message["value"]))
            if len(seen) >= 4:
                enough.set()

        client.on_data = on_data
        await client.subscribe([at("VdcV"), at("HeartbeatOut")], publish_ms=100)
        async with asyncio.timeout(60):
            await enough.wait()
        assert {n for n, _ in seen} <= {at("VdcV"), at("HeartbeatOut")}


async def test_without_trust_opcua_stays_off_for_good(servers):
    async with client_to(servers, trust=trust_of(servers, trusted="nobody")) as client:
        for _ in range(2):
            with pytest.raises(ConfigError, match="stays off"):
                await client.read([at("State")], utc_us=now_us)
        assert client.counts["error_security"] == 1


async def test_a_child_that_hangs_or_dies_is_replaced_and_nothing_is_repeated(servers):
    async with client_to(servers, timeout_s=3) as client:
        await client.read([at("State")], utc_us=now_us)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            client._child.process.send_signal(number)
            if number == signal.SIGKILL:
                await client._child.process.wait()
                with contextlib.suppress(OutcomeUnknown):
                    await client.read([at("State")], utc_us=now_us)
            else:
                with pytest.raises(OutcomeUnknown):
                    await client.write(at("HeartbeatIn"), 100)
            (state,) = await client.read([at("State")], utc_us=now_us)
            assert state.value == 5
        assert client.counts["started"] == client.counts["connected"] == 3
        (beat,) = await client.read([at("HeartbeatIn")], utc_us=now_us)
        assert beat.value != 100


async def test_the_child_cannot_grow_beyond_its_limit(servers):
    async with client_to(servers) as client:
        await client.read([at("State")], utc_us=now_us)
        limits = Path(f"/proc/{client._child.process.pid}/limits").read_text()
        (line,) = [text for text in limits.splitlines() if text.startswith("Max address space")]
        assert line.split()[3:5] == [str(MEMORY_BYTES_MAX)] * 2


async def test_a_flood_on_the_pipe_is_cut_off():
    reader = asyncio.StreamReader()
    reader.feed_data((pipe.MESSAGE_BYTES_MAX + 1).to_bytes(4))
    with pytest.raises(pipe.PipeBroken):
        await pipe.receive(reader)
    for data in (b"\0\0\0\2{", b"\0\0\0\2[]", b"\0\0\0\3{x}"):
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        with pytest.raises(pipe.PipeBroken):
            await pipe.receive(reader)


@pytest.mark.parametrize(
    ("status", "age_us", "value", "quality"),
    [
        ("Good", 0, 1.5, Quality.GOOD),
        ("GoodOverload", 0, 1.5, Quality.GOOD),
        ("UncertainLastUsableValue", 0, 1.5, Quality.UNCERTAIN),
        ("BadSensorFailure", 0, None, Quality.BAD),
        ("Good", 4_000_000, 1.5, Quality.UNCERTAIN),
        ("Good", -4_000_000, 1.5, Quality.UNCERTAIN),
    ],
)
def test_status_and_source_time_become_quality(status, age_us, value, quality):
    found = {"value": 1.5, "status": status, "source_utc_us": 10_000_000 - age_us}
    reading = reading_of("n", found, now_utc_us=10_000_000)
    assert (reading.value, reading.quality) == (value, quality)
