import copy

import pytest

from ledger.contracts import slots
from ledger.contracts.document import Node
from ledger.contracts.market import Market, Message
from ledger.contracts.requests_document import day_from, outcome

KEY = "ab" * 32


def handed_in(market, seq, day, result, name="S1"):
    body = {"kind": "slot", "slot": name, "day": day, "result": result}
    message = Message(id=f"m{seq}", party="op", key=KEY, seq=seq, body=body)
    return market.apply_block(seq, [message])


def eleven(scenario, beacon):
    """One hour of the scenario: six suppliers and five users."""
    day = copy.deepcopy(scenario)
    for supplier in day["suppliers"]:
        supplier["available_wh"] = supplier["available_wh"][12:13]
        supplier["price"] = supplier["price"][12:13]
    for user in day["users"]:
        user["demand_wh"] = user["demand_wh"][12:13]
    day["prev_hash"] = beacon
    return day


@pytest.mark.parametrize("method", ["exact", "mopso", "request"])
def test_a_true_result_is_taken_and_an_altered_one_refused(scenario, method):
    market = Market.genesis("m", "op", KEY)
    day = eleven(scenario, market.beacons[-1])
    result = outcome(day_from(day), method)
    wrong = copy.deepcopy(result)
    wrong["flows"][0]["wh"] -= 1
    refusal = handed_in(market, 1, day, wrong).refused[0]
    assert refusal.mistakes[0].path == "$.result"
    assert handed_in(market, 2, day, result).refused == []
    assert market.slots["S1"]["digest"] == result["digest"]
    assert "already settled" in handed_in(market, 3, day, result).refused[0].mistakes[0].message
    assert Market(market.snapshot()).root() == market.root()


def test_the_seed_must_come_from_a_recent_block(scenario):
    market = Market.genesis("m", "op", KEY)
    old = eleven(scenario, market.beacons[-1])
    for seq in range(1, 6):
        market.apply_block(seq, [])
    refused = handed_in(market, 6, old, outcome(day_from(old), "exact")).refused[0]
    assert [m.path for m in refused.mistakes] == ["$.day.prev_hash"]


@pytest.mark.parametrize("result", [None, [], {}, {"method": "guess"}])
def test_what_is_no_result_is_refused(scenario, result):
    mistakes = []
    beacon = "00" * 32
    body = {"kind": "slot", "slot": "S", "day": eleven(scenario, beacon), "result": result}
    slots.take(Node(body, mistakes), {}, [], [beacon])
    assert mistakes[0].message == "the method is none of exact, mopso and request"


def test_a_bad_day_and_too_much_work_are_refused(scenario):
    mistakes = []
    slots.take(Node({"kind": "slot", "slot": "S", "day": {}, "result": {}}, mistakes), {}, [], [])
    assert mistakes[0].path == "$.day"
    mistakes.clear()
    large = {**copy.deepcopy(scenario), "prev_hash": "00" * 32}
    for party in large["suppliers"]:
        party["available_wh"], party["price"] = party["available_wh"] * 4, party["price"] * 4
    for user in large["users"]:
        user["demand_wh"] = user["demand_wh"] * 4
    body = {"kind": "slot", "slot": "S", "day": large, "result": {"method": "mopso"}}
    slots.take(Node(body, mistakes), {}, [], ["00" * 32])
    assert "2880 cells" in mistakes[0].message


def test_old_results_are_forgotten_in_order(scenario):
    beacon = "00" * 32
    kept, order = {}, []
    day = eleven(scenario, beacon)
    result = outcome(day_from(day), "request")
    for n in range(slots.SLOTS_KEPT_MAX + 2):
        mistakes = []
        body = {"kind": "slot", "slot": f"S{n}", "day": day, "result": result}
        slots.take(Node(body, mistakes), kept, order, [beacon])
        assert mistakes == []
    assert order[0] == "S2"
    assert set(kept) == set(order)
