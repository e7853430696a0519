"""The whole gateway on a site whose terminals have controllers of their own, over the wire."""

import subprocess
import sys

import pytest
from fakes.promises import broken
from fakes.rig import Rig, report

pytestmark = pytest.mark.timeout(300)  # they wait more than they work: beside others


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
    rig = Rig(tmp_path, factor=3, separate=True, to_minute_ms=45_000)
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
        assert delivery["delivered_wh"] >= 0.9 * delivery["planned_wh"], delivery
    by_index = dict(enumerate(entries))
    steps = [i for i, e in by_index.items() if e["kind"] == "intent" and e.get("toward")]
    assert steps, "T3 and T4 together are more than the master could carry if T2 stayed behind"
    ends = {e["intent_index"]: e["outcome"] for e in entries if e["kind"] == "outcome"}
    assert "executed" in {ends[i] for i in steps}
    for command in (["ledger", "verify"], ["ledger", "audit"], ["gateway", "replay"]):
        on_the_ledger(command, rig)
