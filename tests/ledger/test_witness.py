"""Four ledgers witness each other over real HTTP: growth is cosigned, everything else refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import anchor, checkpoint, note, policy, segment, tiles
from ledger.log.checkpoint import Checkpoint
from ledger.log.cosign import Cosigner
from ledger.log.keys import Signer, signer_of
from ledger.log.merkle import Frontier
from ledger.log.note import Note
from ledger.log.segment import LedgerCorrupt
from ledger.log.treeview import TreeView
from ledger.log.writer import LedgerWriter
from ledger.network import witness as witnessing
from ledger.network.witness import Malformed, RolledBack, Witness, WitnessRefused

NAMES = ("a", "b", "c", "d")


@dataclass
class House:
    """One gateway: its ledger, and the witness it runs for the others."""

    signer: Signer
    directory: Path
    witness: Witness
    url: str = ""

    @property
    def keys(self) -> tuple[note.Key, ...]:
        return tuple(c.key for c in self.witness.cosigners)

    async def grow(self, size: int) -> None:
        writer = LedgerWriter.open(self.directory, signer=self.signer, origin=self.signer.name)
        await writer.append_many([b"%d" % n for n in range(writer.size(), size)])
        await writer.close()

    def tree(self) -> TreeView:
        return TreeView.open(self.directory)


def house(folder: Path, number: int) -> House:
    seed = [bytes([number, kind] * 16) for kind in range(2)]
    signer = signer_of(
        Ed25519PrivateKey.from_private_bytes(seed[0]), f"{NAMES[number]}.example/log"
    )
    cosigners = [
        Cosigner.ed25519(
            Ed25519PrivateKey.from_private_bytes(seed[1]), f"{NAMES[number]}.example/w"
        ),
        Cosigner.mldsa44(MLDSA44PrivateKey.generate(), f"{NAMES[number]}.example/pq"),
    ]
    directory = folder / NAMES[number]
    ticks = iter(range(1_700_000_000, 1_800_000_000))
    made = Witness(directory / "witness", cosigners=cosigners, logs=(), unix_s=lambda: next(ticks))
    return House(signer=signer, directory=directory / "ledger", witness=made)


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


Town = tuple[list[House], aiohttp.ClientSession]


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    houses = [house(tmp_path, n) for n in range(4)]
    async with aiohttp.ClientSession() as session:
        stacks = []
        for one in houses:
            one.witness = Witness(
                one.witness.directory, cosigners=one.witness.cosigners, unix_s=one.witness.unix_s,
                logs=[other.signer.key for other in houses if other is not one],
            )  # fmt: skip
            serving = served(one.witness.application())
            one.url = await serving.__aenter__()
            stacks.append(serving)
        yield houses, session
        for serving in stacks:
            await serving.__aexit__(None, None, None)


def others(houses: list[House], one: House) -> dict[str, tuple[note.Key, str]]:
    return {h.signer.name: (h.keys[0], h.url) for h in houses if h is not one}


async def test_growth_is_cosigned_by_all_and_meets_the_policy(town: Town) -> None:
    houses, session = town
    rules = policy.parse(
        "\n".join(
            [f"log {houses[0].signer.vkey}"]
            + [f"witness {NAMES[n]} {houses[n].keys[0].vkey} {houses[n].url}" for n in (1, 2, 3)]
            + ["group two 2 b c d", "quorum two"]
        )
    )
    for size in (10, 300, 1000):
        for one in houses:
            await one.grow(size)
            got = await witnessing.collect(session, one.tree(), others(houses, one))
            assert got.refused == {}
            signed = checkpoint.parse(got.cosigned)
            keys = [one.signer.key, *(h.keys[0] for h in houses if h is not one)]
            assert len(checkpoint.verified_keys(signed.note, keys)) == 4
            assert signed.checkpoint.size == size
            anchor.keep(one.directory, got.cosigned)
        rules.check(
            checkpoint.parse((anchor.kept_files(houses[0].directory)[-1]).read_bytes()).note
        )
        found = anchor.anchored(houses[0].directory, rules)
        assert found is not None
        assert found.size == size
        assert found.by == ("b.example/w", "c.example/w", "d.example/w")


async def test_post_quantum_cosignatures(town: Town) -> None:
    houses, session = town
    await houses[0].grow(7)
    line = await witnessing.cosign(session, houses[1].url, houses[1].keys[1], houses[0].tree())
    checkpoint.check_signature(
        houses[1].keys[1], note.parse(houses[0].tree().checkpoint).text, line
    )
    assert len(line.blob) == 8 + 2420


async def answer(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, str, bytes]:
    async with session.post(f"{url}/add-checkpoint", data=body) as response:
        return response.status, response.content_type, await response.read()


def signed(signer: Signer, leaves: list[bytes], origin: str | None = None) -> bytes:
    tree = Frontier()
    tree.extend(leaves)
    text = Checkpoint(origin=origin or signer.name, size=tree.size, root=tree.root()).text()
    return Note(text=text, signatures=(signer.signature(text),)).encode()


async def test_the_specified_status_codes(town: Town, tmp_path: Path) -> None:
    houses, session = town
    log, url = houses[0], houses[1].url
    await log.grow(300)
    await witnessing.cosign(session, url, houses[1].keys[0], log.tree())
    await log.grow(1000)
    tree = log.tree()
    good = tree.consistency(300, 1000)
    request = witnessing.request_body

    async def status(body: bytes) -> int:
        return (await answer(session, url, body))[0]

    def leaves(n: int, last: bytes = b"") -> list[bytes]:
        return [*[b"%d" % k for k in range(n)][: n - 1], last or b"%d" % (n - 1)]

    assert await answer(session, url, request(200, tree.consistency(200, 1000), tree.checkpoint)) == (
        409, "text/x.tlog.size", b"300\n",
    ), "stale"  # fmt: skip
    assert await status(request(300, good, signed(log.signer, leaves(1000, b"x")))) == 422, "fork"
    fork = TreeViewOf([b"f%d" % n for n in range(1000)])
    assert (
        await status(request(300, fork.consistency(300, 1000), signed(log.signer, fork.leaves)))
        == 422
    )
    assert await answer(session, url, request(300, [], signed(log.signer, leaves(300, b"x")))) == (
        409, "text/plain", b"",
    ), "same size, other tree"  # fmt: skip
    assert await status(request(300, [], tree.checkpoint)) == 422, "no proof"
    assert await status(request(0, good, tree.checkpoint)) == 409, "old must be the recorded size"
    assert await status(request(300, [], signed(log.signer, leaves(200)))) == 400, "rollback"
    stranger = signer_of(Ed25519PrivateKey.generate(), log.signer.name)
    assert await status(request(300, good, signed(stranger, leaves(1000)))) == 403, "wrong key"
    forged = tree.checkpoint[:-8] + b"AAAAAA=\n"
    assert await status(request(300, good, forged)) in (400, 403)
    nobody = signer_of(Ed25519PrivateKey.generate(), "nobody.example")
    assert await status(request(0, [], signed(nobody, leaves(3)))) == 404, "unknown log"
    for bad in (b"", b"old 300\n", b"new 3\n\n" + tree.checkpoint, b"old 03\n\n" + tree.checkpoint,
                b"old 1\n!\n\n" + tree.checkpoint, request(300, [bytes(32)] * 64, tree.checkpoint)):  # fmt: skip
        assert await status(bad) == 400
    other = await answer(session, houses[2].url, request(0, [bytes(32)], tree.checkpoint))
    assert other[0] == 422, "a proof from nothing"
    assert await status(request(300, good, tree.checkpoint)) == 200
    assert await status(request(1000, [], tree.checkpoint)) == 200, "the same again is fine"
    async with session.post(f"{url}/add-checkpoint", data=bytes(1 << 20)) as response:
        assert response.status == 413


class TreeViewOf(TreeView):
    """A tree of given leaves."""

    leaves: list[bytes]

    def __init__(self, leaves: list[bytes]) -> None:
        from ledger.log.merkle import leaf_hash
        from ledger.log.treeview import subtree_levels

        object.__setattr__(self, "checkpoint", b"")
        object.__setattr__(self, "levels", subtree_levels([leaf_hash(x) for x in leaves]))
        object.__setattr__(self, "leaves", leaves)


async def test_a_witness_remembers_across_restarts(town: Town) -> None:
    houses, session = town
    log, neighbour = houses[0], houses[1]
    await log.grow(20)
    await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())
    again = Witness(
        neighbour.witness.directory, cosigners=neighbour.witness.cosigners,
        logs=[log.signer.key], unix_s=lambda: 1_750_000_000,
    )  # fmt: skip
    body = witnessing.request_body(0, [], signed(log.signer, [b"other"] * 20))
    assert (await again.add(body)).status_code == 409
    await log.grow(25)
    line = await cosign_at(again, session, log, neighbour)
    assert checkpoint.cosignature_time_s(neighbour.keys[0], line) == 1_750_000_000


async def cosign_at(
    witness: Witness, session: aiohttp.ClientSession, log: House, by: House
) -> note.Signature:
    async with served(witness.application()) as url:
        return await witnessing.cosign(session, url, by.keys[0], log.tree(), old_size=7)


async def test_concurrent_requests_never_get_two_trees_cosigned(town: Town) -> None:
    """Twenty contradicting checkpoints at once: exactly one of them is cosigned."""
    houses, session = town
    log, url = houses[0], houses[1].url
    bodies = [
        witnessing.request_body(0, [], signed(log.signer, [b"%d-%d" % (fork, n) for n in range(9)]))
        for fork in range(20)
    ]
    outcomes = await asyncio.gather(*(answer(session, url, body) for body in bodies))
    assert sorted(status for status, _, _ in outcomes) == [200] + [409] * 19


async def test_two_processes_on_one_folder_never_cosign_two_trees(
    tmp_path: Path, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each decides only once the other has written down what it signed."""
    log, by = town[0][0], town[0][1].witness
    again = Witness(tmp_path / "w", cosigners=by.cosigners, logs=[log.signer.key], unix_s=by.unix_s)
    other = Witness(tmp_path / "w", cosigners=by.cosigners, logs=[log.signer.key], unix_s=by.unix_s)
    second: list[asyncio.Task[witnessing.Answer]] = []
    loop, write = asyncio.get_running_loop(), tiles.write_file

    async def ask_the_other() -> bool:
        """Whether the other process answers while this one has not written."""
        body = witnessing.request_body(0, [], signed(log.signer, [b"other"]))
        second.append(asyncio.create_task(other.add(body)))
        return bool((await asyncio.wait(second, timeout=0.2))[0])

    def slow(path: Path, data: bytes) -> None:
        if not second:
            asked = asyncio.run_coroutine_threadsafe(ask_the_other(), loop)
            assert asked.result(60) is False
        write(path, data)

    monkeypatch.setattr(tiles, "write_file", slow)
    body = witnessing.request_body(0, [], signed(log.signer, [b"one"]))
    assert (await again.add(body)).status_code == 200
    assert (await second[0]).status_code == 409


