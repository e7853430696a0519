"""What the gateway adds to the disk and the wire; run: python tests/bench/bench_gateway.py [SAMPLES]

A. A signed trade is taken in, made durable and decided; then a setpoint goes the whole way: intent,
   SELECT, read back, commit, OPERATE, confirmed by read-back. Beside it, in the same loop, the bare
   sum of one write+fdatasync and three Modbus round trips of a minimal client.
B. CPU and memory of the whole gateway process with 4 terminals and 4 meters at 1 s and 100 ms scan,
   idle and while it executes a trade.
"""

import asyncio
import os
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fakes.core import make_policy, make_sop  # noqa: E402
from fakes.rig import Rig  # noqa: E402

from gateway.cli import demo_bench  # noqa: E402
from gateway.config.profile_file import load_profile  # noqa: E402
from gateway.core.decide import Dispatch  # noqa: E402
from gateway.core.state import Site, State  # noqa: E402
from gateway.devices.connect import open_station  # noqa: E402
from gateway.journal.ledger_journal import LedgerJournal  # noqa: E402
from gateway.market import dsse, intake  # noqa: E402
from gateway.model.message import Inbound  # noqa: E402
from gateway.runtime.clock import BenchClock, SystemClock  # noqa: E402
from gateway.runtime.desk import TradeDesk  # noqa: E402
from gateway.runtime.dispatch import Dispatcher  # noqa: E402
from gateway.runtime.recorder import Recorder  # noqa: E402

OWNER = 4711
GUARD_PAUSE_S = 0.55  # the guard before the wire allows one setpoint write in half a second


class Desk:
    """A market of one queue: judges messages as the real one, answers nobody."""

    def __init__(self, signers):
        self.inbox = asyncio.Queue()
        self.signers = signers

    async def acknowledge(self, inbound):
        pass

    def read(self, inbound):
        return intake.judge(
            inbound, topic="t", site="demo", sop="SOP-1", signers=self.signers, required=1
        )

    async def answer(self, **_):
        pass


def percentiles(samples_us):
    ordered = sorted(samples_us)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


class Bare:
    """One write+fdatasync on a preallocated file and three round trips on a plain socket."""

    def __init__(self, folder, port):
        self.descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT)
        os.posix_fallocate(self.descriptor, 0, 16 << 20)
        self.port, self.transaction = port, 0

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def once(self):
        began = time.perf_counter_ns()
        os.write(self.descriptor, b"x" * 400)
        os.fdatasync(self.descriptor)
        for _ in range(3):
            self.transaction += 1
            self.writer.write(struct.pack(">HHHBBHH", self.transaction, 0, 6, 100, 4, 1000, 24))
            await self.reader.readexactly(9 + 48)
        return (time.perf_counter_ns() - began) / 1000


async def path(samples):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        clock = SystemClock()
        BenchClock.start(utc_epoch_us=clock.utc_us(), factor=1).save(folder / "timebase.json")
        async with demo_bench.simulated_devices(folder, seed=1) as (port, _):
            await measure(folder, port, clock, samples)


