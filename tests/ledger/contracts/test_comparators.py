import random

import pytest

from ledger.contracts import comparators, hco
from ledger.contracts.hco_document import round_from
from ledger.contracts.requests import nearest_first, objectives, walk
from ledger.contracts.requests_document import day_from


@pytest.mark.parametrize(
    "mechanism",
    [
        comparators.coalition_style,
        comparators.chains_style,
        comparators.double_auction,
        comparators.call_auction,
    ],
)
def test_a_mechanism_serves_what_there_is(scenario, mechanism):
    day = day_from(scenario)
    for slot in range(24):
        market = comparators.market_of(day, slot)
        cleared = mechanism(market)
        short = max(0, sum(market.problem.needed_wh) - sum(market.problem.available_wh))
        assert cleared.unserved_wh >= short
        assert 0 <= cleared.renewable_wh <= sum(market.problem.needed_wh)
        assert cleared.paid_ncur > 0


def test_bargaining_gives_every_party_the_same_gain(scenario):
    market = comparators.market_of(day_from(scenario), 12)
    flow = walk(market.problem, nearest_first(market.problem))
    asked = comparators.as_offered(market, flow)
    split = comparators.bargaining_style(market, flow)
    lost = market.problem.voll_ncur_per_wh * asked.unserved_wh
    assert asked.paid_ncur == objectives(market.problem, flow)[0] - lost
    assert asked.paid_ncur < split.paid_ncur
    assert asked.renewable_wh == split.renewable_wh


@pytest.mark.parametrize(("total", "half"), [(4, 2), (5, 2), (7, 4), (9, 4), (-5, -2), (-7, -4)])
def test_halves_go_to_the_even_side(total, half):
    assert comparators.half_even(total) == half


def round_with(offers, k_dc):
    return round_from(
        {
            "contract": "hco-1",
            "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
            "quantum_w": 40_000,
            "terminals": [
                {"id": f"T{i}", "s_va": 250_000, "k_min": -6, "k_max": 6, "offers": offer}
                for i, offer in enumerate(offers)
            ],
            "k_dc": k_dc,
        }
    )


def concave(rng):
    slopes = sorted((rng.randint(-90, 90) for _ in range(12)), reverse=True)
    offer = {"0": 0}
    for k in range(1, 7):
        offer[str(k)] = offer[str(k - 1)] + slopes[5 + k]
        offer[str(-k)] = offer[str(1 - k)] - slopes[6 - k]
    return offer


def test_high_low_matching_is_optimal_for_concave_offers():
    for seed in range(300):
        rng = random.Random(seed)
        round_ = round_with([concave(rng) for _ in range(rng.randint(2, 5))], rng.randint(1, 12))
        matched = comparators.high_low(round_)
        assert hco.value_ucur(round_, matched) == hco.choose(round_).value_ucur, seed


def test_high_low_matching_never_beats_hco_and_mostly_loses_on_other_offers():
    less = 0
    for seed in range(300):
        rng = random.Random(seed)
        offers = [{str(k): rng.randint(-90, 90) * (k != 0) for k in range(-6, 7)} for _ in range(4)]
        round_ = round_with(offers, 6)
        matched = hco.value_ucur(round_, comparators.high_low(round_))
        best = hco.choose(round_).value_ucur
        assert matched <= best
        less += matched < best
    assert less > 250
