import pytest

from gateway.hmi import figures


@pytest.mark.parametrize(
    ("contracted", "delivered", "said"),
    [
        (20_000, 20_030, "+0.15 %"),
        (20_000, 19_970, "−0.15 %"),
        (20_000, 20_000, "+0.00 %"),
        (0, 5, "–"),
    ],
)
def test_difference(contracted, delivered, said):
    assert figures.difference(contracted, delivered) == said


def test_energy_and_power_lose_nothing_that_matters():
    assert figures.kwh(12_345_678) == "12\u202f345.678"
    assert figures.kwh(-5) == "−0.005"
    assert figures.kw(-150_240) == "−150.2"
    assert figures.kw(-20) == "0.0"


def test_path_has_the_power_of_the_interval():
    row = {
        "seller_terminal": "T2",
        "buyer_terminal": "T3",
        "interval_start": "2026-01-02T02:00Z",
        "interval_end": "2026-01-02T02:15Z",
        "contracted_wh": 37_500,
    }
    assert figures.path(row) == "T2→T3 150 kW"
    assert figures.path({**row, "contracted_wh": 37_501}) == "T2→T3 150 kW"
    assert figures.path({**row, "interval_end": None}) == "T2→T3"
    assert figures.path({"message_id": "m"}) == "–"
    assert figures.clock_span(row) == "2026-01-02 02:00–02:15"
