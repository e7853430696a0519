import asyncio
import dataclasses
import json

import pytest

from ledger.audit.auditor import Fold
from ledger.audit.evidence import decoded
from ledger.log.canonical import LEAF_BYTES_MAX, decode, encode
from ledger.network import node as node_module
from ledger.network.block import Block
from ledger.network.message import MessageRefused, sign_vote
from ledger.network.ordering import EmbeddedOrdering, OrderingUnavailable, SharedOrder


async def settle_one_round(net, clock, send, submit):
    """Join, open, commit, reveal, clear, deliver: everything a quarter of an hour needs."""
    for message in send.joins():
        assert (await submit(message)).accepted
    opening = send("op", kind="open", round="R1", document=net.round_document())
    clock.set(10)
    assert (await submit(opening)).accepted
    for i in range(1, 5):
        seal = net.seal(f"R{i}", net.offers(i))
        assert (await submit(send(f"R{i}", kind="commit", round="R1", hash=seal))).accepted
    clock.set(4.5)
    for i in range(1, 5):
        reveal = send(f"R{i}", kind="reveal", round="R1", salt=net.SALT, offers=net.offers(i))
        assert (await submit(reveal)).accepted
    clock.set(3)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_lone_gateway_settles_with_the_embedded_order(net):
    clock, send = net.Clock(), net.Sender()
    node, ledger = net.make_node("n0", EmbeddedOrdering(), clock, committee_=net.committee(1, 0))
    async with net.running(node):
        await settle_one_round(net, clock, send, node.submit)
        await until(lambda: node.replica.market.rounds["R1"]["outcome"])
        outcome = node.replica.market.rounds["R1"]["outcome"]
        assert outcome["trades"]
        clock.set(-20)
        report = [{"trade_id": t["id"], "delivered_wh": t["wh"]} for t in outcome["trades"]]
        answer = await node.submit(send("gw", kind="delivery", round="R1", trades=report))
        assert answer.accepted
        assert node.replica.market.money_sum_ucur() == 0
    kinds = [json.loads(leaf)["kind"] for leaf in ledger.leaves]
    assert kinds == ["net.block", "net.vote", "net.final"] * node.replica.height


