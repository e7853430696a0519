import base64
import json

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.network.config import DeliverySite
from ledger.network.ordering import EmbeddedOrdering
from ledger.network.server import Door

SITE = DeliverySite(
    site="bench4",
    sop="SOP-1",
    receiver="gateway",
    currency="CNY",
    domains={f"T{i}": f"region-{i}" for i in range(1, 5)},
)


@pytest.fixture
async def lone(net):
    """A node with its door, and a client at it."""
    clock = net.Clock()
    node, _ = net.make_node("n0", EmbeddedOrdering(), clock, committee_=net.committee(1, 0))
    public = bytes.fromhex(net.public("n0"))
    door = Door(node, key=net.key_of("n0"), public=public, delivery=SITE)
    async with TestClient(TestServer(door.application())) as client, net.running(node):
        yield node, clock, client


async def cleared(net, clock, client, send):
    for message in send.joins():
        assert (await client.post("/v1/messages", data=message)).status == 200
    opening = send("op", kind="open", round="R1", document=net.round_document())
    clock.set(10)
    assert (await client.post("/v1/messages", data=opening)).status == 200
    for kind, at in (("commit", 9), ("reveal", 4.5)):
        clock.set(at)
        for i in range(1, 5):
            offers = net.offers(i)
            body = {"hash": net.seal(f"R{i}", offers)} if kind == "commit" else {"salt": net.SALT, "offers": offers}  # fmt: skip
            message = send(f"R{i}", kind=kind, round="R1", **body)
            assert (await client.post("/v1/messages", data=message)).status == 200
    clock.set(3)
    # Any message makes the next block; clearing comes before it.
    more = send("op", kind="deposit", id="R1", amount=1)
    assert (await client.post("/v1/messages", data=more)).status == 200


async def test_trades_come_signed_and_the_same_each_time(net, lone):
    _, clock, client = lone
    send = net.Sender()
    nothing = {"market": "m", "rounds": {}, "answered": []}
    assert (await (await client.get("/v1/trades")).json()) == nothing
    await cleared(net, clock, client, send)
    first = await (await client.get("/v1/trades")).json()
    assert first == await (await client.get("/v1/trades")).json()
    again = await (await client.get("/v1/rounds/R1/trades")).json()
    assert first["rounds"]["R1"] == again["envelopes"]
    outcome = (await (await client.get("/v1/rounds/R1")).json())["outcome"]
    names = []
    for envelope in again["envelopes"]:
        body = base64.b64decode(envelope["payload"])
        kind = envelope["payloadType"].encode()
        (signature,) = envelope["signatures"]
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(net.public("n0")))
        key.verify(base64.b64decode(signature["sig"]), signed)
        document = json.loads(body)["Schedule_MarketDocument"]
        assert document["domain.mRID"]["value"] == "bench4"
        names += [series["marketAgreement.mRID"] for series in document["TimeSeries"]]
    assert sorted(names) == sorted(trade["id"] for trade in outcome["trades"])
    assert (await (await client.get("/v1/rounds")).json()) == {"R1": "cleared"}


async def test_statuses_tell_apart_what_may_be_sent_again(net, lone):
    node, _, client = lone
    send = net.Sender()
    join = next(iter(send.joins()))
    assert (await client.post("/v1/messages", data=join)).status == 200
    assert (await client.post("/v1/messages", data=join)).status == 200  # the same answer
    refused = await client.post("/v1/messages", data=send("op", kind="deposit", id="Z", amount=1))
    assert refused.status == 409
    assert (await refused.json())["errors"][0]["message"] == "'Z' is not a party"
    stranger = await client.post("/v1/messages", data=send("Z", kind="leave"))
    assert stranger.status == 400
    assert (await client.post("/v1/messages", data=b"{")).status == 400
    party = await (await client.get("/v1/parties/op")).json()
    assert party["seq"] == 2
    for path in ("/v1/parties/Z", "/v1/rounds/R9", "/v1/rounds/R9/trades"):
        assert (await client.get(path)).status == 404
    status = await (await client.get("/v1/status")).json()
    assert (status["height"], status["alarm"], status["money_sum"]) == (node.replica.height, "", 0)


async def test_a_message_that_is_not_final_in_time_may_be_sent_again(net, monkeypatch):
    import ledger.network.server

    monkeypatch.setattr(ledger.network.server, "FINAL_WITHIN_S", 0.05)
    node, _ = net.make_node("n0", EmbeddedOrdering(), net.Clock())  # one of four: no quorum
    door = Door(node, key=net.key_of("n0"), public=b"", delivery=None)
    async with TestClient(TestServer(door.application())) as client, net.running(node):
        answer = await client.post("/v1/messages", data=next(iter(net.Sender().joins())))
        assert answer.status == 503
        assert (await answer.json())["accepted"] is None


async def test_rounds_of_other_terminals_are_not_offered_to_this_gateway(net, lone):
    node, clock, client = lone
    await cleared(net, clock, client, net.Sender())
    elsewhere = DeliverySite(
        site="far", sop="SOP-9", receiver="gateway", currency="CNY", domains={"T1": "region-a"}
    )
    public = bytes.fromhex(net.public("n0"))
    door = Door(node, key=net.key_of("n0"), public=public, delivery=elsewhere)
    async with TestClient(TestServer(door.application())) as other:
        assert (await (await other.get("/v1/trades")).json())["rounds"] == {}
    assert list((await (await client.get("/v1/trades")).json())["rounds"]) == ["R1"]
