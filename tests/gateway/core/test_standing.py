"""Since when a meter has to move, and when it is said to stand still."""

import pytest
from fakes.core import make_sop

from gateway.core.energy import Counters
from gateway.core.standing import Busy, after, stands_still

SOP = make_sop()
THEN = {"T3": Busy(since_us=5, least_w=20_000)}


@pytest.mark.parametrize(
    ("before", "held_w", "found"),
    [
        ({}, {"T3": 12_500}, Busy(since_us=9, least_w=12_500)),
        ({}, {"T3": -12_500}, Busy(since_us=9, least_w=12_500)),
        ({}, {"T3": 12_499}, None),  # less than 5 % of the rating
        (THEN, {"T3": 40_000}, Busy(since_us=5, least_w=20_000)),
        (THEN, {"T3": 40_001}, Busy(since_us=9, least_w=40_001)),  # so much more begins anew
        (THEN, {"T3": -15_000}, Busy(since_us=5, least_w=15_000)),
        (THEN, {"T3": 0}, None),
        (THEN, {}, None),
    ],
)
def test_power_counts_from_when_it_began(before, held_w, found):
    assert after(before, held_w, SOP, 9).get("T3") == found


def test_the_master_is_a_residual_and_never_counts():
    assert after({}, {"T1": 100_000}, SOP, 9) == {}


def readings(*seconds):
    return [Counters(utc_us=s * 10**6, import_wh=1, export_wh=1, p_w=7) for s in seconds]


@pytest.mark.parametrize(("since_s", "still"), [(0, True), (10, True), (11, False), (100, False)])
def test_readings_of_before_do_not_count(since_s, still):
    busy = Busy(since_us=since_s * 10**6, least_w=50_000)
    assert stands_still(busy, readings(0, 10, 20, 30, 40), s_va=250_000) is still


def test_without_power_nothing_stands_still():
    assert not stands_still(None, readings(0, 100), s_va=250_000)