async def test_four_nodes_agree_and_a_refusal_says_why(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    nodes = [net.make_node(f"n{i}", EmbeddedOrdering(shared), clock)[0] for i in range(4)]
    async with net.running(*nodes):
        await settle_one_round(net, clock, send, nodes[0].submit)
        await until(lambda: all(n.replica.market.rounds["R1"]["outcome"] for n in nodes))
        assert len({n.replica.market.root() for n in nodes}) == 1
        late = send("R1", kind="commit", round="R1", hash="00" * 32)
        answer = await nodes[2].submit(late)
        assert answer.accepted is False
        assert ("$", "already cleared") in answer.mistakes
        again = await nodes[2].submit(late)
        assert again == answer
        assert all(n.evidence == [] for n in nodes)
        assert all(n.alarm == "" for n in nodes)


async def test_offers_are_not_shown_to_the_ordering_before_a_final_block_past_the_gate(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    node, _ = net.make_node("n0", EmbeddedOrdering(shared), clock, committee_=net.committee(1, 0))
    async with net.running(node):
        for message in send.joins():
            assert (await node.submit(message)).accepted
        clock.set(10)
        opening = send("op", kind="open", round="R1", document=net.round_document())
        seal = net.seal("R1", net.offers(1))
        assert (await node.submit(opening)).accepted
        assert (await node.submit(send("R1", kind="commit", round="R1", hash=seal))).accepted
        reveal = send("R1", kind="reveal", round="R1", salt=net.SALT, offers=net.offers(1))
        with pytest.raises(MessageRefused, match="too early"):
            await node.submit(reveal)
        assert shared.waiting == {}
        seen = []
        clock.set(4.5)
        shown = EmbeddedOrdering(shared)
        waiting = asyncio.create_task(node.submit(reveal))
        while not waiting.done():
            await shown.wait(0.5)
            if shared.waiting:
                seen.append(node.replica.market.now_ms)
        assert (await waiting).accepted
        gate_ms = node.replica.market.rounds["R1"]["commit_until_ms"]
        assert all(now_ms >= gate_ms for now_ms in seen)
        # A late commitment can not come before it any more, whatever time a block claims.
        assert node.replica.market.now_ms >= gate_ms


async def test_what_is_no_message_is_refused_at_the_door(net):
    node, _ = net.make_node("n0", EmbeddedOrdering(), net.Clock(), committee_=net.committee(1, 0))
    good = net.Sender()("op", kind="leave")
    for bad in (b"", b"{}", good.replace(b'"seq":1', b'"seq":2'), b'{"a":1.5}', good + b" "):
        with pytest.raises(MessageRefused):
            await node.submit(bad)


async def test_a_node_that_was_away_catches_up_and_one_that_restarts_does_not_vote_twice(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    nodes = [net.make_node(f"n{i}", EmbeddedOrdering(shared), clock)[0] for i in range(3)]
    late, late_ledger = net.make_node("n3", EmbeddedOrdering(shared), clock)
    async with net.running(*nodes):
        await settle_one_round(net, clock, send, nodes[0].submit)
        await until(lambda: nodes[0].replica.market.rounds["R1"]["outcome"])
        height = nodes[0].replica.height
        async with net.running(late):
            async with asyncio.timeout(60):
                await late.at_height(height)
            assert late.replica.market.root() == nodes[0].replica.market.root()
    votes = [leaf for leaf in late_ledger.leaves if b'"net.vote"' in leaf]
    again, _ = net.make_node("n3", EmbeddedOrdering(shared), clock, ledger=late_ledger)
    assert again.replica.height == late.replica.height
    assert again.replica.market.root() == late.replica.market.root()
    assert len(votes) <= late.replica.height


async def test_a_restart_between_vote_and_finality_keeps_the_vote(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    ordering = EmbeddedOrdering(shared)
    one, ledger = net.make_node("n0", ordering, clock)
    await ordering.submit(next(iter(send.joins())))
    async with net.running(one):
        await until(lambda: shared.ballots.get(1))
    again, _ = net.make_node("n0", ordering, clock, ledger=ledger)
    assert again.replica.my_vote is not None
    assert again.replica.my_vote.encode() == shared.ballots[1]["n0"]
    assert again.replica.height == 0


async def test_without_a_quorum_nothing_settles_and_with_it_settling_resumes(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    nodes = [net.make_node(f"n{i}", EmbeddedOrdering(shared), clock)[0] for i in range(4)]
    async with net.running(*nodes[:2]):
        waiting = asyncio.create_task(nodes[0].submit(next(iter(send.joins()))))
        await until(lambda: nodes[0].alarm == "no quorum yet at height 1")
        await asyncio.sleep(0.05)
        assert nodes[0].replica.height == 0
        async with net.running(nodes[2]):
            assert (await waiting).accepted
            assert nodes[0].alarm == ""


def lying_node(net, name, shared, clock):
    node, _ = net.make_node(name, EmbeddedOrdering(shared), clock)
    replica = node.replica
    honest = replica.execute

    def execute(raw, **kwargs):
        done = honest(raw, **kwargs)
        return dataclasses.replace(done, subject=(*done.subject[:2], "ff" * 32))

    replica.execute = execute
    return node


async def test_one_lying_node_is_outvoted_and_its_signature_kept(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    ledgers = []
    nodes = []
    for i in range(3):
        node, ledger = net.make_node(f"n{i}", EmbeddedOrdering(shared), clock)
        nodes.append(node)
        ledgers.append(ledger)
    liar = lying_node(net, "n3", shared, clock)
    async with net.running(*nodes, liar):
        for message in send.joins():
            assert (await nodes[0].submit(message)).accepted
        await until(lambda: liar.replica.halted)
        await until(lambda: all(node.replica.height >= 3 for node in nodes))
    # Whoever saw the lie before the block was final has written it down, signature and all.
    kept = [
        json.loads(leaf) for ledger in ledgers for leaf in ledger.leaves if b"net.evidence" in leaf
    ]
    assert kept
    assert {entry["what"] for entry in kept} == {"other state"}
    assert {entry["details"]["node"] for entry in kept} == {"n3"}
    assert "another state" in liar.replica.halted


async def test_too_many_liars_stop_everything(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    honest = [net.make_node(f"n{i}", EmbeddedOrdering(shared), clock)[0] for i in range(2)]
    liars = [lying_node(net, f"n{i}", shared, clock) for i in (2, 3)]
    async with net.running(*honest, *liars):
        waiting = asyncio.create_task(honest[0].submit(next(iter(send.joins()))))
        await until(lambda: all(node.replica.halted for node in honest))
        assert all(node.replica.height == 0 for node in honest)
        waiting.cancel()


class Equivocating(EmbeddedOrdering):
    """An orderer that shows half of the nodes another block and hides their votes from the rest."""

    def __init__(self, shared, other, side):
        super().__init__(shared)
        self._other = other
        self._side = side

    async def block(self, height):
        raw = await super().block(height)
        if raw is None or not self._side:
            return raw
        block = decode(raw)
        return self._other.setdefault(height, encode({**block, "utc_ms": block["utc_ms"] - 1}))


@pytest.mark.parametrize("shown", [1, 2])
async def test_an_equivocating_orderer_never_makes_two_results_final(net, shown):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    other = {}
    nodes = [
        net.make_node(f"n{i}", Equivocating(shared, other, i < shown), clock)[0] for i in range(4)
    ]
    async with net.running(*nodes):
        waiting = asyncio.create_task(nodes[3].submit(next(iter(send.joins()))))
        if shown == 1:
            assert (await waiting).accepted
            await until(lambda: all(n.replica.height >= 1 for n in nodes[1:]))
            assert nodes[0].replica.height == 0
            assert "another block" in nodes[0].alarm
        else:
            await until(lambda: all(n.replica.halted for n in nodes))
            assert all(n.replica.height == 0 for n in nodes)
            waiting.cancel()
    roots = {n.replica.market.root() for n in nodes if n.replica.height >= 1}
    assert len(roots) <= 1
    found = {evidence.what for node in nodes for evidence in node.evidence}
    assert found & {"other block", "orderer equivocates"}


async def test_a_block_from_the_future_waits_and_rubbish_at_a_height_is_an_empty_block(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    node, ledger = net.make_node(
        "n0", EmbeddedOrdering(shared), clock, committee_=net.committee(1, 0)
    )
    shared.blocks[1] = b"\xff rubbish"
    from ledger.network.block import Block, block_hash

    ahead = Block(
        height=2, utc_ms=clock.now_ms + 60_000, prev=block_hash(b"\xff rubbish"), messages=()
    )
    shared.blocks[2] = ahead.encode()
    shared.head = 2
    async with net.running(node):
        await until(lambda: node.replica.height == 1)
        await until(lambda: "ahead of this clock" in node.alarm)
        clock.now_ms += 60_000
        shared.notify()
        await until(lambda: node.replica.height == 2)
        assert (await node.submit(next(iter(send.joins())))).accepted
    again, _ = net.make_node(
        "n0", EmbeddedOrdering(shared), clock, ledger=ledger, committee_=net.committee(1, 0)
    )
    assert again.replica.market.root() == node.replica.market.root()


async def test_one_skewed_clock_does_not_hold_up_the_others(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    slow = net.Clock(45)
    nodes = [net.make_node(f"n{i}", EmbeddedOrdering(shared), clock)[0] for i in range(3)]
    behind, _ = net.make_node("n3", EmbeddedOrdering(shared), slow)
    async with net.running(*nodes, behind):
        for message in send.joins():
            assert (await nodes[0].submit(message)).accepted
        await until(lambda: behind.replica.height == nodes[0].replica.height)
        assert behind.replica.market.root() == nodes[0].replica.market.root()


async def test_an_ordering_service_that_is_away_raises_an_alarm_and_is_waited_for(net):
    class Flaky(EmbeddedOrdering):
        away = True

        async def block(self, height):
            if self.away:
                raise OrderingUnavailable("no quorum")
            return await super().block(height)

    ordering = Flaky()
    node, _ = net.make_node("n0", ordering, net.Clock(), committee_=net.committee(1, 0))
    async with net.running(node):
        waiting = asyncio.create_task(node.submit(next(iter(net.Sender().joins()))))
        await until(lambda: node.alarm == "ordering: no quorum")
        ordering.away = False
        assert (await waiting).accepted
        assert node.alarm == ""


async def test_what_a_node_writes_passes_the_audit(net):
    clock, send = net.Clock(), net.Sender()
    node, ledger = net.make_node("n0", EmbeddedOrdering(), clock, committee_=net.committee(1, 0))
    async with net.running(node):
        for message in send.joins():
            assert (await node.submit(message)).accepted
    fold = Fold()
    for index, leaf in enumerate(ledger.leaves):
        fold.see(decoded(index, leaf))
    findings = list(fold.findings())
    assert [f.number for f in findings] == ["N1", "N2", "N3", "N4", "N5"]
    assert all(f.ok and f.judged_count for f in findings)


async def a_block_is_written(net, messages):
    """A lone node whose ordering shows a block of its own making; gives the final entry."""
    clock, shared = net.Clock(), SharedOrder()
    node, ledger = net.make_node(
        "n0", EmbeddedOrdering(shared), clock, committee_=net.committee(1, 0)
    )
    send = net.Sender()
    joins = [*send.joins(), send("op", kind="open", round="R", document=net.round_document())]
    joined = [decode(message) for message in joins]
    for height, part in enumerate((joined, messages), 1):
        prev = node.replica.head
        block = Block(height=height, utc_ms=clock.now_ms, prev=prev, messages=tuple(part))
        shared.blocks[height], shared.head = block.encode(), height
        async with net.running(node):
            shared.notify()
            await until(lambda height=height: node.replica.height == height)
    again, _ = net.make_node(
        "n0", EmbeddedOrdering(shared), clock, ledger=ledger, committee_=net.committee(1, 0)
    )
    assert again.replica.market.root() == node.replica.market.root()
    assert all(len(leaf) <= LEAF_BYTES_MAX for leaf in ledger.leaves)
    return decode(ledger.leaves[-1]), node


async def test_a_block_full_of_rubbish_does_not_stop_the_nodes(net):
    final, node = await a_block_is_written(net, [{}] * 19_000)
    assert final["effects"]["no_messages"] == 19_000
    assert final["effects"]["refused"] == []
    assert len(node._waiters.answers) == 6  # the answers to others are still known


async def test_a_block_full_of_refusals_does_not_stop_the_nodes(net):
    """One region alone can send so much of it; each refusal is named, with a reason less or two."""
    send = net.Sender()
    levels = dict.fromkeys("abcde", 1)
    wrong = [send("R1", kind="reveal", round="R", salt="x", offers=levels) for _ in range(180)]
    final, _ = await a_block_is_written(net, [decode(message) for message in wrong])
    refused = final["effects"]["refused"]
    assert len(refused) == 180
    assert {refusal["party"] for refusal in refused} == {"R1"}
    assert all(len(refusal["errors"]) == 1 for refusal in refused)
    assert refused[0]["errors"][0].startswith("$: too early")
    few, _ = await a_block_is_written(net, [decode(message) for message in wrong[:9]])
    assert all(len(refusal["errors"]) == 5 for refusal in few["effects"]["refused"])


def deep(levels):
    """An object whose innermost list lies so many levels below it."""
    value = []
    for _ in range(levels - 1):
        value = [value]
    return {"x": value}


async def test_a_block_that_no_entry_could_hold_does_not_stop_the_nodes(net):
    """By itself it is a block; in the entry it would lie one level too deep."""
    final, node = await a_block_is_written(net, [deep(62)])
    assert final["effects"] == {"accepted": [], "refused": [], "cleared": [], "settled": []}
    assert node.replica.height == 2
    final, _ = await a_block_is_written(net, [deep(61)])
    assert final["effects"]["no_messages"] == 1


@pytest.mark.parametrize(("levels", "fits"), [(60, True), (61, False), (63, False)])
async def test_a_message_nested_deeper_than_an_entry_allows_is_refused(net, levels, fits):
    send = net.Sender()
    node, _ = net.make_node("n0", EmbeddedOrdering(), net.Clock(), committee_=net.committee(1, 0))
    async with net.running(node):
        odd = send("op", kind="deposit", more=deep(levels)["x"])
        if fits:
            assert not (await node.submit(odd)).accepted
        else:
            with pytest.raises(MessageRefused, match="too deeply"):
                await node.submit(odd)
        assert (await node.submit(next(send.joins()))).accepted, "and the node goes on"


async def test_one_party_does_not_fill_the_ordering_service(net):
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    node, _ = net.make_node("n0", EmbeddedOrdering(shared), clock, committee_=net.committee(1, 0))
    async with net.running(node):
        for message in send.joins():
            assert (await node.submit(message)).accepted
    stopped = [asyncio.create_task(node.submit(send("R1", kind="leave"))) for _ in range(64)]
    await until(lambda: len(shared.waiting) == 64)
    with pytest.raises(MessageRefused, match="64 messages of 'R1' are under way"):
        await node.submit(send("R1", kind="leave"))
    other = asyncio.create_task(node.submit(send("R2", kind="leave")))
    await until(lambda: len(shared.waiting) == 65)
    async with net.running(node):
        assert (await other).accepted
        answers = await asyncio.gather(*stopped)
        assert [answer.accepted for answer in answers] == [True] + [False] * 63
    assert node._waiters.under_way["R1"] == 0


async def test_a_message_that_a_proposer_drops_is_handed_in_again(net, monkeypatch):
    monkeypatch.setattr(node_module, "AGAIN_S", 0.05)

    class Dropping(EmbeddedOrdering):
        drops = 2

        async def propose(self, height, block, taken):
            if self.drops and taken:
                self.drops -= 1
                block = encode({**decode(block), "messages": []})
            return await super().propose(height, block, taken)

    ordering = Dropping()
    node, _ = net.make_node("n0", ordering, net.Clock(), committee_=net.committee(1, 0))
    message = next(iter(net.Sender().joins()))
    async with net.running(node):
        answer = await node.submit(message)
        assert (answer.accepted, answer.height, ordering.drops) == (True, 3, 0)


async def test_a_vote_about_no_hash_is_no_vote(net):
    """Else the evidence about it could be too long for the ledger."""
    node, _ = net.make_node("n0", EmbeddedOrdering(), net.Clock())
    for subject in (("aa", "bb", "c" * 60_000), ("a" * 63 + "\n",) * 3, ("A" * 64,) * 3):
        vote = sign_vote("m", "n3", 1, subject, net.key_of("n3"))
        node.replica.count(vote.encode())
        assert node.replica.votes == {}
    good = sign_vote("m", "n3", 1, ("a" * 64,) * 3, net.key_of("n3"))
    node.replica.count(good.encode())
    assert list(node.replica.votes) == ["n3"]


async def test_a_message_with_very_many_mistakes_is_remembered_with_the_first_of_them(net):
    """5,000 bad levels are half a megabyte of reasons, and 10,000 answers are remembered."""
    send = net.Sender()
    levels = {f"bad-{n}": 1 for n in range(2_500)} | {"x" * 5_000: 1}
    wrong = send("R1", kind="reveal", round="R", salt="x", offers=levels)
    final, node = await a_block_is_written(net, [decode(wrong)])
    (refusal,) = final["effects"]["refused"]
    assert len(refusal["errors"]) == 5
    answer = node._waiters.answers[refusal["message"]]
    assert len(answer.mistakes) == node_module.MISTAKES_KEPT_MAX + 1
    path, last = answer.mistakes[-1]
    assert (path, last.startswith("and ")) == ("$", True)
    assert int(last.split()[1]) > 2_400
    assert max(len(text) for mistake in answer.mistakes for text in mistake) <= 200
    assert [f"{path}: {what}"[:200] for path, what in answer.mistakes[:5]] == refusal["errors"]
