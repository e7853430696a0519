"""Instants and sizes of what is written: closing, waiting, freezing, the master's room."""

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_sop

from gateway.core import tracking
from gateway.core.energy import Counters
from gateway.core.envelope import energy_limit_wh
from gateway.core.setpoints import wanted, within_master

FULL = {f"T{k}": 250_000 for k in range(1, 5)}
ZERO = dict.fromkeys(FULL, 0)


def ask(book, at_ms, lead_ms=0):
    return wanted(book.state, utc_ms=at_ms, lead_ms=lead_ms, available_va=FULL)


def executing(held=None, **ramps):
    book = Book().adopted()
    index = book.plan({"T2": -45_000, "T3": 45_000})
    book.utc_us = FIRST_MS * 1000
    book.execute(held or {"T2": -180_000, "T3": 180_000}, plan_index=index, **ramps)
    return book


def test_closing_begins_at_the_instant_from_which_the_ramp_just_ends_in_time():
    book = executing({"T2": -200_000, "T3": 200_000})
    closes_ms = QUARTER.end_ms - 4_000  # 200 kW at 50 kW a second
    at = ask(book, closes_ms)
    assert (at.authority, at.act_ms, at.wake_ms) == ("close", 0, QUARTER.end_ms)
    before = ask(book, closes_ms - 1)
    assert (before.setpoints, before.wake_ms) == (None, closes_ms)


def test_an_instruction_for_this_very_instant_is_not_waited_for():
    book = Book().adopted()
    book.plan({"T2": -45_000, "T3": 45_000})
    assert ask(book, FIRST_MS).act_ms == 0
    assert ask(book, FIRST_MS - 1, lead_ms=1).act_ms == FIRST_MS


@pytest.mark.parametrize(("after_ms", "writes"), [(4_999, False), (5_000, True)])
def test_the_setpoint_follows_its_meter_every_five_seconds(after_ms, writes):
    book = executing()
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    book.read((FIRST_MS + after_ms) * 1000, T2=-249, T3=100)
    assert (ask(book, FIRST_MS + after_ms).setpoints is not None) is writes


@pytest.mark.parametrize(("after_ms", "writes"), [(7_199, False), (7_200, True)])
def test_a_longer_ramp_is_waited_for_to_the_millisecond(after_ms, writes):
    book = executing(ramps=dict.fromkeys(FULL, 100))  # 180 kW at 25 kW a second
    assert (ask(book, FIRST_MS + after_ms).setpoints is not None) is writes


@pytest.mark.parametrize(("left_ms", "writes"), [(15_001, True), (15_000, False)])
def test_nothing_is_corrected_in_the_last_fifteen_seconds(left_ms, writes):
    book = executing()
    at_ms = QUARTER.end_ms - left_ms
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    book.read(at_ms * 1000, T2=-44_000, T3=44_000)
    assert (ask(book, at_ms).setpoints is not None) is writes


@pytest.mark.parametrize(("left_ms", "opens"), [(15_001, True), (15_000, False)])
def test_an_interval_is_opened_while_more_than_fifteen_seconds_are_left(left_ms, opens):
    book = Book().adopted()
    book.plan({"T2": -45_000, "T3": 45_000})
    assert (ask(book, QUARTER.end_ms - left_ms).setpoints is not None) is opens


@pytest.mark.parametrize(("age_ms", "follows"), [(20_000, True), (20_001, False)])
def test_a_meter_is_followed_for_twenty_seconds_after_its_last_word(age_ms, follows):
    book = executing()
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    read_ms = FIRST_MS + 300_000
    book.read(read_ms * 1000, T2=-14_000, T3=14_000)
    assert (ask(book, read_ms + age_ms).setpoints is not None) is follows


def test_a_setpoint_lives_to_the_end_of_its_interval_and_five_seconds():
    book = Book().adopted()
    book.plan({"T2": -45_000, "T3": 45_000})
    assert ask(book, FIRST_MS + 100_500).ttl_s == 800 + 5  # rounded up to whole seconds
    assert ask(book, FIRST_MS + 100_000).ttl_s == 800 + 5


def test_the_master_keeps_two_percent_and_the_losses_when_it_absorbs():
    sop = make_sop()
    target = ZERO | {"T2": 120_000, "T3": 120_000}
    found = within_master(sop, target, ZERO, FULL | {"T1": 200_000})
    sum_w = found["T2"] + found["T3"]
    losses = sum(sop.losses.loss_w(p_w=p, s_va=250_000) for p in (120_000, 120_000, 0, 240_000))
    assert abs(sum_w - (200_000 - 5_000 - losses)) <= 1
    assert found["T2"] == found["T3"]
    giving = within_master(sop, {t: -p for t, p in target.items()}, ZERO, FULL | {"T1": 200_000})
    assert abs(giving["T2"] + giving["T3"] + 195_000) <= 1


def test_a_master_of_which_nothing_is_known_carries_nothing():
    away = {t: s for t, s in FULL.items() if t != "T1"}
    found = within_master(make_sop(), ZERO | {"T2": 50_000}, ZERO, away)
    assert (found["T2"], found["T3"]) == (0, 0)
    balanced = ZERO | {"T2": 50_000, "T3": -50_000}
    assert within_master(make_sop(), balanced, ZERO, away) == balanced


