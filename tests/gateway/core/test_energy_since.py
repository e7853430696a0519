"""Energy since a start, of meters that had counted long before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.energy import Counters, at_boundary, since


def reading(at_s, net_wh, p_w=0, import_wh=0):
    return Counters(utc_us=at_s * 1_000_000, import_wh=import_wh, export_wh=net_wh, p_w=p_w)


def test_what_was_counted_before_the_start_does_not_count():
    readings = [reading(90, 400), reading(110, 600), reading(200, 800)]
    assert since(readings, 100_000, 200_000_000) == 300_000


@pytest.mark.parametrize(
    "readings",
    [
        [reading(100, 5_000_000), reading(1000, 24_000)],
        [reading(90, 5_000_000), reading(110, 5_000_100), reading(1000, 24_000)],
        [reading(90, 5_000_000), reading(110, 24_000)],  # while the interval began
        [reading(90, 5_000_000), reading(110, 24_000), reading(1000, 30_000)],
        [reading(100, 7, import_wh=900), reading(1000, 8, import_wh=899)],
    ],
)
def test_a_counter_below_its_start_says_nothing_of_the_energy_so_far(readings):
    assert since(readings, 100_000, readings[-1].utc_us) is None


def test_a_fall_before_the_interval_or_overtaken_is_not_seen_by_the_ends_alone():
    before = [reading(80, 5_000_000), reading(90, 1000), reading(110, 1200), reading(200, 1400)]
    assert since(before, 100_000, 200_000_000) == 300_000
    overtaken = [reading(100, 50), reading(150, 0), reading(200, 80)]
    assert since(overtaken, 100_000, 200_000_000) == 30_000


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 500), st.integers(0, 500)),
        min_size=2, max_size=20,
    ),
    st.data(),
)  # fmt: skip
def test_energy_so_far_of_counters_that_only_grow_is_the_last_less_the_start(steps, data):
    at_s, imported, exported, readings = 0, 10**6, 10**6, []
    for gap_s, more_in, more_out in steps:
        at_s, imported, exported = at_s + gap_s, imported + more_in, exported + more_out
        readings.append(reading(at_s, exported, import_wh=imported))
    start_ms = data.draw(st.integers(readings[0].utc_us // 1000, at_s * 1000))
    start = at_boundary(readings, start_ms)
    assert start is not None
    net_mwh = 1000 * (exported - imported) - start.net_mwh
    assert since(readings, start_ms, at_s * 1_000_000) == net_mwh
