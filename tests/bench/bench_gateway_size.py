"""CPU and memory of the whole gateway with many meters at 1 s, and how long a start takes.

    python tests/bench/bench_gateway_size.py [SECONDS]

Meters beyond the four that settle are further drivers on connections of their own to the simulated
meters: the gateway polls, decodes, signs and stores all of them in the reading of each second.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fakes.rig import Rig  # noqa: E402

from gateway.cli import demo_bench  # noqa: E402
from gateway.runtime.control import ask  # noqa: E402

demo_bench.READY_S = 120.0  # a busy machine is measured too
MORE = """
import sys
count = int(sys.argv.pop(1))
from gateway import app
from gateway.devices.connect import Endpoints
from gateway.runtime.telemetry import MeterPoller
plain, row, owner = app.meters_of, MeterPoller._row, {}
MeterPoller._row = lambda self, name, reading: row(self, owner.get(name, name), reading)
def meters_of(site, core, clock, endpoints):
    found = plain(site, core, clock, endpoints)
    names = list(found)
    for k in range(count - len(found)):
        one = plain(site, core, clock, Endpoints())
        owner[f"x{k}"] = names[k % len(names)]
        found[f"x{k}"] = one[owner[f"x{k}"]]
    return found
app.meters_of = meters_of
from gateway.__main__ import main
sys.exit(main())
"""


def usage(pid):
    """CPU seconds and resident MiB of a process."""
    import os

    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return cpu_s, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Sized(Rig):
    """A rig whose gateway reads more meters than it settles by."""

    meters_count = 4

    async def start(self):
        self.starts += 1
        log = self.folder / f"gateway-{self.starts}.log"
        began = time.monotonic()
        with log.open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", MORE, str(self.meters_count), "run", "-q", "-v",
                "-c", str(self.site), "--timebase", str(self.folder / "timebase.json"),
                stderr=errors,
            )  # fmt: skip
        await demo_bench.until_answering(self.process, self.out / "sopgw.sock", log)
        self.observing_ms = self.ready_ms = 0.0
        while not self.ready_ms:
            if self.process.returncode is not None:
                raise SystemExit(log.read_text())
            try:
                status = (await ask(self.out / "sopgw.sock", {"verb": "status"}))["status"]
            except FileNotFoundError as gone:
                raise SystemExit(log.read_text()) from gone
            if status["scans"] and not self.observing_ms:
                self.observing_ms = 1000 * (time.monotonic() - began)
            if status["state"] in ("READY", "ARMED", "EXECUTING"):
                self.ready_ms = 1000 * (time.monotonic() - began)
            await asyncio.sleep(0.005)


async def measure(meters_count, seconds):
    """Run one size; return CPU in % of a core, MiB, ms to observing, ms to control, entries/s."""
    site_text = demo_bench.site_text
    demo_bench.site_text = lambda *a: site_text(*a).replace("meter_poll: 5 s", "meter_poll: 1 s")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rig = Sized(scratch, factor=1)
            rig.meters_count = meters_count
            async with rig.up():
                await asyncio.sleep(3)
                before, began = usage(rig.process.pid)[0], time.monotonic()
                await asyncio.sleep(seconds)
                after, rss = usage(rig.process.pid)
                percent = 100 * (after - before) / (time.monotonic() - began)
            readings = [e for e in rig.entries() if e["kind"] == "reading"]
            full = sum(len(e["meters"]) == meters_count for e in readings)
            return percent, rss, rig.observing_ms, rig.ready_ms, full, len(readings)
    finally:
        demo_bench.site_text = site_text


async def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    print(
        "| meters at 1 s | CPU, % of a core | RSS, MiB | start to observing, ms | start to control, ms | complete readings |"
    )
    print("|---|---|---|---|---|---|")
    for meters_count in (4, 54, 200):  # settling alone; 50 more; as many as one entry holds
        percent, rss, observing, ready, full, all_ = await measure(meters_count, seconds)
        print(
            f"| {meters_count} | {percent:.1f} | {rss:.0f} | {observing:.0f} | {ready:.0f} | {full} of {all_} |"
        )


if __name__ == "__main__":
    asyncio.run(main())
