"""``sopgw demo --market``: from the data of four regions to money that moved, all simulated.

Each region values an exchange by its own exact solution (Zeng et al.), the regions agree by sealed
offers on four nodes (Ji et al.), the gateway takes the final trades from its own node, the soft
open point on the 33-bus feeder delivers, and the contract settles what was delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import secrets
import sys
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.cli import demo_bench as bench
from gateway.cli.demo_nodes import MARKET, NODES, OPERATOR, Nodes, Parties, four_nodes
from gateway.cli.demo_outcome import read_ledger
from gateway.journal.ledger_journal import key_of
from gateway.model.interval import utc_text
from gateway.runtime.clock import BenchClock
from gateway.runtime.control import ask
from ledger.contracts.document import parse
from ledger.contracts.regions_document import offers_of, regions_from
from ledger.contracts.rounds import commitment
from ledger.log.verify import verify

START_MS = 1_798_999_200_000  # 2027-01-03T18:00Z: an evening, so that the feeder is loaded
QUARTER_MS = 900_000
GATE_MS = 120_000  # the gateway takes trades until then
ROUND = "R-1800"
GRID = "ieee33-4t"
DEPOSIT = 100_000_000
PENALTY_PER_KWH = 500_000
REAL_START_S = 12  # real time in which the processes usually are up and everybody has joined
REAL_PHASE_S = 4  # real time for the commitments, for the reveals, and for the trades to arrive
FINAL_S = 60.0
SHORT_PERMILLE_MAX = 50
WIDE, NARROW = "[-230 kW, 230 kW]", "[-180 kW, 180 kW]"  # guard of T3: less than it sells


def regions_file() -> Path:
    """Where the data of the four regions lie, the source tree first."""
    tree = Path(__file__).resolve().parents[2] / "configs" / "rounds"
    folder = tree if tree.is_dir() else Path(sys.prefix) / "share" / "sopgw" / "rounds"
    return folder / "four-regions-ieee33.json"


async def play(folder: Path, out: Path, *, seed: int, speed: int, embedded: bool) -> dict[str, Any]:
    """Run everything once and return the report, with what did not come out as it should."""
    begin_us = (START_MS - lead_ms(speed) - REAL_START_S * speed * 1000) * 1000
    clock = BenchClock.start(utc_epoch_us=begin_us, factor=speed)
    clock.save(folder / "timebase.json")
    parties = Parties(folder=out / "parties")
    for path in (parties.folder, out / "nodes"):
        path.mkdir(parents=True)
    async with contextlib.AsyncExitStack() as machines:
        enter = machines.enter_async_context
        broker_port, _ = await enter(bench.broker(folder, embedded=embedded))
        station, meters = await enter(bench.simulated_devices(folder, seed=seed, grid=GRID))
        nodes = await enter(
            four_nodes(out / "nodes", parties, utc_ms=lambda: clock.utc_us() // 1000)
        )
        ports = bench.Ports(station_port=station, meter_ports=meters, broker_port=broker_port)
        site = out / "site.yaml"
        text = bench.site_text(ports, bytes.fromhex(nodes.keys[NODES[0]]))
        node = f"  node: {{url: {nodes.urls[0]}, party: gw}}\n"
        text = text.replace("  required: 1\n", f"{node}  required: 1\n")
        text = text.replace("rearm: manual", "rearm: auto")
        before, third = text.split("      T3: ")
        site.write_text(f"{before}      T3: {third.replace(WIDE, NARROW, 1)}", "utf-8")
        gateway = await enter(bench.gateway(site, folder))
        status = (await ask(out / "sopgw.sock", {"verb": "status"}))["status"]
        found = await trade(nodes, parties, clock, folder, b64decode(status["answer_key"]).hex())
        gateway.terminate()
        await gateway.wait()
    return report_of(found, out, seed=seed)


def lead_ms(speed: int) -> int:
    """Simulated time a round needs between its opening and the interval."""
    return GATE_MS + 3 * REAL_PHASE_S * speed * 1000


def round_document(data: Mapping[str, Any], start_ms: int) -> dict[str, Any]:
    """Put the regions' data into the interval that starts at an instant."""
    interval = {"start": utc_text(start_ms), "end": utc_text(start_ms + QUARTER_MS)}
    return {**data, "round": {**data["round"], "interval": interval}}


