import random
from pathlib import Path

import pytest
from fakes.seeds import for_seeds

from gateway.model.reason import ReasonCode
from ledger.contracts.actuals import (
    EXEMPT_REASONS,
    LOSS_SUPPLIER,
    SOP_OWNER,
    Terms,
    agreed,
    delivered_from,
    settle_actuals,
)
from ledger.contracts.document import Node
from ledger.contracts.hco_document import round_from
from ledger.contracts.hco_settlement import outcome

ROOT = Path(__file__).resolve().parents[3]


def an_outcome(seed, *, quantum_w=40_000):
    rng = random.Random(seed)
    offers = [
        {str(k): rng.randint(-900_000, 900_000) * (k != 0) for k in range(-6, 7)}
        for _ in range(rng.randint(2, 6))
    ]
    return outcome(
        round_from(
            {
                "contract": "hco-1",
                "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
                "quantum_w": quantum_w,
                "terminals": [
                    {"id": f"T{i}", "s_va": 250_000, "k_min": -6, "k_max": 6, "offers": offer}
                    for i, offer in enumerate(offers)
                ],
                "k_dc": rng.randint(1, 12),
                "wheeling_fee_per_kwh": rng.choice([0, 7_001]),
                "loss_price_per_kwh": rng.choice([0, 41_003]),
                "losses": {"a": 4_000, "b": 6_000, "c": 6_000},
                "share": rng.choice(["active", "all"]),
            }
        )
    )


def in_full(found):
    return {trade["id"]: (trade["wh"], ()) for trade in found["trades"]}


@pytest.mark.parametrize("quantum_w", [4, 40_000])
@for_seeds(range(150))
def test_full_delivery_moves_exactly_what_the_round_settled(seed, quantum_w):
    found = an_outcome(seed, quantum_w=quantum_w)
    settled = settle_actuals(found, in_full(found), Terms(penalty_ucur_per_kwh=10**6))
    accounts = settled["accounts"]
    assert {t: -accounts[t] for t in found["transfers"]} == found["transfers"]
    assert accounts[SOP_OWNER] == found["fee_parts"]["wheeling"]
    assert accounts[LOSS_SUPPLIER] == found["fee_parts"]["losses"]
    assert all(row["penalty"] == 0 for row in settled["rows"])


@for_seeds(range(200))
def test_money_sums_to_zero_whatever_is_delivered(seed):
    found = an_outcome(seed)
    rng = random.Random(seed)
    delivered = {
        t["id"]: (rng.randint(0, 2 * t["wh"]), rng.choice([(), ("feeder_limit",), ("shortfall",)]))
        for t in found["trades"]
    }
    settled = settle_actuals(found, delivered, Terms(penalty_ucur_per_kwh=900_001))
    assert sum(settled["accounts"].values()) == 0
    assert all(posting["amount"] > 0 for posting in settled["postings"])
    for row in settled["rows"]:
        assert row["delivered_wh"] <= row["contracted_wh"]
        if row["curtailed"]:
            assert row["penalty"] == 0


def a_trade():
    found = next(f for f in map(an_outcome, range(99)) if len(f["trades"]) == 1)
    return found, found["trades"][0]


