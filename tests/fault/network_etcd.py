"""Four node processes on three etcd members under crashes and lies, for as long as asked.

    python tests/fault/network_etcd.py --seconds 60 --seed 1
    python tests/fault/network_etcd.py --seconds 3600 --seed 7

Agents send sealed offers without pause and repeat them until they are acknowledged. Every few
seconds something is killed (a node or a member, as by a power cut), frozen, cut off from etcd or
slowed down, and comes back. Beside that the last node lies about the state it reached or proposes
blocks of rubbish, or the ordering service shows it other blocks than the rest, or a node's clock
goes wrong. At the end everything heals and must agree: one block a height on all four ledgers, every
acknowledged message in every ledger, no evidence against an honest node, and settling goes on.
"""

import argparse
import asyncio
import datetime as dt
import importlib.util
import json
import os
import random
import re
import signal
import sys
import tempfile
from pathlib import Path

import aiohttp

from ledger.contracts.rounds import commitment
from ledger.log import reader
from ledger.log.keys import create_key
from ledger.network.message import sign_message

HERE = Path(__file__).resolve().parent
NODES = 4
TRAITOR = f"n{NODES - 1}"
REGIONS = 6


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


network_proxy = load("network_proxy", HERE / "network_proxy.py")
etcd_cluster = load("etcd_cluster", HERE.parent / "ledger/network/etcd_cluster.py")


class NodeProcess:
    """One ``sopledger node run`` with its own ledger; starts again where it was killed."""

    def __init__(self, config, log, wire):
        self.config = config
        self.control = config.with_suffix(".control")
        self.log = log
        self.wire = wire
        self.process = None
        self.url = None

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "network_odd_node.py"), str(self.control),
            "-c", str(self.config),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        async with asyncio.timeout(300):
            while True:
                line = (await self.process.stderr.readline()).decode()
                self.log.write(line)
                found = re.search(r"at (http://\S+) height", line)
                if found:
                    self.url = found[1]
                    break
                if not line:
                    raise RuntimeError(f"{self.config} did not start")
        self.reading = asyncio.create_task(self.read())

    async def read(self):
        async for line in self.process.stderr:
            self.log.write(line.decode())
            self.log.flush()

    def tell(self, **behaviour):
        """Make the node odd in some way; nothing makes it honest and right again."""
        fresh = self.control.with_suffix(".new")
        fresh.write_text(json.dumps(behaviour))
        fresh.replace(self.control)

    async def kill(self, how=signal.SIGKILL):
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(how)
        await self.process.wait()
        await self.reading


class Agents:
    """Signs and sends; remembers what was acknowledged."""

    def __init__(self, folder, market):
        self.market = market
        self.keys = {
            name: create_key(folder / f"{name}.key", name)
            for name in ("op", *(f"R{i}" for i in range(REGIONS)))
        }
        self.seq = dict.fromkeys(self.keys, 0)
        self.acknowledged = []
        self.retries = 0

    def public(self, name):
        return self.keys[name].key.public.hex()

    def message(self, party, body):
        self.seq[party] += 1
        signer = self.keys[party]
        return sign_message(self.market, party, self.seq[party], body, signer, self.public(party))

    async def deliver(self, session, nodes, party, body, rng):
        """Send to any node until one says that the message is final."""
        raw = self.message(party, body)
        while True:
            node = rng.choice(nodes)
            try:
                async with asyncio.timeout(12):
                    async with session.post(f"{node.url}/v1/messages", data=raw) as response:
                        answer = await response.json(content_type=None)
                if response.status == 200:
                    self.acknowledged.append(raw)
                    return answer
                if response.status in (400, 409):
                    raise RuntimeError(f"refused: {answer}")
            except (TimeoutError, aiohttp.ClientError, OSError, json.JSONDecodeError):
                pass
            self.retries += 1
            await asyncio.sleep(0.2)


