"""Counters become energy the same way for everybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.energy import (
    Boundary,
    Counters,
    at_boundary,
    frozen,
    rounded_wh,
    since,
    spare_count,
)


def reading(utc_us, import_wh=0, export_wh=0, p_w=0):
    return Counters(utc_us=utc_us, import_wh=import_wh, export_wh=export_wh, p_w=p_w)


def test_a_boundary_between_two_readings_is_interpolated_to_the_milliwatthour():
    found = at_boundary([reading(0, export_wh=100), reading(3_000_000, export_wh=101)], 1000)
    assert found == Boundary(import_mwh=0, export_mwh=100_333, estimated=False)


def test_a_reading_exactly_at_the_boundary_needs_no_other():
    assert at_boundary([reading(5_000_000, import_wh=7)], 5000) == Boundary(
        import_mwh=7000, export_mwh=0, estimated=False
    )


@pytest.mark.parametrize("boundary_ms", [999, 4001])
def test_an_instant_outside_the_readings_is_not_invented(boundary_ms):
    assert at_boundary([reading(1_000_000), reading(4_000_000)], boundary_ms) is None


@pytest.mark.parametrize(("span_s", "estimated"), [(10, False), (11, True)])
def test_a_bracket_wider_than_ten_seconds_is_flagged(span_s, estimated):
    found = at_boundary([reading(0), reading(span_s * 1_000_000, export_wh=9)], 1000)
    assert found is not None
    assert found.estimated is estimated


def test_the_age_of_the_last_reading_is_bridged_with_its_power():
    readings = [reading(0), reading(10_000_000, export_wh=500, p_w=180_000)]
    assert since(readings, 0, 12_000_000) == 500_000 + 180_000 * 2_000_000 // 3_600_000


def test_nothing_is_said_before_the_start_was_metered():
    assert since([reading(5_000_000)], 1000, 6_000_000) is None


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 500)), min_size=2, max_size=20),
    st.data(),
)
def test_energies_of_adjoining_intervals_add_up_to_the_whole(steps, data):
    utc_us, export_wh, readings = 0, 0, []
    for gap_ms, grown_wh in steps:
        utc_us, export_wh = utc_us + gap_ms * 1000, export_wh + grown_wh
        readings.append(reading(utc_us, export_wh=export_wh))
    low, high = readings[0].utc_us // 1000, readings[-1].utc_us // 1000
    start, middle, end = sorted(data.draw(st.integers(low, high)) for _ in range(3))
    a, b, c = (at_boundary(readings, ms) for ms in (start, middle, end))
    assert a is not None
    assert b is not None
    assert c is not None
    assert (b.net_mwh - a.net_mwh) + (c.net_mwh - b.net_mwh) == c.net_mwh - a.net_mwh
    assert a.export_mwh <= b.export_mwh <= c.export_mwh


@pytest.mark.parametrize(("mwh", "wh"), [(499, 0), (500, 1), (-500, 0), (-501, -1), (1499, 1)])
def test_halves_round_up(mwh, wh):
    assert rounded_wh(mwh) == wh


@pytest.mark.parametrize(
    ("seconds", "step_wh", "held_w", "still"),
    [
        (30, 0, 50_000, True),
        (29, 0, 50_000, False),  # not long enough
        (30, 1, 50_000, False),  # it moves
        (30, 0, 12_499, False),  # less than 5 % of the rating
        (30, 0, -50_000, True),
    ],
)
def test_a_meter_that_repeats_itself_under_power_stands_still(seconds, step_wh, held_w, still):
    readings = [
        Counters(utc_us=s * 1_000_000, import_wh=5, export_wh=s * step_wh, p_w=7)
        for s in range(seconds + 1)
    ]
    assert frozen(readings, held_w=held_w, s_va=250_000) is still


@pytest.mark.parametrize(
    ("seconds", "step_wh", "least_w", "still"),
    [
        (27, 0, 200_000, True),  # 1.5 kWh
        (26, 0, 200_000, False),
        (60, 0, 90_000, True),
        (59, 0, 90_000, False),
        (60, 1, 200_000, False),  # it moves
        (600, 0, 9_000, True),
        (600, 0, 8_999, False),  # less than a coarse counter shows
    ],
)
def test_a_counter_that_stands_still_while_its_own_power_moves_is_frozen(
    seconds, step_wh, least_w, still
):
    readings = [
        Counters(
            utc_us=s * 1_000_000,
            import_wh=5,
            export_wh=s * step_wh,
            p_w=-least_w - s % 7 if s % 2 else least_w + s % 5,
        )
        for s in range(seconds + 1)
    ]
    assert frozen(readings, held_w=200_000, s_va=150_000) is still


def test_a_meter_that_repeated_itself_for_long_over_little_energy_is_not_frozen():
    readings = [
        Counters(utc_us=s * 1_000_000, import_wh=5, export_wh=5, p_w=7) for s in range(0, 31, 5)
    ]
    assert frozen(readings, held_w=6_000, s_va=6_000)
    assert not frozen(readings, held_w=5_999, s_va=6_000)


def test_nothing_read_stands_not_still():
    assert not frozen([], held_w=200_000, s_va=250_000)


@pytest.mark.parametrize(
    ("count", "open_ms", "spare"),
    [(10, None, 0), (11, None, 5), (11, 3, 3), (11, 9, 5), (11, 0, 0), (11, -4, 0), (20, 2, 2),
     (21, 2, 5)],
)  # fmt: skip
def test_old_readings_go_but_not_those_an_open_interval_needs(count, open_ms, spare):
    track = [reading(n * 1000) for n in range(count)]
    assert spare_count(track, kept_max=10, open_ms=open_ms) == spare
