"""Start of a gateway on a ledger of many entries: time, and how many entries it folds.

python tests/fault/restart_scale.py --entries 10000000 --folder /var/tmp/restart

A plant's history is written (days of trades, plans, instructions, readings of one meter an entry),
then the real gateway starts on it three times against simulated devices and a broker: without a
snapshot (everything is folded, and a snapshot made), killed and started with it, and once more
after a stop in order. The folder is kept with --folder and used again.
"""

import argparse
import asyncio
import contextlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes.rig import ORIGIN, Rig

from gateway.journal.snapshot import ENTRIES_BETWEEN
from gateway.model.interval import utc_text
from gateway.runtime.clock import BenchClock, SystemClock
from ledger.log.canonical import encode
from ledger.log.keys import create_key
from ledger.log.writer import LedgerWriter

DAY_S = 86_400
QUARTERS = 96
READING_S = 5
TERMINALS = ("T1", "T2", "T3", "T4")
BATCH = 4_000


OFFSET_US = SystemClock().utc_us() - BenchClock.start(utc_epoch_us=0, factor=1).mono_us()


def quarter(index, start_s, trade):
    """The entries of one quarter of an hour with one trade; ``index`` is the first one's."""
    span = {"start": utc_text(start_s * 1000), "end": utc_text((start_s + 900) * 1000)}
    common = {"boot": 1, "tq": "good"}

    def entry(kind, at_s, **fields):
        us = at_s * 1_000_000
        return {
            **fields,
            **common,
            "kind": kind,
            "utc_us": us,
            "mono_us": us - OFFSET_US,
        }

    yield entry("trade.received", start_s - 300, topic="p2p/v1/demo/SOP-1/trades", retain=False,
                size=900, sha256=f"{trade:064x}", payload="QQ==" * 300)  # fmt: skip
    yield entry("trade.accepted", start_s - 300, received_index=index, sha256=f"{trade:064x}",
                trade_id=f"trd-{trade}", revision=1, out_terminal="T2", in_terminal="T3", last=True,
                positions=[{"interval": span, "p_w": 60_000, "energy_wh": 15_000}])  # fmt: skip
    planned = {"T1": 0, "T2": -15_000, "T3": 15_000, "T4": 0}
    yield entry("plan", start_s - 30, sop="SOP-1", interval=span, setpoints=dict.fromkeys(TERMINALS, 0),
                planned_wh=planned, trades=[{
                    "trade_id": f"trd-{trade}", "revision": 1, "out_terminal": "T2",
                    "in_terminal": "T3", "contracted_wh": 15_000, "planned_wh": 15_000, "reasons": [],
                }])  # fmt: skip
    plan = index + 2
    index += 3
    for k in range(900 // READING_S):
        at_s = start_s + k * READING_S
        for terminal in TERMINALS:
            yield entry("reading", at_s, meters=[{
                "meter": f"m{terminal[1]}", "terminal": terminal, "utc_us": at_s * 1_000_000,
                "import_wh": 1_000_000 + at_s // 60, "export_wh": at_s // 60, "p_w": 60_000,
                "quality": "good", "age_ms": 3, "registers": "0001 0203",
            }])  # fmt: skip
            index += 1
        if k % 3 == 0:  # corrections all day long
            instruction = {"intent_index": index, "instr_id": index}
            yield entry("intent", at_s, sop="SOP-1", instr_id=index, authority="tracking",
                        plan_index=plan, ramp_permille_per_s=200, ttl_s=900, staged="00" * 60,
                        expires_mono_us=0, setpoints=[
                            {"terminal": t, "mode": "PQ", "p_w": 0, "q_var": 0} for t in TERMINALS
                        ])  # fmt: skip
            yield entry("prepared", at_s, **instruction)
            yield entry("commit", at_s, **instruction, reasons=[])
            yield entry("outcome", at_s, **instruction, outcome="executed", reasons=[],
                        active=dict.fromkeys(TERMINALS, 0))  # fmt: skip
            index += 4
    yield entry("delivery", start_s + 930, sop="SOP-1", interval=span, terminals=[], loss_wh=100,
                unscheduled_wh=0, trades=[{
                    "trade_id": f"trd-{trade}", "contracted_wh": 15_000, "planned_wh": 15_000,
                    "delivered_wh": 15_000, "status": "delivered", "reasons": [],
                }])  # fmt: skip


def history(count, end_s):
    """So many entries whose last quarter is over before ``end_s``."""
    size = sum(1 for _ in quarter(0, end_s, 0))
    quarters = count // size
    index = 2
    start_s = (end_s // 900 - quarters - 2) * 900
    at_us = start_s * 1_000_000
    first = {"boot": 1, "tq": "good", "mono_us": at_us - OFFSET_US, "utc_us": at_us}
    yield {**first, "kind": "boot", "version": "0", "site": "demo", "sop": "SOP-1",
           "previous_boot_index": -1, "clean": True}  # fmt: skip
    yield {**first, "kind": "mode", "mode": "on", "state": "INIT", "reasons": []}
    for number in range(quarters):
        for entry in quarter(index, start_s + number * 900, number):
            yield entry
            index += 1
    at_us = entry["utc_us"]
    last = {**first, "utc_us": at_us, "mono_us": at_us - OFFSET_US}
    yield {**last, "kind": "mode", "mode": "on", "state": "OFF", "reasons": []}


async def generate(site, count):
    """Write the history with the gateway's own key."""
    site.mkdir(parents=True, exist_ok=True)
    signer = create_key(site / "ledger.key", ORIGIN, None)
    writer = LedgerWriter.open(site / "ledger", signer=signer, origin=ORIGIN)
    batch = []
    for entry in history(count, int(time.time())):
        batch.append(encode(entry))
        if len(batch) == BATCH:
            await writer.append_many(batch)
            batch = []
    await writer.append_many(batch)
    await writer.close()


def cpu_s(pid):
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Start:
    """One start of the gateway, timed from the launch of its interpreter."""

    def __init__(self, rig):
        self.rig = rig

    async def run(self, what, *, end):
        began = time.monotonic()
        await self.rig.begin()
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                status = await self.rig.status()
                break
            if self.rig.process.returncode is not None:
                sys.exit(self.rig.log.read_text()[-2000:])
            await asyncio.sleep(0.2)
        observing = time.monotonic() - began
        while status["state"] != "READY":
            await asyncio.sleep(0.2)
            status = await self.rig.status()
        ready = time.monotonic() - began
        (total, folded) = re.search(
            r"recovered (\d+) entries, (\d+) of them", self.rig.log.read_text()
        ).groups()
        print(
            f"{what}: {int(total):,} entries, {int(folded):,} folded, "
            f"observing after {observing:.1f} s, control after {ready:.1f} s, "
            f"CPU {cpu_s(self.rig.process.pid):.1f} s", flush=True
        )  # fmt: skip
        if int(folded) > ENTRIES_BETWEEN:
            await self.snapshot()
        await end()

    async def snapshot(self):
        """Wait until the snapshot that is due stands in the ledger."""
        async with asyncio.timeout(120):
            while "snapshot of" not in self.rig.log.read_text():
                await asyncio.sleep(0.2)


async def campaign(folder, count, *, warm):
    """Write the ledger if it is not there, then start on it."""
    site = folder / "site"
    if not (site / "ledger.key").exists():
        began = time.monotonic()
        await generate(site, count)
        size = sum(f.stat().st_size for f in site.rglob("*.seg"))
        print(
            f"written: {count:,} entries, {size / 1e9:.2f} GB, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    if not warm:
        for path in (site / "ledger" / "state").glob("*"):
            path.unlink()
    rig = Rig(folder, factor=1)
    starts = Start(rig)
    async with rig.machines():
        if not warm:
            await starts.run("without a snapshot", end=rig.kill)
        await starts.run("killed, with a snapshot", end=rig.stop)
        await starts.run("stopped in order, with a snapshot", end=rig.stop)


def main():
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--warm", action="store_true", help="use the snapshots that are there")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asyncio.run(campaign(folder, given.entries, warm=given.warm))


if __name__ == "__main__":
    main()