def write_files(folder, members, wires):
    """Keys, ledgers' keys and node files."""
    market = "fault"
    agents = Agents(folder, market)
    publics = {}
    for i in range(NODES):
        publics[f"n{i}"] = create_key(folder / f"n{i}.key", f"n{i}").key.public.hex()
        create_key(folder / f"n{i}.log.key", f"n{i}.example/market")
    nodes = "\n".join(f"  {name}: {key}" for name, key in publics.items())
    configs = []
    for i in range(NODES):
        config = folder / f"n{i}.yaml"
        config.write_text(
            f"market: {market}\nnode: n{i}\nkey: n{i}.key\n"
            f"ledger: {{dir: ledger{i}, origin: n{i}.example/market, key: n{i}.log.key}}\n"
            f"operator: {{id: op, key: {agents.public('op')}}}\nnodes:\n{nodes}\nfaulty: 1\n"
            f"ordering: {{etcd: {json.dumps(wires[i].urls)}, ca: {members.directory}/ca.pem, "
            f"cert: {members.directory}/cert.pem, key: {members.directory}/key.pem}}\n"
        )
        configs.append(config)
    return agents, configs


def round_document():
    hour = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    start = hour + dt.timedelta(days=2)
    stamp = [(start + dt.timedelta(seconds=s)).strftime("%Y-%m-%dT%H:%M:%SZ") for s in (0, 900)]
    return {
        "contract": "hco-1",
        "interval": {"start": stamp[0], "end": stamp[1]},
        "quantum_w": 40_000,
        "terminals": [
            {"id": f"T{i}", "s_va": 250_000, "k_min": -6, "k_max": 6} for i in range(REGIONS)
        ],
        "k_dc": 6,
    }


async def crashes(rng, nodes, members, until, report):
    """Break one thing at a time, hold it broken for a while, mend it."""
    loop = asyncio.get_running_loop()
    kinds = ["kill node", "kill member", "freeze node", "freeze member", "partition", "slow node"]
    while loop.time() < until:
        await asyncio.sleep(rng.uniform(0.5, 2.0))
        kind = rng.choice(kinds)
        report[kind] = report.get(kind, 0) + 1
        node, member = rng.choice(nodes), rng.randrange(3)
        held_s = rng.uniform(0.3, 3.0)
        match kind:
            case "kill node":
                await node.kill()
                await asyncio.sleep(held_s)
                await node.start()
            case "kill member":
                members.kill(member)
                await asyncio.sleep(held_s)
                members.start(member)
            case "freeze node":
                node.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(held_s)
                node.process.send_signal(signal.SIGCONT)
            case "freeze member":
                members.pause(member)
                await asyncio.sleep(held_s)
                members.resume(member)
            case "partition":
                node.wire.cut()
                await asyncio.sleep(held_s)
                node.wire.mend()
            case "slow node":
                node.wire.delay_s = rng.uniform(0.05, 0.4)
                await asyncio.sleep(2 * held_s)
                node.wire.mend()


async def oddities(rng, nodes, until, report):
    """Beside the crashes: a liar, blocks of rubbish, an orderer that equivocates, a wrong clock.

    One at a time.

    Only the last node lies or is lied to, for no more than one may: with two at once the nodes
    stop, as they should.
    """
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        await asyncio.sleep(rng.uniform(0.5, 2.0))
        kind = rng.choice(["lying node", "equivocating orderer", "clock skew", "rubbish"])
        report[kind] = report.get(kind, 0) + 1
        node = nodes[-1]
        if kind == "lying node":
            node.tell(lie=True)
        elif kind == "rubbish":
            node.tell(rubbish=rng.choice(["nothing", "bytes", "refused"]))
        elif kind == "equivocating orderer":
            node.tell(equivocate=True)
        else:
            node = rng.choice(nodes)
            # Ahead of the others it holds up a block until their clocks have come so far.
            node.tell(skew_ms=rng.randint(-60_000, 5_000))
        await asyncio.sleep(rng.uniform(0.5, 3.0))
        node.tell()


async def offers(session, agents, nodes, region, until, seed):
    rng = random.Random(f"{seed} {region}")
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        sold = {"0": 0, "1": rng.randrange(1000)}
        seal = commitment(rng.randbytes(32).hex(), sold, party=region, round_id="R1")
        body = {"kind": "commit", "round": "R1", "hash": seal}
        await agents.deliver(session, nodes, region, body, rng)