def test_a_shortfall_beyond_the_tolerance_is_penalised_and_a_curtailment_is_not():
    found, trade = a_trade()
    terms = Terms(tolerance_permille=100, penalty_ucur_per_kwh=1_000_000)
    half = trade["wh"] // 2
    short = settle_actuals(found, {trade["id"]: (half, ("shortfall",))}, terms)
    cut = settle_actuals(found, {trade["id"]: (half, ("feeder_limit",))}, terms)
    near = settle_actuals(found, {trade["id"]: (trade["wh"] * 95 // 100, ())}, terms)
    missing = trade["wh"] * 900 // 1000 - half
    assert short["rows"][0]["penalty"] == missing * 1_000
    assert cut["rows"][0]["penalty"] == near["rows"][0]["penalty"] == 0
    seller = trade["out_terminal"]
    assert short["accounts"][seller] == cut["accounts"][seller] - missing * 1_000


def test_nothing_delivered_moves_nothing_but_the_penalty():
    found, trade = a_trade()
    settled = settle_actuals(
        found, {trade["id"]: (0, ("link_lost",))}, Terms(penalty_ucur_per_kwh=5)
    )
    assert settled["postings"] == []


def test_more_than_agreed_is_paid_as_agreed():
    found, trade = a_trade()
    more = settle_actuals(found, {trade["id"]: (trade["wh"] + 999, ())}, Terms())
    assert more["accounts"] == settle_actuals(found, in_full(found), Terms())["accounts"]


def test_agreed_amounts_add_up_at_both_ends():
    for seed in range(60):
        found = an_outcome(seed)
        edges = agreed(found)
        sides = {**found["transfers"], SOP_OWNER: -found["fee_parts"]["wheeling"], LOSS_SUPPLIER: -found["fee_parts"]["losses"]}  # fmt: skip
        for name, amount in sides.items():
            assert sum(e.amount_ucur for e in edges if e.debtor == name) == max(0, amount)
            assert sum(e.amount_ucur for e in edges if e.creditor == name) == max(0, -amount)
        assert all(edge.amount_ucur > 0 for edge in edges)


@for_seeds(range(200))
def test_nobody_ever_pays_more_than_its_transfer_and_its_penalties(seed):
    """Whatever part is delivered: what a deposit reserves at the clearing covers it."""
    found, rng = an_outcome(seed), random.Random(seed)
    for _ in range(6):
        delivered = {t["id"]: (rng.choice([0, t["wh"] // 3, t["wh"]]), ()) for t in found["trades"]}
        settled = settle_actuals(found, delivered, Terms(penalty_ucur_per_kwh=70_000))
        for name, amount in found["transfers"].items():
            sold_wh = max(0, -found["energy_wh"][name])
            owed = max(0, amount) + sold_wh * 70_000 // 1000
            assert settled["accounts"][name] >= -owed


def test_a_part_between_two_is_the_part_of_their_trade():
    """Two sellers, one buyer: the buyer owes nothing to the seller that delivered nothing."""
    found = {
        "digest": "d",
        "transfers": {"A": 1_000, "B": -600, "C": -300},
        "fee_parts": {"wheeling": 100, "losses": 0},
        "energy_wh": {"A": 3_000, "B": -2_000, "C": -1_000},
        "trades": [
            {"id": "b", "out_terminal": "B", "in_terminal": "A", "wh": 2_000},
            {"id": "c", "out_terminal": "C", "in_terminal": "A", "wh": 1_000},
        ],
    }
    settled = settle_actuals(found, {"b": (2_000, ()), "c": (0, ("feeder_limit",))}, Terms())
    # The fee follows what the payer got of all its trades: 2 of 3 kWh.
    assert settled["accounts"] == {"A": -666, "B": 600, "C": 0, LOSS_SUPPLIER: 0, SOP_OWNER: 66}
    assert [row["paid"] for row in settled["rows"]] == [600, 0]


def test_a_seller_that_pays_for_selling_pays_whom_it_does_not_trade_with_by_the_smaller_part():
    found = {
        "digest": "d",
        "transfers": {"A": 500, "B": 300, "C": -800},
        "fee_parts": {"wheeling": 0, "losses": 0},
        "energy_wh": {"A": 2_000, "B": -1_000, "C": -1_000},
        "trades": [
            {"id": "b", "out_terminal": "B", "in_terminal": "A", "wh": 1_000},
            {"id": "c", "out_terminal": "C", "in_terminal": "A", "wh": 1_000},
        ],
    }
    for b, c, paid in ((1_000, 1_000, 300), (500, 1_000, 150), (1_000, 0, 0), (0, 1_000, 0)):
        settled = settle_actuals(found, {"b": (b, ()), "c": (c, ("ramp",))}, Terms())
        assert settled["accounts"]["B"] == -paid
        assert settled["accounts"]["A"] == -500 * c // 1_000


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda r: r.pop(), "$"),
        (lambda r: r.append(dict(r[0])), "$[1].trade_id"),
        (lambda r: r[0].update(trade_id="other"), "$[0].trade_id"),
        (lambda r: r[0].update(delivered_wh=-1), "$[0].delivered_wh"),
        (lambda r: r[0].update(delivered_wh=1.5), "$[0].delivered_wh"),
        (lambda r: r[0].update(colour=1), "$[0]"),
    ],
)
def test_a_delivery_report_is_complete_and_exact(change, where):
    found, trade = a_trade()
    report = [{"trade_id": trade["id"], "delivered_wh": 1, "reasons": ["shortfall"], "status": "partial"}]  # fmt: skip
    mistakes = []
    assert delivered_from(Node(report, mistakes), found) == {trade["id"]: (1, ("shortfall",))}
    assert mistakes == []
    change(report)
    delivered_from(Node(report, mistakes), found)
    assert where in [mistake.path for mistake in mistakes]


def test_no_trader_is_punished_for_the_operators_or_the_devices_doing():
    assert {"feeder_limit", "operator", "link_lost", "derated"} <= EXEMPT_REASONS
    assert not {"shortfall", "unmetered"} & EXEMPT_REASONS


TRADERS_RISK = {"meter_lost"}
"""A meter nobody reads stops no energy; what it leaves unread is ``unmetered``, which is no excuse."""


def test_every_word_for_a_limit_a_condition_or_a_link_excuses_who_trades():
    """New words of the gateway's list come here: exempt, or among the exceptions above."""
    words, group = {}, ""
    for line in (ROOT / "docs/reasons.md").read_text().splitlines():
        group = line[3:] if line.startswith("## ") else group
        if line.startswith("| `"):
            words.setdefault(group.split()[0], set()).add(line.split("`")[1])
    beyond_them = words["Limits"] | words["Conditions"] | words["Links"]
    assert {"guard_p", "disk", "crash_loop", "link_lost"} <= beyond_them
    assert beyond_them - EXEMPT_REASONS == TRADERS_RISK
    known = set().union(*words.values())
    assert known == {code.value for code in ReasonCode}
