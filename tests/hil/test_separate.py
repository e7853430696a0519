"""The whole gateway on a site whose terminals have controllers of their own, over the wire."""

import asyncio
import json
import subprocess
import sys

import pytest
from fakes.promises import broken
from fakes.rig import Rig, report

pytestmark = pytest.mark.timeout(300)  # they wait more than they work: beside others


async def sopgw(rig, *arguments):
    """Run a command as a person beside the gateway would; its exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, "-c", str(rig.site), "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return process.returncode, json.loads(out)["data"]


async def test_four_converters_become_one_ready_soft_open_point(tmp_path):
    rig = Rig(tmp_path, factor=1, separate=True)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        status = await rig.status()
        assert [t["id"] for t in status["terminals"]] == ["T1", "T2", "T3", "T4"]
        assert [t["master"] for t in status["terminals"]] == [True, False, False, False]
        assert status["v_dc_dv"] > 7000
        code, told = await sopgw(rig, "status")
        assert (code, [t["id"] for t in told["terminals"]]) == (0, ["T1", "T2", "T3", "T4"])
        async with asyncio.timeout(120):  # beside others a converter may be late once
            while {c["status"] for c in told.get("checks", ())} != {"ok"}:
                _, told = await sopgw(rig, "doctor", "converters")
        armed = [c["text"] for c in told["checks"] if c["id"].endswith(".reversion")]
        assert len(armed) == 4
        assert all(text.startswith("armed: 0 W after 5 s") for text in armed), armed
    entries = rig.entries()
    (config,) = [e["config"] for e in entries if e["kind"] == "config"]
    assert config["separate"] is True
    assert list(broken(entries)) == []


def on_the_ledger(command, rig):
    """What somebody with nothing but the ledger says of it."""
    program, *words = command
    key = ("--key", str(rig.vkey())) if program == "ledger" else ()
    done = subprocess.run(
        [sys.executable, "-m", program, *words, str(rig.out / "ledger"), *key],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_change_too_large_for_one_step_is_delivered_by_steps(tmp_path):
    rig = Rig(tmp_path, factor=4, separate=True, to_minute_ms=52_000)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms()
        for name, out, into, p_w in (("a", "T2", "T3", 132_000), ("b", "T1", "T4", 120_000)):
            trade = rig.trade(f"trd-{name}", out, into, p_w, start_ms)
            assert (await rig.send(rig.signed(trade), wait_s=20)).accepted
        await rig.until(lambda s: s["high_water_ms"] >= start_ms + 60_000)
        await rig.until(lambda s: s["state"] == "READY")
    entries = rig.entries()
    assert list(broken(entries)) == []
    for delivery in report(entries).values():
        assert delivery["delivered_wh"] >= 0.97 * delivery["planned_wh"], delivery
    by_index = dict(enumerate(entries))
    steps = [i for i, e in by_index.items() if e["kind"] == "intent" and e.get("toward")]
    assert steps, "T3 and T4 together are more than the master could carry if T2 stayed behind"
    ends = {e["intent_index"]: e["outcome"] for e in entries if e["kind"] == "outcome"}
    assert {ends[i] for i in steps} == {"executed"}
    for command in (["ledger", "verify"], ["ledger", "audit"], ["gateway", "replay"]):
        on_the_ledger(command, rig)
