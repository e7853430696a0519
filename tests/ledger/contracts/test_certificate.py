import copy

import pytest
from fakes.seeds import for_seeds

from ledger.contracts import certificate
from ledger.contracts.requests_document import day_from, flaws_of, outcome


@for_seeds(range(150))
def test_every_exact_result_is_accepted(tight, seed):
    day = day_from(tight(seed))
    assert flaws_of(day, outcome(day, "exact")) == []


def numbers_in(value, path=()):
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from numbers_in(inside, (*path, key))
    elif isinstance(value, list):
        for index, inside in enumerate(value):
            yield from numbers_in(inside, (*path, index))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path


@for_seeds(range(12))
def test_any_altered_number_is_refused(tight, seed):
    day = day_from(tight(seed))
    result = outcome(day, "exact")
    paths = list(numbers_in(result))
    assert paths
    for path in paths:
        for step in (-1, 1):
            altered = copy.deepcopy(result)
            place = altered
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] += step
            assert flaws_of(day, altered) != [], path


def test_an_altered_flow_is_refused_even_with_a_fitting_digest(tight):
    """The proof, not the digest, protects against a proposer that lies consistently."""
    from ledger.contracts.document import digest

    proofs = 0
    for seed in range(30):
        day = day_from(tight(seed))
        result = outcome(day, "exact")
        if not result["flows"]:
            continue
        altered = copy.deepcopy(result)
        flow = altered["flows"][0]
        supplier = next(s for s in day.suppliers if s.id == flow["supplier"])
        user = next(u for u in day.users if u.id == flow["user"])
        i, j = day.suppliers.index(supplier), day.users.index(user)
        flow["wh"] -= 1
        if flow["wh"] == 0:
            altered["flows"].pop(0)
        cost = day.cost_ncur_per_wh(i, j, flow["slot"])
        altered["f1"] -= cost
        altered["f2"] -= supplier.renewable
        altered["unserved_wh"] += 1
        altered["objective"] += day.voll_ucur_per_kwh - cost
        del altered["digest"]
        altered["digest"] = digest(altered)
        found = flaws_of(day, altered)
        assert found
        proofs += "prove only" in found[0]
    assert proofs > 15  # the others break a limit


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"y": [], "z": [], "s": []},
        {"y": [[1.0]], "z": [[0]], "s": [[0, 0]]},
        {"y": [[True]], "z": [[0]], "s": [[0, 0]]},
        {"y": [[0]], "z": [[0]], "s": [[0]]},
    ],
)
def test_a_certificate_of_the_wrong_shape_is_refused(document):
    day = day_from(
        {
            "contract": "requests-1",
            "slot_s": 3600,
            "suppliers": [{"id": "A", "available_wh": [1], "price": [1]}],
            "users": [{"id": "B", "demand_wh": [1]}],
            "distance_km": [[0]],
        }
    )
    result = outcome(day, "exact")
    assert flaws_of(day, result) == []
    assert flaws_of(day, {**result, "certificate": document}) == [
        "the certificate does not have the shape of the day"
    ]
    assert certificate.prices_from_json(day, result["certificate"]) is not None


def test_scarcity_rent_is_never_positive_in_z_and_explains_the_price(scenario):
    day = day_from(scenario)
    proof = outcome(day, "exact")["certificate"]
    assert all(z <= 0 for row in proof["z"] for z in row)
    for t in range(day.slot_count):
        for j in range(len(day.users)):
            cheapest = min(
                day.cost_ncur_per_wh(i, j, t) - proof["z"][i][t] for i in range(len(day.suppliers))
            )
            assert proof["y"][j][t] >= 0
            assert proof["y"][j][t] <= max(cheapest, day.voll_ucur_per_kwh)
    positive = {**proof, "z": [[z + 1 for z in row] for row in proof["z"]]}
    assert certificate.flaws(day, exact_flows(day), positive) == ["a supplier's z is above 0"]


def exact_flows(day):
    from ledger.contracts import exact

    return exact.solve(day)[0]
