import copy
import json
from pathlib import Path

import pytest

from ledger.contracts.document import DocumentRefused
from ledger.contracts.regions_document import regions_from, settled

FILE = Path(__file__).resolve().parents[3] / "configs/rounds/four-regions.json"
GOOD = json.loads(FILE.read_text())


def test_from_region_data_to_settled_trades():
    result = settled(regions_from(GOOD))
    found = result["outcome"]
    assert sum(found["levels"].values()) == 0
    assert sum(found["transfers"].values()) == found["fees"] > 0
    assert found["levels"]["T1"] > 0 > found["levels"]["T4"]
    sold = sum(trade["wh"] for trade in found["trades"])
    assert sold == sum(wh for wh in found["energy_wh"].values() if wh > 0)
    series = result["documents"][0]["Schedule_MarketDocument"]["TimeSeries"]
    assert len(series) == len(found["trades"])
    assert settled(regions_from(copy.deepcopy(GOOD)))["digest"] == result["digest"]


def test_a_region_that_trades_gains_against_staying_alone():
    result = settled(regions_from(GOOD))
    for terminal in result["round"]["terminals"]:
        level = result["outcome"]["levels"][terminal["id"]]
        value = terminal["offers"][str(level)]
        paid = result["outcome"]["transfers"][terminal["id"]]
        assert value - paid == result["outcome"]["shares"][terminal["id"]] >= 0


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d["regions"][1]["day"]["users"][0].update(demand_wh=[1.5]), "$.regions[1].day.users[0].demand_wh[0]"),
        (lambda d: d["regions"][2]["day"].update(slot_s=3600), "$.regions[2].day"),
        (lambda d: d["round"].update(k_dc=-1), "$.round.k_dc"),
        (lambda d: d["round"]["interval"].update(end="2026-01-02T02:30Z"), "$.round.interval"),
        (lambda d: d["regions"][0]["terminal"].pop("s_va"), "$.regions[0].terminal"),
        (lambda d: d["regions"][0].update(to_users_km=[1]), "$.regions[0].to_users_km"),
        (lambda d: d["regions"][0]["terminal"].update(id="T2"), "$.round.terminals"),
        (lambda d: d.update(regions=[]), "$.regions"),
        (lambda d: d.pop("site"), "$"),
        (lambda d: d.update(round=7), "$.round"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_path(change, where):
    document = copy.deepcopy(GOOD)
    change(document)
    with pytest.raises(DocumentRefused) as refused:
        regions_from(document)
    assert where in [mistake.path for mistake in refused.value.mistakes]


@pytest.mark.parametrize("value", [None, [], 3])
def test_anything_but_an_object_is_refused(value):
    with pytest.raises(DocumentRefused):
        regions_from(value)
