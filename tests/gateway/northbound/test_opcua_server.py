"""The OPC UA server in its own process: what it shows, and to whom it does not."""

import asyncio
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import psutil
import pytest
from asyncua import Client, ua
from asyncua.crypto.security_policies import (
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
)
from fakes.opcua_papers import certificate, new_key, save

from gateway.northbound.opcua_feed import OpcuaFeed, OpcuaServing
from gateway.northbound.opcua_server import SESSIONS_MAX

SERVER_URI, CLIENT_URI = "urn:sop-gateway:state", "urn:control-room"
KEY, OTHER_KEY = new_key(), new_key()
NAMESPACE = "urn:sop-gateway:site:bench4"


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("papers")
    save(folder, "server", KEY, certificate(KEY, SERVER_URI, name="gateway"))
    save(folder, "room", KEY, certificate(KEY, CLIENT_URI, name="room"))
    (folder / "trusted").mkdir()
    shutil.copy(folder / "room.der", folder / "trusted")
    cases = {
        "stranger": {"key": OTHER_KEY, "uri": CLIENT_URI},
        "expired": {"key": KEY, "uri": CLIENT_URI, "days": (-9, -1)},
        "future": {"key": KEY, "uri": CLIENT_URI, "days": (1, 9)},
        "server-only": {"key": KEY, "uri": CLIENT_URI, "usages": ("server",)},
        "other-uri": {"key": KEY, "uri": "urn:somebody:else"},
    }
    for name, case in cases.items():
        fields = dict(case)
        key = fields.pop("key")
        save(folder, name, key, certificate(key, fields.pop("uri"), name=name, **fields))
    # Trusted, but wrong in another way: trust alone must not be enough.
    for name in ("expired", "future", "server-only"):
        shutil.copy(folder / f"{name}.der", folder / "trusted")
    return folder


@asynccontextmanager
async def serving(papers, views, *, period_s=0.05):
    feed = OpcuaFeed(
        OpcuaServing(
            host="127.0.0.1",
            port=0,
            certificate=papers / "server.der",
            key=papers / "server.pem",
            trusted=papers / "trusted",
        ),
        views,
        period_s=period_s,
    )
    running = asyncio.create_task(feed.run())
    try:
        async with asyncio.timeout(90):
            await feed.listening.wait()
        yield feed
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def client_of(
    papers,
    port,
    who="room",
    *,
    key=None,
    policy=SecurityPolicyBasic256Sha256,
    mode=ua.MessageSecurityMode.SignAndEncrypt,
    uri=CLIENT_URI,
    timeout_s=30,
):
    client = Client(f"opc.tcp://127.0.0.1:{port}/sopgw", timeout=timeout_s)
    client.application_uri = uri
    return client, client.set_security(
        policy,
        str(papers / f"{who}.der"),
        str(papers / f"{key or who}.pem"),
        server_certificate=str(papers / "server.der"),
        mode=mode,
    )


@asynccontextmanager
async def reader_of(papers, port, who="room", **more):
    client, secured = client_of(papers, port, who, **more)
    await secured
    async with client:
        yield client


def node(client, name):
    index = client.namespaces[NAMESPACE]
    return client.get_node(ua.NodeId(f"bench4/SOP-1/{name}", index))


@asynccontextmanager
async def session(papers, port):
    async with reader_of(papers, port) as client:
        array = await client.get_namespace_array()
        client.namespaces = {uri: k for k, uri in enumerate(array)}
        yield client


async def until(read, wanted):
    async with asyncio.timeout(60):
        while await read() != wanted:
            await asyncio.sleep(0.02)


async def is_as_the_site_says(client):
    power = node(client, "Terminals/T2/ActivePower")
    await until(power.read_value, -150_200)
    ranged = await power.get_child("0:EURange")
    bounds = await ranged.read_value()
    assert (bounds.Low, bounds.High) == (-230_000.0, 230_000.0)
    unit = await (await power.get_child("0:EngineeringUnits")).read_value()
    assert unit.UnitId == int.from_bytes(b"WTT", "big")
    assert (await power.read_type_definition()).Identifier == ua.ObjectIds.AnalogUnitRangeType
    assert await node(client, "DcVoltage").read_value() == pytest.approx(801.2)
    assert await node(client, "State").read_value() == "EXECUTING"
    assert await node(client, "Ledger/Anchored").read_value() is False
    assert await node(client, "Terminals/T3/Meter/ExportEnergy").read_value() == 4_000


async def test_a_reader_sees_values_with_units_hears_changes_and_is_told_what_is_old(papers, view):
    now = [view]
    async with serving(papers, lambda: now[0]) as feed, session(papers, feed.port) as client:
        await is_as_the_site_says(client)
        await hears_of_a_change(client, now, view)
        fresh = node(client, "Terminals/T2/ActivePower")
        await until(fresh.read_value, -150_200)
        # The fourth meter does not answer, and the master has no setpoint of its own.
        for name in ("Terminals/T4/Meter/ActivePower", "Terminals/T1/SetActivePower"):
            if name.endswith("SetActivePower"):
                t1 = replace(view.terminals[0], set_p_w=None)
                now[0] = replace(view, terminals=(t1, *view.terminals[1:]))

            async def status(name=name):
                data = await node(client, name).read_data_value(raise_on_bad_status=False)
                return data.StatusCode.name

            await until(status, "BadNoData")
        station = replace(view.devices[0], connected=False)
        now[0] = replace(view, devices=(station, *view.devices[1:]))

        async def stale():
            data = await fresh.read_data_value(raise_on_bad_status=False)
            return data.StatusCode.name

        await until(stale, "UncertainLastUsableValue")


