"""A whole site of processes on loopback: simulator, broker, gateway; for tests and campaigns."""

import asyncio
import contextlib
import json
import re
import signal
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli import demo_bench as bench
from gateway.journal.ledger_journal import key_of, read_entries
from gateway.market import dsse, schedule_writer
from gateway.market.mqtt import broker_from
from gateway.market.submission import submit
from gateway.market.topics import Topics
from gateway.model.interval import Interval
from gateway.model.trade import Position, Trade
from gateway.runtime.clock import BenchClock, SystemClock
from gateway.runtime.control import ask

ORIGIN = "demo.example/SOP-1"
bench.READY_S = 120.0  # a busy machine is no fault


class Rig:
    """One running site; ``gateway`` may be killed and started again."""

    def __init__(
        self, folder, *, factor, gate="5 s", rearm="auto", launch=None, to_minute_ms=None,
        separate=False, terminals=4, master=1,
    ):  # fmt: skip
        """``launch`` starts the gateway another way; ``to_minute_ms``: a minute begins so soon.

        ``separate``: a converter at every terminal in place of the station.
        ``terminals``: how many the SOP has (2 to 4); ``master``: the number of its DC master.
        """
        self.folder = Path(folder)
        self.out = self.folder / "site"
        self.out.mkdir(exist_ok=True)
        self.key = Ed25519PrivateKey.generate()
        self.factor = factor
        self.gate, self.rearm = gate, rearm
        self.launch = launch or executed
        self.to_minute_ms = to_minute_ms
        self.separate = separate
        self.terminals, self.master = terminals, master
        self.process = None
        self.starts = 0
        self.restarts = 1000  # kills are the trade of tests: no crash loop before so many

    @contextlib.asynccontextmanager
    async def up(self, before=None):
        """Start everything; ``before`` is awaited when the broker is up and the gateway not yet."""
        async with self.machines():
            if before is not None:
                await before()
            await self.start()
            yield self

    @contextlib.asynccontextmanager
    async def machines(self):
        """Start everything but the gateway; it is stopped here when somebody started it."""
        utc_us = SystemClock().utc_us()
        if self.to_minute_ms is not None:
            utc_us = -(-utc_us // 60_000_000) * 60_000_000 - self.to_minute_ms * 1000
        self.clock = BenchClock.start(utc_epoch_us=utc_us, factor=self.factor)
        self.clock.save(self.folder / "timebase.json")
        async with contextlib.AsyncExitStack() as machines:
            self.broker_port, self.broker_name = await machines.enter_async_context(
                bench.broker(self.folder)
            )
            station, meters = await machines.enter_async_context(
                bench.simulated_devices(
                    self.folder, seed=3, kind=f"lv{self.terminals}x250", master=self.master
                )
            )
            ports = bench.Ports(
                station_port=station, meter_ports=meters, broker_port=self.broker_port
            )
            text = bench.site_text(ports, self.key.public_key().public_bytes_raw())
            text = re.sub(rf"^ +T[{self.terminals + 1}-9]: .*\n", "", text, flags=re.MULTILINE)
            text = text.replace("master: T1", f"master: T{self.master}")
            text = separated(text) if self.separate else text
            text = text.replace("gate: 2 min", f"gate: {self.gate}")
            text = text.replace("rearm: manual", f"rearm: {self.rearm}")
            text = text.replace("meter_poll: 5 s}", f"meter_poll: 5 s, restarts: {self.restarts}}}")
            self.site = self.out / "site.yaml"
            self.site.write_text(text)
            machines.push_async_callback(self.stop)
            yield

    async def start(self):
        """Start the gateway and wait until it answers."""
        await self.begin()
        await self.answering()

    async def begin(self):
        """Start the gateway; it may be killed before it ever answers."""
        self.starts += 1
        self.process = await self.launch(
            ["run", "-q", "-v", "-c", str(self.site),
             "--timebase", str(self.folder / "timebase.json")],
            self.log,
        )  # fmt: skip

    async def answering(self):
        """Wait until the gateway that was begun answers."""
        await bench.until_answering(self.process, self.out / "sopgw.sock", self.log)

    @property
    def log(self):
        """What the present gateway says."""
        return self.folder / f"gateway-{self.starts}.log"

    async def kill(self):
        """SIGKILL: no goodbye of any kind."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self):
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            async with asyncio.timeout(60):
                await self.process.wait()

    async def status(self):
        return (await ask(self.out / "sopgw.sock", {"verb": "status"}))["status"]

    async def truth(self):
        """What the simulator knows: true powers, counts of writes."""
        answer = await ask(self.folder / "sim.sock", {"query": "truth"})
        return answer.get("truth", answer)

    async def inject(self, **order):
        await bench.inject(self.folder, order)

    def now_ms(self):
        return self.clock.utc_us() // 1000

    async def until_ms(self, utc_ms):
        await bench.started_in(self.clock, utc_ms)

    async def until(self, condition, *, within_s=120):
        """Wait for a condition on the status; real seconds."""
        async with asyncio.timeout(within_s):
            while not condition(await self.status()):
                await asyncio.sleep(0.05)

    def next_minute_ms(self, ahead_ms=12_000):
        """First whole simulated minute at least ``ahead_ms`` from now."""
        return -(-(self.now_ms() + ahead_ms) // 60_000) * 60_000

    def trade(self, trade_id, out, into, p_w, start_ms, *, count=1, length_ms=60_000, revision=1):
        spans = [
            Interval(start_ms + k * length_ms, start_ms + (k + 1) * length_ms) for k in range(count)
        ]
        return Trade(
            id=trade_id, revision_number=revision, sop="SOP-1", out_domain=bench.REGIONS[out],
            in_domain=bench.REGIONS[into],
            positions=tuple(
                Position(interval=s, p_w=p_w, energy_wh=p_w * length_ms // 3_600_000) for s in spans
            ),
        )  # fmt: skip

    def document(self, trade):
        return schedule_writer.write(trade, site="demo", created_utc_ms=self.now_ms())

    def signed(self, trade, key=None):
        return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, self.document(trade), [key or self.key])

    async def send(self, payload, *, wait_s=30.0):
        """Send a message as the market would; return its signed answers."""
        return await submit(
            payload,
            broker=broker_from(f"mqtt://127.0.0.1:{self.broker_port}"),
            topics=Topics(site="demo", sop="SOP-1"),
            wait_s=wait_s,
            gateway_key=self.answer_key(),
        )

    def answer_key(self):
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem = (self.out / "answers.key").read_bytes()
        return load_pem_private_key(pem, None).public_key().public_bytes_raw()

    def entries(self):
        return [entry for _, entry in read_entries(self.out / "ledger")]

    def vkey(self):
        path = self.out / "ledger.vkey"
        path.write_text(key_of(self.out / "ledger.key", ORIGIN) + "\n")
        return path


def separated(text):
    """Put a converter at every terminal of a bench's site file in the place of its station."""
    (station,) = re.findall(r"^  station: .*\n", text, re.MULTILINE)
    converters = "".join(
        re.sub("unit: 100", f"unit: {number}", station)
        .replace("  station:", f"  c{number}:")
        .replace("sop-station-v1", "sunspec-vsc")
        for number in range(1, 5)
    )
    text = text.replace(station, converters).replace("    station: station\n", "")
    return re.sub(r"( T(\d): {)index: \d,", r"\1converter: c\2,", text)


async def executed(arguments, log):
    """Start the gateway as anybody would: a new interpreter."""
    with log.open("wb") as errors:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, stderr=errors
        )


def report(entries):
    """Deliveries by trade id and start."""
    return {
        (t["trade_id"], e["interval"]["start"]): t
        for e in entries
        if e["kind"] == "delivery"
        for t in e["trades"]
    }


def dumps(entries):
    return "\n".join(json.dumps(e) for e in entries)
