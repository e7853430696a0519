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


async def test_a_zero_refused_for_another_master_is_followed_by_a_stop(tmp_path):
    rig = Rig(tmp_path, factor=1, to_minute_ms=16_000)  # real time: within the device's watchdog
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms(ahead_ms=6_000)
        trade = rig.trade("under-way", "T2", "T3", 120_000, start_ms)
        assert (await rig.send(rig.signed(trade))).accepted
        await rig.until_ms(start_ms + 8_000)
        assert any(t["p_w_set"] > 100_000 for t in (await rig.status())["terminals"])
        await rig.kill()
        text = rig.site.read_text()
        assert text.count("master: T1") == 1
        rig.site.write_text(text.replace("master: T1", "master: T4"))
        await rig.start()
        at_rest = {"T1": 0, "T2": 0, "T3": 0, "T4": 0}
        await rig.until(
            lambda s: s["terminals"] and {t["id"]: t["p_w_set"] for t in s["terminals"]} == at_rest
        )
        # Neither its time-to-live nor the interval was over.
        assert rig.now_ms() < start_ms + 40_000
    entries = rig.entries()
    second = max(i for i, e in enumerate(entries) if e["kind"] == "boot")
    sent = [e.get("command") for e in entries[second:] if e["kind"] == "intent"]
    held = [e for e in entries[second:] if e["kind"] == "readback" and e["cause"] == "adopt"]
    assert "ENTER_STANDBY" in sent or not held  # where the start took longer, the watchdog did it
