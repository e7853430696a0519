"""What a server can do to its client: renumber, fall silent, lie about units, flood its memory."""

import asyncio
import contextlib
import dataclasses
import signal
import time
from pathlib import Path

import pytest
from asyncua import ua

from gateway.commissioning.equipment import OpcuaReader
from gateway.devices.modbus.client import BackOff
from gateway.devices.opcua.child import MEMORY_BYTES_MAX
from gateway.devices.opcua.device import OpcuaDevice
from gateway.devices.opcua.meter import OpcuaMeter
from gateway.devices.opcua.process import Spare
from gateway.devices.profile import (
    Kind,
    Node,
    OpcuaSettings,
    Point,
    PointType,
    Profile,
    Protocol,
    Sign,
)
from gateway.model.errors import (
    BadAnswer,
    ConfigError,
    DeviceError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.telemetry import Quality
from gateway.runtime.clock import SystemClock

# Each step takes a moment; on a crowded machine many moments.
pytestmark = pytest.mark.timeout(240)
OBJECTS = "nsu=http://opcfoundation.org/UA/;i=85"
A, B = "nsu=urn:odd:a;s=Value", "nsu=urn:odd:bcd;s=Value"


def now_us():
    return time.time_ns() // 1000


async def values(client, *nodes):
    return [r.value for r in await client.read(nodes, utc_us=now_us)]


async def again(client, *nodes):
    """Read until it works: the next read after a broken connection makes a new one."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(DeviceError):
                return await values(client, *nodes)
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def connected(odd, **fields):
    client = odd.client(**fields)
    try:
        yield client
    finally:
        await client.close()


async def test_nodes_are_resolved_anew_when_the_server_numbers_its_namespaces_otherwise(odd):
    async with connected(odd) as client:
        assert await values(client, A, B) == [9.0, 11.0]
        before = client.namespaces
        odd.stop()
        odd.start("urn:odd:bcd", "urn:odd:a")
        assert await again(client, A, B) == [9.0, 11.0]
        assert client.namespaces != before
        assert sorted(client.namespaces) == sorted(before)
        assert client.counts["started"] == 1  # the same child, connected anew


async def test_a_forgotten_or_frozen_subscription_is_made_anew(odd):
    """Constant values and a dead subscription look the same, but for the server's own time."""
    seen, silences = asyncio.Queue(), asyncio.Queue()
    async with connected(odd) as client:
        client.on_data = lambda node, message: seen.put_nowait((node, message["value"]))
        watching = asyncio.get_running_loop().create_task(
            client.watch(
                [A, B], publish_ms=100, silence_s=3, on_silence=lambda: silences.put_nowait(1)
            )
        )
        async with asyncio.timeout(150):
            assert {await seen.get(), await seen.get()} == {(A, 9.0), (B, 11.0)}
            assert await asyncio.to_thread(odd.order, "forget") == "forgotten"
            await silences.get()
            while client.counts["subscribed"] < 2:
                await asyncio.sleep(0.02)
            await client.write(A, 12.5)
            assert await seen.get() == (A, 12.5)  # what was delivered again is not told again
            odd.process.send_signal(signal.SIGSTOP)
            await silences.get()
            odd.process.send_signal(signal.SIGCONT)
            while client.counts["subscribed"] < 3:
                await asyncio.sleep(0.02)
            assert await again(client, A) == [12.5]
            await client.write(A, 9.0)
            assert await seen.get() == (A, 9.0)
        assert not watching.done()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert client.counts["silent"] >= 1


async def test_a_subscription_to_what_is_not_there_is_refused(odd):
    async with connected(odd) as client:
        with pytest.raises(DeviceRefused, match="s=Nothing"):
            await client.subscribe([A, "nsu=urn:odd:a;s=Nothing"], publish_ms=100)
        assert await values(client, A) == [9.0]


def rss_bytes(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


async def test_a_reply_beyond_all_memory_costs_a_child_and_control_data_is_back(odd):
    """Fifteen million values fit into a message and not into the memory the child may have.

    The spare was ready before, so nothing has to be imported until the data is back.
    """
    patient = BackOff(first_s=3600, pause_s_max=3600)
    async with connected(odd, timeout_s=20, spare=Spare(), back_off=patient) as client:
        assert await values(client, A) == [9.0]
        child, ours = client._child.process.pid, rss_bytes("self")
        assert rss_bytes(child) < MEMORY_BYTES_MAX
        async with asyncio.timeout(60):
            while not client._spare.ready:
                await asyncio.sleep(0.02)
        spare = client._spare._coming.result().process.pid
        with pytest.raises(OutcomeUnknown, match="child"):
            await values(client, "nsu=urn:odd:a;s=Bomb")
        ended_s = time.monotonic()
        assert await values(client, A) == [9.0]
        print(f"control data back after {time.monotonic() - ended_s:.2f} s")
        assert client._child.process.pid == spare != child
        assert client.counts["died"] + client.counts["killed"] == 1
        assert (client.counts["started"], client.counts["spare_taken"]) == (1, 1)
        assert client.counts["connected"] == 2
        assert client._spare._coming is not None  # the next one is on its way
        assert rss_bytes("self") - ours < 32 << 20


async def test_children_that_die_before_an_answer_are_not_started_one_after_the_other(odd):
    patient = BackOff(first_s=3600, pause_s_max=3600)
    async with connected(odd, back_off=patient) as client:
        for _ in range(2):
            asking = asyncio.ensure_future(client.call(OBJECTS, "nsu=urn:odd:a;s=Stuck"))
            while not (client._connected and client._waiting):
                await asyncio.sleep(0.01)
            client._child.process.kill()
            with pytest.raises(OutcomeUnknown, match="child"):
                await asking
        with pytest.raises(DeviceNotSent, match="waiting before the next try"):
            await values(client, A)
        assert client.counts["started"] == 2


@pytest.mark.parametrize(
    ("node", "there"),
    [
        (Node(path="Objects/o:Power"), "kW"),
        (Node(node="nsu=o;s=Power"), "kW"),
        (Node(path="Objects/o:Value"), "None"),
    ],
)
async def test_a_wrong_unit_keeps_the_device_out(odd, node, there):
    point = Point(name="p", type=PointType.FLOAT64, unit="W", unit_check="server", node=node)
    profile = Profile(
        id="odd", kind=Kind.SENSOR, protocol=Protocol.OPCUA, points=(point,),
        namespaces={"o": "urn:odd:a"},
    )  # fmt: skip
    async with connected(odd) as client:
        device = OpcuaDevice(client=client, profile=profile, clock=SystemClock())
        for _ in range(2):
            with pytest.raises(ConfigError, match=f"p: W here, {there} there"):
                await device.get()


async def test_a_method_that_does_not_know_its_outcome_is_unknown_and_not_refused(odd):
    async with connected(odd) as client:
        with pytest.raises(OutcomeUnknown):
            await client.call(OBJECTS, "nsu=urn:odd:a;s=Slow")
        (reading,) = await client.read([A], utc_us=now_us)
        assert reading.quality is not Quality.BAD


@pytest.mark.parametrize(
    "code",
    [
        ua.StatusCodes.BadTcpInternalError,
        ua.StatusCodes.BadSecureChannelClosed,
        ua.StatusCodes.BadResponseTooLarge,
        ua.StatusCodes.BadShutdown,
    ],
)
async def test_a_method_whose_answer_is_cut_off_is_unknown_and_the_next_order_finds_a_way(
    odd, code
):
    async with connected(odd) as client:
        with pytest.raises(OutcomeUnknown):
            await client.call(OBJECTS, "nsu=urn:odd:a;s=Gone", [("UInt32", code)])
        assert await again(client, A) == [9.0]
        assert client.counts["connected"] == 2


async def test_an_argument_that_does_not_fit_is_refused_for_it_never_left(odd):
    async with connected(odd) as client:
        with pytest.raises(DeviceRefused):
            await client.call(OBJECTS, "nsu=urn:odd:a;s=Slow", [("UInt16", 70_000)])
        assert await values(client, A) == [9.0]
        assert (client.counts["started"], client.counts["connected"]) == (1, 1)


# The odd server stamps a value when it changes, as many do.
METER = Profile(
    opcua=OpcuaSettings(stale_after_ms=3_600_000),
    id="odd-meter", kind=Kind.METER, protocol=Protocol.OPCUA, namespaces={"a": "urn:odd:a", "b": "urn:odd:bcd"},
    points=(
        Point(name="e.import", type=PointType.UINT64, unit="Wh", node=Node(path="Objects/a:Value")),
        Point(name="e.export", type=PointType.UINT64, unit="Wh", node=Node(path="Objects/b:Value")),
        Point(name="p", type=PointType.FLOAT64, unit="W", node=Node(path="Objects/a:Power")),
    ),
)  # fmt: skip


async def test_a_meter_gives_good_values_or_no_reading(odd):
    async with connected(odd) as client:
        device = OpcuaDevice(client=client, profile=METER, clock=SystemClock())
        meter = OpcuaMeter(device=device, profile=METER, clock=SystemClock())
        found = await meter.read()
        assert (found.import_wh, found.export_wh, found.p_w) == (9, 11, -1000)  # import positive
        turned = dataclasses.replace(METER, sign={"p": Sign.INJECT_POSITIVE})
        assert (
            await OpcuaMeter(device=device, profile=turned, clock=SystemClock()).read()
        ).p_w == 1000
        await client.write(A, -5.0)
        with pytest.raises(BadAnswer, match="below zero"):
            await meter.read()
        await client.write(A, 9.0)
        gone = dataclasses.replace(METER.points[0], node=Node(path="Objects/a:Nothing"))
        broken = dataclasses.replace(METER, points=(gone, *METER.points[1:]))
        device = OpcuaDevice(client=client, profile=broken, clock=SystemClock())
        with pytest.raises(BadAnswer, match=r"e\.import has no good value"):
            await OpcuaMeter(device=device, profile=broken, clock=SystemClock()).read()
        reader = OpcuaReader(device, SystemClock())
        poll = await reader.read(["e.import", "e.export"])
        assert (dict(poll.points), poll.missing) == ({"e.export": 11.0}, ("e.import",))
        assert reader.has("p", "e.export")
        assert not reader.has("p", "v1")
