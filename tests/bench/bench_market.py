"""Tables of docs/papers.md: the day, the gaps to the optimum, tight cases, CPU and scaling.

    python tests/bench/bench_market.py > market.md          # a few minutes
    python tests/bench/bench_market.py --fast               # fewer random cases

Times are of this machine and shared with whatever else runs on it: read the ratios.
"""

import dataclasses
import json
import random
import statistics
import sys
import time
from pathlib import Path

from ledger.contracts import certificate, comparators, exact, hco, mopso, mopso_numpy
from ledger.contracts.hco_document import round_from
from ledger.contracts.requests import (
    Day,
    SlotProblem,
    Storage,
    Supplier,
    User,
    cheapest_first,
    nearest_first,
    objectives,
    walk,
)
from ledger.contracts.requests_document import day_from, outcome

ROOT = Path(__file__).resolve().parents[2]
FAST = "--fast" in sys.argv
SCENARIO = json.loads((ROOT / "configs/rounds/six-suppliers-five-users.json").read_text())
YUAN = 1e9


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def head(*cells):
    row(*cells)
    row(*("---" for _ in cells))


def hours(day):
    """The day's hours as days of one slot without storage."""
    for t in range(day.slot_count):
        yield dataclasses.replace(
            day,
            suppliers=tuple(
                dataclasses.replace(
                    s,
                    available_wh=s.available_wh[t : t + 1],
                    price_ucur_per_kwh=s.price_ucur_per_kwh[t : t + 1],
                )
                for s in day.suppliers
            ),
            users=tuple(
                dataclasses.replace(u, demand_wh=u.demand_wh[t : t + 1], storage=Storage())
                for u in day.users
            ),
        )


def swarm(problem, order, seed=b"\0" * 32, kernel=mopso_numpy.kernel):
    return mopso.solve(problem, prev_hash=seed, order=order, kernel=kernel)


OTHERS = {
    "Li-style": comparators.chains_style,
    "Luo-style": comparators.coalition_style,
    "Rui-style": None,  # shares what the optimum saves
    "call auction": comparators.call_auction,
    "double auction": comparators.double_auction,
}


def gap_paid(one, market, flows, best):
    """What the users pay under each other mechanism, lost load at its value, over the optimum."""
    found = {}
    for name, mechanism in OTHERS.items():
        cleared = mechanism(market) if mechanism else comparators.bargaining_style(market, flows)
        paid = cleared.paid_ncur + one.voll_ucur_per_kwh * cleared.unserved_wh
        found[name] = 100 * (paid - best) / best if best else 0.0
    return found


def gap(problem, flow, best):
    return 100 * (objectives(problem, flow)[0] - best) / best if best else 0.0


