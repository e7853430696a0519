"""Pictures of docs/papers.md, from the same scenario as its tables.

python tests/bench/plot_market.py          # writes docs/images/market-*.svg
"""

import dataclasses
import importlib.util
from pathlib import Path

from ledger.cli.plot import Line, bars, lines
from ledger.contracts import comparators, exact
from ledger.contracts.requests import nearest_first, walk
from ledger.contracts.requests_document import day_from

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parents[1] / "docs/images"
YUAN = 1e9


def bench():
    spec = importlib.util.spec_from_file_location("bench_market", HERE / "bench_market.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    found = bench()
    day = day_from(found.SCENARIO)
    turnover, gaps, prices, payments = {}, {}, {}, {}
    for hour, one in enumerate(found.hours(day)):
        market = comparators.market_of(one, 0)
        problem = dataclasses.replace(market.problem, slot_index=hour)
        flows, proof, optimum = exact.solve(one)
        bare = walk(problem, nearest_first(problem))
        swarm = found.swarm(problem, nearest_first)
        best = optimum.objective_ncur
        for name, cleared in (
            ("exact (ours)", comparators.as_offered(market, flows.flow_wh[0])),
            ("Li-style", comparators.chains_style(market)),
            ("Luo-style", comparators.coalition_style(market)),
            ("Rui-style", comparators.bargaining_style(market, flows.flow_wh[0])),
            ("high–low", comparators.call_auction(market)),
            ("double auction", comparators.double_auction(market)),
        ):
            turnover.setdefault(name, []).append((hour, cleared.paid_ncur / YUAN))
            payments[name] = payments.get(name, 0) + cleared.paid_ncur / YUAN / 24
        for name, flow in (("requests", bare), ("MOPSO", swarm)):
            gaps.setdefault(name, []).append((hour, found.gap(problem, flow, best)))
        for user, price in zip(day.users, proof["y"], strict=True):
            prices.setdefault(user.id, []).append((hour, min(price[0] / 1e6, 1.2)))
    IMAGES.mkdir(parents=True, exist_ok=True)
    pictures = {
        "turnover": lines("Users' payment by hour", [Line(name=n, points=p) for n, p in turnover.items()], x_name="hour", y_name="yuan"),
        "gap": lines("Gap to the optimum", [Line(name=n, points=p) for n, p in gaps.items()], x_name="hour", y_name="% of the optimum's cost"),
        "price": lines("Price of energy at each user (cut off at 1.2: lost load)", [Line(name=n, points=p) for n, p in prices.items()], x_name="hour", y_name="yuan/kWh"),
        "payments": bars("Users' payment, mean hour", list(payments.items()), y_name="yuan"),
    }  # fmt: skip
    for name, svg in pictures.items():
        (IMAGES / f"market-{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
