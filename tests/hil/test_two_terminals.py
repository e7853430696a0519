"""The soft open point most people have: two terminals, either of them the DC master."""

import asyncio
import subprocess
import sys

import pytest
from fakes.promises import broken
from fakes.rig import Rig, report

pytestmark = pytest.mark.timeout(300)


async def there_and_back(folder, master):
    """A trade in each direction, one after the other."""
    rig = Rig(folder, factor=6, to_minute_ms=40_000, terminals=2, master=master)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms(ahead_ms=30_000)
        there = rig.trade("there", "T1", "T2", 120_000, start_ms)
        back = rig.trade("back", "T2", "T1", 90_000, start_ms + 60_000)
        for trade in (there, back):
            assert (await rig.send(rig.signed(trade))).accepted
        await rig.until(lambda s: s["high_water_ms"] >= start_ms + 120_000)
    return rig


@pytest.fixture(scope="module")
def rigs(tmp_path_factory):
    """Both at once, by the number of the master."""

    async def both():
        async with asyncio.TaskGroup() as group:
            tasks = {
                number: group.create_task(
                    there_and_back(tmp_path_factory.mktemp(f"master-{number}"), number)
                )
                for number in (1, 2)
            }
        return {number: task.result() for number, task in tasks.items()}

    return asyncio.run(both())


@pytest.mark.parametrize("master", [1, 2])
def test_both_directions_are_delivered_and_proved(rigs, master):
    rig = rigs[master]
    entries = rig.entries()
    assert list(broken(entries)) == []
    found = {trade: row for (trade, _), row in report(entries).items()}
    assert [found[t]["status"] for t in ("there", "back")] == ["delivered", "delivered"]
    ledger, key = str(rig.out / "ledger"), str(rig.vkey())
    for words in (("ledger", "verify"), ("ledger", "audit"), ("gateway", "replay")):
        done = subprocess.run(
            [sys.executable, "-m", *words, ledger, "--key", key],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