async def trade(
    nodes: Nodes, parties: Parties, clock: BenchClock, folder: Path, gateway_key: str
) -> dict[str, Any]:
    """Join, offer, clear, deliver, settle; return what the nodes and the simulator said."""
    data = parse(regions_file().read_bytes())
    regions = regions_from(data)
    offers = {
        terminal: {str(k): v for k, v in levels.items()}
        for terminal, levels in offers_of(regions).items()
    }
    await join(nodes, parties, regions.parties.party, gateway_key)
    start_ms = START_MS
    while clock.utc_us() // 1000 > start_ms - lead_ms(clock.factor):
        start_ms += QUARTER_MS  # a slow machine: the next interval then
    regions = regions_from(round_document(data, start_ms))
    phase_s = REAL_PHASE_S * clock.factor
    clear_s = GATE_MS // 1000 + phase_s
    opening: dict[str, Any] = {
        "kind": "open",
        "round": ROUND,
        "document": {"contract": "hco-1", **regions.round_document},
        "clock": {
            "commit_s": clear_s + phase_s,
            "reveal_s": clear_s,
            "clear_s": clear_s,
        },
        "penalty_per_kwh": PENALTY_PER_KWH,
        "gateway": "gw",
    }
    await nodes.send(0, parties.sign(OPERATOR, opening))
    await offer(nodes, parties, clock, offers, regions.parties.party)
    path = f"/v1/rounds/{ROUND}"
    await nodes.until(path, lambda one: one["outcome"] is not None, within_s=FINAL_S)
    answered = await nodes.until(path, lambda one: bool(one["answers"]), within_s=FINAL_S)
    await bench.started_in(clock, start_ms + QUARTER_MS // 2)
    truth = (await ask(folder / "sim.sock", {"query": "truth"}))["truth"]
    await bench.started_in(clock, start_ms + QUARTER_MS)
    settled = await nodes.until(path, lambda one: one["phase"] == "settled", within_s=FINAL_S)
    states = [await nodes.ask(place, "/v1/status") for place in range(len(NODES))]
    return {
        "offers": offers,
        "answers": answered[0]["answers"],
        "round": settled,
        "feeders": truth["feeders"],
        "states": states,
        "parties": dict(regions.parties.party),
    }


async def join(
    nodes: Nodes, parties: Parties, regions: Mapping[str, str], gateway_key: str
) -> None:
    """Let the regions and the gateway in; the operator signs for their deposits."""
    gateway = {"kind": "join", "id": "gw", "key": gateway_key, "role": "gateway"}
    await nodes.send(0, parties.sign(OPERATOR, gateway))
    for terminal, region in regions.items():
        body = {
            "kind": "join",
            "id": region,
            "key": parties.public(region),
            "role": "region",
            "terminal": terminal,
            "deposit": DEPOSIT,
        }
        await nodes.send(0, parties.sign(OPERATOR, body))


async def offer(
    nodes: Nodes,
    parties: Parties,
    clock: BenchClock,
    offers: Mapping[str, Mapping[str, int]],
    regions: Mapping[str, str],
) -> None:
    """Seal every region's offers, and open them after the gate; each at a node of its own."""
    salts = {terminal: secrets.token_hex(32) for terminal in offers}
    gate_ms = (await nodes.ask(0, f"/v1/rounds/{ROUND}"))["commit_until_ms"]
    async with asyncio.TaskGroup() as group:
        for place, (terminal, levels) in enumerate(offers.items()):
            seal = commitment(
                salts[terminal], dict(levels), party=regions[terminal], round_id=ROUND
            )
            body = {"kind": "commit", "round": ROUND, "hash": seal}
            group.create_task(nodes.send(place, parties.sign(regions[terminal], body)))
    await bench.started_in(clock, gate_ms)
    async with asyncio.TaskGroup() as group:
        for place, (terminal, levels) in enumerate(offers.items()):
            opened: dict[str, Any] = {
                "kind": "reveal",
                "round": ROUND,
                "salt": salts[terminal],
                "offers": dict(levels),
            }
            group.create_task(nodes.send(place, parties.sign(regions[terminal], opened)))


def report_of(found: Mapping[str, Any], out: Path, *, seed: int) -> dict[str, Any]:
    """Put together what the nodes agreed, what the gateway did and what the feeders felt."""
    settled = found["round"][0]
    outcome, actuals = settled["outcome"], settled["actuals"]
    prices = outcome["unit_price_per_kwh"]
    rows = {row["trade"]: row for row in actuals["rows"]}
    delivered = {
        trade["trade_id"]: trade
        for entry in read_ledger(out / "ledger")
        if entry["kind"] == "delivery"
        for trade in entry["trades"]
    }
    (out / "ledger.vkey").write_text(key_of(out / "ledger.key", "demo.example/SOP-1") + "\n")
    ledgers = {"gateway": (out / "ledger", out / "ledger.vkey")} | {
        name: (out / "nodes" / f"ledger-{name}", out / "nodes" / f"{name}.vkey") for name in NODES
    }
    verified = {
        name: verify(ledger, [key.read_text("utf-8").strip()]).ok
        for name, (ledger, key) in ledgers.items()
    }
    report: dict[str, Any] = {
        "schema": "sopgw/v1/demo.market",
        "seed": seed,
        "market": MARKET,
        "interval": outcome["interval"],
        "offers": found["offers"],
        "levels": outcome["levels"],
        "p_w": outcome["p_w"],
        "value": outcome["value"],
        "transfers": outcome["transfers"],
        "unit_price_per_kwh": prices,
        "trades": [
            {
                "id": trade["id"],
                "seller": found["parties"][trade["out_terminal"]],
                "buyer": found["parties"][trade["in_terminal"]],
                "accepted": found["answers"][trade["id"]]["accepted"],
                "status": delivered.get(trade["id"], {}).get("status", "none"),
                **{k: v for k, v in rows[trade["id"]].items() if k != "trade"},
            }
            for trade in outcome["trades"]
        ],
        "accounts": actuals["accounts"],
        "money_sum": [state["money_sum"] for state in found["states"]],
        "states": sorted({one["actuals"]["digest"] for one in found["round"]}),
        "feeders": found["feeders"],
        "verified": verified,
    }
    report["problems"] = problems(report)
    report["ok"] = not report["problems"]
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return report


def problems(report: Mapping[str, Any]) -> list[str]:
    """What did not come out as the demo promises; empty when all of it did."""
    found = [f"{t['id']} was not accepted" for t in report["trades"] if not t["accepted"]]
    if len(report["trades"]) == 0:
        found.append("the regions agreed on nothing")
    for trade in report["trades"]:
        short_wh = trade["contracted_wh"] - trade["delivered_wh"]
        if trade["penalty"] and trade["curtailed"]:
            found.append(f"{trade['id']}: a penalty although the guard held it back")
        # A busy machine costs some Wh at 60 ×, and the market's penalty for them.
        unexplained_wh = 0 if trade["curtailed"] else short_wh
        if unexplained_wh * 1000 > trade["contracted_wh"] * SHORT_PERMILLE_MAX:
            found.append(f"{trade['id']}: {short_wh} Wh short and no reason that exempts")
    if not any("guard_p" in trade["curtailed"] for trade in report["trades"]):
        found.append("nothing was curtailed by the guard of T3")
    if set(report["money_sum"]) != {0} or sum(report["accounts"].values()) != 0:
        found.append("the money does not sum to zero")
    if len(report["states"]) != 1:
        found.append("the nodes settled differently")
    feeders = report["feeders"]
    if feeders["with"]["loss_w"] >= feeders["without"]["loss_w"]:
        found.append("the exchange did not lower the feeder's losses")
    found += [
        f"the ledger of {who} does not verify" for who, ok in report["verified"].items() if not ok
    ]
    return found


def conclude(report: Mapping[str, Any], *, kept: Path | None) -> str:
    """Write what the demo prints at its end, 100 columns wide at most."""
    start = dt.datetime.fromisoformat(report["interval"]["start"])
    lines = [
        f"Round     {start:%Y-%m-%d %H:%M}Z, four nodes, offers sealed and opened, value "
        f"{yuan(report['value'])} yuan",
        f"          {'region':<8} {'level':>6} {'kW':>7} {'pays yuan':>10} {'yuan/kWh':>9}",
    ]
    for terminal, level in report["levels"].items():
        p_kw = report["p_w"][terminal] // 1000
        price = report["unit_price_per_kwh"].get(terminal)
        lines.append(
            f"          {terminal:<8} {level:>+6d} {p_kw:>+7d} "
            f"{yuan(report['transfers'][terminal]):>10} {yuan(price) if price else '':>9}"
        )
    lines += [
        "Trades    final on four nodes, taken by the gateway from its own, delivered and settled",
        f"          {'seller → buyer':<16} {'agreed Wh':>10} {'delivered':>10} {'paid yuan':>10} "
        f"{'penalty':>8}  what happened",
    ]
    for row in report["trades"]:
        path = f"{row['seller']} → {row['buyer']}"
        lines.append(
            f"          {path:<16} {row['contracted_wh']:>10,} {row['delivered_wh']:>10,} "
            f"{yuan(row['paid']):>10} {yuan(row['penalty']):>8}  "
            f"{row['status']} {' '.join(row['curtailed'])}".rstrip()
        )
    accounts = ", ".join(f"{who} {yuan(amount)}" for who, amount in report["accounts"].items())
    lines += [
        f"Money     {accounts}",
        f"          sums to {sum(report['accounts'].values())} on every node",
        *feeder_lines(report["feeders"]),
        f"Ledgers   {', '.join(report['verified'])}: "
        + ("no errors were found" if all(report["verified"].values()) else "DO NOT VERIFY"),
    ]
    if kept is not None:
        lines.append(f"Report    {kept / 'report.json'}   nodes' ledgers in {kept / 'nodes'}")
    lines += [f"✗ {what}" for what in report["problems"]]
    return "\n".join(lines)


def feeder_lines(feeders: Mapping[str, Any]) -> list[str]:
    """Write losses and voltages of the 33-bus feeder, without the exchange and with it."""
    count = len(feeders["with"]["terminal_v_pu"])
    terminals = "".join(f"{f'T{n} pu':>8}" for n in range(1, count + 1))
    lines = [f"Feeder    {'':<8} {'losses kW':>10} {'lowest pu':>10} {'at node':>8}{terminals}"]
    for heading, key in (("before", "without"), ("with", "with")):
        one = feeders[key]
        volts = "".join(f"{v:>8.4f}" for v in one["terminal_v_pu"])
        lines.append(
            f"          {heading:<8} {one['loss_w'] / 1000:>10.1f} {one['lowest_v_pu']:>10.4f} "
            f"{one['lowest_node']:>8}{volts}"
        )
    return lines


def yuan(amount_ucur: int) -> str:
    """Write micro-currency as yuan."""
    return f"{amount_ucur / 1_000_000:.3f}"