async def hears_of_a_change(client, now, view):
    heard = asyncio.Queue()

    class Handler:
        def datachange_notification(self, _node, value, _data):
            heard.put_nowait(value)

    subscription = await client.create_subscription(50, Handler())
    await subscription.subscribe_data_change(node(client, "Mode"))
    async with asyncio.timeout(60):
        while await heard.get() != "on":
            pass
        now[0] = replace(view, mode="off")
        while await heard.get() != "off":
            pass
    await subscription.delete()
    now[0] = view


async def orders_are_refused(papers, feed):
    async with session(papers, feed.port) as client:
        power = node(client, "Terminals/T2/SetActivePower")
        await until(power.read_value, -150_000)
        refused = (ua.UaStatusCodeError, ua.UaError)
        with pytest.raises(refused):
            await power.write_value(ua.DataValue(ua.Variant(1, ua.VariantType.Int64)))
        with pytest.raises(refused):
            await client.nodes.objects.add_object(2, "mine")
        with pytest.raises(refused):
            await client.delete_nodes([power])
        server = client.nodes.server
        with pytest.raises(refused):
            await server.call_method("0:GetMonitoredItems", ua.Variant(1, ua.VariantType.UInt32))
        assert await power.read_value() == -150_000


def user_name(client):
    client.set_user("operator")
    client.set_password("operator-bench")


STRANGERS = {
    "a certificate nobody trusts": {"who": "stranger"},
    "trusted, but expired": {"who": "expired"},
    "trusted, but not yet valid": {"who": "future"},
    "trusted, but for servers only": {"who": "server-only"},
    "another application's name": {"who": "other-uri", "uri": "urn:somebody:else"},
    # These get no answer at all, so that waiting longer shows nothing more.
    "the key of another": {"who": "room", "key": "stranger", "timeout_s": 3},
    "signed only": {"mode": ua.MessageSecurityMode.Sign, "timeout_s": 3},
    "signed only, the other policy": {
        "timeout_s": 3,
        "mode": ua.MessageSecurityMode.Sign,
        "policy": SecurityPolicyAes256Sha256RsaPss,
    },
    "a stranger by the other policy": {
        "who": "stranger",
        "policy": SecurityPolicyAes256Sha256RsaPss,
    },
    "a name and a password": {"user": True},
}


REFUSED = (ua.UaError, ua.UaStatusCodeError, ConnectionError, TimeoutError, ValueError)


async def is_refused(client, secured):
    await secured
    with pytest.raises(REFUSED):
        await client.connect()


async def test_strangers_and_orders_are_refused_and_a_dead_server_is_replaced(
    papers, view, monkeypatch
):
    monkeypatch.setattr("gateway.northbound.opcua_feed.BACKOFF_S_MIN", 0.05)
    async with serving(papers, lambda: view) as feed:
        await orders_are_refused(papers, feed)
        async with asyncio.TaskGroup() as strangers:
            for case in STRANGERS.values():
                fields = dict(case)
                named = fields.pop("user", False)
                client, secured = client_of(papers, feed.port, **fields)
                if named:
                    user_name(client)
                strangers.create_task(is_refused(client, secured))
        open_client = Client(f"opc.tcp://127.0.0.1:{feed.port}/sopgw", timeout=30)
        with pytest.raises(REFUSED):
            await open_client.connect()
        async with session(papers, feed.port) as client:
            assert await node(client, "Mode").read_value() == "on"
        await no_more_than_so_many(papers, feed)
        await is_replaced(papers, feed)


async def no_more_than_so_many(papers, feed):
    """Sessions are bounded: the next reader is refused, and served when another has gone."""
    async with AsyncExitStack() as readers:
        for _ in range(SESSIONS_MAX - 1):
            await readers.enter_async_context(session(papers, feed.port))
        async with session(papers, feed.port):
            with pytest.raises(REFUSED):
                async with session(papers, feed.port):
                    pass
        async with session(papers, feed.port) as client:
            assert await node(client, "Mode").read_value() == "on"


async def is_replaced(papers, feed):
    """Kill the server's process: the gateway goes on and starts another."""
    for child in psutil.Process().children():
        if "gateway.northbound.opcua_server" in child.cmdline():
            child.kill()
    async with asyncio.timeout(90):
        while feed.started_count < 2 or not feed.listening.is_set():
            await asyncio.sleep(0.02)
    async with session(papers, feed.port) as client:
        await until(node(client, "Mode").read_value, "on")


async def test_what_is_wrong_with_the_files_is_said_and_nothing_listens(
    papers, view, tmp_path, caplog
):
    (tmp_path / "empty").mkdir()
    feed = OpcuaFeed(
        OpcuaServing(
            host="127.0.0.1",
            port=0,
            certificate=papers / "server.der",
            key=papers / "server.pem",
            trusted=tmp_path / "empty",
        ),
        lambda: view,
    )
    assert await feed._once() is False
    assert "no OPC UA server" in caplog.text