def check(folder, agents):
    """One block a height everywhere, and nothing acknowledged is missing anywhere."""
    finals, accepted, evidence = [], [], {}
    for i in range(NODES):
        heights, taken, block = {}, [], None
        for _, leaf in reader.entries(folder / f"ledger{i}"):
            entry = json.loads(leaf)
            if entry["kind"] == "net.block":
                messages = entry.get("block", {}).get("messages", [])
                block = entry["sha256"], [m["sig"] for m in messages if m]
            elif entry["kind"] == "net.final":
                subjects = {(v["block"], v["state"]) for v in entry["votes"]}
                assert len(subjects) == 1, "a certificate of one subject"
                assert subjects == {(block[0], next(iter(subjects))[1])}
                heights[entry["height"]] = next(iter(subjects))
                taken += block[1]
            elif entry["kind"] == "net.evidence":
                # Who is deceived accuses the others; what the honest write down must be true.
                assert i == NODES - 1 or entry["details"]["node"] == TRAITOR, entry
                evidence[entry["what"]] = evidence.get(entry["what"], 0) + 1
        finals.append(heights)
        accepted.append(taken)
    assert all(heights == finals[0] for heights in finals), "two final results for one height"
    for taken in accepted:
        found = set(taken)
        missing = [raw for raw in agents.acknowledged if json.loads(raw)["sig"] not in found]
        assert missing == [], f"{len(missing)} acknowledged messages lost"
    return len(finals[0]), evidence


async def campaign(folder, seconds, seed):
    """Run the whole thing; give the figures."""
    rng = random.Random(seed)
    (folder / "etcd").mkdir()
    async with etcd_cluster.cluster(folder / "etcd") as members:
        ports = [int(url.rsplit(":", 1)[1]) for url in members.clients]
        targets = [(members.host, port) for port in ports]
        wires = [network_proxy.Wire(targets) for _ in range(NODES)]
        for wire in wires:
            await wire.start()
        agents, configs = write_files(folder, members, wires)
        report = {}
        with (folder / "nodes.log").open("w") as log:
            pairs = zip(configs, wires, strict=True)
            nodes = [NodeProcess(config, log, wire) for config, wire in pairs]
            for node in nodes:
                await node.start()
            try:
                async with aiohttp.ClientSession() as session:
                    await work(session, agents, nodes, members, rng, seconds, report, seed)
            finally:
                for node in nodes:
                    # Not SIGINT: whatever a shell runs in the background ignores it.
                    await node.kill(signal.SIGTERM)
                for wire in wires:
                    await wire.stop()
    height, evidence = check(folder, agents)
    return {
        "seconds": seconds,
        "seed": seed,
        "faults": report,
        "evidence": evidence,
        "height": height,
        "acknowledged": len(agents.acknowledged),
        "retries": agents.retries,
        "lost": 0,
    }


async def work(session, agents, nodes, members, rng, seconds, report, seed):
    loop = asyncio.get_running_loop()
    for i in range(REGIONS):
        body = {"kind": "join", "id": f"R{i}", "key": agents.public(f"R{i}"), "role": "region", "terminal": f"T{i}", "deposit": 10**6}  # fmt: skip
        await agents.deliver(session, nodes, "op", body, rng)
    opening = {"kind": "open", "round": "R1", "document": round_document()}
    await agents.deliver(session, nodes, "op", opening, rng)
    until = loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        group.create_task(crashes(rng, nodes, members, until, report))
        group.create_task(oddities(random.Random(f"{seed} odd"), nodes, until, report))
        for i in range(REGIONS):
            group.create_task(offers(session, agents, nodes, f"R{i}", until, seed))
    # Everything is mended: settling goes on, and all four come to one height.
    last = await agents.deliver(session, nodes, "op", {"kind": "deposit", "id": "R0", "amount": 1}, rng)  # fmt: skip
    async with asyncio.timeout(300):
        while True:
            heights = []
            for node in nodes:
                async with session.get(f"{node.url}/v1/status") as response:
                    heights.append((await response.json())["height"])
            if min(heights) >= last["height"] and len(set(heights)) == 1:
                return
            await asyncio.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=None)
    arguments = parser.parse_args()
    if not etcd_cluster.installed():
        raise SystemExit("etcd is not installed (apt install etcd-server)")
    if arguments.keep:
        arguments.keep.mkdir(parents=True)
        found = asyncio.run(campaign(arguments.keep, arguments.seconds, arguments.seed))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(campaign(Path(folder), arguments.seconds, arguments.seed))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
