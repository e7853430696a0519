"""Ten times the nominal load on real sockets for hours: does anything grow, does anything slow down?

Nominal is one decision a second, a meter reading every five and two trades a quarter of an hour.
The shared bench clock runs ``--factor`` times as fast, so all of it happens that much more often
over real Modbus, MQTT and disk. Reports the slope of the resident memory with its 95 % interval,
tasks, threads, file descriptors, and the 99th percentile of answers in each quarter after the
warm-up.

The site has a past (``--past`` entries) of trades and readings, without alarms and operators: what
is kept of these is as much as it ever becomes, so that what still grows with them grows for ever.
Memory that a start left free could hide that for a while; the blocks of memory that Python has in
use (up to 512 bytes each) cannot.

Times are taken by this process, which shares the machine with the gateway, the broker and the
simulator. So it says beside them how late its own loop was, and how long the gateway was ready
to run and got no processor: where those are not small, a percentile is the machine's and not the
gateway's. ``status_p99_ms`` leaves out answers that this process was late to hear. ``fixed_work_ms``
is the processor time of the same small work in every sample and ``stolen_percent`` what a host took
of both cores: a machine that becomes slower shows there, a gateway that does in ``cpu_percent``.
``plain_p99_ms`` are the answers of a plain server that does the same work for ever, asked by turns
with the gateway and judged alike: where both become slower together it is the machine.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fakes.rig import Rig  # noqa: E402
from fault.restart_scale import generate  # noqa: E402

from gateway.runtime.control import ask  # noqa: E402

INTERVAL_MS = 900_000
WARM_UP_SHARE = 0.4  # of the run, at most an hour: caches fill, histories reach their bounds
ASK_S = 0.125  # between two questions
LATE_MS_MAX = 2.0  # of our own loop: an answer beside it says nothing of the gateway
PATHS = (("T2", "T3"), ("T4", "T2"), ("T1", "T4"))


def process_figures(pid):
    """Resident memory and its anonymous part in KiB, threads, descriptors, CPU s of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return {
        "rss_kib": int(status["VmRSS"].split()[0]),
        "anonymous_kib": int(status["RssAnon"].split()[0]),
        "threads": int(status["Threads"]),
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "cpu_s": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        "waited_s": sum(run_queue_ns(pid)) / 1e9,
    }


def run_queue_ns(pid):
    """How long each thread of a process was ready to run and waited for a processor."""
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that just ended
            yield int(path.read_text().split()[1])


def machine_figures():
    """Processor ms of always the same work, and s that a host took from this machine so far."""
    began = time.thread_time()
    total = 0
    for k in range(20_000):
        total += k * k % 7
    took_ms = 1000 * (time.thread_time() - began)
    return {"fixed_work_ms": took_ms, "stolen_s": stolen_ticks() / os.sysconf("SC_CLK_TCK")}


def stolen_ticks():
    """What a host took of this machine's processors so far, in ticks of its clock."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])


def slope(samples):
    """Least squares of (hours, value): growth an hour and half of its 95 % interval.

    The samples are averaged over twentieths of the time first: neighbours are not independent.
    """
    parts = min(20, len(samples))
    step = len(samples) / parts
    points = []
    for k in range(parts):
        part = samples[round(k * step) : round((k + 1) * step)]
        points.append((statistics.fmean(p[0] for p in part), statistics.fmean(p[1] for p in part)))
    mean_x = statistics.fmean(p[0] for p in points)
    mean_y = statistics.fmean(p[1] for p in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    growth = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - growth * (x - mean_x)) ** 2 for x, y in points)
    error = math.sqrt(rest / max(1, len(points) - 2) / spread)
    return growth, 2.1 * error


def p99(values):
    """The 99th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


