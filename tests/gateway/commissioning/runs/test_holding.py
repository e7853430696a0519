"""What is said of a power that was held; the holding itself is driven in tests/gateway/cli."""

import pytest

from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs.holding import HoldOrder, outcome

ORDER = HoldOrder(terminal="T2", p_w=10_000, span_s=60.0)


@pytest.mark.parametrize(
    ("seen_w", "verdict"),
    [
        ([10_000], Verdict.OK),
        ([22_500], Verdict.OK),
        ([22_501], Verdict.FAULT),
        ([-2_501], Verdict.FAULT),
        ([0, 20_000], Verdict.OK),
        ([], Verdict.UNDECIDED),
    ],
)
def test_the_mean_decides_whether_the_converter_followed(seen_w, verdict):
    found = outcome(ORDER, seen_w, band_w=12_500)
    assert found.verdict is verdict
    assert bool(found.findings) == (verdict is Verdict.FAULT)


def test_lowest_and_highest_are_said():
    (row,) = outcome(ORDER, [9_000, 11_000], band_w=12_500).rows
    assert row.value_text == "+10.0 kW, +9.0 … +11.0 kW"
