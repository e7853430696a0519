import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ledger.cli.day_page import page
from ledger.cli.settle import settle
from ledger.contracts.requests_document import day_from

DAY = Path(__file__).resolve().parents[3] / "configs/rounds/six-suppliers-five-users.json"


@pytest.mark.parametrize(("method", "charts"), [("exact", 5), ("request", 4)])
def test_the_page_shows_offers_flows_prices_and_payments_and_fetches_nothing(
    tmp_path, method, charts
):
    file = tmp_path / "day.html"
    result = CliRunner().invoke(
        settle, ["requests", str(DAY), "--method", method, "--html", str(file)]
    )
    outcome = json.loads(result.stdout)
    text = file.read_text()
    assert text.count("<svg ") == charts
    assert not re.search(r"<(script|link|img|iframe)|(src|href)=", text)
    assert outcome["digest"] in text
    assert f"{outcome['f1'] // 1000:,}" in text


def test_payments_by_hand():
    day = day_from(
        {
            "contract": "requests-1",
            "slot_s": 3600,
            "suppliers": [{"id": "S1", "available_wh": [9_000], "price": [500_000]}],
            "users": [{"id": "U", "demand_wh": [4_000]}],
            "distance_km": [[3]],
            "transmission_price_per_kwh_km": 100_000,
        }
    )
    flows = [{"supplier": "S1", "user": "U", "slot": 0, "wh": 4_000}]
    outcome = {"method": "request", "digest": "d", "flows": flows, "f1": 3_200_000_000, "f2": 0, "unserved_wh": 0, "target_missed_wh": 0}  # fmt: skip
    text = page(day, outcome)
    assert "U 3.2<" in text
    assert "S1 2<" in text
