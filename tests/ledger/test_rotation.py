"""Changing the log key: the old one names the new one, either verifies, a stranger's never does."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from gateway_day import Day

from ledger.audit import receipt
from ledger.audit.auditor import audit
from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log import anchor, canonical, checkpoint, note, reader, segment
from ledger.log.keys import Signer, create_key, load_key
from ledger.log.segment import LedgerCorrupt
from ledger.log.verify import verify
from ledger.log.writer import LedgerWriter

NAME = "gw.example/ledger"


@pytest.fixture
def keys(tmp_path: Path) -> list[Signer]:
    return [create_key(tmp_path / f"k{n}", NAME) for n in range(3)]


def write(
    directory: Path, signer: Signer, leaves: list[bytes], also: Sequence[Signer] = ()
) -> None:
    async def go() -> None:
        writer = LedgerWriter.open(
            directory, signer=signer, origin=NAME, also=also, segment_bytes=2_000
        )
        for leaf in leaves:
            await writer.append(leaf)
        await writer.close()

    asyncio.run(go())


def key_entry(new: Signer) -> bytes:
    return canonical.encode({"kind": "key", "vkey": new.vkey, "not_before_us": 1})


def test_overlap_and_after(tmp_path: Path, keys: list[Signer]) -> None:
    old, new, stranger = keys
    directory = tmp_path / "ledger"
    write(directory, old, [b"%d" % n * 100 for n in range(10)])
    write(directory, old, [key_entry(new)], also=(new,))
    both = note.parse(reader.last_checkpoint(directory))
    assert len(checkpoint.verified_keys(both, [old.key, new.key])) == 2
    write(directory, new, [b"%d" % n * 100 for n in range(10)], also=(old,))
    write(directory, new, [b"%d" % n * 100 for n in range(20)])
    with_old = verify(directory, [old.vkey])
    assert with_old.ok, with_old.faults
    assert (with_old.size, with_old.unsigned_count) == (41, 0)
    with_new = verify(directory, [new.vkey])
    assert with_new.ok
    assert with_new.unsigned_count > 0, "earlier checkpoints are another key's and said so"
    assert not verify(directory, [stranger.vkey]).ok
    with pytest.raises(LedgerCorrupt):
        LedgerWriter.open(directory, signer=old, origin=NAME)


def test_a_key_nobody_trusted_introduced_is_not_trusted(tmp_path: Path, keys: list[Signer]) -> None:
    """A stranger continues a stolen ledger with a key entry of his own: the old key refuses it."""
    old, new, stranger = keys
    directory = tmp_path / "ledger"
    write(directory, stranger, [key_entry(old), b"x", key_entry(new)])
    write(directory, stranger, [b"y"], also=(new,))
    assert not verify(directory, [old.vkey]).ok


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "ledger"
    assert run(sopledger, ["init", str(directory), "--origin", NAME]) == 0
    (tmp_path / "e").write_text('{"a":1}\n')
    append = ["append", str(directory), "--jsonl", str(tmp_path / "e")]
    assert run(sopledger, append) == 0
    old = load_key(directory / "ledger.key", NAME)
    capsys.readouterr()
    assert run(sopledger, ["key", "rotate", str(directory), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert load_key(directory / "ledger.key", NAME).vkey == data["vkey"] != old.vkey
    assert load_key(directory / "ledger.key.old", NAME).vkey == old.vkey
    assert run(sopledger, append) == 0
    for vkey in (old.vkey, data["vkey"]):
        (tmp_path / "vkey").write_text(vkey)
        assert run(sopledger, ["verify", str(directory), "--key", str(tmp_path / "vkey")]) == 0
    assert run(sopledger, ["key", "rotate", str(directory)]) == 5


def changed(directory: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Signer, Signer]:
    """A ledger of several segments whose key the command has just changed; its old and new key."""
    assert run(sopledger, ["init", str(directory), "--origin", NAME]) == 0
    old = load_key(directory / "ledger.key", NAME)
    write(directory, old, [b'{"n":%d,"t":"%s"}' % (n, b"a" * 200) for n in range(20)])
    assert len(segment.segments(directory)) > 1
    assert run(sopledger, ["key", "rotate", str(directory)]) == 0
    capsys.readouterr()
    return old, load_key(directory / "ledger.key", NAME)


def append(directory: Path) -> int:
    lines = directory.with_name("one.jsonl")
    lines.write_text('{"a":1}\n')
    return run(sopledger, ["append", str(directory), "--jsonl", str(lines)])


def vkey_file(directory: Path, *vkeys: str) -> list[str]:
    path = directory.with_name("given.vkey")
    path.write_text("\n".join(vkeys))
    return ["--key", str(path)]


def test_after_the_command_a_ledger_of_many_segments_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The header of its last segment is signed by the old key alone."""
    directory = tmp_path / "ledger"
    old, new = changed(directory, capsys)
    assert append(directory) == 0
    assert verify(directory, [old.vkey]).ok
    assert verify(directory, [new.vkey]).ok
    with pytest.raises(LedgerCorrupt, match="none of the expected keys"):
        LedgerWriter.open(directory, signer=old, origin=NAME)