async def test_lines_of_strangers_are_not_kept(town: Town) -> None:
    """Else one request would fill what is kept until it can be read no more."""
    houses, session = town
    log, neighbour = houses[0], houses[1]
    await log.grow(8)
    await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())
    public = note.parse(await witnessing.last_seen(session, neighbour.url, log.signer.name))
    line = next(s for s in public.signatures if s.name == log.signer.name)
    stranger = note.Signature(name="x.example", key_hash=line.key_hash, blob=bytes(64))
    for lines in ((line,) * note.SIGNATURES_MAX, (line, stranger)):
        body = witnessing.request_body(8, [], Note(text=public.text, signatures=lines).encode())
        assert (await answer(session, neighbour.url, body))[0] == 200
        seen = await witnessing.last_seen(session, neighbour.url, log.signer.name)
        assert len(note.parse(seen).signatures) == 1 + len(neighbour.keys)
        assert anchor.own_points([seen], [log.signer.key])
    await log.grow(9)
    await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())


async def test_what_nobody_could_read_again_is_not_cosigned(town: Town) -> None:
    log, neighbour = town[0][0], town[0][1]
    text = Checkpoint(origin=log.signer.name, size=1, root=bytes(32), extensions=("x" * 261_000,))
    long = Note(text=text.text(), signatures=(log.signer.signature(text.text()),)).encode()
    got = await neighbour.witness.add(witnessing.request_body(0, [], long))
    assert (got.status_code, got.body) == (400, b"checkpoint is too large\n")
    assert neighbour.witness.seen(log.signer.name) is None


