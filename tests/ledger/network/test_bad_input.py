"""What is wrong is refused at the door with its reason, and nothing is settled by halves."""

import json

import pytest
from aiohttp.test_utils import TestClient, TestServer

from ledger.log.canonical import decode, encode
from ledger.network.ordering import EmbeddedOrdering
from ledger.network.server import Door

HUGE = {"0": 0, "1": 10**12}


@pytest.fixture
async def opened(net):
    """A node whose round R1 is sealed by four regions and past its gate; nothing is revealed."""
    clock, send = net.Clock(), net.Sender()
    node, _ = net.make_node("n0", EmbeddedOrdering(), clock, committee_=net.committee(1, 0))
    door = Door(node, key=net.key_of("n0"), public=bytes.fromhex(net.public("n0")), delivery=None)
    async with TestClient(TestServer(door.application())) as client, net.running(node):
        for message in send.joins():
            assert (await node.submit(message)).accepted
        clock.set(10)
        opening = send("op", kind="open", round="R1", document=net.round_document())
        assert (await node.submit(opening)).accepted
        for i in range(1, 5):
            offers = HUGE if i == 2 else net.offers(i)
            seal = net.seal(f"R{i}", offers)
            assert (await node.submit(send(f"R{i}", kind="commit", round="R1", hash=seal))).accepted
        clock.set(4.5)
        yield node, send, client


def reveal(send, net, party="R1", **changes):
    body = {"kind": "reveal", "round": "R1", "salt": net.SALT, "offers": net.offers(1), **changes}
    return send(party, **body)


def altered(raw, **changes):
    """Other content under the same signature."""
    return encode({**decode(raw), **changes})


def joining(send, net, **changes):
    body = {"kind": "join", "id": "R9", "key": net.public("R9"), "role": "region", "terminal": "T9"}
    return send("op", **{**body, **changes})


# what is wrong, how it is made, the status, a part of the reason
TABLE = [
    ("offer over the deposit", lambda s, n: reveal(s, n, "R2", offers=HUGE), 409, "over the free deposit"),
    ("another offer than was sealed", lambda s, n: reveal(s, n, offers={"0": 0, "1": 9}), 409, "does not open the commitment"),
    ("wrong signature", lambda s, n: altered(reveal(s, n), sig="00" * 64), 400, "signature is wrong"),
    ("altered after signing", lambda s, n: altered(reveal(s, n), seq=99), 400, "signature is wrong"),
    ("signed with somebody else's key", lambda s, n: altered(reveal(s, n), party="R3"), 400, "signature is wrong"),
    ("a stranger", lambda s, n: s("nobody", kind="leave"), 400, "not signed with the key of 'nobody'"),
    ("an amount that is no integer", lambda s, n: reveal(s, n, offers={"0": 0, "1": "7"}), 409, "integer"),
    ("a float", lambda s, n: reveal(s, n).replace(b'"1":', b'"1":1.5,"1":'), 400, "not canonical"),
    ("NaN", lambda s, n: reveal(s, n).replace(b'"0":0', b'"0":NaN'), 400, "not canonical"),
    ("Infinity", lambda s, n: reveal(s, n).replace(b'"0":0', b'"0":1e999'), 400, "not canonical"),
    ("beyond 2^53", lambda s, n: reveal(s, n).replace(b'"0":0', b'"0":9007199254740993'), 400, "not canonical"),
    ("a level that is no level", lambda s, n: reveal(s, n, offers={"0": 0, "1.5": 7}), 409, "not an integer"),
    ("level 0 with a value", lambda s, n: reveal(s, n, offers={"0": 5}), 409, "worth 0 by definition"),
    ("duplicate identity", lambda s, n: joining(s, n, id="R1"), 409, "'R1'"),
    ("duplicate key", lambda s, n: joining(s, n, key=n.public("R1")), 409, "key"),
    ("a terminal that is taken", lambda s, n: joining(s, n, terminal="T1"), 409, "T1"),
    ("negative deposit", lambda s, n: joining(s, n, deposit=-1), 409, "must be from 0"),
    ("a round that is not open", lambda s, n: reveal(s, n, round="R7"), 409, "not open"),
    ("somebody who may not", lambda s, n: s("R1", kind="open", round="R2", document=n.round_document()), 409, "may not send"),
    ("an unknown kind", lambda s, n: s("R1", kind="gift"), 409, "gift"),
    ("an unknown field", lambda s, n: reveal(s, n, more=1), 409, "more"),
    ("no message", lambda s, n: b"[]", 400, "object"),
    ("nothing", lambda s, n: b"", 400, "not canonical"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "status", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])  # fmt: skip
async def test_it_is_refused_with_its_reason_and_changes_nothing(net, opened, make, status, reason):
    node, send, client = opened
    market = node.replica.market
    before = json.dumps([market.registry.parties, market.rounds, market.services], sort_keys=True)
    answer = await client.post("/v1/messages", data=make(send, net))
    text = "; ".join(error["message"] for error in (await answer.json())["errors"])
    assert (answer.status, reason in text) == (status, True), text
    market = node.replica.market
    after = json.dumps([market.registry.parties, market.rounds, market.services], sort_keys=True)
    assert after == before


async def test_who_does_not_reveal_is_left_out_and_the_others_settle(net, opened):
    """R2 cannot cover what it sealed and R3 keeps silent: a round between the other two."""
    node, send, client = opened
    assert (await client.post("/v1/messages", data=reveal(send, net, "R2", offers=HUGE))).status == 409  # fmt: skip
    for i in (1, 4):
        message = reveal(send, net, f"R{i}", offers=net.offers(i))
        assert (await client.post("/v1/messages", data=message)).status == 200
    node._utc_ms.set(3)
    assert (await node.submit(send("op", kind="deposit", id="R1", amount=1))).accepted
    outcome = node.replica.market.rounds["R1"]["outcome"]
    assert outcome["levels"]["T2"] == outcome["levels"]["T3"] == 0
    assert outcome["transfers"]["T2"] == outcome["transfers"]["T3"] == 0
    assert sum(outcome["transfers"].values()) == outcome["fees"]
    assert node.replica.market.money_sum_ucur() == 0
