"""The gateway and its own market node, each a process: both doors, a killed node, the money."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from base64 import b64decode, b64encode

import aiohttp
import pytest
from fakes.rig import Rig, report

from gateway.cli.demo_nodes import Parties
from gateway.market.topics import NODE_DOOR
from gateway.model.interval import utc_text
from ledger.contracts.rounds import commitment
from ledger.log.keys import create_key

pytestmark = pytest.mark.timeout(150)
FACTOR = 20
CLOCK = {"commit_s": 300, "reveal_s": 240, "clear_s": 240}


class NodeProcess:
    """``sopledger node run`` on the rig's time, always behind the same door."""

    def __init__(self, folder, timebase):
        self.folder = folder
        self.timebase = timebase
        self.parties = Parties(folder=folder)
        # A loopback address nobody else uses: the port stays free while the node is away.
        host = "127." + ".".join(str(1 + byte % 254) for byte in os.urandom(3))
        self.url = f"http://{host}:8470"
        self.public = create_key(folder / "n1.key", "n1").key.public.hex()
        create_key(folder / "n1.log.key", "n1.example/market")
        (folder / "node.yaml").write_text(
            f"market: demo\nnode: n1\nkey: n1.key\n"
            f"ledger: {{dir: ledger, origin: n1.example/market, key: n1.log.key}}\n"
            f"operator: {{id: op, key: {self.parties.public('op')}}}\n"
            f"nodes: {{n1: {self.public}}}\nlisten: {host}:8470\n"
            "delivery: {site: demo, sop: SOP-1, domains: {T2: region-b, T3: region-c}}\n"
        )

    async def start(self, *, at_ms=None):
        """Start on the rig's time, or with a time that stands still until the next start."""
        timebase = self.timebase
        if at_ms is not None:
            timebase = self.folder / "timebase.json"
            still = {"epoch_ns": 0, "factor": 0, "utc_epoch_us": 1000 * at_ms}
            timebase.write_text(json.dumps(still))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ledger", "node", "run", "-c", str(self.folder / "node.yaml"),
            "--timebase", str(timebase), stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        async with asyncio.timeout(60):
            while not re.search(rb"at http://\S+ height", await self.process.stderr.readline()):
                assert self.process.returncode is None
        self.drain = asyncio.create_task(self.process.stderr.read())

    async def end(self, how):
        if self.process.returncode is None:
            self.process.send_signal(how)
        await self.process.wait()
        await self.drain

    async def ask(self, path):
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return await response.json()

    async def send(self, party, **body):
        raw = self.parties.sign(party, body)
        url = f"{self.url}/v1/messages"
        async with aiohttp.ClientSession() as session, session.post(url, data=raw) as response:
            assert response.status == 200, await response.text()

    async def until(self, condition):
        async with asyncio.timeout(60):
            while not condition(found := await self.ask("/v1/rounds/R1")):
                await asyncio.sleep(0.05)
            return found


async def offered(node, rig, gateway_key):
    """Everybody joins, a round is opened, sealed and opened; it starts in the next minutes.

    The node's time stands still in each phase, so that none passes on a slow machine.
    """
    start_ms = rig.next_minute_ms(ahead_ms=300_000)
    await node.end(signal.SIGKILL)
    await node.start(at_ms=start_ms - 600_000)
    await node.send("op", kind="join", id="gw", key=gateway_key, role="gateway")
    for name, terminal in (("b", "T2"), ("c", "T3")):
        key = node.parties.public(name)
        await node.send("op", kind="join", id=name, key=key, role="region", terminal=terminal, deposit=10**7)  # fmt: skip
    interval = {"start": utc_text(start_ms), "end": utc_text(start_ms + 60_000)}
    terminals = [{"id": t, "s_va": 250_000, "k_min": -6, "k_max": 6} for t in ("T2", "T3")]
    document = {"contract": "hco-1", "interval": interval, "quantum_w": 15_000, "terminals": terminals, "k_dc": 6}  # fmt: skip
    await node.send("op", kind="open", round="R1", document=document, clock=CLOCK)
    offers = {"b": {"0": 0, "-4": -20_000}, "c": {"0": 0, "4": 90_000}}
    for name, levels in offers.items():
        seal = commitment("5a" * 32, levels, party=name, round_id="R1")
        await node.send(name, kind="commit", round="R1", hash=seal)
    await node.end(signal.SIGKILL)
    await node.start(at_ms=start_ms - 270_000)
    for name, levels in offers.items():
        await node.send(name, kind="reveal", round="R1", salt="5a" * 32, offers=levels)
    await node.end(signal.SIGKILL)
    await node.start()
    return start_ms


async def accepted(rig):
    """Wait until the gateway's own ledger says that it took the trade."""
    async with asyncio.timeout(60):
        while not any(e["kind"] == "trade.accepted" for e in rig.entries()):
            await asyncio.sleep(0.02)


async def test_a_round_is_delivered_although_the_node_is_killed_and_both_doors_bring_it(tmp_path):
    rig = Rig(tmp_path, factor=FACTOR)
    folder = tmp_path / "node"
    folder.mkdir()
    node = NodeProcess(folder, tmp_path / "timebase.json")

    async def before():
        signer = f'{{name: n1, key: "{b64encode(bytes.fromhex(node.public)).decode()}"}}'
        text = rig.site.read_text().replace("signers: [", f"signers: [{signer}, ")
        text = text.replace("  required:", f"  node: {{url: {node.url}, party: gw}}\n  required:")
        rig.site.write_text(text)
        await node.start()

    async with rig.up(before), contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(node.end, signal.SIGINT)
        gateway_key = b64decode((await rig.status())["answer_key"]).hex()
        start_ms = await offered(node, rig, gateway_key)
        found = await node.until(lambda one: one["outcome"] is not None)
        (envelope,) = (await node.ask("/v1/rounds/R1/trades"))["envelopes"]
        await accepted(rig)
        await node.end(signal.SIGKILL)
        # While the node is away the market's own copy comes by MQTT: decided already.
        payload = json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()
        answers = await rig.send(payload)
        await node.start()
        answered = await node.until(lambda one: one["answers"])
        settled = await node.until(lambda one: one["phase"] == "settled")
        status = await node.ask("/v1/status")
    (trade,) = found["outcome"]["trades"]
    assert (trade["wh"], rig.now_ms() >= start_ms) == (1000, True)
    assert answered["answers"] == {trade["id"]: {"accepted": True, "reasons": []}}
    (answer,) = answers.by_trade.values()
    assert [reason["code"] for reason in answer["reasons"]] == ["duplicate"]
    received = [e for e in rig.entries() if e["kind"] == "trade.received"]
    assert sorted(e["topic"] for e in received) == [NODE_DOOR, "p2p/v1/demo/SOP-1/trades"]
    assert len({e["sha256"] for e in received}) == 1
    assert sum(e["kind"] == "trade.accepted" for e in rig.entries()) == 1
    (row,) = settled["actuals"]["rows"]
    (delivered,) = report(rig.entries()).values()
    # Nobody pays for more than was agreed, whatever flowed.
    assert row["delivered_wh"] == min(trade["wh"], delivered["delivered_wh"]) > 500
    assert status["money_sum"] == 0
    paid = settled["actuals"]["accounts"]
    assert paid["T2"] == -paid["T3"] > 0
    replayed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "replay", str(rig.out / "ledger"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await replayed.communicate()
    assert replayed.returncode == 0, said
