"""Four market nodes for the demo: each with its own key, ledger and door, in one process.

They share the order of messages that is inside the process; between machines that is etcd's work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway.model.errors import GatewayError
from ledger.log.keys import create_key
from ledger.network.config import DeliverySite, NodeConfig
from ledger.network.message import sign_message
from ledger.network.ordering import EmbeddedOrdering, SharedOrder
from ledger.network.service import serve

MARKET = "demo"
NODES = ("n1", "n2", "n3", "n4")
OPERATOR = "op"
LOOK_AGAIN_S = 0.05


@dataclass(slots=True)
class Parties:
    """Keys of those who send messages, and the number each used last."""

    folder: Path
    seqs: dict[str, int] = field(default_factory=dict)
    signers: dict[str, Any] = field(default_factory=dict)

    def public(self, name: str) -> str:
        """Public key of a party in hex; the key is made when it is first asked for."""
        if name not in self.signers:
            self.signers[name] = create_key(self.folder / f"{name}.key", name)
        public: str = self.signers[name].key.public.hex()
        return public

    def sign(self, party: str, body: Mapping[str, Any]) -> bytes:
        """Sign the party's next message."""
        public = self.public(party)
        self.seqs[party] = self.seqs.get(party, 0) + 1
        return sign_message(MARKET, party, self.seqs[party], body, self.signers[party], public)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Doors of the four nodes, and where their ledgers are."""

    urls: Sequence[str]
    keys: Mapping[str, str]
    folder: Path
    session: aiohttp.ClientSession

    async def send(self, place: int, raw: bytes) -> dict[str, Any]:
        """Hand a message in at one node and wait until it is final; refusals end the demo."""
        async with self.session.post(f"{self.urls[place]}/v1/messages", data=raw) as response:
            answer: dict[str, Any] = await response.json()
        if response.status != 200:
            raise GatewayError(f"{NODES[place]} refuses a message: {answer}")
        return answer

    async def ask(self, place: int, path: str) -> dict[str, Any]:
        """Read something at one node."""
        async with self.session.get(f"{self.urls[place]}{path}") as response:
            answer: dict[str, Any] = await response.json()
        return answer

    async def until(
        self, path: str, holds: Callable[[dict[str, Any]], bool], *, within_s: float
    ) -> list[dict[str, Any]]:
        """Wait until something holds at every node; return what each says then."""
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(within_s):
                while True:
                    found = [await self.ask(place, path) for place in range(len(NODES))]
                    if all(holds(one) for one in found):
                        return found
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError:
            raise GatewayError(f"{path} of the nodes is still {found}") from None


def node_config(folder: Path, name: str, keys: Mapping[str, str], operator_key: str) -> NodeConfig:
    """Write what a node file would say."""
    return NodeConfig(
        market=MARKET,
        node=name,
        key_file=folder / f"{name}.key",
        ledger_directory=folder / f"ledger-{name}",
        ledger_origin=f"{name}.example/market",
        ledger_key_file=folder / f"{name}.log.key",
        operator=OPERATOR,
        operator_key=operator_key,
        node_keys=keys,
        faulty_count_max=1,
        etcd=None,
        host="127.0.0.1",
        listen_port=0,
        delivery=DeliverySite(
            site="demo",
            sop="SOP-1",
            receiver="gateway",
            currency="CNY",
            domains={"T1": "region-a", "T2": "region-b", "T3": "region-c", "T4": "region-d"},
        ),
        mutual=None,
    )


@contextlib.asynccontextmanager
async def four_nodes(
    folder: Path, parties: Parties, *, utc_ms: Callable[[], int]
) -> AsyncIterator[Nodes]:
    """Run the nodes; yield once all of them serve."""
    keys = {name: create_key(folder / f"{name}.key", name).key.public.hex() for name in NODES}
    for name in NODES:
        key = create_key(folder / f"{name}.log.key", f"{name}.example/market").key
        (folder / f"{name}.vkey").write_text(f"{key.vkey}\n", encoding="utf-8")
    shared = SharedOrder()
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
        ports: dict[str, asyncio.Future[int]] = {name: loop.create_future() for name in NODES}
        tasks = [
            group.create_task(
                serve(
                    node_config(folder, name, keys, parties.public(OPERATOR)),
                    utc_ms=utc_ms,
                    ready=lambda port, _, name=name: ports[name].set_result(port),
                    ordering=EmbeddedOrdering(shared),
                )
            )
            for name in NODES
        ]
        urls = [f"http://127.0.0.1:{await ports[name]}" for name in NODES]
        try:
            yield Nodes(urls=urls, keys=keys, folder=folder, session=session)
        finally:
            for task in tasks:
                task.cancel()