def test_targets_that_fit_are_left_as_they_are():
    target = ZERO | {"T2": 100_000, "T3": -50_000}
    assert within_master(make_sop(), target, ZERO, FULL) == target


def solved(remaining_mwh, left_ms, *, now_w=0, end_w=0, open_ms=0, own_ms=0, all_ms=0):
    return tracking.solve_w(
        remaining_mwh=remaining_mwh, left_ms=left_ms, now_w=now_w, end_w=end_w, open_ms=open_ms,
        close=tracking.Closing(own_ms=own_ms, all_ms=all_ms),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("now_w", "end_w", "open_ms", "own_ms", "all_ms"),
    [(0, 0, 0, 0, 0), (0, 0, 4_000, 4_000, 4_000), (50_000, 20_000, 3_000, 1_000, 4_000),
     (-30_000, -10_000, 2_000, 2_000, 2_000)],
)  # fmt: skip
def test_the_power_that_is_solved_for_delivers_what_remains(now_w, end_w, open_ms, own_ms, all_ms):
    left_ms, remaining_mwh = 600_000, 20_000_000
    p = solved(remaining_mwh, left_ms, now_w=now_w, end_w=end_w, open_ms=open_ms, own_ms=own_ms,
               all_ms=all_ms)  # fmt: skip
    hold_ms = left_ms - open_ms - all_ms
    energy = (now_w + p) / 2 * open_ms + p * hold_ms + (p + end_w) / 2 * own_ms
    energy += end_w * (all_ms - own_ms)
    assert abs(energy / 3600 - remaining_mwh) <= left_ms / 3600  # a watt over what is left


def test_with_no_time_left_the_power_stays():
    assert solved(1_000, 0, now_w=777) == 777


def counters(at_s, wh):
    return Counters(utc_us=at_s * 1_000_000, import_wh=0, export_wh=wh, p_w=0)


@pytest.mark.parametrize(
    ("held", "readings", "gain"),
    [
        ([(0, 180_000)], [(15, 0), (75, 2_970)], 990_000),  # exactly a minute after 15 s
        ([(0, 180_000)], [(15, 0), (74, 2_900)], 1_000_000),  # a second too short
        ([(0, 180_000)], [(14, 0), (75, 2_970)], 1_000_000),  # a ramp may have been under way
        ([(0, 0)], [(15, 0), (75, 100)], 1_000_000),  # nothing was asked for
        ([], [(15, 0), (75, 100)], 1_000_000),
        ([(0, 180_000)], [(15, 0), (75, 9_000)], 1_030_000),
        ([(0, 100_000), (45_000_000, 200_000)], [(15, 0), (75, 2_475)], 990_000),
        ([(0, 100_000), (90_000_000, 200_000)], [(15, 0), (75, 1_650)], 990_000),
    ],
)
def test_a_converters_gain_is_its_meter_against_what_was_held(held, readings, gain):
    found = tracking.gain_ppm(held, [counters(*r) for r in readings], 75_000_000)
    assert abs(found - gain) <= 1


def test_readings_of_later_than_now_say_nothing_yet():
    readings = [counters(15, 0), counters(75, 2_970)]
    assert tracking.gain_ppm([(0, 180_000)], readings, 74_999_999) == 1_000_000


def test_large_energies_are_exact_too():
    held_wh = energy_limit_wh(p_w=10**9, ramp_w_per_s=10**12, duration_ms=3_600_000)
    assert held_wh == 10**9 * 3_599_999 // 3_600_000  # a millisecond of ramp
    triangle_wh = energy_limit_wh(p_w=10**15, ramp_w_per_s=4 * 10**9, duration_ms=60_000)
    assert triangle_wh == 10**9  # 120 GW at its top, half of it over a minute


def followed(gain, seconds=300):
    """Setpoint of a converter that delivers ``gain`` of what it is told, after some minutes."""
    book = executing()
    for s in range(0, seconds + 1, 5):
        wh = int(180_000 * gain * s / 3600)
        book.read((FIRST_MS + s * 1000) * 1000, T2=-wh, T3=wh)
    return ask(book, FIRST_MS + seconds * 1000).setpoints["T3"]


@pytest.mark.parametrize("gain", [0.985, 1.015])
def test_what_a_converter_lacks_is_asked_for_besides_what_it_has_missed(gain):
    left_wh = 45_000 - 180_000 * gain * 300 / 3600
    needed_w = left_wh * 3600 / (600 - 1.8)  # half of each ramp of 3.6 s is missing at the end
    assert abs(followed(gain) - needed_w / gain) < 300


def test_the_energy_so_far_is_counted_to_this_instant_not_to_the_last_reading():
    book = executing()
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    book.read((FIRST_MS + 300_000) * 1000, T2=-15_000, T3=15_000)
    rows = book.state.readings
    rows["T3"][-1] = Counters(
        utc_us=rows["T3"][-1].utc_us, import_wh=100_000, export_wh=115_000, p_w=180_000
    )
    later = ask(book, FIRST_MS + 310_000).setpoints  # 500 Wh flowed since, by the meter's power
    assert abs(later["T3"] - 29_500 * 3600 / (590 - 1.8)) < 50
