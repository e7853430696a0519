import asyncio
import contextlib
from pathlib import Path

import pytest
from aiohttp import web

from ledger.contracts.document import DocumentRefused, Node
from ledger.log import anchor
from ledger.log.cosign import create_cosigner
from ledger.log.keys import create_key
from ledger.log.segment import LedgerCorrupt
from ledger.log.treeview import TreeView
from ledger.log.writer import LedgerWriter
from ledger.network.mutual import (
    PATH,
    Mutual,
    Peer,
    be_witnessed,
    known_elsewhere,
    mutual_from,
    witness_of,
)
from ledger.network.ordering import EmbeddedOrdering, SharedOrder


@contextlib.asynccontextmanager
async def served(witness):
    app = web.Application()
    app.add_subapp(PATH, witness.application())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
    finally:
        await runner.cleanup()


async def test_two_nodes_witness_each_other_and_a_rolled_back_one_is_refused(tmp_path, net):
    names = ("n0", "n1")
    clock, send, shared = net.Clock(), net.Sender(), SharedOrder()
    committee = net.committee(2, 0)
    logs = {n: create_key(tmp_path / f"{n}.log.key", f"{n}.example") for n in names}
    cosigners = {n: create_cosigner(tmp_path / f"{n}.w.key", f"{n}.example/w") for n in names}

    def peer(other, url):
        return Peer(url=url, log_key=logs[other].key, witness_key=cosigners[other].key)

    def mutual(name, other, url):
        return Mutual(key_file=tmp_path / f"{name}.w.key", name=f"{name}.example/w", every_s=1, peers={other: peer(other, url)})  # fmt: skip

    async with contextlib.AsyncExitStack() as stack:
        urls = {}
        for name, other in (names, names[::-1]):
            witness = witness_of(mutual(name, other, ""), tmp_path / name, clock)
            urls[name] = await stack.enter_async_context(served(witness))
        about = {name: mutual(name, other, urls[other]) for name, other in (names, names[::-1])}
        nodes, writers = [], []
        for name in names:
            writer = LedgerWriter.open(tmp_path / name, signer=logs[name], origin=f"{name}.example")
            writers.append(writer)
            nodes.append(net.make_node(name, EmbeddedOrdering(shared), clock, committee_=committee)[0])  # fmt: skip
            nodes[-1]._ledger = writer
        tasks = [asyncio.create_task(be_witnessed(about[n], tmp_path / n, node, logs[n].key)) for n, node in zip(names, nodes, strict=True)]  # fmt: skip
        async with net.running(*nodes):
            for message in send.joins():
                assert (await nodes[0].submit(message)).accepted
            async with asyncio.timeout(60):
                while not all(
                    anchor.anchored(tmp_path / n, keys=[cosigners[o].key])
                    for n, o in (names, names[::-1])
                ):
                    await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            await writer.close()
        seen = await known_elsewhere(about["n0"], "n0.example")
        assert len(seen) == 1
        # A box set back to an empty disk does not start: another node knows better.
        (tmp_path / "fresh").mkdir()
        with pytest.raises(LedgerCorrupt):
            LedgerWriter.open(
                tmp_path / "fresh", signer=logs["n0"], origin="n0.example", known=seen
            )


async def one_message(net, node, send):
    """Let a lone node's ledger grow once."""
    async with net.running(node):
        assert (await node.submit(send("op", kind="deposit", id="op", amount=1))).accepted