async def test_a_rolled_back_ledger_does_not_start(town: Town) -> None:
    houses, session = town
    log, neighbour = houses[0], houses[1]
    await log.grow(30)
    backup = {p: p.read_bytes() for p in segment.segments(log.directory)}
    await log.grow(40)
    await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())
    for path, data in backup.items():
        path.write_bytes(data)
    with pytest.raises(RolledBack, match="cosigned size 40, this ledger has 30"):
        await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())
    known = await witnessing.last_seen(session, neighbour.url, log.signer.name)
    with pytest.raises(LedgerCorrupt, match="rolled back"):
        LedgerWriter.open(log.directory, signer=log.signer, origin=log.signer.name, known=[known])
    assert await witnessing.last_seen(session, neighbour.url, "nobody.example") == b""


async def test_a_forked_ledger_does_not_start(town: Town, make: Callable[..., Path]) -> None:
    houses, session = town
    log, neighbour = houses[0], houses[1]
    await log.grow(30)
    await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())
    for path in segment.segments(log.directory):
        path.unlink()
    writer = LedgerWriter.open(log.directory, signer=log.signer, origin=log.signer.name)
    await writer.append_many([b"fork"] * 30)
    await writer.append_many([b"more"] * 3)
    await writer.close()
    with pytest.raises(RolledBack, match="different tree"):
        await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())
    known = await witnessing.last_seen(session, neighbour.url, log.signer.name)
    with pytest.raises(LedgerCorrupt, match="forked"):
        LedgerWriter.open(log.directory, signer=log.signer, origin=log.signer.name, known=[known])


