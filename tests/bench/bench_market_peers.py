"""The reconstructed day through other people's market code, each in its own environment.

    python -m venv /tmp/pymarket && /tmp/pymarket/bin/pip install pymarket==0.7.6 "pandas<3"
    python -m venv /tmp/assume && /tmp/assume/bin/pip install assume-framework==0.6.0
    python tests/bench/bench_market_peers.py /tmp/pymarket/bin/python /tmp/assume/bin/python

They know neither lines nor distances: they see bids (the users' alternative, the grid, and a
margin) and asks, and every way is paid on top where the pairing says which way it is.
"""

import importlib.util
import json
import statistics
import subprocess
import sys
from pathlib import Path

from ledger.contracts import comparators, exact
from ledger.contracts.requests_document import day_from

HERE = Path(__file__).resolve().parent
MWH, YUAN_PER_KWH = 1e6, 1e6


def bench():
    spec = importlib.util.spec_from_file_location("bench_market", HERE / "bench_market.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(python, script, hours):
    done = subprocess.run(
        [python, str(HERE / script)],
        input="\n".join(json.dumps(hour) for hour in hours),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main(pymarket, assume):
    found = bench()
    day = day_from(found.SCENARIO)
    markets = [comparators.market_of(one, 0) for one in found.hours(day)]
    hours = [
        {
            "bids": [[n / MWH, b / YUAN_PER_KWH] for n, b in zip(m.problem.needed_wh, m.bid_ucur_per_kwh, strict=True)],
            "asks": [[a / MWH, p / YUAN_PER_KWH] for a, p in zip(m.problem.available_wh, m.ask_ucur_per_kwh, strict=True) if a],
        }
        for m in markets
    ]  # fmt: skip
    there = [[i for i, a in enumerate(m.problem.available_wh) if a] for m in markets]
    totals = {}
    for peer, python, script in (
        ("pymarket 0.7.6", pymarket, "market_peer_pymarket.py"),
        ("assume 0.6.0", assume, "market_peer_assume.py"),
    ):
        answers = run(python, script, hours)
        kinds = len(answers) // len(hours)
        for place, answer in enumerate(answers):
            hour = place // kinds
            add(totals, f"{peer} {answer['mechanism']}", answer, markets[hour], there[hour])
    ours = {"paid": 0.0, "renewable": 0.0, "unserved": 0.0, "s": [], "failed": 0}
    for one, market in zip(found.hours(day), markets, strict=True):
        spent = found.cpu(lambda o=one: exact.solve(o), 0.01)
        cleared = comparators.as_offered(market, exact.solve(one)[0].flow_wh[0])
        ours["paid"] += cleared.paid_ncur / found.YUAN
        ours["renewable"] += cleared.renewable_wh / MWH
        ours["unserved"] += cleared.unserved_wh / MWH
        ours["s"].append(spent)
    totals = {"exact with proof (ours)": ours, **totals}
    found.head("mechanism", "payment a mean hour, yuan", "renewables MWh", "unserved MWh", "hours failed", "median ms")  # fmt: skip
    for name, t in totals.items():
        median = f"{1000 * statistics.median(t['s']):.2f}" if t["s"] else "–"
        found.row(name, f"{t['paid'] / 24:,.0f}", f"{t['renewable']:,.1f}", f"{t['unserved']:,.1f}", t["failed"], median)  # fmt: skip


def add(totals, name, answer, market, there):
    total = totals.setdefault(
        name, {"paid": 0.0, "renewable": 0.0, "unserved": 0.0, "s": [], "failed": 0}
    )
    needed = sum(market.problem.needed_wh) / MWH
    if "error" in answer:
        total["failed"] += 1
        total["unserved"] += needed
        return
    total["s"].append(answer["s"])
    for user, supplier, quantity, price in answer["bought"]:
        way = market.transmission(there[supplier], user) / YUAN_PER_KWH if supplier >= 0 else 0.0
        total["paid"] += quantity * 1000 * (price + way)
        needed -= quantity
    total["unserved"] += needed
    for supplier, quantity in answer["sold"]:
        total["renewable"] += quantity * market.problem.renewable[there[supplier]]


if __name__ == "__main__":
    main(*sys.argv[1:3])
