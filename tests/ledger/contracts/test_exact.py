import itertools

import pytest
from fakes.seeds import for_seeds

from ledger.contracts import exact
from ledger.contracts.day_graph import graph_of, objective_ncur
from ledger.contracts.exact import NotProven, solve_graph
from ledger.contracts.requests import nearest_first, run_day, walk
from ledger.contracts.requests_document import day_from, outcome, result_of


def tiny(seed_prices, *, capacity=2):
    return day_from(
        {
            "contract": "requests-1",
            "slot_s": 3600,
            "suppliers": [
                {"id": "A", "renewable": False, "available_wh": [3], "price": [seed_prices[0]]},
                {"id": "B", "renewable": True, "available_wh": [2], "price": [seed_prices[1]]},
            ],
            "users": [{"id": "X", "demand_wh": [2]}, {"id": "Y", "demand_wh": [3]}],
            "distance_km": [[1, 4], [3, 1]],
            "transmission_price_per_kwh_km": 7,
            "capacity_wh": [[capacity, capacity], [capacity, capacity]],
            "voll_per_kwh": 1_000,
        }
    )


@pytest.mark.parametrize("prices", [(10, 20), (20, 10), (10, 10), (500, 1), (0, 999)])
@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_equals_brute_force_on_a_small_slot(prices, capacity):
    day = tiny(prices, capacity=capacity)
    best = min(
        sum(day.cost_ncur_per_wh(i, j, 0) * x[2 * i + j] for i in range(2) for j in range(2))
        + 1_000 * (5 - sum(x))
        for x in itertools.product(range(capacity + 1), repeat=4)
        if x[0] + x[1] <= 3 and x[2] + x[3] <= 2 and x[0] + x[2] <= 2 and x[1] + x[3] <= 3
    )
    assert exact.solve(day)[2].objective_ncur == best


@for_seeds(range(60))
def test_never_dearer_than_the_request_mechanism(tight, seed):
    day = day_from(tight(seed))
    bare = run_day(day, lambda problem: walk(problem, nearest_first(problem)))
    ours = outcome(day, "exact")
    theirs = result_of(day, "request", bare, None)
    assert ours["objective"] <= theirs["objective"]


def test_the_whole_day_is_solved_and_the_storage_returns_to_its_target(scenario):
    result = outcome(day_from(scenario), "exact")
    assert result["unserved_wh"] == 0
    assert result["target_missed_wh"] == 0
    for user in scenario["users"]:
        assert result["storage_wh"][user["id"]][-1] == user["storage"]["target_wh"]


@for_seeds(range(15))
def test_the_front_is_convex_and_starts_at_the_cheapest(tight, seed):
    day = day_from(tight(seed))
    points = exact.front(day)
    assert points[0][0] == exact.solve(day)[2].objective_ncur
    slopes = []
    for (cost_a, sold_a), (cost_b, sold_b) in itertools.pairwise(points):
        assert cost_b > cost_a
        assert sold_b > sold_a
        slopes.append((cost_b - cost_a) / (sold_b - sold_a))
    assert slopes == sorted(slopes)


def test_prices_found_from_the_flow_alone_prove_it_too(scenario):
    graph = graph_of(day_from(scenario))
    optimum = solve_graph(graph)
    prices = exact._potentials(graph, optimum.arc_flow_wh)
    assert exact.certificate.bound_ncur(graph, prices) == optimum.objective_ncur


def test_a_flow_that_is_not_optimal_has_no_prices():
    day = tiny((10, 20))
    graph = graph_of(day)
    nothing = [0] * len(graph.tail_index)
    for arc, (tail, head) in enumerate(zip(graph.tail_index, graph.head_index, strict=True)):
        if tail == 0 or head == 0:
            nothing[arc] = graph.capacity_wh[arc]
    assert exact._potentials(graph, nothing) is None
    assert objective_ncur(graph, nothing) == 5_000


def test_a_solver_that_fails_is_not_believed(monkeypatch):
    graph = graph_of(tiny((10, 20)))
    arcs = [0.0] * len(graph.tail_index)
    monkeypatch.setattr(exact, "_highs", lambda graph: (arcs, [0.0] * len(graph.supply_wh)))
    with pytest.raises(NotProven):
        solve_graph(graph)
