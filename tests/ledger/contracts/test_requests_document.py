import copy

import pytest

from ledger.contracts.document import DocumentRefused, digest
from ledger.contracts.requests_document import day_from, flaws_of, outcome


@pytest.fixture
def small(tight):
    return tight(4)


def paths(document):
    with pytest.raises(DocumentRefused) as refused:
        day_from(document)
    return [mistake.path for mistake in refused.value.mistakes]


@pytest.mark.parametrize("method", ["request", "mopso", "exact"])
def test_every_method_gives_the_same_shape(scenario, method):
    document = copy.deepcopy(scenario)
    for party in document["suppliers"]:
        party["available_wh"], party["price"] = party["available_wh"][:3], party["price"][:3]
    for user in document["users"]:
        user["demand_wh"] = user["demand_wh"][:3]
    result = outcome(day_from(document), method)
    assert set(result) >= {"flows", "f1", "f2", "unserved_wh", "certificate", "digest"}
    assert set(result["flows"][0]) == {"supplier", "user", "slot", "wh"}
    assert (result["certificate"] is not None) == (method == "exact")
    told = result.pop("digest")
    assert told == digest(result)


def test_orders_are_told_apart(tight):
    day = day_from(tight(3))
    assert outcome(day, "request", order="cheapest")["order"] == "cheapest"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.update(contract="requests-2"), "$.contract"),
        (lambda d: d.update(slot_s=1.5), "$.slot_s"),
        (lambda d: d["suppliers"][0].update(price=[float("nan")] * 9), "$.suppliers[0].price"),
        (lambda d: d["suppliers"][0]["price"].__setitem__(0, float("nan")), "$.suppliers[0].price[0]"),
        (lambda d: d["suppliers"][0]["available_wh"].__setitem__(0, -1), "$.suppliers[0].available_wh[0]"),
        (lambda d: d["users"][0].update(demand_wh=[]), "$.users[0].demand_wh"),
        (lambda d: d["users"][0].update(id=d["suppliers"][0]["id"]), "$"),
        (lambda d: d["users"][0].update(id="a b"), "$.users[0].id"),
        (lambda d: d["distance_km"].append([1]), "$.distance_km"),
        (lambda d: d["distance_km"][0].append(1), "$.distance_km[0]"),
        (lambda d: d.update(prev_hash="xyz"), "$.prev_hash"),
        (lambda d: d.update(colour=1), "$"),
        (lambda d: d.pop("users"), "$"),
        (lambda d: d.update(suppliers=[]), "$.suppliers"),
        (lambda d: d["users"][0].update(storage={"initial_wh": 9, "max_wh": 1, "target_wh": 2, "charge_wh": 0, "discharge_wh": 0}), "$.users[0].storage.initial_wh"),
        (lambda d: d["users"][0].update(storage={}), "$.users[0].storage"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_path(small, change, where):
    document = copy.deepcopy(small)
    change(document)
    assert where in paths(document)


@pytest.mark.parametrize("bad", [None, 5, {}, "missing"])
def test_a_later_supplier_without_its_energies_is_a_mistake_with_a_path(scenario, bad):
    """One such ``slot`` message would else end every node of a market."""
    document = {key: value for key, value in scenario.items() if key != "capacity_wh"}
    second = {k: v for k, v in document["suppliers"][1].items() if k != "available_wh"}
    second |= {} if bad == "missing" else {"available_wh": bad}
    document["suppliers"] = [document["suppliers"][0], second, *document["suppliers"][2:]]
    assert "$.suppliers[1].available_wh" in paths(document)


@pytest.mark.parametrize("value", [None, [], 3])
def test_anything_but_an_object_is_refused(value):
    assert paths(value)[0] == "$"


def test_amounts_beyond_exact_json_integers_are_refused(small):
    document = copy.deepcopy(small)
    document["users"][0]["demand_wh"] = [10**12] * len(document["users"][0]["demand_wh"])
    with pytest.raises(DocumentRefused, match="split the day"):
        outcome(day_from(document), "request")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: r.update(flows=[{"supplier": "nobody", "user": "U0", "slot": 0, "wh": 1}]), "names nobody"),
        (lambda r: r.update(flows=[{"supplier": "S0", "user": "U0", "slot": 99, "wh": 1}]), "is none"),
        (lambda r: r.update(storage_wh={}), "names nobody"),
        (lambda r: r.update(storage_wh={u: [0.5] for u in r["storage_wh"]}), "shape"),
        (lambda r: r.update(more=1), "more does not follow"),
        (lambda r: r.update(flows=7), "names nobody"),
    ],
)  # fmt: skip
def test_a_result_that_makes_no_sense_is_refused(small, change, what):
    day = day_from(small)
    result = outcome(day, "exact")
    change(result)
    assert what in flaws_of(day, result)[0]
    assert flaws_of(day, "text") == ["the result is not an object"]


def test_the_shipped_day_is_what_its_script_makes(scenario):
    import importlib.util
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "bench/market_scenario.py"
    spec = importlib.util.spec_from_file_location("market_scenario", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.day() == scenario | {"capacity_wh": module.day()["capacity_wh"]}
    assert module.day()["capacity_wh"] == scenario["capacity_wh"]
