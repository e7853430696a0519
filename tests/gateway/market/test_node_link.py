"""Trades from the gateway's own node: a real door on loopback, the link, and what both agree on."""

import asyncio
import base64
import contextlib
import json
import ssl

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fakes.certificates import Authority
from lone_node import LoneNode
from signed_trades import key, public

from gateway.market import intake
from gateway.market.node_link import NodeLink, Outcomes
from gateway.market.papers import Papers
from gateway.market.topics import NODE_DOOR
from gateway.model.message import Readable


@contextlib.asynccontextmanager
async def linked(url, **more):
    """A link that polls quickly; its inbox is empty at first."""
    inbox = asyncio.Queue(maxsize=64)
    link = NodeLink(url=url, party="gw", key=key(7), inbox=inbox, poll_s=0.02, **more)
    task = asyncio.create_task(link.run())
    try:
        yield link, inbox
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def judged(lone, inbound):
    return intake.judge(
        inbound,
        topic="p2p/v1/bench4/SOP-1/trades",
        site="bench4",
        sop="SOP-1",
        signers=lone.signers,
        required=1,
    )


async def test_trades_come_in_once_and_answers_and_deliveries_go_out_until_final():
    async with LoneNode().up() as lone, linked(lone.url) as (link, inbox):
        inbound = await asyncio.wait_for(inbox.get(), 10)
        assert inbound.topic == NODE_DOOR
        message = judged(lone, inbound)
        assert isinstance(message, Readable)
        ids = [trade.id for trade in message.trades]
        assert ids == [trade["id"] for trade in lone.found["outcome"]["trades"]]
        for trade_id in ids[1:]:
            link.decided(sha256=message.sha256, trade_id=trade_id, accepted=True, reasons=())
        refusal = {"accepted": False, "reasons": ["late"]}
        link.decided(sha256=message.sha256, trade_id=ids[0], **refusal)
        await lone.until(lambda found: found["answers"])
        assert lone.found["answers"][ids[0]] == refusal
        assert {lone.found["answers"][i]["accepted"] for i in ids[1:]} == {True}
        lone.clock.set(-16)
        wh = {trade["id"]: trade["wh"] for trade in lone.found["outcome"]["trades"]}
        for trade_id in ids[1:]:
            link.delivered(trade_id, wh[trade_id] // 2, ["guard_p"])
        await lone.until(lambda found: found.get("actuals"))
        rows = {row["trade"]: row for row in lone.found["actuals"]["rows"]}
        assert rows[ids[0]]["delivered_wh"] == rows[ids[0]]["penalty"] == 0
        assert rows[ids[0]]["curtailed"] == ["refused"]
        assert all(rows[i]["delivered_wh"] == wh[i] // 2 for i in ids[1:])
        assert lone.node.replica.market.money_sum_ucur() == 0
        assert inbox.empty()


async def test_after_a_restart_only_what_is_missing_is_taken_and_said():
    async with LoneNode().up() as lone:
        async with linked(lone.url) as (_, inbox):
            first = await asyncio.wait_for(inbox.get(), 10)
        message = judged(lone, first)
        wh = {trade["id"]: trade["wh"] for trade in lone.found["outcome"]["trades"]}
        accepted = [
            {"kind": "trade.accepted", "sha256": message.sha256, "trade_id": t.id}
            for t in message.trades
        ]
        lone.clock.set(-16)
        delivery = {
            "kind": "delivery",
            "trades": [{"trade_id": i, "delivered_wh": n, "reasons": []} for i, n in wh.items()],
        }
        async with linked(lone.url) as (again, inbox):
            again.recall([*accepted, delivery], [])
            await lone.until(lambda found: found.get("actuals"))
            await again.online.wait()
            assert inbox.empty()
        assert lone.found["answers"].keys() == wh.keys()
        delivered = {row["trade"]: row["delivered_wh"] for row in lone.found["actuals"]["rows"]}
        assert delivered == wh


async def test_a_message_that_has_its_entry_and_no_verdict_is_not_taken_again():
    async with LoneNode().up() as lone:
        async with linked(lone.url) as (_, inbox):
            first = await asyncio.wait_for(inbox.get(), 10)
        sha256 = judged(lone, first).sha256
        async with aiohttp.ClientSession() as session, linked(lone.url) as (link, inbox):
            link.recall([], [sha256])
            await link.online.wait()
            async with session.get(f"{lone.url}/v1/trades") as response:
                assert (await response.json())["rounds"]["R1"]
            assert inbox.empty()
            # The verdict comes when the desk decides what it had already written down.
            link.decided(sha256=sha256, trade_id=None, accepted=False, reasons=["signer_unknown"])
            await lone.until(lambda found: found["answers"])
        words = {(a["accepted"], *a["reasons"]) for a in lone.found["answers"].values()}
        assert words == {(False, "signer_unknown")}


def test_nobody_speaks_for_a_trade_by_sending_rubbish_under_its_id():
    outcomes = Outcomes()
    outcomes.decide("rubbish", "trd-1", accepted=False, reasons=["signature"])
    assert outcomes.answer("true", "trd-1") is None
    assert outcomes.report("true", "trd-1") is None
    outcomes.decide("by-mqtt", "trd-1", accepted=True, reasons=[])
    outcomes.decide("true", "trd-1", accepted=False, reasons=["duplicate"])
    assert outcomes.answer("true", "trd-1")["accepted"]
    assert outcomes.report("true", "trd-1") is None
    outcomes.deliver("trd-1", 7, ["ramp"])
    assert outcomes.report("true", "trd-1")["delivered_wh"] == 7


RUBBISH = [
    b"", b"[]", b"nonsense", b"{}", b'{"market":"m"}', b"\xff",
    b'{"market":"m","rounds":[],"answered":[]}',
    b'{"market":"m","rounds":{"R":[1.5]},"answered":[]}',
    b'{"market":"m","rounds":{"R":7},"answered":[]}',
    b'{"market":"m","rounds":{"R":["x"]},"answered":5}',
    b'{"market":"\\ud800","rounds":{},"answered":[]}',
    b'{"market":"m","rounds":{"\\ud800":[]},"answered":[]}',
    b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("answer", RUBBISH)
async def test_what_is_no_node_is_not_believed(answer):
    asked = asyncio.Event()

    async def trades(request):
        asked.set()
        return web.Response(body=answer)

    app = web.Application()
    app.add_routes([web.get("/v1/trades", trades)])
    async with TestServer(app) as server, linked(str(server.make_url("/"))) as (link, inbox):
        await asyncio.wait_for(asked.wait(), 10)
        asked.clear()
        await asyncio.wait_for(asked.wait(), 10)
        assert not link.online.is_set()
        assert inbox.empty()


async def test_a_node_that_is_away_is_waited_for_and_gets_the_same_bytes_again():
    """The first answer to a post is lost: the message is final, and its repetition harmless."""
    posted = []

    async def lose(request, handler):
        if request.method == "POST" and request.path == "/v1/messages":
            posted.append(await request.read())
            response = await handler(request)
            if len(posted) == 1:
                request.transport.abort()
            return response
        return await handler(request)

    lone = LoneNode()
    lone.server.app.middlewares.append(web.middleware(lose))
    async with lone.up(), linked(lone.url) as (link, inbox):
        message = judged(lone, await asyncio.wait_for(inbox.get(), 10))
        for trade in message.trades:
            link.decided(sha256=message.sha256, trade_id=trade.id, accepted=True, reasons=())
        await lone.until(lambda found: found["answers"])
        lone.clock.set(-16)
        for trade in message.trades:
            link.delivered(trade.id, 1, [])
        await lone.until(lambda found: found.get("actuals"))
    assert posted[0] == posted[1] or json.loads(posted[1])["body"]["kind"] == "delivery"
    assert lone.node.replica.market.money_sum_ucur() == 0


async def test_a_gateway_that_is_no_party_yet_says_it_once_it_is():
    async with LoneNode().up() as lone:
        inbox = asyncio.Queue()
        stranger = NodeLink(url=lone.url, party="gw9", key=key(8), inbox=inbox, poll_s=0.02)
        task = asyncio.create_task(stranger.run())
        message = judged(lone, await asyncio.wait_for(inbox.get(), 10))
        for trade in message.trades:
            stranger.decided(sha256=message.sha256, trade_id=trade.id, accepted=True, reasons=())
        raw = base64.b16encode(public(key(8))).decode().lower()
        join = lone.send("op", kind="join", id="gw9", key=raw, role="gateway")
        assert lone.found["answers"] == {}
        assert (await lone.node.submit(join)).accepted
        await lone.until(lambda found: found["answers"])
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_node_behind_https_is_shown_our_certificate(tmp_path):
    authority = Authority(tmp_path)
    server, server_key = authority.issue("node", server=True)
    ours, our_key = authority.issue("gateway")
    asked = asyncio.Event()

    async def status(request):
        named = request.transport.get_extra_info("peercert")["subject"][0][0][1]
        assert named == "gateway"
        asked.set()
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/v1/{what}", status)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(server, server_key)
    door = TestServer(app)
    await door.start_server(ssl=tls)
    papers = Papers(ca_file=authority.path, certificate=ours, key_file=our_key)
    try:
        async with linked(str(door.make_url("")).rstrip("/"), papers=papers):
            await asyncio.wait_for(asked.wait(), 60)
    finally:
        await door.close()
