import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.contracts.market import Market
from ledger.contracts.rounds import commitment
from ledger.network.message import sign_message
from ledger.network.node import Node
from ledger.network.ordering import EmbeddedOrdering
from ledger.network.record import replay
from ledger.network.replica import Committee, Replica

START_MS = 1_767_319_200_000
SALT = "5a" * 32


class MemoryLedger:
    """A ledger that keeps its entries in a list: what is here is what a restart would find."""

    def __init__(self):
        self.leaves = []

    async def append_many(self, leaves):
        first = len(self.leaves)
        self.leaves.extend(leaves)
        return list(range(first, len(self.leaves)))


def key_of(name):
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def public(name):
    return key_of(name).public_key().public_bytes_raw().hex()


def committee(n=4, f=1):
    return Committee(
        market="m", keys={f"n{i}": public(f"n{i}") for i in range(n)}, faulty_count_max=f
    )


def genesis():
    return Market.genesis("m", "op", public("op"))


class Sender:
    """Signs messages of the parties with growing numbers."""

    def __init__(self, market="m"):
        self.seq = {}
        self.market = market

    def __call__(self, party, **body):
        self.seq[party] = self.seq.get(party, 0) + 1
        return sign_message(self.market, party, self.seq[party], body, key_of(party), public(party))

    def joins(self, regions=4, deposit=10**9):
        yield self("op", kind="join", id="gw", key=public("gw"), role="gateway")
        for i in range(1, regions + 1):
            yield self("op", kind="join", id=f"R{i}", key=public(f"R{i}"), role="region", terminal=f"T{i}", deposit=deposit)  # fmt: skip


def round_document(regions=4):
    return {
        "contract": "hco-1",
        "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
        "quantum_w": 40_000,
        "terminals": [
            {"id": f"T{i}", "s_va": 250_000, "k_min": -6, "k_max": 6} for i in range(1, regions + 1)
        ],
        "k_dc": 6,
    }


def offers(i):
    slope = (-60_000, 80_000, -20_000, 30_000, 50_000)[i % 5]
    return {str(k): slope * k - 900 * k * k for k in range(-6, 7)}


def seal(party, offers, round_id="R1"):
    return commitment(SALT, offers, party=party, round_id=round_id)


class Clock:
    """UTC that tests move by hand; orders in ``wakes`` are told, as if time had passed for them."""

    def __init__(self, minutes_before=30):
        self.now_ms = START_MS - 60_000 * minutes_before
        self.wakes = []

    def __call__(self):
        return self.now_ms

    def set(self, minutes_before):
        self.now_ms = START_MS - round(60_000 * minutes_before)
        for wake in self.wakes:
            wake()


def make_node(name, ordering, clock, *, committee_=None, ledger=None, skew_ms=2_000):
    ledger = ledger or MemoryLedger()
    if isinstance(ordering, EmbeddedOrdering) and isinstance(clock, Clock):
        clock.wakes.append(ordering._changed.set)
    replica = Replica(committee_ or committee(), genesis(), node=name)
    replay(replica, ledger.leaves, key_of(name))
    return Node(replica, ordering, ledger, key_of(name), utc_ms=clock, skew_ms=skew_ms), ledger


@contextlib.asynccontextmanager
async def running(*nodes):
    """Run nodes in the background until the end of the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(node.run()) for node in nodes]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()


@pytest.fixture
def net():
    return SimpleNamespace(
        START_MS=START_MS,
        SALT=SALT,
        MemoryLedger=MemoryLedger,
        Sender=Sender,
        Clock=Clock,
        key_of=key_of,
        public=public,
        committee=committee,
        genesis=genesis,
        round_document=round_document,
        offers=offers,
        commitment=commitment,
        seal=seal,
        make_node=make_node,
        running=running,
    )