async def lone(stack, net, tmp_path, name, log_key, *, send=None, **clock):
    writer = LedgerWriter.open(tmp_path / name, signer=log_key, origin="n0.example")
    stack.push_async_callback(writer.close)
    node, _ = net.make_node(
        "n0", EmbeddedOrdering(), net.Clock(**clock), committee_=net.committee(1, 0)
    )
    node._ledger = writer
    await one_message(net, node, send or net.Sender())
    return node


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_witness_that_lies_stops_nobody(tmp_path, net, caplog):
    """It says that it has seen a larger tree, or another one, and has nothing to show for it."""
    log_key = create_key(tmp_path / "l.key", "n0.example")
    cosigner = create_cosigner(tmp_path / "w.key", "n1.example/w")
    answers = [web.Response(status=422), web.Response(status=409, text="999999\n")]

    async def lie(request):
        return answers.pop() if answers else web.Response(status=503)

    async def show(request):  # a checkpoint of some other log
        return web.Response(body=b"n0.example\n9\n" + b"A" * 43 + b"=\n\n")

    app = web.Application()
    app.add_routes([web.post("/add-checkpoint", lie), web.get("/{name}/checkpoint", show)])
    async with contextlib.AsyncExitStack() as stack:
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        peer = Peer(url=url, log_key=log_key.key, witness_key=cosigner.key)
        mutual = Mutual(key_file=tmp_path, name="w", every_s=1, peers={"n1": peer})
        node = await lone(stack, net, tmp_path, "n0", log_key)
        for _ in range(2):
            told = len(caplog.records)
            task = asyncio.create_task(be_witnessed(mutual, tmp_path / "n0", node, log_key.key))
            await until(lambda told=told: any("shows nothing" in r.message for r in caplog.records[told:]))  # fmt: skip
            task.cancel()
            assert node.replica.halted == ""
        assert answers == []


async def test_a_node_whose_ledger_is_another_than_was_witnessed_stops(tmp_path, net):
    log_key = create_key(tmp_path / "l.key", "n0.example")
    cosigner = create_cosigner(tmp_path / "w.key", "n1.example/w")
    about_n0 = Peer(url="", log_key=log_key.key, witness_key=cosigner.key)
    as_witness = Mutual(key_file=tmp_path / "w.key", name="n1.example/w", every_s=1, peers={"n0": about_n0})  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        witness = witness_of(as_witness, tmp_path / "n1", net.Clock())
        url = await stack.enter_async_context(served(witness))
        peer = Peer(url=url, log_key=log_key.key, witness_key=cosigner.key)
        mutual = Mutual(key_file=tmp_path, name="w", every_s=1, peers={"n1": peer})
        first = await lone(stack, net, tmp_path, "first", log_key)
        task = asyncio.create_task(be_witnessed(mutual, tmp_path / "first", first, log_key.key))
        await until(lambda: anchor.kept_files(tmp_path / "first"))
        task.cancel()
        assert first.replica.halted == ""
        fork = await lone(stack, net, tmp_path, "fork", log_key, minutes_before=29)
        task = asyncio.create_task(be_witnessed(mutual, tmp_path / "fork", fork, log_key.key))
        await until(lambda: fork.replica.halted)
        task.cancel()
        assert "forked" in fork.replica.halted


async def half(_request):
    return web.Response(body=b"l.example\n9\n")


@contextlib.asynccontextmanager
async def answering(*routes):
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_witness_that_says_nothing_at_a_start_is_named(tmp_path, caplog):
    """One is away, one gives half a checkpoint: who reads the log knows that neither was asked."""
    key = create_key(tmp_path / "l.key", "l.example").key
    async with answering(web.get("/{name}/checkpoint", half)) as url:
        peers = {
            name: Peer(url=at, log_key=key, witness_key=key)
            for name, at in (("n1", "http://127.0.0.1:9/witness"), ("n2", url))
        }
        mutual = Mutual(key_file=tmp_path, name="w", every_s=1, peers=peers)
        assert await known_elsewhere(mutual, "l.example") == []
    told = [record.getMessage() for record in caplog.records]
    assert ["witness n1 not asked" in told[0], "witness n2 not asked" in told[1]] == [True, True]


