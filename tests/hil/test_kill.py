"""SIGKILL at any moment: nothing accepted is lost, nothing is done twice, nothing is guessed."""

import random
import subprocess
import sys

import pytest
from fakes.promises import broken
from fakes.rig import Rig, report

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]


def verifies(rig):
    done = subprocess.run(
        [sys.executable, "-m", "ledger", "verify", str(rig.out / "ledger"), "--key", str(rig.vkey())],
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


async def test_a_gateway_killed_in_mid_interval_adopts_what_the_device_holds_and_reports(tmp_path):
    rig = Rig(tmp_path, factor=2)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms()
        assert (
            await rig.send(rig.signed(rig.trade("trd-1", "T2", "T3", 120_000, start_ms)))
        ).accepted
        await rig.until_ms(start_ms + 20_000)
        held = {t["id"]: t["p_w_set"] for t in (await rig.status())["terminals"]}
        assert held["T3"] > 100_000
        await rig.kill()
        await rig.start()
        await rig.until(lambda s: s["high_water_ms"] >= start_ms + 60_000, within_s=90)
    entries = rig.entries()
    assert list(broken(entries)) == []
    second = max(i for i, e in enumerate(entries) if e["kind"] == "boot")
    reads = [e["cause"] for e in entries[second:] if e["kind"] == "readback"]
    assert reads[0] in ("adopt", "failsafe")  # the restart may outlast the device's watchdog
    if reads[0] == "adopt":
        first = next(e for e in entries[second:] if e["kind"] == "intent" and e["setpoints"])
        assert first["authority"] == "adopt"
        assert {s["terminal"]: s["p_w"] for s in first["setpoints"]} == held
    ((_, trade),) = report(entries).items()
    assert trade["contracted_wh"] == 2000
    assert trade["delivered_wh"] > 1500
    assert verifies(rig)


async def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(tmp_path):
    kills, intervals = 20, 8
    moments = random.Random(20261121)
    rig = Rig(tmp_path, factor=10)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms(20_000)
        for k in range(intervals):
            out, into = [("T2", "T3"), ("T4", "T2"), ("T1", "T4")][k % 3]
            trade = rig.trade(f"trd-{k}", out, into, 60_000, start_ms + k * 60_000)
            assert (await rig.send(rig.signed(trade))).accepted
        for moment_ms in sorted(
            moments.randrange(start_ms - 5_000, start_ms + intervals * 60_000) for _ in range(kills)
        ):
            await rig.until_ms(moment_ms)
            await rig.kill()
            await rig.start()
        end_ms = start_ms + intervals * 60_000
        await rig.until(lambda s: s["high_water_ms"] >= end_ms, within_s=120)
        operated = (await rig.truth())["operated_instr_ids"]
    entries = rig.entries()
    assert len(set(operated)) == len(operated), "the device operated an instruction twice"
    written = {e["instr_id"] for e in entries if e["kind"] == "commit"}
    assert set(operated) <= written, "the device operated what the ledger does not know"
    assert list(broken(entries)) == []
    assert len(report(entries)) == intervals
    assert sum(e["kind"] == "boot" for e in entries) == kills + 1
    assert verifies(rig)
