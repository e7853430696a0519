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
    assert await status(request(300, [], signed(log.signer, leaves(300, b"x")))) == 422, "same size"
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
