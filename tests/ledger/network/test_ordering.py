"""An ordering service that forgets, or has lost, what a node still needs of it."""

import asyncio

import pytest

from ledger.log.canonical import decode
from ledger.network import node as node_module
from ledger.network import record
from ledger.network.block import Block
from ledger.network.ordering import EmbeddedOrdering, SharedOrder


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_every_node_has_countersigned_stays_until_the_next_height_is(net):
    order = EmbeddedOrdering()
    assert await order.head() == 0
    for height in (1, 2, 3):
        assert await order.propose(height, b"%d" % height, [])
        await order.vote(height, "n0", b"vote")
    await order.prune(2)
    assert [await order.block(height) for height in (1, 2, 3)] == [None, b"2", b"3"]
    assert [len(await order.votes(height)) for height in (1, 2, 3)] == [0, 1, 1]
    assert await order.head() == 3


async def test_a_node_that_died_between_its_vote_and_its_final_entry_catches_up(net, monkeypatch):
    """The others forget what all have countersigned; it still has to finish that height."""
    monkeypatch.setattr(node_module, "PRUNE_EVERY", 4)
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()

    class LikeEtcd(EmbeddedOrdering):
        async def prune(self, height):
            if len(await self.votes(height)) == 4:
                await super().prune(height)

    nodes, ledgers = zip(*(net.make_node(f"n{i}", LikeEtcd(shared), clock) for i in range(4)), strict=True)  # fmt: skip
    finish, vote, dead = nodes[3]._finish, nodes[0]._vote, asyncio.Event()

    async def die(raw, subject):
        if nodes[3].replica.height == 3:
            dead.set()
            await asyncio.Event().wait()
        return await finish(raw, subject)

    async def vote_after_it(raw):
        if nodes[0].replica.height == 3:
            await until(lambda: "n3" in shared.ballots.get(4, {}))
        await vote(raw)

    nodes[3]._finish, nodes[0]._vote = die, vote_after_it
    async with net.running(*nodes):
        for message in send.joins():
            assert (await nodes[0].submit(message)).accepted
        await dead.wait()
        while nodes[0].replica.height < 9:
            more = send("op", kind="deposit", id="R1", amount=1)
            assert (await nodes[0].submit(more)).accepted
        await until(lambda: min(shared.blocks) == 4)
    again, _ = net.make_node("n3", LikeEtcd(shared), clock, ledger=ledgers[3])
    assert again.replica.height == 3
    async with net.running(again):
        await until(lambda: again.replica.height == nodes[0].replica.height)


class Counting(EmbeddedOrdering):
    looks = 0

    async def block(self, height):
        self.looks += 1
        return await super().block(height)


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (False, "the ordering service has lost heights: it is at 0, this node at 5"),
        (True, "the ordering service no longer has height 1, it is at 5"),
    ],
)
async def test_heights_that_are_lost_are_said_and_not_looked_for_at_full_speed(net, behind, said):
    """It comes back empty; or it has forgotten what a node with a fresh disk needs."""
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    committee = net.committee(1, 0)
    node, ledger = net.make_node("n0", EmbeddedOrdering(shared), clock, committee_=committee)
    async with net.running(node):
        for message in send.joins():
            assert (await node.submit(message)).accepted
        assert (node.replica.height, node.alarm) == (5, "")
        await EmbeddedOrdering(shared).prune(6)
    order = Counting(shared if behind else SharedOrder())
    again, _ = net.make_node("n0", order, clock, committee_=committee, ledger=None if behind else ledger)  # fmt: skip
    async with net.running(again):
        await until(lambda: again.alarm)
        assert again.alarm == said
        await order.submit(next(send.joins()))
        await until(lambda: again._wanted_since is not None)
        order.looks = 0
        await order.wait(0.2)
        await order.wait(0.2)
        assert order.looks < 20
        assert (again.alarm, again.replica.halted) == (said, "")


async def four_that_have_joined(net, clock, send, shared):
    """Four nodes that have gone some heights together, and their ledgers."""
    nodes, ledgers = zip(*(net.make_node(f"n{i}", EmbeddedOrdering(shared), clock) for i in range(4)), strict=True)  # fmt: skip
    async with net.running(*nodes):
        for message in send.joins():
            assert (await nodes[0].submit(message)).accepted
        for node in nodes:
            await node.at_height(nodes[0].replica.height)
    return nodes, ledgers


def deposit_of(node, party):
    return node.replica.market.registry.parties[party]["deposit"]


@pytest.mark.parametrize("voted_count", [1, 2, 3])
async def test_a_block_under_vote_that_the_service_lost_is_put_again(net, voted_count):
    """Who has voted can only repeat that vote: another block there could halt everybody."""
    clock, send = net.Clock(), net.Sender()
    nodes, ledgers = await four_that_have_joined(net, clock, send, SharedOrder())
    head = nodes[0].replica.height
    paid = decode(send("op", kind="deposit", id="R1", amount=1))
    raw = Block(
        height=head + 1, utc_ms=clock(), prev=nodes[0].replica.head, messages=(paid,)
    ).encode()
    for i in range(voted_count):
        vote = nodes[i].replica.examine(raw, net.key_of(f"n{i}"))
        await ledgers[i].append_many(record.voted(raw, vote))
    fresh = SharedOrder()
    fresh.head = head  # it came back empty and people told it where the ledgers end
    again = [net.make_node(f"n{i}", EmbeddedOrdering(fresh), clock, ledger=ledgers[i])[0] for i in range(4)]  # fmt: skip
    async with net.running(*again):
        more = send("op", kind="deposit", id="R2", amount=2)
        async with asyncio.timeout(60):
            assert (await again[3].submit(more)).accepted
        await until(lambda: all(node.replica.height == head + 2 for node in again))
    assert [(node.alarm, node.replica.halted) for node in again] == [("", "")] * 4
    assert {(deposit_of(n, "R1"), deposit_of(n, "R2")) for n in again} == {(10**9 + 1, 10**9 + 2)}


async def test_votes_that_the_service_lost_are_sent_again_by_nodes_that_ran_on(net):
    """It goes on from a copy one write old; two had voted, and the third comes only then."""
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    _, ledgers = await four_that_have_joined(net, clock, send, shared)
    again = [net.make_node(f"n{i}", EmbeddedOrdering(shared), clock, ledger=ledgers[i])[0] for i in range(3)]  # fmt: skip
    head = shared.head
    async with net.running(*again[:2]):
        await EmbeddedOrdering(shared).submit(send("op", kind="deposit", id="R1", amount=1))
        await until(lambda: all(len(node.replica.votes) == 2 for node in again[:2]))
        del shared.blocks[head + 1], shared.ballots[head + 1]
        shared.head = head
        shared.notify()
        async with net.running(again[2]):
            await until(lambda: all(node.replica.height == head + 1 for node in again))
    assert [node.alarm for node in again] == [""] * 3


async def test_a_service_that_takes_no_block_is_not_asked_at_full_speed(net):
    """Its head never compares equal, though it reads as the right height."""

    class Deaf(Counting):
        async def propose(self, height, block, taken):
            asked.set()
            await asyncio.sleep(0)
            return False

    clock, asked = net.Clock(), asyncio.Event()
    order = Deaf()
    node, _ = net.make_node("n0", order, clock, committee_=net.committee(1, 0))
    async with net.running(node):
        await order.submit(next(net.Sender().joins()))
        await asked.wait()
        order.looks = 0
        await order.wait(0.2)
        await order.wait(0.2)
        assert order.looks < 20