def test_the_key_to_hand_out_is_the_new_one_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that an entry names and that signs nothing is not it."""
    directory = tmp_path / "ledger"
    _, new = changed(directory, capsys)
    stranger = create_key(tmp_path / "stranger", NAME)
    for leaves in ([], [key_entry(stranger)]):
        write(directory, new, leaves)
        capsys.readouterr()
        assert run(sopledger, ["key", "show", str(directory)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == new.vkey
        assert run(sopledger, ["stats", str(directory), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["data"]["vkey"] == new.vkey


def test_with_the_old_key_a_verifier_still_remembers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the new key signed is held against a ledger put back to before, or after, the change."""
    directory, memory = tmp_path / "ledger", tmp_path / "seen"
    old, _ = changed(directory, capsys)
    shutil.copytree(directory, tmp_path / "after")
    shutil.copytree(directory, tmp_path / "before")
    last = segment.segments(tmp_path / "before")[-1]
    header, first = segment.parse_start(last.read_bytes(), segment.first_index(last))
    assert header.size < reader.last_size(directory)
    last.write_bytes(last.read_bytes()[:first])
    assert append(directory) == 0
    remember = [*vkey_file(directory, old.vkey), "--remember", str(memory)]
    assert run(sopledger, ["verify", str(directory), *remember]) == 0
    seen = memory.read_bytes()
    for back in ("after", "before"):
        capsys.readouterr()
        assert run(sopledger, ["verify", str(tmp_path / back), *remember]) == 8, back
        assert "rolled back" in capsys.readouterr().err
        assert memory.read_bytes() == seen, "and it is not forgotten"
    other = tmp_path / "other"
    assert run(sopledger, ["init", str(other), "--origin", "other.example"]) == 0
    assert append(other) == 0
    theirs = load_key(other / "ledger.key", "other.example").vkey
    capsys.readouterr()
    remember[:2] = vkey_file(other, theirs)
    assert run(sopledger, ["verify", str(other), *remember]) == 8
    assert "of another ledger" in capsys.readouterr().err


