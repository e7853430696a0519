"""Who could not carry what its plan asks, from what intents and outcomes say."""

import pytest
from fakes.core import QUARTER

from gateway.core.derating import by_availability, by_echo
from gateway.core.records import PlanRecord

PLAN = PlanRecord(
    index=7, interval=QUARTER, planned=(), target_wh={"T1": 0, "T2": -25_000, "T3": 25_000}
)


@pytest.mark.parametrize(
    ("available_va", "short"),
    [
        ({"T2": 100_000, "T3": 100_000}, set()),
        ({"T2": 99_999, "T3": 100_000}, {"T2"}),
        ({"T2": 100_000, "T3": 99_999}, {"T3"}),
        ({"T1": 0}, set()),
        ({}, set()),
    ],
)
def test_less_available_than_the_mean_power_of_the_plan_is_short(available_va, short):
    assert by_availability([PLAN], 7, available_va) == short
    assert by_availability([PLAN], 8, available_va) == set()


@pytest.mark.parametrize(
    ("held_w", "short"),
    [
        ({"T2": -50, "T3": 60}, set()),
        ({"T2": -49, "T3": 60}, {"T2"}),
        ({"T2": -50, "T3": 0}, {"T3"}),
        ({}, set()),
    ],
)
def test_less_held_than_sent_is_short(held_w, short):
    assert by_echo({"T2": -50, "T3": 60}, held_w) == short
