"""Kill a running gateway again and again while it trades, and hold it to what it promised.

One round is one site (its own broker, devices and ledger) over some minutes of trading. Half of
the kills come at random moments, from the first instruction of the process on; half are aimed at
the words the gateway writes down, because the milliseconds between them are where bugs live.
"""

import asyncio
import contextlib
import multiprocessing
import os
import sys
from collections import Counter
from dataclasses import dataclass, field

import aiomqtt
from fakes.promises import broken
from fakes.rig import report

from gateway.market import dsse
from gateway.market.messages import read_answer
from gateway.market.topics import Topics
from ledger.audit.auditor import audit

INTERVAL_MS = 60_000
TOPICS = Topics(site="demo", sop="SOP-1")
AIMS = (
    "trade.received", "trade.accepted", "plan", "intent", "prepared", "commit", "outcome",
    "readback", "delivery", "boot",
)  # fmt: skip
SENDS_MAX = 100  # of six seconds: more than a round takes
OF_THE_MACHINE = {"I11"}  # a verdict within 2 s: counted, but a busy host is no broken promise
PAIRS = (("T2", "T3"), ("T4", "T2"), ("T1", "T4"), ("T3", "T1"))


@dataclass(slots=True)
class Outcome:
    """What a round saw."""

    seed: int
    kills: int = 0
    aims: Counter = field(default_factory=Counter)
    trades: int = 0
    accepted: int = 0
    deliveries: int = 0
    intents: int = 0
    resumed: Counter = field(default_factory=Counter)
    entries: int = 0
    late: int = 0
    broken: list = field(default_factory=list)

    def fields(self):
        """As one line of the results file."""
        names = ("seed", "kills", "trades", "accepted", "deliveries", "intents", "entries", "late")
        return {n: getattr(self, n) for n in names} | {
            "aims": dict(self.aims), "resumed": dict(self.resumed), "broken": self.broken,
        }  # fmt: skip


class Forked:
    """The gateway in a process forked from one that has its modules loaded: a start in 0.2 s."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def terminate(self):
        self._process.terminate()

    async def wait(self):
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        return self.returncode


def launcher():
    """A ``launch`` for a rig that forks the whole program instead of starting Python anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["gateway.__main__", "gateway.app", "gateway.cli.run", "fakes.forked"]
    )

    async def forked(arguments, log):
        from fakes.forked import program

        process = context.Process(target=program, args=(arguments, str(log)), daemon=False)
        process.start()
        return Forked(process)

    return forked


class Tail:
    """Reads what a live ledger gets, without asking anybody."""

    def __init__(self, directory):
        self._folder = directory / "segments"
        self._path = None
        self._offset = 0

    def new(self):
        """Bytes written since the last look."""
        paths = sorted(self._folder.glob("*.seg")) if self._folder.is_dir() else []
        if not paths:
            return b""
        if paths[-1] != self._path:
            self._path, self._offset = paths[-1], 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read().rstrip(b"\0")
        self._offset += len(data)
        return data


class Market:
    """Sends trades until they are answered, and listens to every delivery report."""

    def __init__(self, rig, rng, outcome):
        self._rig, self._rng, self._outcome = rig, rng, outcome
        self.accepted = {}
        self.reports = {}

    async def listen(self, heard):
        """Keep what is said about deliveries; ``heard`` is set once the subscription stands."""
        key = None
        async with aiomqtt.Client("127.0.0.1", self._rig.broker_port) as client:
            await client.subscribe(TOPICS.delivery("x").replace("/x/", "/+/"), qos=1)
            heard.set()
            async for message in client.messages:
                key = key or self._rig.answer_key()
                body = read_answer(
                    bytes(message.payload),
                    payload_type=dsse.PAYLOAD_TYPE_DELIVERY, gateway_key=key,
                )  # fmt: skip
                if isinstance(body, list):
                    self._outcome.broken.append(f"a delivery report is not believed: {body}")
                    continue
                name = body["trade_id"], body["interval"]["start"]
                said = self.reports.setdefault(name, body)
                if said != body:
                    self._outcome.broken.append(f"two different reports of {name}")

    async def trade(self, number, start_ms):
        """Send one interval's trade, sometimes also its revision or cancellation."""
        rig, rng = self._rig, self._rng
        out, into = PAIRS[number % len(PAIRS)]
        name = f"trd-{number}"
        first = rig.trade(name, out, into, rng.randrange(42_000, 140_000, 6_000), start_ms)
        await self._send(first)
        if rng.random() < 0.3:
            p_w = 0 if rng.random() < 0.3 else rng.randrange(42_000, 140_000, 6_000)
            await self._send(rig.trade(name, out, into, p_w, start_ms, revision=2))

    async def _send(self, trade):
        self._outcome.trades += 1
        payload = self._rig.signed(trade)
        for _ in range(SENDS_MAX):  # a market sends until it is answered
            with contextlib.suppress(FileNotFoundError, ValueError):  # its key is not written yet
                answers = await self._rig.send(payload, wait_s=6)
                if answers.complete:
                    (answer,) = answers.by_trade.values()
                    why = {r["code"] for r in answer["reasons"]}
                    if answer["accepted"]:
                        self.accepted[trade.id, trade.revision_number] = answer["ledger_index"]
                    elif why - {"late", "duplicate", "orphan"}:
                        self._outcome.broken.append(f"{trade.id} was refused: {why}")
                    return
        self._outcome.broken.append(f"{trade.id} was never answered")


