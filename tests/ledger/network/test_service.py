import asyncio
import contextlib
import dataclasses

import aiohttp
import pytest
from fakes.certificates import Authority

from ledger.log.keys import create_key
from ledger.log.writer import LedgerFull, LedgerWriter
from ledger.network import node as node_module
from ledger.network.config import config_from
from ledger.network.service import STATE, KeyDiffers, serve
from ledger.network.tls import TlsFiles, session


@contextlib.asynccontextmanager
async def serving(config, clock):
    """The service in the background; gives its address and node."""
    loop = asyncio.get_running_loop()
    started = loop.create_future()
    task = asyncio.create_task(
        serve(config, utc_ms=clock, ready=lambda port, node: started.set_result((port, node)))
    )
    done, _ = await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    if task in done:
        await task
    port, node = await started
    try:
        yield f"http://127.0.0.1:{port}", node
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def config(tmp_path, net):
    public = create_key(tmp_path / "n1.key", "n1").key.public.hex()
    create_key(tmp_path / "log.key", "n1.example")
    return config_from(
        {
            "market": "m",
            "node": "n1",
            "key": "n1.key",
            "ledger": {"dir": "ledger", "origin": "n1.example", "key": "log.key"},
            "operator": {"id": "op", "key": net.public("op")},
            "nodes": {"n1": public},
        },
        tmp_path,
    )


async def post(url, message):
    async with aiohttp.ClientSession() as session, session.post(url + "/v1/messages", data=message) as answer:  # fmt: skip
        return answer.status


async def test_a_restart_goes_on_from_the_kept_state(config, net, monkeypatch):
    monkeypatch.setattr(node_module, "SNAPSHOT_EVERY", 3)
    clock, send = net.Clock(), net.Sender()
    async with serving(config, clock) as (url, node):
        joins = list(send.joins())
        for message in joins:
            assert await post(url, message) == 200
        height, root = node.replica.height, node.replica.market.root()
    state = config.ledger_directory / STATE
    assert state.exists()
    async with serving(config, clock) as (url, node):
        assert (node.replica.height, node.replica.market.root()) == (height, root)
        # What was final before the kept state is answered as it was.
        assert [await post(url, message) for message in joins] == [200] * len(joins)
        assert node.replica.height == height
        assert await post(url, send("op", kind="deposit", id="R1", amount=5)) == 200
        height, root = node.replica.height, node.replica.market.root()
    # A kept state that was tampered with is not believed: the ledger decides.
    state.write_bytes(state.read_bytes().replace(b'"deposit":1000000000', b'"deposit":9000000000'))
    async with serving(config, clock) as (url, node):
        assert (node.replica.height, node.replica.market.root()) == (height, root)
    state.write_bytes(b"rubbish")
    async with serving(config, clock) as (url, node):
        assert (node.replica.height, node.replica.market.root()) == (height, root)


async def test_a_state_that_can_not_be_kept_or_read_ends_no_node(config, net, monkeypatch):
    """It is a shortcut for the next start only."""
    monkeypatch.setattr(node_module, "SNAPSHOT_EVERY", 1)
    joins = net.Sender().joins()
    for _ in range(2):
        async with serving(config, net.Clock()) as (url, node):
            (config.ledger_directory / STATE).mkdir(exist_ok=True)
            assert await post(url, next(joins)) == 200
            height = node.replica.height
    assert height == 2


async def test_a_ledger_without_room_is_said_as_what_it_is(config, net, monkeypatch):
    """Not as a group of tasks of which one has failed."""

    def full(*_, **__):
        raise LedgerFull("no room on disk")

    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(config, utc_ms=net.Clock(), ready=lambda _port, node: ready.set_result(node))
    )
    node = await ready
    monkeypatch.setattr(LedgerWriter, "_make_room", full)
    waiting = asyncio.create_task(node.submit(next(net.Sender().joins())))
    with pytest.raises(LedgerFull, match="no room"):
        await task
    waiting.cancel()


async def test_a_key_the_committee_does_not_know_is_refused(config, tmp_path):
    (tmp_path / "n1.key").unlink()
    create_key(tmp_path / "n1.key", "n1")
    with pytest.raises(KeyDiffers):
        async with serving(config, lambda: 0):
            pass


async def test_a_door_with_certificates_opens_to_those_who_show_one(config, net, tmp_path):
    """The same files serve and call: a certificate of a node is for both sides."""
    authority, other = Authority(tmp_path / "pki"), Authority(tmp_path / "other")
    stranger, stranger_key = other.issue("stranger")

    def files(name, **more):
        certificate, key = authority.issue(name, **more)
        return TlsFiles(authority=authority.path, certificate=certificate, key=key)

    def strange():
        return TlsFiles(authority=authority.path, certificate=stranger, key=stranger_key)

    config = dataclasses.replace(config, tls=files("n1", server=True))
    async with serving(config, net.Clock()) as (url, _node):
        url = url.replace("http:", "https:") + "/v1/status"
        async with session(files("gw")) as ours, ours.get(url) as answer:
            assert (await answer.json())["node"] == "n1"
        for papers in (None, strange()):
            async with session(papers) as theirs:
                with pytest.raises(aiohttp.ClientError):
                    await theirs.get(url)
