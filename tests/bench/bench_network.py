"""Delay and rate of four countersigning nodes, on one machine and in one process.

    python tests/bench/bench_network.py              # embedded order, and etcd where installed

Every message is signed, ordered, executed by four nodes, written to four ledgers with fdatasync,
countersigned and final before it counts. Four nodes in one process share one core: on machines of
their own they would work side by side.
"""

import asyncio
import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.contracts.market import Market
from ledger.contracts.requests_document import day_from, outcome
from ledger.contracts.rounds import commitment
from ledger.log.keys import signer_of
from ledger.log.writer import LedgerWriter
from ledger.network.etcd import EtcdOrdering
from ledger.network.message import sign_message
from ledger.network.node import Node
from ledger.network.ordering import EmbeddedOrdering, SharedOrder
from ledger.network.replica import Committee, Replica

HERE = Path(__file__).resolve().parent
START_MS = 1_767_319_200_000
SALT = "5a" * 32
ROUNDS = 3 if "--fast" in sys.argv else 10


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


etcd_cluster = load("etcd_cluster", HERE.parent / "ledger/network/etcd_cluster.py")


def key_of(name):
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def public(name):
    return key_of(name).public_key().public_bytes_raw().hex()


class Bench:
    """Four nodes with real ledgers, a clock moved by hand, and everybody's keys."""

    def __init__(self, directory, orderings, nudge):
        self.nudge = nudge
        self.now_ms = START_MS - 86_400_000
        self.seq = {}
        keys = {f"n{i}": public(f"n{i}") for i in range(4)}
        committee = Committee(market="m", keys=keys, faulty_count_max=1)
        self.nodes, self.writers = [], []
        for i, ordering in enumerate(orderings):
            origin = f"n{i}.example/market"
            signer = signer_of(Ed25519PrivateKey.generate(), origin)
            writer = LedgerWriter.open(directory / f"n{i}", signer=signer, origin=origin)
            replica = Replica(committee, Market.genesis("m", "op", public("op")), node=f"n{i}")
            node = Node(replica, ordering, writer, key_of(f"n{i}"), utc_ms=lambda: self.now_ms)
            self.nodes.append(node)
            self.writers.append(writer)

    def message(self, party, **body):
        self.seq[party] = self.seq.get(party, 0) + 1
        return sign_message("m", party, self.seq[party], body, key_of(party), public(party))

    async def everywhere(self, height):
        for node in self.nodes:
            await node.at_height(height)

    async def settled(self, message):
        """Seconds until a message is final on all four nodes."""
        began = time.perf_counter()
        answer = await self.nodes[0].submit(message)
        await self.everywhere(answer.height)
        assert answer.accepted, answer
        return time.perf_counter() - began


def slot_document(participants, beacon):
    bench_market = load("bench_market", HERE / "bench_market.py")
    day = bench_market.big_day(participants)
    return {
        "contract": "requests-1",
        "slot_s": 3600,
        "suppliers": [
            {"id": s.id, "technology": s.technology, "renewable": s.renewable, "available_wh": list(s.available_wh), "price": list(s.price_ucur_per_kwh)}
            for s in day.suppliers
        ],
        "users": [{"id": u.id, "demand_wh": list(u.demand_wh)} for u in day.users],
        "distance_km": [list(row) for row in day.distance_km],
        "transmission_price_per_kwh_km": day.transmission_ucur_per_kwh_km,
        "voll_per_kwh": day.voll_ucur_per_kwh,
        "prev_hash": beacon,
    }  # fmt: skip


async def slots(bench, participants, method):
    """Solve at the proposer, then sign, order, check everywhere, countersign."""
    times = []
    for n in range(ROUNDS):
        began = time.perf_counter()
        document = slot_document(participants, bench.nodes[0].replica.market.beacons[-1])
        result = outcome(day_from(document), method)
        name = f"S{participants}-{method}-{n}"
        await bench.settled(
            bench.message("op", kind="slot", slot=name, day=document, result=result)
        )
        times.append(time.perf_counter() - began)
    return times


def offers(i):
    slope = (-60_000, 80_000, -20_000, 30_000, 50_000)[i % 5]
    return {str(k): slope * k - 900 * k * k for k in range(-6, 7)}


