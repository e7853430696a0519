"""A site file that changed between two runs: the ledger still names terminals it no longer has."""

import asyncio
import subprocess
import sys

import pytest
from fakes.promises import broken
from fakes.rig import Rig, report

pytestmark = pytest.mark.timeout(300)


def said(*arguments):
    """What a program says of the ledger, and that it is content."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def renamed_under_power(folder):
    """Killed while T3 injects, started as T9; the region behind it trades on."""
    rig = Rig(folder, factor=6, to_minute_ms=40_000)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms(ahead_ms=20_000)
        now = rig.trade("under-way", "T2", "T3", 120_000, start_ms)
        later = rig.trade("to-come", "T3", "T4", 60_000, start_ms + 120_000)
        for trade in (now, later):
            assert (await rig.send(rig.signed(trade))).accepted
        await rig.until_ms(start_ms + 20_000)
        assert any(t["p_w_set"] > 100_000 for t in (await rig.status())["terminals"])
        await rig.kill()
        text = rig.site.read_text()
        assert text.count(" T3:") == 1
        rig.site.write_text(text.replace(" T3:", " T9:"))
        await rig.start()
        await rig.until(lambda s: s["state"] == "READY")
        new_ms = rig.next_minute_ms()
        again = rig.trade("after", "T2", "T3", 60_000, new_ms)
        assert (await rig.send(rig.signed(again))).accepted
        over_ms = max(start_ms + 120_000, new_ms) + 60_000
        await rig.until(lambda s: s["high_water_ms"] >= over_ms)
    return rig


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    return asyncio.run(renamed_under_power(tmp_path_factory.mktemp("renamed")))


def test_power_ends_and_trades_of_the_old_name_fail_with_the_reason(rig):
    entries = rig.entries()
    assert list(broken(entries)) == []
    found = {trade: row for (trade, _), row in report(entries).items()}
    for trade in ("under-way", "to-come"):
        assert (found[trade]["status"], found[trade]["delivered_wh"]) == ("failed", 0)
        assert "unknown_domain" in found[trade]["reasons"]
    second = max(i for i, e in enumerate(entries) if e["kind"] == "boot")
    void = [i for i, e in enumerate(entries) if e["kind"] == "plan" and i < second]
    sent = [e for e in entries[second:] if e["kind"] == "intent" and e["setpoints"]]
    assert void
    assert sent
    for intent in sent:
        assert {s["terminal"] for s in intent["setpoints"]} == {"T1", "T2", "T9", "T4"}
        if intent["plan_index"] in void:
            assert not any(s["p_w"] for s in intent["setpoints"])


def test_the_region_behind_it_trades_on_by_the_new_name(rig):
    found = {trade: row for (trade, _), row in report(rig.entries()).items()}
    assert found["after"]["status"] == "delivered"


def test_the_ledger_verifies_audits_and_replays(rig):
    ledger, key = rig.out / "ledger", rig.vkey()
    said("ledger", "verify", ledger, "--key", key)
    said("ledger", "audit", ledger, "--key", key)
    said("gateway", "replay", ledger, "--key", key)
