"""A market node with a real door on loopback; its clock is moved by hand."""

import asyncio
import contextlib
import importlib.util
from pathlib import Path

from aiohttp.test_utils import TestServer
from signed_trades import key, public

from gateway.market import dsse
from ledger.network.config import DeliverySite
from ledger.network.ordering import EmbeddedOrdering
from ledger.network.server import Door

NETWORK = Path(__file__).resolve().parents[2] / "ledger/network/conftest.py"
spec = importlib.util.spec_from_file_location("network_conftest", NETWORK)
net = importlib.util.module_from_spec(spec)
spec.loader.exec_module(net)

SITE = DeliverySite(
    site="bench4",
    sop="SOP-1",
    receiver="gateway",
    currency="CNY",
    domains={f"T{i}": f"region-{i}" for i in range(1, 5)},
)

SLOPE = {1: 60_000, 2: 55_000, 3: -5_000, 4: -10_000}  # two buy, two sell


class LoneNode:
    """One node with its door on loopback, and a market whose round R1 is final."""

    def __init__(self):
        self.clock = net.Clock()
        committee = net.committee(1, 0)
        ordering = EmbeddedOrdering()
        self.node, _ = net.make_node("n0", ordering, self.clock, committee_=committee)
        self.send = net.Sender()
        node_key = bytes.fromhex(net.public("n0"))
        door = Door(self.node, key=net.key_of("n0"), public=node_key, delivery=SITE)
        self.server = TestServer(door.application())
        self.signers = {dsse.keyid(node_key): node_key}

    @contextlib.asynccontextmanager
    async def up(self):
        await self.server.start_server()
        try:
            async with net.running(self.node):
                await self.round()
                yield self
        finally:
            await self.server.close()

    @property
    def url(self):
        return str(self.server.make_url("/")).rstrip("/")

    async def round(self):
        joins = [m for m in self.send.joins() if b'"id":"gw"' not in m]
        gateway = public(key(7)).hex()
        joins.append(self.send("op", kind="join", id="gw", key=gateway, role="gateway"))
        for message in joins:
            assert (await self.node.submit(message)).accepted
        self.clock.set(10)
        opening = self.send("op", kind="open", round="R1", document=net.round_document())
        assert (await self.node.submit(opening)).accepted
        for kind, at in (("commit", 9), ("reveal", 4.5)):
            self.clock.set(at)
            for i in range(1, 5):
                offers = {str(k): SLOPE[i] * k - 5_000 * k * k for k in range(-6, 7)}
                sealed = {"hash": net.seal(f"R{i}", offers)}
                opened = {"salt": net.SALT, "offers": offers}
                body = sealed if kind == "commit" else opened
                message = self.send(f"R{i}", kind=kind, round="R1", **body)
                assert (await self.node.submit(message)).accepted
        self.clock.set(3)
        more = self.send("op", kind="deposit", id="R1", amount=1)
        assert (await self.node.submit(more)).accepted

    @property
    def found(self):
        return self.node.replica.market.rounds["R1"]

    async def until(self, condition):
        async with asyncio.timeout(60):
            while not condition(self.found):
                await asyncio.sleep(0.01)