@asynccontextmanager
async def in_two_pieces(witness: Witness, origin: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A witness whose answers stop in the middle until the caller has begun to read."""
    read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        length = [int(line.split(b":")[1]) for line in head if line.startswith(b"Content-Length:")]
        status, body = 200, b""
        if length:
            got = await witness.add(await reader.readexactly(length[0]))
            status, body = got.status_code, got.body
        else:
            body = witness.path(origin).read_bytes()
        first = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(first % (status, len(body)) + body[: len(body) // 2])
        await read.wait()
        read.clear()
        writer.write(body[len(body) // 2 :])
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", read


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end(town: Town) -> None:
    """Half a checkpoint would say nothing, and let a ledger that was set back start."""
    log, by = town[0][0], town[0][1]
    await log.grow(30)
    async with in_two_pieces(by.witness, log.signer.name) as (url, read):
        trace = aiohttp.TraceConfig()

        async def answered(*_: object) -> None:
            read.set()

        trace.on_request_end.append(answered)
        async with aiohttp.ClientSession(trace_configs=[trace]) as session:
            await witnessing.cosign(session, url, by.keys[0], log.tree())
            await log.grow(40)
            await witnessing.cosign(session, url, by.keys[0], log.tree())
            seen = await witnessing.last_seen(session, url, log.signer.name)
    assert seen == by.witness.path(log.signer.name).read_bytes()


@pytest.mark.parametrize("shown", [b"", b"half a check", b"x" * (256 << 10) + b"x", b"another"])
async def test_what_is_no_checkpoint_of_the_log_is_no_answer(town: Town, shown: bytes) -> None:
    houses, session = town
    body = signed(houses[2].signer, [b"of another log"]) if shown == b"another" else shown

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/{name}/checkpoint", show)
    async with served(app) as url:
        with pytest.raises(WitnessRefused):
            await witnessing.last_seen(session, url, houses[0].signer.name)


@pytest.mark.parametrize("body", ["", "7\n"])
async def test_a_witness_with_another_tree_of_the_same_size_contradicts(
    town: Town, body: str
) -> None:
    """The protocol has it answer 409 once more, to the very size that it had stated itself."""
    houses, session = town
    await houses[0].grow(7)

    async def conflict(request: web.Request) -> web.Response:
        asked = (await request.read()).split(b"\n")[0]
        return web.Response(status=409, text="7\n" if asked == b"old 0" else body)

    app = web.Application()
    app.router.add_post("/add-checkpoint", conflict)
    async with served(app) as url:
        with pytest.raises(RolledBack, match="of the same size"):
            await witnessing.cosign(session, url, houses[1].keys[0], houses[0].tree())


async def test_a_fork_at_the_size_that_was_cosigned_is_told(town: Town) -> None:
    houses, session = town
    log, neighbour = houses[0], houses[1]
    await log.grow(5)
    await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())
    for path in segment.segments(log.directory):
        path.unlink()
    writer = LedgerWriter.open(log.directory, signer=log.signer, origin=log.signer.name)
    await writer.append_many([b"fork"] * 5)
    await writer.close()
    with pytest.raises(RolledBack, match="of the same size"):
        await witnessing.cosign(session, neighbour.url, neighbour.keys[0], log.tree())


async def test_evidence_and_checkpoint_beside_the_ledger_bind_it_too(town: Town) -> None:
    houses, _session = town
    log = houses[0]
    await log.grow(30)
    backup = {p: p.read_bytes() for p in segment.segments(log.directory)}
    await log.grow(40)
    await asyncio.to_thread(tiles.materialise, log.directory)
    for path, data in backup.items():
        path.write_bytes(data)
    with pytest.raises(LedgerCorrupt, match="rolled back"):
        LedgerWriter.open(log.directory, signer=log.signer, origin=log.signer.name)
    (log.directory / tiles.CHECKPOINT).write_bytes(b"spoiled")
    await log.grow(35)


async def test_witnesses_that_fail_are_named(town: Town) -> None:
    houses, session = town
    log = houses[0]
    await log.grow(3)

    async def lie(_request: web.Request) -> web.Response:
        return web.Response(text="— b.example/w AAAAAAAAAAAAAAAA\n")

    app = web.Application()
    app.router.add_post("/add-checkpoint", lie)
    async with served(app) as url:
        asked = {
            "lying": (houses[1].keys[0], url),
            "absent": (houses[2].keys[0], "http://127.0.0.1:9"),
            "good": (houses[3].keys[0], houses[3].url),
        }
        got = await witnessing.collect(session, log.tree(), asked)
        with pytest.raises(WitnessRefused):
            await witnessing.last_seen(session, "http://127.0.0.1:9", "x")
    assert set(got.refused) == {"lying", "absent"}
    assert len(note.parse(got.cosigned).signatures) == 2


@given(st.binary(max_size=300))
def test_any_request_is_malformed_or_parsed(body: bytes) -> None:
    with pytest.raises(Malformed):
        witnessing.parse_request(body)
    with pytest.raises(Malformed):
        witnessing.parse_request(b"old 3\n\n" + body)
