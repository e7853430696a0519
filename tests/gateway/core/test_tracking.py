"""Energy tracking ends each interval with its planned energy, ramps included."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import tracking
from gateway.core.energy import Counters

RAMP = 50_000


def energy_mwh(start_w, power_w, end_w, left_ms, open_ms, close):
    """Energy of ramp, hold, ramp in mWh by plain arithmetic."""
    hold_ms = left_ms - open_ms - close.all_ms
    w_ms = (start_w + power_w) / 2 * open_ms + power_w * hold_ms
    w_ms += (power_w + end_w) / 2 * close.own_ms + end_w * (close.all_ms - close.own_ms)
    return w_ms / 3600


@given(
    st.integers(-230_000, 230_000), st.sampled_from([60_000, 300_000, 900_000]),
    st.integers(-50_000, 50_000), st.integers(0, 10_000), st.integers(0, 10_000),
    st.integers(0, 10_000),
)  # fmt: skip
def test_the_solved_power_delivers_the_energy_with_both_ramps(
    schedule_w, left_ms, end_w, open_ms, own_ms, later_ms
):
    remaining = schedule_w * left_ms // 3600
    close = tracking.Closing(own_ms=own_ms, all_ms=own_ms + later_ms)
    power_w = tracking.solve_w(
        remaining_mwh=remaining, left_ms=left_ms, now_w=0, end_w=end_w, open_ms=open_ms, close=close
    )
    reached = energy_mwh(0, power_w, end_w, left_ms, open_ms, close)
    assert abs(reached - remaining) <= left_ms / 3600 + 1  # within 1 W over the time left


def test_ramps_that_find_no_time_are_shortened_alike():
    close = tracking.Closing(own_ms=3000, all_ms=3000)
    power_w = tracking.solve_w(
        remaining_mwh=1000, left_ms=4000, now_w=0, end_w=0, open_ms=5000, close=close
    )
    assert power_w == 1000 * 3600 * 2 // 4000  # a triangle over what is left


@pytest.mark.parametrize(
    ("before_w", "after_w", "boundary_w"),
    [(100, 60, 60), (60, 100, 60), (-100, -60, -60), (100, -60, 0), (100, 0, 0), (0, 0, 0)],
)
def test_ramp_energy_falls_into_the_interval_with_more_power(before_w, after_w, boundary_w):
    assert tracking.boundary_w(before_w, after_w) == boundary_w


def bounded(wanted_w, schedule_w, available_va=250_000):
    return tracking.bounded_w(
        wanted_w, schedule_w=schedule_w, s_va=250_000, p_w_min=-230_000, p_w_max=230_000,
        available_va=available_va,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted_w", "schedule_w", "bounded_w"),
    [
        (150_000, 100_000, 110_000),  # a tenth of the schedule
        (50_000, 100_000, 90_000),
        (20_000, 10_000, 15_000),  # 2 % of the rating where a tenth would be less
        (240_000, 225_000, 230_000),  # the guard
        (-240_000, -225_000, -230_000),
    ],
)
def test_the_setpoint_stays_in_its_band_and_in_the_guard(wanted_w, schedule_w, bounded_w):
    assert bounded(wanted_w, schedule_w) == bounded_w


def test_capability_bounds_whatever_the_band_says():
    assert bounded(200_000, 200_000, available_va=80_000) == 80_000


@pytest.mark.parametrize(("change_w", "worth"), [(125, False), (126, True), (-126, True)])
def test_changes_within_the_dead_band_are_not_written(change_w, worth):
    found = tracking.worth_writing(
        wanted_w=1000 + change_w, held_w=1000, s_va=250_000, left_ms=60_001
    )
    assert found is worth


@pytest.mark.parametrize(("change_w", "worth"), [(25, False), (26, True), (-26, True)])
def test_the_dead_band_is_finer_in_the_last_minute(change_w, worth):
    found = tracking.worth_writing(
        wanted_w=1000 + change_w, held_w=1000, s_va=250_000, left_ms=60_000
    )
    assert found is worth


@given(st.integers(-(10**8), 10**8), st.sampled_from([60_000, 300_000, 900_000]))
def test_the_mean_power_is_the_nearest_watt(energy_wh, duration_ms):
    mean = tracking.mean_w(energy_wh, duration_ms)
    assert abs(mean * duration_ms - energy_wh * 3_600_000) * 2 <= duration_ms


def readings_of(power_w, seconds, gain=1.0):
    return [
        Counters(utc_us=s * 1_000_000, import_wh=0, export_wh=int(power_w * gain * s / 3600), p_w=0)
        for s in range(0, seconds + 1, 5)
    ]


@pytest.mark.parametrize("gain", [0.99, 1.0, 1.01])
def test_the_gain_of_a_converter_is_found_by_its_meter(gain):
    found = tracking.gain_ppm([(0, 180_000)], readings_of(180_000, 300, gain), 300_000_000)
    assert abs(found - gain * 1e6) < 500


def test_the_gain_follows_the_setpoints_that_were_held():
    readings = readings_of(100_000, 120)
    last = readings[-1]
    readings += [
        Counters(
            utc_us=last.utc_us + s * 1_000_000,
            import_wh=0,
            export_wh=last.export_wh + 50 * s,
            p_w=0,
        )
        for s in (10, 100)
    ]
    held = [(0, 100_000), (120_000_000, 180_000)]
    assert abs(tracking.gain_ppm(held, readings, 220_000_000) - 1_000_000) < 2000


@given(
    gaps_us=st.lists(st.integers(1, 40_000_000), max_size=30),
    opened_us=st.integers(0, 300_000_000),
    now_us=st.integers(0, 600_000_000),
)
def test_only_readings_between_the_settled_opening_and_now_tell_the_gain(
    gaps_us, opened_us, now_us
):
    times = list(itertools.accumulate(gaps_us))
    readings = [
        Counters(utc_us=at, import_wh=0, export_wh=k * k * 300, p_w=0) for k, at in enumerate(times)
    ]
    inside = [r for r in readings if opened_us + tracking.GAIN_SETTLE_US <= r.utc_us <= now_us]
    held = [(opened_us, 180_000)]
    assert tracking.gain_ppm(held, readings, now_us) == tracking.gain_ppm(held, inside, now_us)


@pytest.mark.parametrize("seconds", [0, 30, 70])
def test_too_short_a_look_says_nothing_about_the_gain(seconds):
    assert tracking.gain_ppm([(0, 180_000)], readings_of(170_000, seconds), 10**9) == 1_000_000


def test_a_counter_that_fell_says_nothing_about_the_gain():
    readings = readings_of(180_000, 300)
    reset = [replace(r, export_wh=r.export_wh - readings[58].export_wh) for r in readings[58:]]
    assert tracking.gain_ppm([(0, 180_000)], [*readings[:58], *reset], 300_000_000) == 1_000_000


def test_a_converter_that_does_not_follow_is_not_called_biased():
    assert tracking.gain_ppm([(0, 180_000)], readings_of(90_000, 300), 10**9) == 970_000
