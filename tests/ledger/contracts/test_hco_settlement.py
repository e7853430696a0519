import random

import pytest
from fakes.seeds import for_seeds

from ledger.contracts import hco
from ledger.contracts.hco_document import round_from
from ledger.contracts.hco_settlement import outcome, settle

A = ((50, 2), (20, 3), (-30, 2), (-45, 4))
B = ((90, 3), (60, 3), (40, 0), (25, 1))


def document(offers, **changes):
    return {
        "contract": "hco-1",
        "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
        "quantum_w": 40_000,
        "terminals": [
            {"id": f"T{i}", "s_va": 250_000, "k_min": -6, "k_max": 6, "offers": offer}
            for i, offer in enumerate(offers, 1)
        ],
        "k_dc": 6,
        **changes,
    }


def quadratic(regions):
    return [{str(k): a * k - b * k * k for k in range(-6, 7)} for a, b in regions]


def random_document(seed):
    rng = random.Random(seed)
    offers = [
        {str(k): rng.randint(-9_000, 9_000) * (k != 0) for k in range(-6, 7)}
        for _ in range(rng.randint(2, 6))
    ]
    return document(
        offers,
        wheeling_fee_per_kwh=rng.choice([0, 7, 30]),
        loss_price_per_kwh=rng.choice([0, 41]),
        losses={"a": 4_000, "b": 6_000, "c": 6_000},
        share=rng.choice(["active", "all"]),
        k_dc=rng.randint(1, 12),
    )


@pytest.mark.parametrize(
    ("regions", "share", "transfers"),
    [
        (A, "all", (128, -100, -28, 0)),
        (A, "active", (95, 0, -61, -34)),
        (B, "all", (313, -5, -61, -247)),
    ],
)
def test_worked_examples(regions, share, transfers):
    result = outcome(round_from(document(quadratic(regions), share=share)))
    assert tuple(result["transfers"].values()) == transfers


def published_settlement(offers, levels):
    """The prototype's money: buyers debited in full, everybody credited a truncated quarter."""
    values = [offer[str(k)] for offer, k in zip(offers, levels, strict=True)]
    part = sum(values) // 4
    return [(value if value > 0 else 0) - part for value in values]


def test_the_published_prototypes_money_is_not_ours():
    offers = quadratic(B)
    result = outcome(round_from(document(offers, share="all")))
    levels = tuple(result["levels"].values())
    old = published_settlement(offers, levels)
    assert old == [314, -4, -61, -61]
    assert sum(old) == 188  # kept by the prototype
    new = list(result["transfers"].values())
    assert sum(new) == 0
    utilities = [offers[i][str(k)] - t for i, (k, t) in enumerate(zip(levels, new, strict=True))]
    assert utilities == [62, 62, 61, 61]
    assert offers[3][str(levels[3])] - old[3] == -125  # the prototype's exporter lost


def test_the_second_published_example_balances():
    offers = [{"0": 0, "2": -82}, {"0": 0, "4": -16}, {"0": 0, "-6": 516}, {"0": 0}]
    result = outcome(round_from(document(offers, share="all")))
    assert list(result["transfers"].values()) == [-187, -121, 412, -104]
    assert sum(published_settlement([*offers[:3], {"0": 0}], (2, 4, -6, 0))) == 516 - 4 * 104


def test_no_unit_is_lost_when_the_surplus_does_not_divide():
    offers = [{"0": 0, "1": 10}, {"0": 0, "-1": -3}, {"0": 0}]
    result = outcome(round_from(document(offers, share="all")))
    assert list(result["shares"].values()) == [3, 2, 2]
    assert sum(result["transfers"].values()) == 0


def test_who_did_not_reveal_has_no_share_where_all_others_have():
    offers = [{"0": 0, "2": 300}, {"0": 0, "-2": -30}]
    alone = outcome(round_from(document(offers, share="all")))
    beside = outcome(round_from(document([*offers, {}], share="all")))
    assert (
        beside["transfers"] == {**alone["transfers"], "T3": 0} == {"T1": 165, "T2": -165, "T3": 0}
    )
    revealed = outcome(round_from(document([*offers, {"0": 0}], share="all")))
    assert list(revealed["shares"].values()) == [90, 90, 90]


def named(names, offers):
    """A round of terminals with these names."""
    body = document(offers)
    for terminal, name in zip(body["terminals"], names, strict=True):
        terminal["id"] = name
    return outcome(round_from(body))


def test_two_trades_never_share_an_id_whatever_the_terminals_are_called():
    sell, buy = {"0": 0, "-2": -10}, {"0": 0, "2": 1_000}
    found = named(["a", "a-1", "1-b", "b"], [sell, sell, buy, buy])
    assert len(found["trades"]) == len({trade["id"] for trade in found["trades"]}) == 4
    (plain,) = named(["a", "b"], [sell, buy])["trades"]
    assert plain["id"] == "hco-20260102T0200Z-a-b"
    longest = named(["x" * 60, "y" * 60], [sell, buy])["trades"]
    assert all(len(trade["id"]) <= 60 for trade in (*longest, *found["trades"]))


@for_seeds(range(300))
def test_money_balances_and_nobody_loses(seed):
    round_ = round_from(random_document(seed))
    result = outcome(round_)
    assert sum(result["transfers"].values()) == result["fees"]
    assert result["fees"] == sum(result["fee_parts"].values())
    assert sum(result["shares"].values()) == result["value"] >= 0
    for terminal in round_.terminals:
        level = result["levels"][terminal.id]
        utility = terminal.offer_ucur(level) - result["transfers"][terminal.id]
        assert utility == result["shares"][terminal.id] >= 0
        if round_.share == "active" and level == 0:
            assert result["transfers"][terminal.id] == 0


@for_seeds(range(100))
def test_trades_add_up_to_every_terminals_energy(seed):
    round_ = round_from(random_document(seed))
    result = outcome(round_)
    net = dict.fromkeys(result["levels"], 0)
    for trade in result["trades"]:
        assert trade["wh"] > 0
        assert trade["p_w"] == trade["wh"] * 4
        net[trade["in_terminal"]] += trade["wh"]
        net[trade["out_terminal"]] -= trade["wh"]
    assert net == result["energy_wh"]
    assert len({trade["id"] for trade in result["trades"]}) == len(result["trades"])


def test_the_order_of_terminals_in_the_file_changes_nothing():
    first = random_document(7)
    second = {**first, "terminals": first["terminals"][::-1]}
    assert outcome(round_from(first)) == outcome(round_from(second))


def test_the_authorised_terminal_has_the_largest_offer_and_the_lowest_id():
    offers = [{"0": 0, "-1": 5}, {"0": 0, "1": 5}]
    assert outcome(round_from(document(offers)))["authorised"] == "T1"
    assert outcome(round_from(document([{"0": 0}, {"0": 0}])))["authorised"] is None


def test_five_regions_can_not_jam_a_round_and_one_without_offers_is_left_out():
    offers = [*quadratic(A), {}]
    result = outcome(round_from(document(offers)))
    assert result["levels"]["T5"] == 0
    assert result["value"] == 399


def test_settle_asserts_what_it_promises():
    round_ = round_from(random_document(3))
    settlement = settle(round_, hco.choose(round_))
    assert sum(settlement.transfers_ucur) == settlement.wheeling_ucur + settlement.loss_price_ucur
