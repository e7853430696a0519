"""The gateway's evidence: published, cosigned by real witnesses on loopback, asked for at a start."""

import asyncio
import json
import shutil
import signal
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.certificates import Authority
from fakes.memory_journal import ManualClock

from gateway.journal import anchoring
from gateway.journal.anchoring import (
    Anchoring,
    kept_here,
    known_outside,
    seen_file,
    trust,
    vouched,
)
from gateway.journal.ledger_journal import LedgerJournal
from gateway.model.errors import JournalError
from ledger.log import anchor, checkpoint, note, tiles
from ledger.log.cosign import Cosigner
from ledger.log.verify import verify
from ledger.network.tls import serving
from ledger.network.witness import Witness

ORIGIN = "bench.example/SOP-1"
FIELDS = {"code": "x", "active": True, "detail": ""}


def open_journal(folder, known=(), seen=()):
    return LedgerJournal.open(
        directory=folder / "ledger",
        origin=ORIGIN,
        key_file=folder / "ledger.key",
        clock=ManualClock(),
        known=known,
        vouched=seen,
    )


async def grow(journal, count):
    for _ in range(count):
        await journal.append("alarm", FIELDS)


@asynccontextmanager
async def witness(folder, vkey, name="west.example/w", tls=None):
    """Serve a witness of one log; gives its URL and verifier key."""
    cosigner = Cosigner.ed25519(Ed25519PrivateKey.generate(), name)
    made = Witness(
        folder / name.replace("/", "_"),
        cosigners=[cosigner],
        logs=[note.parse_vkey(vkey)],
        unix_s=lambda: 1_800_000_000,
    )
    runner = web.AppRunner(made.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", cosigner.key.vkey
    finally:
        await runner.cleanup()


@pytest.fixture
async def journal(tmp_path):
    made = open_journal(tmp_path)
    await grow(made, 3)
    yield made
    await made.close()


def anchoring_of(folder, journal, witnesses=(), policy_file=None):
    made = Anchoring(
        folder / "ledger",
        trust(journal.vkey, witnesses, policy_file),
        every_s=60,
        size=lambda: journal.status().size,
    )
    journal.anchoring = made
    return made


async def test_growth_is_published_and_cosigned_turn_by_turn(tmp_path, journal):
    async with witness(tmp_path, journal.vkey) as (url, key):
        work = anchoring_of(tmp_path, journal, [(url, key)])
        assert journal.status().anchored is False, "nobody has signed yet"
        for size in (3, 303, 400):
            await grow(journal, size - journal.status().size)
            await work.turn()
            told = journal.status()
            assert (told.anchored, told.anchored_size) == (True, size)
            assert told.anchored_by == ("west.example/w",)
            assert tiles.TileTree.open(tmp_path / "ledger").size == size
        assert journal.status().anchored is True
        seen = checkpoint.parse(seen_file(tmp_path / "ledger").read_bytes())
        assert seen.checkpoint.size == 400
        kept = anchor.kept_files(tmp_path / "ledger")
        assert [int(p.stem) for p in kept] == [3, 303, 400]
        again = anchoring_of(tmp_path, journal, [(url, key)])
        assert again.anchored is not None, "what was kept still holds after a start"
    report = verify(tmp_path / "ledger", [journal.vkey])
    assert report.ok


async def test_without_a_witness_nothing_is_anchored_but_all_is_published(tmp_path, journal):
    work = anchoring_of(tmp_path, journal)
    await work.turn()
    assert journal.status().anchored is False
    assert tiles.TileTree.open(tmp_path / "ledger").size == 3
    assert (tmp_path / "ledger" / "index.sqlite").exists()


async def test_a_witness_that_is_down_is_named_once_and_asked_again(tmp_path, journal, caplog):
    async with witness(tmp_path, journal.vkey) as (url, key):
        pass
    work = anchoring_of(tmp_path, journal, [(url, key)])
    await work.turn()
    await work.turn()
    assert journal.status().anchored is False
    assert caplog.text.count("no answer") == 1


async def test_a_policy_wants_its_quorum(tmp_path, journal):
    async with (
        witness(tmp_path, journal.vkey, "a.example/w") as (url_a, key_a),
        witness(tmp_path, journal.vkey, "b.example/w") as (url_b, key_b),
    ):
        path = tmp_path / "witnesses.policy"
        text = f"log {journal.vkey}\nwitness a {key_a} {url_a}\nwitness b {key_b} %s\n"
        text += "group both all a b\nquorum both\n"
        path.write_text(text % "http://127.0.0.1:1")
        work = anchoring_of(tmp_path, journal, policy_file=path)
        await work.turn()
        assert journal.status().anchored is False, "one of two"
        path.write_text(text % url_b)
        work = anchoring_of(tmp_path, journal, policy_file=path)
        await work.turn()
        assert journal.status().anchored_by == ("a.example/w", "b.example/w")


FOREIGN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


@pytest.mark.parametrize("text", ["", "quorum none\n", f"log {FOREIGN}\nquorum none\n"])
async def test_a_policy_that_cannot_be_used_is_refused(tmp_path, journal, text):
    path = tmp_path / "witnesses.policy"
    path.write_text(text)
    with pytest.raises(JournalError, match="witnesses"):
        trust(journal.vkey, (), path)


async def test_a_signing_key_is_no_witness(journal):
    with pytest.raises(JournalError, match="cosignature key"):
        trust(journal.vkey, [("http://127.0.0.1:1", journal.vkey)], None)


async def older_and_newer(folder):
    """A ledger of 9 entries and beside it a copy of its folder from when it had 4."""
    journal = open_journal(folder)
    await grow(journal, 4)
    await journal.close()
    shutil.copytree(folder / "ledger", folder / "older")
    journal = open_journal(folder)
    await grow(journal, 5)
    return journal


def put_back(folder):
    shutil.rmtree(folder / "ledger")
    (folder / "older").rename(folder / "ledger")


async def test_an_older_copy_is_refused_by_what_a_witness_saw(tmp_path):
    journal = await older_and_newer(tmp_path)
    async with witness(tmp_path, journal.vkey) as (url, key):
        await anchoring_of(tmp_path, journal, [(url, key)]).turn()
        await journal.close()
        put_back(tmp_path)
        seen_file(tmp_path / "ledger").unlink()
        known = await known_outside(ORIGIN, [(url, key)], None)
        with pytest.raises(JournalError, match="rolled back"):
            open_journal(tmp_path, known)
        rewound = open_journal(tmp_path)
        work = anchoring_of(tmp_path, rewound, [(url, key)])
        await work.turn()
        assert rewound.status().anchored is False
        assert "has cosigned size 9" in rewound.status().contradiction
    await work.turn()  # the witness is gone: that takes nothing back
    assert "has cosigned size 9" in rewound.status().contradiction
    await rewound.close()


async def test_what_a_witness_held_against_it_ends_when_it_cosigns_again(tmp_path):
    journal = await older_and_newer(tmp_path)
    async with witness(tmp_path, journal.vkey) as (url, key):
        await anchoring_of(tmp_path, journal, [(url, key)]).turn()
        await journal.close()
        shutil.move(tmp_path / "ledger", tmp_path / "newer")
        shutil.copytree(tmp_path / "older", tmp_path / "ledger")
        rewound = open_journal(tmp_path)
        work = anchoring_of(tmp_path, rewound, [(url, key)])
        await work.turn()
        await rewound.close()
        shutil.rmtree(tmp_path / "ledger")
        (tmp_path / "newer").rename(tmp_path / "ledger")
        journal = open_journal(tmp_path)
        work.directory, work._follower = tmp_path / "ledger", None
        journal.anchoring = work
        await grow(journal, 1)
        assert work.contradiction
        await work.turn()
        assert journal.status().contradiction == ""
        await journal.close()


async def test_a_byte_changed_under_the_running_gateway_is_seen_and_told(tmp_path, journal):
    work = anchoring_of(tmp_path, journal)
    assert journal.status().damage == ""
    (segment,) = (tmp_path / "ledger").glob("**/*.seg")
    whole = segment.read_bytes()
    at = whole.index(b'"alarm"')
    segment.write_bytes(whole[:at] + b'"alarN"' + whole[at + 7 :])
    await work.turn()
    assert "up to entry 0, 3 were written" in journal.status().damage
    segment.write_bytes(whole)
    await work.turn()
    assert journal.status().damage == ""


async def test_an_older_copy_is_refused_by_the_checkpoint_kept_beside_it(tmp_path):
    journal = await older_and_newer(tmp_path)
    await anchoring_of(tmp_path, journal).turn()
    await journal.close()
    put_back(tmp_path)
    known = kept_here(tmp_path / "ledger", tmp_path / "receipts")
    with pytest.raises(JournalError, match="rolled back"):
        open_journal(tmp_path, known)


@pytest.mark.parametrize("who", ["seen", "witness", "policy"])
async def test_an_older_copy_with_its_older_key_is_refused_after_a_key_change(tmp_path, who):
    """The copy's key cannot check what the newer one signed: who saw it is believed."""
    await (await older_and_newer(tmp_path)).close()
    old = tmp_path / "ledger.key"
    old.rename(tmp_path / "older.key")
    shutil.rmtree(tmp_path / "ledger")
    journal = open_journal(tmp_path)  # stands for the same ledger under its next key
    await grow(journal, 9)
    async with witness(tmp_path, journal.vkey) as (url, key):
        await anchoring_of(tmp_path, journal, [(url, key)]).turn()
        await journal.close()
        known = await known_outside(ORIGIN, [(url, key)], None)
    put_back(tmp_path)
    (tmp_path / "older.key").rename(old)
    folder, policy = tmp_path / "ledger", tmp_path / "w.policy"
    policy.write_text(f"log {journal.vkey}\nwitness w {key} {url}\nquorum w\n")
    if who != "seen":
        seen_file(folder).unlink()
    asked = {"seen": ([], None), "witness": ([(url, key)], None), "policy": ([], policy)}[who]
    with pytest.raises(JournalError, match="size 9 is known, the ledger has 4: it was rolled back"):
        open_journal(tmp_path, known, vouched(folder, known, *asked))
    seen_file(folder).unlink(missing_ok=True)
    other = Cosigner.ed25519(Ed25519PrivateKey.generate(), "west.example/w").key.vkey
    unknown = vouched(folder, [*known, b"junk"], [(url, other)], None)
    await open_journal(tmp_path, known, unknown).close()  # a stranger's word stops no gateway


async def test_an_older_copy_is_refused_by_a_kept_receipt(tmp_path):
    journal = await older_and_newer(tmp_path)
    receipts = tmp_path / "receipts"
    receipts.mkdir()
    signed = journal.status().checkpoint
    (receipts / "a.json").write_text(json.dumps({"checkpoint": signed}))
    (receipts / "b.json").write_text("[]")
    (receipts / "c.json").write_text("no JSON")
    await journal.close()
    put_back(tmp_path)
    with pytest.raises(JournalError, match="rolled back"):
        open_journal(tmp_path, kept_here(tmp_path / "ledger", receipts))


async def test_a_silent_witness_does_not_hold_up_a_start(tmp_path, caplog):
    assert await known_outside(ORIGIN, [("http://127.0.0.1:1", "")], None) == []
    assert "not asked at start" in caplog.text


async def test_missing_tiles_are_written_again(tmp_path, journal):
    await grow(journal, 197)
    async with witness(tmp_path, journal.vkey) as (url, key):
        work = anchoring_of(tmp_path, journal, [(url, key)])
        await work.turn()
        await grow(journal, 400)
        await anchoring_of(tmp_path, journal).turn()
        (tmp_path / "ledger" / "tile" / "0" / "000").unlink()
        work = anchoring_of(tmp_path, journal, [(url, key)])
        await work.turn()
        assert journal.status().anchored_size == 200, "no proof from 200 to 600 without the tile"
        await work.turn()
        assert journal.status().anchored_size == 600
    assert (tmp_path / "ledger" / "tile" / "0" / "000").stat().st_size == 8192


async def test_a_full_disk_costs_the_published_tree_and_nothing_else(
    tmp_path, journal, monkeypatch, caplog
):
    work = anchoring_of(tmp_path, journal)

    def full(_path, _data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tiles, "write_new", full)
        await work.turn()
    assert "No space left" in caplog.text
    await grow(journal, 1)
    await work.turn()
    assert tiles.TileTree.open(tmp_path / "ledger").size == 4
    assert "works again" in caplog.text


async def test_evidence_that_cannot_be_kept_costs_the_anchor_and_nothing_else(
    tmp_path, journal, monkeypatch, caplog
):
    async with witness(tmp_path, journal.vkey) as (url, vkey):
        work = anchoring_of(tmp_path, journal, [(url, vkey)])
        await grow(journal, 5)

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(anchor, "keep", full)
            await work.turn()
            assert work.anchored is None
            assert "No space left" in caplog.text
        await work.turn()
        assert work.anchored.size == journal.status().size
        assert "evidence: works again" in caplog.text


async def test_turns_are_taken_until_cancelled(tmp_path, journal, monkeypatch):
    work = Anchoring(tmp_path / "ledger", None, every_s=0.001)
    turns = 0
    real = anchoring.Anchoring.turn

    async def counted(self):
        nonlocal turns
        await real(self)
        turns += 1
        if turns == 3:
            raise JournalError("enough")

    monkeypatch.setattr(anchoring.Anchoring, "turn", counted)
    with pytest.raises(JournalError, match="enough"):
        async with asyncio.timeout(60):
            await work.run()


async def test_a_long_way_to_catch_up_is_gone_by_another_process(tmp_path, journal, monkeypatch):
    monkeypatch.setattr(anchoring, "CATCH_UP_COUNT", 100)
    await grow(journal, 150)
    work = Anchoring(tmp_path / "ledger", None, every_s=60, size=lambda: journal.status().size)
    here, real = [], work._publish

    def publish():
        here.append(tiles.TileTree.open(tmp_path / "ledger").size)
        return real()

    monkeypatch.setattr(work, "_publish", publish)
    await work.turn()
    assert here == [153], "nothing was left to do in this process"
    await grow(journal, 1)
    await work.turn()
    assert here == [153, 153]
    assert tiles.TileTree.open(tmp_path / "ledger").size == 154


async def test_catching_up_ends_with_the_gateway(tmp_path, journal, monkeypatch):
    monkeypatch.setattr(anchoring, "CATCH_UP_COUNT", 1)
    started = []
    real = asyncio.create_subprocess_exec

    async def slow(*_words, **more):
        started.append(await real("sleep", "60", **more))
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    work = Anchoring(tmp_path / "ledger", None, every_s=60, size=lambda: journal.status().size)
    turn = asyncio.ensure_future(work.turn())
    async with asyncio.timeout(60):
        while not started:
            await asyncio.sleep(0.01)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert started[0].returncode == -signal.SIGTERM


async def test_a_witness_that_asks_for_certificates_is_shown_ours(tmp_path, caplog):
    authority = Authority(tmp_path / "pki")
    server, server_key = authority.issue("witness", server=True)
    ours, our_key = authority.issue("gateway")
    door = serving(certificate=server, key=server_key, clients=authority.path)
    papers = (authority.path, ours, our_key)
    journal = open_journal(tmp_path)
    await grow(journal, 4)
    async with witness(tmp_path, journal.vkey, tls=door) as (url, key):
        url = url.replace("http:", "https:")
        policy = trust(journal.vkey, [(url, key)], None)
        bare = Anchoring(tmp_path / "ledger", policy, every_s=60)
        await bare.turn()
        assert bare.anchored is None
        await Anchoring(tmp_path / "ledger", policy, every_s=60, tls=papers).turn()
        assert len(anchor.kept_files(tmp_path / "ledger")) == 1
        assert len(await known_outside(ORIGIN, [(url, key)], None, papers)) == 1
        our_key.write_text("half of a k")
        assert await known_outside(ORIGIN, [(url, key)], None, papers) == []
        await grow(journal, 1)
        await Anchoring(tmp_path / "ledger", policy, every_s=60, tls=papers).turn()
    assert "not asked" in caplog.text
    await journal.close()