class Soak:
    """One run: a rig under load and the samples taken of it."""

    def __init__(self, rig, *, seconds, every_s, plain, keep=None):
        self.rig = rig
        self.plain = plain  # the socket of ``plain_answers``
        self.seconds = seconds
        self.every_s = every_s
        self.keep = keep  # a file that can be watched while the run goes on
        self.samples = []  # (hours, figures)
        self.answers_ms = []  # (hours, ms) of the status at the control socket …
        self.plain_ms = []  # … and of the plain server
        self.undisturbed_ms = []  # of those of the status: where the host took nothing
        self.late_ms = []  # (hours, ms) of our own loop, right before and after an answer
        self.verdicts_ms = []  # (hours, ms) from the trade to its signed acknowledgement
        self.sent = 0

    def hours(self):
        return (time.monotonic() - self.began) / 3600

    async def run(self):
        self.began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            trading = group.create_task(self.trade())
            group.create_task(self.ask())
            await self.sample()
            trading.cancel()

    def over(self):
        return self.hours() * 3600 >= self.seconds

    async def trade(self):
        start_ms = -(-(self.rig.now_ms() + 20_000) // INTERVAL_MS) * INTERVAL_MS
        while not self.over():
            for out, into in PATHS[:2]:
                trade = self.rig.trade(
                    f"soak-{self.sent}", out, into, 40_000, start_ms, length_ms=INTERVAL_MS
                )
                began = time.monotonic()
                answers = await self.rig.send(self.rig.signed(trade), wait_s=20.0)
                self.verdicts_ms.append((self.hours(), 1000 * (time.monotonic() - began)))
                assert answers.accepted, answers
                self.sent += 1
            start_ms += INTERVAL_MS
            await self.rig.until_ms(start_ms - INTERVAL_MS + 60_000)

    async def ask(self):
        before_ms = 0.0
        while not self.over():
            for asked, kept in (
                (self.rig.status, self.answers_ms),
                (self.ask_plain, self.plain_ms),
            ):
                waited_ns, stolen = sum(run_queue_ns(self.rig.process.pid)), stolen_ticks()
                began = time.monotonic()
                await asked()
                took_ms = 1000 * (time.monotonic() - began)
                waited_ns = sum(run_queue_ns(self.rig.process.pid)) - waited_ns
                stolen_while = stolen_ticks() - stolen
                began = time.monotonic()
                await asyncio.sleep(ASK_S)
                after_ms = 1000 * (time.monotonic() - began - ASK_S)
                self.late_ms.append((self.hours(), after_ms))
                in_time = max(before_ms, after_ms) <= LATE_MS_MAX
                if in_time:
                    kept.append((self.hours(), took_ms))
                if in_time and kept is self.answers_ms and stolen_ticks() == stolen:
                    self.undisturbed_ms.append((self.hours(), took_ms))
                if self.keep is not None:
                    row = {"asked": asked.__name__, "ms": took_ms, "late_ms": [before_ms, after_ms]}
                    row |= {"waited_ms": waited_ns / 1e6}
                    row |= {"stolen_ticks": [stolen_while, stolen_ticks() - stolen]}
                    print(json.dumps((self.hours(), row)), file=self.keep)
                before_ms = after_ms

    async def ask_plain(self):
        await ask(self.plain, {"verb": "status"})

    async def sample(self):
        due = time.monotonic()
        while not self.over():
            figures = process_figures(self.rig.process.pid) | machine_figures()
            status = await self.rig.status()
            figures["tasks"] = status["tasks"]
            figures["blocks"] = status["memory_blocks"]
            figures["scans"] = status["scans"]
            figures["entries"] = status["ledger"]["entries"]
            self.samples.append((self.hours(), figures))
            if self.keep is not None:
                print(json.dumps(self.samples[-1]), file=self.keep, flush=True)
            due += self.every_s
            await asyncio.sleep(max(0.0, min(due - time.monotonic(), self.every_s)))

    def report(self):
        warm = min(1.0, WARM_UP_SHARE * self.seconds / 3600)
        warmed = [s for s in self.samples if s[0] >= warm]
        kib = slope([(h, f["rss_kib"]) for h, f in warmed])
        blocks = slope([(h, f["blocks"]) for h, f in warmed])
        last = self.samples[-1][1]
        ran_s = last["cpu_s"] - warmed[0][1]["cpu_s"]
        waited_s = last["waited_s"] - warmed[0][1]["waited_s"]
        quarter = (self.samples[-1][0] - warm) / 4

        def in_quarters(rows):
            edges = [(warm + k * quarter, warm + (k + 1) * quarter) for k in range(4)]
            return [[row for row in rows if low <= row[0] <= high] for low, high in edges]

        def quarters(rows, of=p99):
            parts = [[value for _, value in part] for part in in_quarters(rows)]
            return [round(of(part), 2) if part else None for part in parts]

        def percent(name, cores=1):
            """What a counter of seconds grew by, in percent of the time."""
            return [
                round(100 * (part[-1][1][name] - part[0][1][name]) / (3600 * cores * span), 2)
                if part and (span := part[-1][0] - part[0][0])
                else None
                for part in in_quarters(self.samples)
            ]

        spans = {
            name: [min(f[name] for _, f in warmed), max(f[name] for _, f in warmed)]
            for name in ("threads", "fds", "tasks")
        }
        return {
            "hours": round(self.samples[-1][0], 3),
            "trades": self.sent,
            "scans": last["scans"],
            "entries": last["entries"],
            "rss_mib": [round(warmed[0][1]["rss_kib"] / 1024, 2), round(last["rss_kib"] / 1024, 2)],
            "rss_slope_mib_per_day": [round(value * 24 / 1024, 2) for value in kib],
            "blocks_per_hour": [round(value) for value in blocks],
            **spans,
            "cpu_percent": percent("cpu_s"),
            "stolen_percent": percent("stolen_s", cores=os.cpu_count()),
            "fixed_work_ms": quarters(
                [(h, f["fixed_work_ms"]) for h, f in self.samples], of=statistics.median
            ),
            "cpu_waited_for_per_cpu_used": round(waited_s / ran_s, 2) if ran_s else None,
            "status_p99_ms": quarters(self.answers_ms),
            "plain_p99_ms": quarters(self.plain_ms),
            "undisturbed_p99_ms": quarters(self.undisturbed_ms),
            "answers_counted": [
                len(rows)
                for rows in (self.answers_ms, self.plain_ms, self.undisturbed_ms, self.late_ms)
            ],
            "own_lateness_p99_ms": quarters(self.late_ms),
            "verdict_p99_ms": quarters(self.verdicts_ms),
        }


def as_installed():
    """What the unit sets for the memory of the gateway."""
    unit = (ROOT / "configs" / "systemd" / "sopgw.service").read_text()
    words = [
        w for line in unit.splitlines() if line.startswith("Environment=") for w in line.split()
    ]
    pairs = (word.removeprefix("Environment=").split("=", 1) for word in words)
    return {name: value for name, value in pairs if name.startswith("MALLOC_")}


async def soak(*, seconds, factor, every_s, past=0, keep=None):
    """Run for ``seconds`` of real time on a ledger of ``past`` entries; return the report."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        open(keep, "w") if keep else contextlib.nullcontext() as watched,
    ):
        os.environ.update(as_installed())
        if past:
            await generate(Path(scratch) / "site", past)
        rig = Rig(scratch, factor=factor)
        async with rig.up():
            await rig.until(lambda s: s["state"] == "READY")
            async with plain_answers(Path(scratch) / "plain.sock") as plain:
                run = Soak(rig, seconds=seconds, every_s=every_s, plain=plain, keep=watched)
                await run.run()
        return run.report()


@contextlib.asynccontextmanager
async def plain_answers(path):
    """Serve the plain answers; yield the socket."""
    pipe = asyncio.subprocess.PIPE
    program = Path(__file__).with_name("plain_answers.py")
    server = await asyncio.create_subprocess_exec(
        sys.executable, program, path, stdin=pipe, stdout=pipe
    )
    try:
        assert await server.stdout.readline(), "the plain server did not start"
        yield path
    finally:
        server.stdin.close()
        await server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--factor", type=int, default=10, help="times the nominal load")
    parser.add_argument("--past", type=int, default=2_000_000, help="entries before it begins")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    parser.add_argument("--samples", type=Path, help="keep samples and answers as JSON lines")
    arguments = parser.parse_args()
    found = asyncio.run(
        soak(
            seconds=arguments.hours * 3600,
            factor=arguments.factor,
            every_s=arguments.every,
            past=arguments.past,
            keep=arguments.samples,
        )
    )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