def test_an_older_copy_with_its_older_key_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was seen of this ledger is held against it, also where only the newer key signed it."""
    directory, back = tmp_path / "ledger", tmp_path / "back"
    assert run(sopledger, ["init", str(directory), "--origin", NAME]) == 0
    assert append(directory) == 0
    before = reader.last_checkpoint(directory)
    shutil.copytree(directory, back)
    old = load_key(directory / "ledger.key", NAME)
    assert run(sopledger, ["key", "rotate", str(directory)]) == 0
    assert append(directory) == 0
    new, seen = load_key(directory / "ledger.key", NAME), reader.last_checkpoint(directory)
    assert not checkpoint.verified_keys(note.parse(seen), [old.key])
    elsewhere = seen.replace(NAME.encode(), b"other.example", 1)

    def start(where: Path, signer: Signer, *vouched: bytes) -> int:
        writer = LedgerWriter.open(where, signer=signer, origin=NAME, vouched=vouched)
        asyncio.run(writer.close())
        return writer.size()

    with pytest.raises(LedgerCorrupt, match="size 3 is known, the ledger has 1: it was rolled"):
        start(back, old, before, seen)
    assert start(directory, new, before, seen, elsewhere, b"junk") == 3, "one key and the next"
    origin, _, _, *rest = seen.decode().split("\n")
    for size, what in ((3, "different tree of size 3"), (2, "different tree of size 2")):
        other = "\n".join([origin, str(size), f"{'A' * 43}=", *rest]).encode()
        with pytest.raises(LedgerCorrupt, match=what):
            start(directory, new, seen, other)
    assert start(back, old, before, elsewhere) == 1, "another ledger's is no word about this one"


def test_with_the_new_key_older_evidence_is_not_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kept before the change, it says what the segments say; what says anything else is."""
    directory = tmp_path / "ledger"
    assert run(sopledger, ["init", str(directory), "--origin", NAME]) == 0
    assert append(directory) == 0
    kept = anchor.keep(directory, reader.last_checkpoint(directory))
    assert run(sopledger, ["key", "rotate", str(directory)]) == 0
    new = load_key(directory / "ledger.key", NAME)
    given = vkey_file(directory, new.vkey)
    capsys.readouterr()
    assert run(sopledger, ["verify", str(directory), *given]) == 0, capsys.readouterr().err
    text, _, signatures = kept.read_text().partition("\n\n")
    origin, size, _ = text.splitlines()
    for lie in (f"{origin}\n{size}\n{'A' * 43}=", f"{origin}\n9\n{'A' * 43}="):
        kept.write_text(f"{lie}\n\n{signatures}")
        assert run(sopledger, ["verify", str(directory), *given]) == 8
        assert "none of the given keys" in capsys.readouterr().err


def test_the_audit_counts_no_checkpoint_that_it_could_not_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "ledger"
    _, new = changed(directory, capsys)
    assert append(directory) == 0
    found = audit(directory, [new.vkey])
    signed = next(f for f in found.findings if f.number == "I3")
    assert signed.judged_count == found.report.checkpoint_count - found.report.unsigned_count == 2
    assert f"{found.report.unsigned_count} earlier checkpoints" in found.not_checked[0]


def test_a_receipt_counts_under_any_given_key_of_the_log(tmp_path: Path, day: Day) -> None:
    """The file of keys holds the old and the new one, in either order; a stranger's is none."""
    directory = tmp_path / "ledger"
    assert run(sopledger, ["init", str(directory), "--origin", NAME]) == 0
    old = load_key(directory / "ledger.key", NAME)
    write(directory, old, [canonical.encode(e) for e in day.entries])
    assert run(sopledger, ["key", "rotate", str(directory)]) == 0
    assert append(directory) == 0
    new = load_key(directory / "ledger.key", NAME)
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(receipt.build(directory, "A-1")))
    for given in ([old.vkey, new.vkey], [new.vkey, old.vkey], [new.vkey]):
        words = ["receipt", "verify", str(file), *vkey_file(directory, *given)]
        assert run(sopledger, words) == 0, given
    stranger = create_key(tmp_path / "stranger", NAME).vkey
    elsewhere = create_key(tmp_path / "elsewhere", "other.example").vkey
    for given in ([old.vkey], [stranger, elsewhere]):
        words = ["receipt", "verify", str(file), *vkey_file(directory, *given)]
        assert run(sopledger, words) == 8, given


def test_a_gateways_ledger_is_still_a_gateways_after_the_change(tmp_path: Path, day: Day) -> None:
    """The entry fits among the gateway's own: the audit holds and the next start can fold it."""
    directory = tmp_path / "ledger"
    assert run(sopledger, ["init", str(directory), "--origin", NAME]) == 0
    old = load_key(directory / "ledger.key", NAME)
    write(directory, old, [canonical.encode(e) for e in day.entries])
    assert run(sopledger, ["key", "rotate", str(directory)]) == 0
    entry = canonical.decode(list(reader.entries(directory))[-1][1])
    last = day.entries[-1]
    assert (entry["kind"], entry["boot"], entry["tq"]) == ("key", last["boot"], "degraded")
    assert int(str(entry["mono_us"])) >= last["mono_us"]
    (tmp_path / "vkey").write_text(old.vkey)
    assert run(sopledger, ["audit", str(directory), "--key", str(tmp_path / "vkey")]) == 0