async def rounds(bench, regions, first):
    """Commit–reveal rounds: time of each message, and of the clearing when its time comes."""
    per_message, clearing = [], []
    for n in range(ROUNDS):
        start_ms = START_MS + 900_000 * (first + n)
        stamp = [time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime((start_ms + d) // 1000)) for d in (0, 900_000)]  # fmt: skip
        document = {
            "contract": "hco-1",
            "interval": {"start": stamp[0], "end": stamp[1]},
            "quantum_w": 40_000,
            "terminals": [
                {"id": f"T{i}", "s_va": 250_000, "k_min": -6, "k_max": 6} for i in range(regions)
            ],
            "k_dc": 12,
        }
        name = f"R{first + n}"
        bench.now_ms = start_ms - 600_000
        per_message.append(
            await bench.settled(bench.message("op", kind="open", round=name, document=document))
        )
        sealed = [bench.message(f"R{i}", kind="commit", round=name, hash=commitment(SALT, offers(i), party=f"R{i}", round_id=name)) for i in range(regions)]  # fmt: skip
        per_message += await asyncio.gather(*(bench.settled(m) for m in sealed))
        bench.now_ms = start_ms - 270_000
        opened = [bench.message(f"R{i}", kind="reveal", round=name, salt=SALT, offers=offers(i)) for i in range(regions)]  # fmt: skip
        revealed = [asyncio.create_task(bench.settled(message)) for message in opened]
        bench.nudge()
        per_message += await asyncio.gather(*revealed)
        height = bench.nodes[0].replica.height
        began = time.perf_counter()
        bench.now_ms = start_ms - 180_000
        bench.nudge()  # the clock was moved by hand: nobody waits for this instant
        await bench.everywhere(height + 1)
        clearing.append(time.perf_counter() - began)
        outcomes = {node.replica.market.rounds[name]["outcome"]["digest"] for node in bench.nodes}
        assert len(outcomes) == 1
    return per_message, clearing


def line(what, times):
    p50, worst = statistics.median(times), max(times)
    print(f"| {what} | {1000 * p50:.0f} | {1000 * worst:.0f} |")


async def measure(name, directory, orderings, nudge=lambda: None):
    bench = Bench(Path(directory), orderings, nudge)
    print(f"\n### {name}: four nodes, quorum three, ms until final on all four\n")
    print("| what | median | worst |\n| --- | --- | --- |")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(node.run()) for node in bench.nodes]
        for i in range(100):
            body = {"id": f"R{i}", "key": public(f"R{i}"), "role": "region", "terminal": f"T{i}", "deposit": 10**9}  # fmt: skip
            await bench.nodes[0].submit(bench.message("op", kind="join", **body))
        for participants in (5, 11, 25, 50, 100):
            times = await slots(bench, participants, "exact")
            line(f"slot with {participants} participants, exact with certificate", times)
        line("slot with 11 participants, MOPSO computed again by all", await slots(bench, 11, "mopso"))  # fmt: skip
        first = 0
        for regions in (4, 11, 25, 50, 100):
            began, blocks = time.perf_counter(), bench.nodes[0].replica.height
            per_message, clearing = await rounds(bench, regions, first)
            spent = time.perf_counter() - began
            first += ROUNDS
            line(f"message of a round with {regions} regions", per_message)
            line(f"clearing of a round with {regions} regions", clearing)
            made = bench.nodes[0].replica.height - blocks
            print(f"| rounds/s with {regions} regions ({made} blocks) | {ROUNDS / spent:.2f} | |")
        for task in tasks:
            task.cancel()
    for writer in bench.writers:
        await writer.close()
    for ordering in orderings:
        await ordering.close()


async def main():
    with tempfile.TemporaryDirectory() as directory:
        shared = SharedOrder()
        orders = [EmbeddedOrdering(shared) for _ in range(4)]
        await measure("Embedded order", directory, orders, shared.notify)
    if etcd_cluster.installed():
        with tempfile.TemporaryDirectory() as members, tempfile.TemporaryDirectory() as directory:
            async with etcd_cluster.cluster(members) as cluster:
                orders = [
                    EtcdOrdering(cluster.clients, "m", voter_count=4, tls=cluster.tls())
                    for _ in range(4)
                ]
                await measure("etcd, three members, TLS", directory, orders)


if __name__ == "__main__":
    asyncio.run(main())