def the_day():
    day = day_from(SCENARIO)
    print("\n### Per hour, without storage: gap to the optimum in % of its cost\n")
    head("hour", "demand MWh", "renewable MWh", "optimum yuan", "requests nearest", "requests cheapest", "MOPSO nearest", "MOPSO cheapest", "price of users yuan/kWh")  # fmt: skip
    totals, paid = {}, []
    gaps = {name: [] for name in ("requests nearest", "requests cheapest", "MOPSO nearest", "MOPSO cheapest")}  # fmt: skip

    def add(name, cleared):
        total = totals.setdefault(name, [0, 0, 0])
        for k, value in enumerate((cleared.paid_ncur, cleared.renewable_wh, cleared.unserved_wh)):
            total[k] += value

    for hour, one in enumerate(hours(day)):
        market = comparators.market_of(one, 0)
        problem = dataclasses.replace(market.problem, slot_index=hour)
        flows, proof, optimum = exact.solve(one)
        best = optimum.objective_ncur
        answers = {
            "requests nearest": walk(problem, nearest_first(problem)),
            "requests cheapest": walk(problem, cheapest_first(problem)),
            "MOPSO nearest": swarm(problem, nearest_first),
            "MOPSO cheapest": swarm(problem, cheapest_first),
        }
        found = {name: gap(problem, flow, best) for name, flow in answers.items()}
        for name, value in found.items():
            gaps[name].append(value)
        paid.append(gap_paid(one, market, flows.flow_wh[0], best))
        prices = [p[0] / 1e6 for p in proof["y"]]
        served = sum(map(sum, flows.flow_wh[0]))
        renewable = sum(s.available_wh[0] for s in one.suppliers if s.renewable)
        price = (
            "lost load"
            if served < sum(problem.needed_wh)
            else f"{min(prices):.4f}…{max(prices):.4f}"
        )
        row(hour, sum(problem.needed_wh) // 10**6, renewable // 10**6, f"{best / YUAN:,.0f}", *(f"{v:.4f}" for v in found.values()), price)  # fmt: skip
        add("exact (ours), as offered", comparators.as_offered(market, flows.flow_wh[0]))
        add("MOPSO 40×60, nearest", comparators.as_offered(market, answers["MOPSO nearest"]))
        add("requests only, nearest", comparators.as_offered(market, answers["requests nearest"]))
        add("Li-style chains", comparators.chains_style(market))
        add("Luo-style coalition", comparators.coalition_style(market))
        add("Rui-style bargaining", comparators.bargaining_style(market, flows.flow_wh[0]))
        add("call auction, high–low", comparators.call_auction(market))
        add("double auction, uniform", comparators.double_auction(market))
    print("\n### Per hour: what the users pay over the optimum, in % (lost load at its value)\n")
    head("hour", *OTHERS)
    for hour, found in enumerate(paid):
        row(hour, *(f"{found[name]:.2f}" for name in OTHERS))
    gaps |= {name: [found[name] for found in paid] for name in OTHERS}
    print("\nOver the 24 hours:\n")
    head("method", "mean gap %", "max gap %", "hours exactly optimal")
    for name, values in gaps.items():
        row(name, f"{statistics.mean(values):.4f}", f"{max(values):.4f}", sum(v == 0 for v in values))  # fmt: skip
    print("\n### The same day by mechanism (users' payment with transmission, without storage)\n")
    head("mechanism", "payment a mean hour, yuan", "renewables used of offered MWh", "unserved MWh")
    offered = sum(sum(s.available_wh) for s in day.suppliers if s.renewable) / 1e6
    for name, (paid, used, unserved) in sorted(totals.items(), key=lambda item: item[1][0]):
        row(name, f"{paid / YUAN / 24:,.0f}", f"{used / 1e6:,.1f} of {offered:,.1f}", f"{unserved / 1e6:.2f}")  # fmt: skip


def the_day_with_storage():
    day = day_from(SCENARIO)
    print("\n### The whole day with storage: foresight against slot by slot\n")
    head(
        "method", "cost yuan", "unserved MWh", "storage target missed MWh", "renewable MWh", "CPU s"
    )
    for method in ("exact", "mopso", "request"):
        began = time.process_time()
        result = outcome(day, method)
        spent = time.process_time() - began
        row(method, f"{result['f1'] / YUAN:,.0f}", f"{result['unserved_wh'] / 1e6:.2f}", f"{result['target_missed_wh'] / 1e6:.2f}", f"{result['f2'] / 1e6:,.1f}", f"{spent:.3f}")  # fmt: skip


def tight_case(seed):
    """A slot on which lines bind: narrow lines, a quarter of reserve."""
    rng = random.Random(seed)
    suppliers, users = rng.randint(4, 8), rng.randint(3, 7)
    needed = [rng.randint(20, 100) * 10**6 for _ in range(users)]
    weights = [rng.randint(1, 10) for _ in range(suppliers)]
    available = [sum(needed) * 125 * w // (100 * sum(weights)) for w in weights]
    return Day(
        slot_s=3600,
        suppliers=tuple(
            Supplier(id=f"S{i}", technology="wind", renewable=rng.random() < 0.5, available_wh=(a,), price_ucur_per_kwh=(rng.randint(250, 900) * 1000,))
            for i, a in enumerate(available)
        ),
        users=tuple(
            User(id=f"U{j}", demand_wh=(n,), storage=Storage()) for j, n in enumerate(needed)
        ),
        distance_km=tuple(tuple(rng.randint(1, 40) for _ in range(users)) for _ in range(suppliers)),
        transmission_ucur_per_kwh_km=4_000,
        capacity_wh=tuple(
            tuple(rng.randint(30, 70) * n // 100 for n in needed) for _ in range(suppliers)
        ),
        voll_ucur_per_kwh=10_000_000,
        prev_hash=b"",
    )  # fmt: skip


def slot_of(day: Day) -> SlotProblem:
    return comparators.market_of(day, 0).problem


def tight_cases(count):
    print(
        f"\n### {count} random tight slots (narrow lines, 25 % reserve): gap to the optimum in %\n"
    )
    gaps = {}
    for seed in range(count):
        day = tight_case(seed)
        problem = slot_of(day)
        flows, _, optimum = exact.solve(day)
        best = optimum.objective_ncur
        market = comparators.market_of(day, 0)
        for name, value in gap_paid(day, market, flows.flow_wh[0], best).items():
            gaps.setdefault(f"{name}, paid", []).append(value)
        for name, flow in (
            ("requests nearest", walk(problem, nearest_first(problem))),
            ("requests cheapest", walk(problem, cheapest_first(problem))),
            ("MOPSO nearest", swarm(problem, nearest_first, seed.to_bytes(4, "big"))),
            ("MOPSO cheapest", swarm(problem, cheapest_first, seed.to_bytes(4, "big"))),
        ):
            gaps.setdefault(name, []).append(gap(problem, flow, best))
    head("method", "mean", "median", "max", "exactly optimal")
    for name, values in gaps.items():
        row(name, f"{statistics.mean(values):.3f}", f"{statistics.median(values):.3f}", f"{max(values):.2f}", f"{sum(v == 0 for v in values)} of {count}")  # fmt: skip


def cpu(action, least_s=0.2):
    """CPU seconds of one call, over enough calls to be seen."""
    calls, began = 0, time.process_time()
    while time.process_time() - began < least_s or calls < 3:
        action()
        calls += 1
    return (time.process_time() - began) / calls


def certificate_against_swarm():
    print("\n### What a node spends to accept a slot (CPU, 6 suppliers × 5 users)\n")
    one = list(hours(day_from(SCENARIO)))[12]
    problem = slot_of(one)
    flows, proof, _ = exact.solve(one)
    check = cpu(lambda: certificate.flaws(one, flows, proof))
    solve = cpu(lambda: exact.solve(one))
    again = cpu(lambda: swarm(problem, nearest_first))
    pure = cpu(lambda: swarm(problem, nearest_first, kernel=mopso.PureKernel))
    head("what", "ms", "× the certificate check")
    for name, value in (
        ("certificate check", check),
        ("exact solution by HiGHS, with its proof", solve),
        ("MOPSO again, NumPy twin", again),
        ("MOPSO again, pure Python", pure),
    ):
        row(name, f"{1000 * value:.3f}", f"{value / check:.0f}")
    print(f"\nCertificate checks a second on one core: {1 / check:,.0f}.")
    day = day_from(SCENARIO)
    flows, proof, _ = exact.solve(day)
    whole = cpu(lambda: certificate.flaws(day, flows, proof))
    print(f"The certificate of the whole day with storage takes {1000 * whole:.1f} ms.")


def big_day(participants):
    rng = random.Random(participants)
    suppliers = max(2, participants * 6 // 11)
    users = participants - suppliers
    return Day(
        slot_s=3600,
        suppliers=tuple(
            Supplier(id=f"S{i}", technology="wind", renewable=True, available_wh=(rng.randint(10, 90) * 10**6,), price_ucur_per_kwh=(rng.randint(250, 900) * 1000,))
            for i in range(suppliers)
        ),
        users=tuple(
            User(id=f"U{j}", demand_wh=(rng.randint(10, 60) * 10**6,), storage=Storage())
            for j in range(users)
        ),
        distance_km=tuple(tuple(rng.randint(1, 40) for _ in range(users)) for _ in range(suppliers)),
        transmission_ucur_per_kwh_km=1_000,
        capacity_wh=((40 * 10**6,) * users,) * suppliers,
        voll_ucur_per_kwh=10_000_000,
        prev_hash=b"",
    )  # fmt: skip


def by_participants():
    print("\n### CPU by number of participants (one slot)\n")
    head(
        "participants",
        "requests ms",
        "exact with proof ms",
        "certificate check ms",
        "MOPSO NumPy ms",
    )
    for participants in (5, 11, 25, 50, 100) if FAST else (5, 11, 25, 50, 100, 300, 1000):
        day = big_day(participants)
        problem = slot_of(day)
        flows, proof, _ = exact.solve(day)
        bare = cpu(lambda p=problem: walk(p, nearest_first(p)), 0.05)
        solve = cpu(lambda d=day: exact.solve(d), 0.05)
        check = cpu(lambda d=day, f=flows, c=proof: certificate.flaws(d, f, c), 0.05)
        again = (
            f"{1000 * cpu(lambda p=problem: swarm(p, nearest_first), 0.05):.0f}"
            if participants <= (25 if FAST else 100)
            else "–"
        )
        row(participants, f"{1000 * bare:.2f}", f"{1000 * solve:.1f}", f"{1000 * check:.2f}", again)


def a_round(terminals, reach, k_dc):
    rng = random.Random(terminals * 1000 + reach)
    return round_from(
        {
            "contract": "hco-1",
            "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
            "quantum_w": 4_000,
            "terminals": [
                {"id": f"T{i:04}", "s_va": 10**9, "k_min": -reach, "k_max": reach, "offers": {str(k): rng.randint(-(10**6), 10**6) * (k != 0) for k in range(-reach, reach + 1)}}
                for i in range(terminals)
            ],
            "k_dc": k_dc,
            "wheeling_fee_per_kwh": 10_000,
            "loss_price_per_kwh": 400_000,
            "losses": {"a": 4_000, "b": 6_000, "c": 6_000},
        }
    )  # fmt: skip


def by_terminals():
    print("\n### hco-1 by terminals and levels (losses priced, so labels are kept exactly)\n")
    head("terminals", "levels ±B", "throughput K", "transitions", "bound n(K+1)²(2B+1)", "CPU ms")
    cases = [(4, 6, 6), (4, 20, 20), (4, 50, 50), (10, 6, 6), (100, 6, 6), (1000, 6, 6)]
    for terminals, reach, k_dc in cases[:4] if FAST else cases:
        round_ = a_round(terminals, reach, k_dc)
        choice = hco.choose(round_)
        spent = cpu(lambda r=round_: hco.choose(r), 0.05)
        bound = terminals * (k_dc + 1) ** 2 * (2 * reach + 1)
        row(terminals, reach, k_dc, f"{choice.operations_count:,}", f"{bound:,}", f"{1000 * spent:.1f}")  # fmt: skip


def front():
    day = list(hours(day_from(SCENARIO)))[2]
    print("\n### Pareto front of hour 2, exactly\n")
    head("cost yuan", "renewable MWh")
    for cost, sold in exact.front(day):
        row(f"{cost / YUAN:,.2f}", f"{sold / 1e6:.2f}")


if __name__ == "__main__":
    the_day()
    the_day_with_storage()
    front()
    tight_cases(20 if FAST else 100)
    certificate_against_swarm()
    by_participants()
    by_terminals()
