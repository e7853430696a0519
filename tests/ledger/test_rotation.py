"""Changing the log key: the old one names the new one, either verifies, a stranger's never does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from gateway_day import Day

from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log import canonical, checkpoint, note, reader
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