async def measure(folder, port, clock, samples):
    rig = Rig(folder, factor=1)
    rig.clock = BenchClock.load(folder / "timebase.json")
    sop = make_sop()
    site = Site(
        site="demo",
        sop=sop,
        policy=make_policy(),
        rearm="auto",
        owner_id=OWNER,
        ramp_permille_per_s=200,
    )
    journal = LedgerJournal.open(
        directory=folder / "ledger", origin="x/y", key_file=folder / "k", clock=clock
    )
    recorder = Recorder(journal, State(site))
    station = open_station(
        name="station", profile=load_profile("sop-station-v1", ()), url=f"modbus+tcp://127.0.0.1:{port}",
        unit=100, terminals=sop.terminals, clock=clock, owner=OWNER,
    )  # fmt: skip
    dispatcher = Dispatcher(station=station, recorder=recorder, site=site, clock=clock)
    public = rig.key.public_key().public_bytes_raw()
    market = Desk({dsse.keyid(public): public})
    desk = TradeDesk(market=market, recorder=recorder, clock=clock)
    await recorder.record("mode", mode="on", state="INIT", reasons=[])
    await dispatcher.configure(watchdog_ds=600, failsafe=1)
    bare = Bare(folder, port)
    await bare.open()
    decided, carried, plain = [], [], []
    for k in range(samples):
        start_ms = clock.utc_us() // 1000 // 60_000 * 60_000 + 600_000 + k * 60_000
        payload = rig.signed(rig.trade(f"trd-{k}", "T2", "T3", 60_000, start_ms))
        inbound = Inbound(
            topic="t", payload=payload, retain=False, qos_level=1, connection_seq=0, mid_number=0
        )
        await station.heartbeat(k + 1)
        await station.read()
        plain.append(await bare.once())
        began = time.perf_counter_ns()
        market.inbox.put_nowait(inbound)
        await desk.take_in()
        await desk.decide_open(time_quality="good")
        middle = time.perf_counter_ns()
        p_w = 20_000 + 100 * (k % 2)
        order = Dispatch(
            setpoints={"T1": 0, "T2": -p_w, "T3": p_w, "T4": 0},
            authority="plan",
            plan_index=-1,
            ttl_s=60,
        )
        await dispatcher.dispatch(order, {})
        done = time.perf_counter_ns()
        decided.append((middle - began) / 1000)
        carried.append((done - middle) / 1000)
        await asyncio.sleep(GUARD_PAUSE_S)
    executed = sum(1 for _, e in journal.entries() if e.get("outcome") == "executed")
    await station.close()
    await journal.close()
    rows = {
        "bare: one fdatasync and three round trips": plain,
        "trade received, durable, decided, durable": decided,
        "setpoint: intent to confirmed by read-back": carried,
        "both together": [a + b for a, b in zip(decided, carried, strict=True)],
    }
    base = percentiles(plain)[0]
    print(f"\nA. {samples} samples, {executed - 1} setpoints executed\n")
    print("| path | p50 µs | p99 µs | p50 / bare |\n|---|---|---|---|")
    for name, values in rows.items():
        p50, p99 = percentiles(values)
        print(f"| {name} | {p50:.0f} | {p99:.0f} | {p50 / base:.1f} |")


def usage(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return cpu_s, rss / 2**20


async def load(scan, seconds):
    with tempfile.TemporaryDirectory() as scratch:
        rig = Rig(scratch, factor=1)
        site_text = demo_bench.site_text
        demo_bench.site_text = lambda *a: site_text(*a).replace("scan: 1 s", f"scan: {scan}")
        try:
            async with rig.up():
                await rig.until(lambda s: s["state"] == "READY")
                found = []
                for what in ("idle", "executing"):
                    if what == "executing":
                        start_ms = rig.next_minute_ms(8_000)
                        await rig.send(rig.signed(rig.trade("t", "T2", "T3", 100_000, start_ms)))
                        await rig.until_ms(start_ms + 3_000)
                    before, began = usage(rig.process.pid)[0], time.monotonic()
                    await asyncio.sleep(seconds)
                    after, rss = usage(rig.process.pid)
                    found.append((what, 100 * (after - before) / (time.monotonic() - began), rss))
                return found
        finally:
            demo_bench.site_text = site_text


async def main():
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    await path(samples)
    print("\nB. Whole gateway process, 4 terminals, 4 meters\n")
    print("| scan | doing | CPU, % of a core | RSS, MiB |\n|---|---|---|---|")
    for scan in ("1 s", "100 ms"):
        for what, cpu, rss in await load(scan, 20):
            print(f"| {scan} | {what} | {cpu:.1f} | {rss:.0f} |")


if __name__ == "__main__":
    asyncio.run(main())
