import dataclasses

import pytest
from fakes.seeds import for_seeds

from ledger.contracts.requests import (
    Storage,
    User,
    cheapest_first,
    cost_request_wh,
    nearest_first,
    objectives,
    run_day,
    slot_problem,
    storage_request_wh,
    walk,
)
from ledger.contracts.requests_document import day_from


def two_by_two(scenario_like=None):
    return day_from(
        {
            "contract": "requests-1",
            "slot_s": 3600,
            "suppliers": [
                {"id": "NEAR", "renewable": False, "available_wh": [100], "price": [900]},
                {"id": "FAR", "renewable": True, "available_wh": [500], "price": [100]},
            ],
            "users": [{"id": "A", "demand_wh": [150]}, {"id": "B", "demand_wh": [80]}],
            "distance_km": [[1, 2], [10, 20]],
            "transmission_price_per_kwh_km": 10,
            "capacity_wh": [[100, 100], [40, 500]],
            "voll_per_kwh": 10_000,
        }
    )


def the_slot(day):
    return slot_problem(
        day,
        0,
        available_wh=[s.available_wh[0] for s in day.suppliers],
        needed_wh=[u.demand_wh[0] for u in day.users],
    )


def test_the_nearest_supplier_is_asked_first_and_lines_bind():
    problem = the_slot(two_by_two())
    assert nearest_first(problem) == ((0, 0), (0, 1), (1, 0), (1, 1))
    assert walk(problem, nearest_first(problem)) == [[100, 0], [40, 80]]


def test_the_cheapest_delivered_price_may_lie_elsewhere():
    problem = the_slot(two_by_two())
    assert cheapest_first(problem)[0] == (1, 0)
    assert walk(problem, cheapest_first(problem)) == [[100, 0], [40, 80]]


def test_objectives_count_cost_lost_load_and_renewable_energy():
    problem = the_slot(two_by_two())
    flow = walk(problem, nearest_first(problem))
    f1, f2 = objectives(problem, flow)
    assert f1 == 100 * 910 + 40 * 200 + 80 * 300 + 10 * 10_000
    assert f2 == 120


def test_a_self_sufficient_user_asks_nobody():
    user = User(id="A", demand_wh=(50,), storage=Storage(initial_wh=80, max_wh=100, target_wh=90, charge_max_wh=30, discharge_max_wh=60))  # fmt: skip
    assert cost_request_wh(user, 0, 80) == 0
    assert cost_request_wh(user, 0, 20) == 30
    weak = dataclasses.replace(user, storage=dataclasses.replace(user.storage, discharge_max_wh=10))
    assert cost_request_wh(weak, 0, 80) == 40


@pytest.mark.parametrize(("level", "asked"), [(0, 30), (70, 20), (90, 0), (100, 0)])
def test_a_storage_request_stops_at_target_limit_and_charging_power(level, asked):
    storage = Storage(initial_wh=0, max_wh=100, target_wh=90, charge_max_wh=30, discharge_max_wh=60)
    assert storage_request_wh(User(id="A", demand_wh=(0,), storage=storage), level) == asked


@for_seeds(range(120))
def test_a_day_balances_and_respects_every_limit(tight, seed):
    day = day_from(tight(seed))
    flows = run_day(day, lambda problem: walk(problem, nearest_first(problem)))
    for slot, flow in enumerate(flows.flow_wh):
        for i, row in enumerate(flow):
            assert sum(row) <= day.suppliers[i].available_wh[slot]
            assert all(0 <= x <= cap for x, cap in zip(row, day.capacity_wh[i], strict=True))
        for j, user in enumerate(day.users):
            before = flows.storage_wh[j][slot - 1] if slot else user.storage.initial_wh
            after = flows.storage_wh[j][slot]
            bought = sum(row[j] for row in flow)
            assert bought + before + flows.unserved_wh[j][slot] == user.demand_wh[slot] + after
            assert 0 <= after <= user.storage.max_wh
            # "the purchasing capacity cannot exceed the maximum storage capacity except the
            # real-time supply load"
            assert bought <= user.demand_wh[slot] + user.storage.max_wh - before
