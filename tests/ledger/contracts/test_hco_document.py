import copy
import json

import pytest

from ledger.contracts.document import DocumentRefused, parse
from ledger.contracts.hco import Losses
from ledger.contracts.hco_document import round_from

GOOD = {
    "contract": "hco-1",
    "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
    "quantum_w": 40_000,
    "terminals": [
        {
            "id": "T2",
            "s_va": 250_000,
            "q_reserved_var": 0,
            "k_min": -6,
            "k_max": 6,
            "k_previous": 1,
            "ramp_levels": 4,
            "mask": [3],
            "offers": {"-6": -5, "0": 0, "6": 7},
        },
        {"id": "T1", "s_va": 250_000, "k_min": -6, "k_max": 6, "offers": {}},
    ],
    "k_dc": 6,
    "wheeling_fee_per_kwh": 1,
    "loss_price_per_kwh": 2,
    "share": "all",
    "compat": False,
    "deposits": {"T1": 0, "T2": 7},
    "master": "T1",
    "losses": {"a": 4000, "b": 6000, "c": 6000},
}


def changed(*path, value):
    document = copy.deepcopy(GOOD)
    place = document
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


def mistakes(document):
    with pytest.raises(DocumentRefused) as refused:
        round_from(parse(json.dumps(document).encode()))
    return [(mistake.path, mistake.message) for mistake in refused.value.mistakes]


def test_a_full_round_is_read_and_its_terminals_sorted():
    round_ = round_from(parse(json.dumps(GOOD).encode()))
    assert [t.id for t in round_.terminals] == ["T1", "T2"]
    assert round_.terminals[1].mask_levels == frozenset({3})
    assert round_.losses == Losses(a_ppm=4000, b_ppm=6000, c_ppm=6000)
    assert round_.interval_s == 900


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("terminals", 0, "offers", "6"), 1.5, "$.terminals[0].offers.6"),
        (("terminals", 0, "offers", "6"), float("nan"), "$.terminals[0].offers.6"),
        (("terminals", 0, "offers", "6"), 8, "$.terminals[0].offers.6"),
        (("terminals", 0, "offers", "0"), 1, "$.terminals[0].offers.0"),
        (("terminals", 0, "offers", "half"), 1, "$.terminals[0].offers.half"),
        (("terminals", 0, "offers", "+1"), 1, "$.terminals[0].offers.+1"),
        (("terminals", 1, "id"), "T2", "$.terminals"),
        (("terminals", 1, "id"), "T 2", "$.terminals[1].id"),
        (("terminals", 0, "k_min"), 1, "$.terminals[0].k_min"),
        (("terminals", 0, "mask"), [0], "$.terminals[0].mask"),
        (("terminals", 0, "s_va"), ..., "$.terminals[0]"),
        (("terminals", 0, "colour"), 1, "$.terminals[0]"),
        (("terminals",), [], "$.terminals"),
        (("quantum_w",), 41_668, None),
        (("quantum_w",), 0, "$.quantum_w"),
        (("quantum_w",), 41_667, "$.quantum_w"),
        (("interval", "end"), "2026-01-02T02:00Z", "$.interval.end"),
        (("interval", "end"), "2026-01-02T02:15", "$.interval.end"),
        (("interval", "start"), "soon", "$.interval.start"),
        (("interval", "start"), "2026-W01-5T02:00Z", "$.interval.start"),
        (("interval", "start"), "2026-01-01T24:00Z", "$.interval.start"),
        (("interval", "start"), "2026-01-02x02:00Z", "$.interval.start"),
        (("interval", "start"), "20260102T0200Z", "$.interval.start"),
        (("interval", "start"), "2026-02-30T02:00Z", "$.interval.start"),
        (("share",), "half", "$.share"),
        (("master",), "T9", "$.master"),
        (("deposits", "T9"), 1, "$.deposits.T9"),
        (("deposits", "T1"), ..., None),
        (("deposits", "T2"), ..., "$.terminals[0].offers.6"),
        (("losses", "a"), "0.004", None),
        (("losses", "a"), "1.5", "$.losses.a"),
        (("losses", "a"), 0.004, "$.losses.a"),
        (("losses", "a"), "0.4 %", "$.losses.a"),
        (("contract",), "hco-2", "$.contract"),
        (("wheeling_fee_per_kwh",), -1, "$.wheeling_fee_per_kwh"),
        (("compat",), 1, "$.compat"),
    ],
)
def test_a_mistake_is_named_with_its_path(path, value, where):
    document = changed(*path, value=value)
    if where is None:
        round_from(parse(json.dumps(document).encode()))
        return
    assert where in [found for found, _ in mistakes(document)]


def test_all_mistakes_come_at_once():
    document = changed("quantum_w", value="x")
    document["share"] = "x"
    document["terminals"][0]["offers"]["6"] = None
    assert [path for path, _ in mistakes(document)] == [
        "$.quantum_w",
        "$.terminals[0].offers.6",
        "$.share",
    ]


@pytest.mark.parametrize("value", [[], None, 1, "x"])
def test_anything_but_an_object_is_refused(value):
    assert mistakes(value)[0][0] == "$"


def test_a_loss_may_be_written_as_a_decimal_text():
    document = {**GOOD, "losses": {"a": "0.004", "b": "0.006", "c": 6000}}
    assert round_from(document).losses == Losses(a_ppm=4000, b_ppm=6000, c_ppm=6000)