async def test_a_growth_that_was_not_cosigned_is_offered_again(tmp_path, net):
    """The witness is away, then the evidence can not be kept; the ledger does not grow meanwhile."""
    log_key = create_key(tmp_path / "l.key", "n0.example")
    cosigner = create_cosigner(tmp_path / "w.key", "n1.example/w")
    about_n0 = Peer(url="", log_key=log_key.key, witness_key=cosigner.key)
    as_witness = Mutual(key_file=tmp_path / "w.key", name="n1.example/w", every_s=1, peers={"n0": about_n0})  # fmt: skip
    witness = witness_of(as_witness, tmp_path / "n1", net.Clock())
    away, asked = True, []

    async def add(request):
        asked.append(away)
        return web.Response(status=503) if away else await witness.handle_add(request)

    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(answering(web.post("/add-checkpoint", add)))
        peer = Peer(url=url, log_key=log_key.key, witness_key=cosigner.key)
        mutual = Mutual(key_file=tmp_path, name="w", every_s=0, peers={"n1": peer})
        node = await lone(stack, net, tmp_path, "n0", log_key)
        evidence = tmp_path / "n0" / anchor.FOLDER
        evidence.write_bytes(b"a file where a folder should be")
        task = asyncio.create_task(be_witnessed(mutual, tmp_path / "n0", node, log_key.key))
        await until(lambda: len(asked) > 2)
        away = False
        await until(lambda: asked.count(False) > 2)
        assert not task.done()
        evidence.unlink()
        await until(lambda: anchor.anchored(tmp_path / "n0", keys=[cosigner.key]))
        task.cancel()


async def test_who_has_cosigned_is_not_asked_again_and_the_ledger_is_read_once_a_growth(
    tmp_path, net, monkeypatch
):
    """One witness is away for long, the other is there; a ledger may be large."""
    log_key = create_key(tmp_path / "l.key", "n0.example")
    about_n0 = Peer(url="", log_key=log_key.key, witness_key=log_key.key)
    cosigners = {n: create_cosigner(tmp_path / f"{n}.key", f"{n}.example/w") for n in ("n1", "n2")}
    asked, reads, away, peers = {"n1": 0, "n2": 0}, [], True, {}
    real = TreeView.open
    monkeypatch.setattr(TreeView, "open", lambda path: (reads.append(path), real(path))[1])

    def adding(name):
        place = Mutual(key_file=tmp_path / f"{name}.key", name=f"{name}.example/w", every_s=1, peers={"n0": about_n0})  # fmt: skip
        witness = witness_of(place, tmp_path / name, net.Clock())

        async def add(request):
            asked[name] += 1
            if away and name == "n2":
                return web.Response(status=503)
            return await witness.handle_add(request)

        return web.post("/add-checkpoint", add)

    async with contextlib.AsyncExitStack() as stack:
        for name in asked:
            url = await stack.enter_async_context(answering(adding(name)))
            peers[name] = Peer(url=url, log_key=log_key.key, witness_key=cosigners[name].key)
        mutual = Mutual(key_file=tmp_path, name="w", every_s=0, peers=peers)
        send = net.Sender()
        node = await lone(stack, net, tmp_path, "n0", log_key, send=send)
        task = asyncio.create_task(be_witnessed(mutual, tmp_path / "n0", node, log_key.key))
        await until(lambda: asked["n2"] > 5)
        assert (asked["n1"], len(reads)) == (1, 1)
        await one_message(net, node, send)
        await until(lambda: asked["n1"] > 1)
        seen = asked["n2"]
        await until(lambda: asked["n2"] > seen + 5)
        assert len(reads) == 2
        away = False
        both = [cosigner.key.name for cosigner in cosigners.values()]
        await until(lambda: (at := anchor.anchored(tmp_path / "n0", keys=[c.key for c in cosigners.values()])) and sorted(at.by) == both)  # fmt: skip
        task.cancel()


def test_the_block_of_a_node_file(tmp_path):
    log_key = create_key(tmp_path / "l.key", "n2.example").vkey
    cosigner = create_cosigner(tmp_path / "w.key", "n2.example/w").key.vkey
    good = {"url": "http://x/witness", "log": log_key, "witness": cosigner}
    mistakes = []
    found = mutual_from(Node({"key": "w.key", "name": "w", "peers": {"n2": good}}, mistakes), tmp_path)  # fmt: skip
    assert mistakes == []
    assert found.every_s == 60
    assert found.peers["n2"].log_key.name == "n2.example"
    bad = {"key": "w.key", "name": "w", "peers": {"n2": {**good, "log": "nonsense"}}, "every": 0}
    mutual_from(Node(bad, mistakes), Path())
    assert [m.path for m in mistakes] == ["$.peers.n2.log", "$.every"]
    assert DocumentRefused(mistakes).mistakes[0].path == "$.peers.n2.log"