async def until_written(tail, words, *, within_s):
    """Return the first of these words that the gateway writes down, or None."""
    wanted = {word: f'"kind":"{word}"'.encode() for word in words}
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + within_s
    tail.new()
    while loop.time() < ends_s:
        data = tail.new()
        for word, bare in wanted.items():
            if bare in data:
                return word
        await asyncio.sleep(0.001)
    return None


async def moment(rng, tail):
    """Wait for the moment of the next kill of a gateway that works; say what it was aimed at."""
    dice = rng.random()
    if dice < 0.6:
        word = await until_written(tail, [rng.choice(AIMS)], within_s=4 + 4 * rng.random())
        await asyncio.sleep(rng.random() * 0.004)
        return word or "time"
    await asyncio.sleep(rng.random() * (2 if dice < 0.75 else 10))
    return "time"


async def kill_round(rig, rng, outcome, *, intervals, kills_max, kills_min=0):
    """Trade for some minutes under kills; everything is over and read back when this returns."""
    market = Market(rig, rng, outcome)
    async with rig.up(), asyncio.TaskGroup() as group:
        heard = asyncio.Event()
        listening = group.create_task(market.listen(heard))
        await heard.wait()
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms(6_000)
        end_ms = start_ms + intervals * INTERVAL_MS
        sending = group.create_task(trading(rig, market, rng, start_ms, intervals))
        await killing(rig, rng, outcome, end_ms - 5_000, kills_max, kills_min)
        await sending
        await rig.until_ms(end_ms)
        try:
            await rig.until(
                lambda s: s["open_intervals"] == s["scheduled_intervals"] == 0, within_s=120
            )
        except TimeoutError:
            outcome.broken.append("an interval was never reported")
        await rig.until(lambda s: s["broker_online"] and s["state"] == "READY")
        await told(rig, market)
        truth = await rig.truth()
        await rig.stop()
        listening.cancel()
        outcome.intents = len(truth["operated_instr_ids"])
        judge(rig, market, truth["operated_instr_ids"], outcome)


async def trading(rig, market, rng, start_ms, intervals):
    """One trade for each interval, from a minute to a few seconds ahead."""
    async with asyncio.TaskGroup() as group:
        for number in range(intervals):
            at_ms = start_ms + number * INTERVAL_MS
            await rig.until_ms(at_ms - rng.randrange(10_000, 55_000))
            group.create_task(market.trade(number, at_ms))


async def killing(rig, rng, outcome, end_ms, kills_max, kills_min):
    """Kill and start again until the time or the number is up; the gateway runs afterwards."""
    tail = Tail(rig.out / "ledger")
    while outcome.kills < (kills_max if rig.now_ms() < end_ms else kills_min):
        if rng.random() < 0.1:
            await asyncio.sleep(rng.random() * 0.4)
            outcome.aims["start"] += 1
        else:
            await alive(rig)
            outcome.aims[await moment(rng, tail)] += 1
        if rig.process.returncode is not None:
            outcome.broken.append(f"ended by itself: {rig.log.read_text()[-800:]}")
        await rig.kill()
        outcome.kills += 1
        if rng.random() < 0.15:
            await asyncio.sleep(rng.random() * 3)  # long enough for the device's watchdog
        await rig.begin()
    await alive(rig)


async def alive(rig):
    """Wait until the gateway answers; a busy machine may take its time."""
    for _ in range(5):
        with contextlib.suppress(TimeoutError):
            return await rig.answering()
    raise TimeoutError("the gateway never answered")


async def told(rig, market):
    """Wait until the market heard every report that stands in the ledger, for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while set(report(rig.entries())) - set(market.reports):
                await asyncio.sleep(0.2)


def judge(rig, market, operated, outcome):
    """Everything that must hold after a round, added to what is broken."""
    entries = rig.entries()
    add = outcome.broken.append
    outcome.entries = len(entries)
    outcome.broken += broken(entries)
    outcome.resumed.update(
        e["cause"] for e in entries if e["kind"] == "readback" and e["cause"] != "reconcile"
    )
    if len(set(operated)) != len(operated):
        add("the device operated an instruction twice")
    written = {e["instr_id"] for e in entries if e["kind"] == "commit"}
    if not set(operated) <= written:
        add(f"operated without a commit: {sorted(set(operated) - written)}")
    known = {
        (e["trade_id"], e["revision"]): i
        for i, e in enumerate(entries)
        if e["kind"] == "trade.accepted"
    }
    outcome.accepted = len(known)
    for name, index in market.accepted.items():
        if known.get(name) != index:
            add(f"{name} was promised in entry {index}, stands in {known.get(name)}")
    reported = report(entries)
    outcome.deliveries = len(reported)
    for name, line in reported.items():
        heard = market.reports.get(name)
        if heard is None:
            add(f"{name} was delivered and the market never heard")
        elif (heard["delivered_wh"], heard["status"]) != (line["delivered_wh"], line["status"]):
            add(f"{name} was reported otherwise than it stands in the ledger")
    found = audit(rig.out / "ledger", [rig.vkey().read_text().strip()])
    if not found.report.ok:
        add(f"the ledger does not verify: {found.report.faults[0]}")
    for finding in found.findings:
        if not finding.ok and finding.number in OF_THE_MACHINE:
            outcome.late += finding.broken_count
        elif not finding.ok:
            add(f"audit {finding.number}, entry {finding.first_index}: {finding.first}")


def note(line):
    """Say how far the campaign is."""
    print(line, file=sys.stderr, flush=True)
