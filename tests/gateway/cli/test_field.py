"""Power by hand without a service: not after a stop, and not over a ledger that was set back."""

import asyncio
import shutil
from pathlib import Path

import pytest

from gateway.cli.field import opened
from gateway.journal.anchoring import seen_file
from gateway.journal.ledger_journal import LedgerJournal, read_entries
from gateway.runtime.clock import SystemClock
from gateway.runtime.latch import FILE, leave
from ledger.log import reader

BENCH = Path(__file__).resolve().parents[3] / "configs" / "sites" / "bench4.yaml"
ORIGIN = "bench4.example/SOP-1"
STEP = ("test", "step", "T2", "--to", "10kW", "--yes", "--json")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site none of whose devices answers."""
    path = tmp_path / "site.yaml"
    shutil.copy(BENCH, path)
    monkeypatch.setenv("SOPGW_CONFIG", str(path))
    return path


def test_after_a_stop_nothing_moves_until_it_is_taken_back(site, sopgw):
    waiting = site.parent / FILE
    leave(waiting, user="uid:7")
    answer = sopgw(*STEP)
    (finding,) = answer.json["errors"]
    assert (answer.exit_code, finding["code"]) == (5, "H005")
    assert "sopgw stop" in finding["message"]
    assert "sopgw arm" in finding["help"]
    assert f"rm {waiting}" in finding["help"], "nobody is locked out where no service shall run"
    assert not (site.parent / "ledger").exists()
    waiting.unlink()
    assert sopgw(*STEP).exit_code == 4, "and then it asks the station"


async def test_a_stop_given_while_devices_are_within_reach_is_seen(site):
    async with opened(site, None) as field:
        assert field.rack.stopped() == ""
        leave(site.parent / FILE, user="uid:7")
        assert "sopgw arm" in field.rack.stopped()


def grown(folder, count):
    """Add entries to the ledger of a site."""

    async def go():
        journal = LedgerJournal.open(
            directory=folder / "ledger", origin=ORIGIN,
            key_file=folder / "ledger.key", clock=SystemClock(),
        )  # fmt: skip
        for number in range(count):
            fields = {"user": "t", "verb": "note", "arguments": [number], "reason": ""}
            await journal.append("operator", fields)
        await journal.close()

    asyncio.run(go())


@pytest.fixture
def set_back(site):
    """Its ledger, as it was three published entries ago."""
    ledger, older = site.parent / "ledger", site.parent / "older"
    grown(site.parent, 2)
    shutil.copytree(ledger, older)
    grown(site.parent, 3)
    seen_file(ledger).write_bytes(reader.last_checkpoint(ledger))
    shutil.rmtree(ledger)
    older.rename(ledger)
    return ledger


def test_a_test_does_not_go_on_with_a_ledger_that_was_set_back(set_back, sopgw):
    answer = sopgw(*STEP)
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (10, "H011")
    assert "rolled back" in answer.json["errors"][0]["message"]
    assert len(list(read_entries(set_back))) == 2


def test_a_signature_is_not_anchored_in_a_ledger_that_was_set_back(set_back, sopgw, tmp_path):
    photo = tmp_path / "page.jpg"
    photo.write_bytes(b"a photo")
    assert sopgw("sat", "new", "--plan", "sop-lv", "--phase", "fat", "--json").exit_code == 0
    words = ("--role", "witness", "--name", "DSO", "--paper", photo, "--json")
    answer = sopgw("sat", "sign", *words)
    assert (answer.exit_code, answer.json["data"]["anchor"]) == (0, None)
    assert "rolled back" in answer.json["warnings"][0]["message"]
    assert len(list(read_entries(set_back))) == 2
