"""The course of an interval at its edges: what is written again, what waits, how ramps are shaped."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_sop, make_station, span

from gateway.core import feeder, ramps, reactive, setpoints, tracking
from gateway.core.headroom import MasterLimits
from gateway.core.readback import Confirmed, carries_all_it_can, judge
from gateway.core.setpoints import Wanted, ramps_to, wanted
from gateway.model.interval import Interval, utc_text
from gateway.model.terminal import Reactive

FULL = {f"T{k}": 250_000 for k in range(1, 5)}
ZERO = dict.fromkeys(FULL, 0)
NEXT = Interval(QUARTER.end_ms, QUARTER.end_ms + 900_000)
AFTER = Interval(NEXT.end_ms, NEXT.end_ms + 900_000)


def ask(book, at_ms, lead_ms=0, available=FULL):
    return wanted(book.state, utc_ms=at_ms, lead_ms=lead_ms, available_va=available)


def executing(held=None, **targets_wh):
    book = Book().adopted()
    index = book.plan(targets_wh or {"T2": -45_000, "T3": 45_000})
    book.utc_us = FIRST_MS * 1000
    book.execute(held or {"T2": -180_000, "T3": 180_000}, plan_index=index)
    return book


def test_an_interval_of_the_same_power_is_opened_by_a_write_of_its_own():
    book = executing()
    for interval in (NEXT, AFTER):
        book.plan({"T2": -45_000, "T3": 45_000}, interval=interval)
    opened = ask(book, NEXT.start_ms)
    assert dict(opened.setpoints) == book.state.held
    assert (opened.authority, opened.plan_index) == ("plan", book.state.plans[NEXT.start_ms].index)
    assert opened.ttl_s == 905


def test_between_two_intervals_of_the_same_power_nothing_is_closed():
    book = executing()
    book.plan({"T2": -45_000, "T3": 45_000}, interval=NEXT)
    before = ask(book, QUARTER.end_ms - 100)
    assert (before.setpoints, before.wake_ms) == (None, QUARTER.end_ms)


def test_nothing_to_write_is_empty_throughout():
    nothing = Wanted(setpoints=None, authority="", plan_index=-1, ttl_s=0, wake_ms=0)
    book = Book().adopted()
    assert ask(book, FIRST_MS) == nothing
    assert (nothing.act_ms, nothing.ramps, nothing.q_var) == (0, {}, {})
    book.plan({"T2": -45_000, "T3": 45_000})
    assert ask(book, QUARTER.end_ms - 15_000) == nothing, "too late to open"
    assert ask(book, QUARTER.end_ms) == nothing, "no later interval is known"


def by_hand(mode="test", **setpoints_w):
    book = Book(mode=mode).adopted()
    book.utc_us = FIRST_MS * 1000
    arguments = {"setpoints": setpoints_w, "for_ms": 60_000}
    book.add("operator", user="uid:1", verb="setpoint", arguments=arguments, reason="try")
    return book


def test_a_persons_setpoint_leaves_the_others_at_zero_and_the_master_to_its_residual():
    found = ask(by_hand(T1=9_000, T2=-5_000), FIRST_MS + 1)
    assert dict(found.setpoints) == ZERO | {"T2": -5_000}
    assert (found.authority, found.plan_index, found.act_ms) == ("operator", -1, 0)
    assert found.wake_ms == 0
    assert found.ttl_s == 60 + 5


def test_a_setpoint_that_is_prolonged_gets_a_time_to_live_of_its_own():
    book = by_hand(T2=-5_000)
    book.execute({"T2": -5_000}, authority="operator")
    book.utc_us += 50_000_000
    arguments = {"setpoints": {"T2": -5_000}, "for_ms": 60_000}
    book.add("operator", user="uid:1", verb="setpoint", arguments=arguments, reason="longer")
    again = ask(book, FIRST_MS + 50_001)
    assert (dict(again.setpoints), again.authority, again.ttl_s) == (
        ZERO | {"T2": -5_000}, "operator", 60 + 5,
    )  # fmt: skip
    book.execute({"T2": -5_000}, authority="operator")
    assert ask(book, FIRST_MS + 50_002).setpoints is None


def test_a_persons_setpoint_that_is_held_waits_for_its_end():
    book = by_hand(T2=-5_000)
    book.execute({"T2": -5_000}, authority="operator")
    found = ask(book, FIRST_MS + 1)
    assert (found.setpoints, found.wake_ms) == (None, FIRST_MS + 60_000)
    ended = ask(book, FIRST_MS + 60_000)
    assert dict(ended.setpoints) == ZERO
    assert (ended.authority, ended.plan_index, ended.ttl_s, ended.act_ms) == ("close", -1, 5, 0)


@pytest.mark.parametrize(("mode", "authority"), [("test", "operator"), ("on", "plan")])
def test_an_open_interval_goes_before_a_person_but_in_mode_test(mode, authority):
    book = by_hand(mode, T2=-5_000)
    book.plan({"T2": -45_000, "T3": 45_000})
    assert ask(book, FIRST_MS + 1_000).authority == authority


def of_region_c(book, low_w=0, high_w=0):
    """A system operator limits the feeder of T3."""
    row = {"domain": "region-c", "p_w_min": low_w, "p_w_max": high_w, "cause": "work"}
    arguments = {"sequence": 1, "created": utc_text(FIRST_MS), "valid": span(QUARTER),
                 "limits": [row]}  # fmt: skip
    book.add("operator", user="dso", verb=feeder.VERB, arguments=arguments, reason="")
    return book


@pytest.mark.parametrize("mode", ["test", "on"])
def test_a_person_asks_for_no_more_than_the_master_carries(mode):
    book = by_hand(mode, T2=230_000, T3=230_000)
    for available_va in (250_000, 100_000):
        found = ask(book, FIRST_MS + 1, available=FULL | {"T1": available_va}).setpoints
        assert found["T2"] == found["T3"] > 0
        assert 0.7 * available_va < sum(found.values()) <= 0.98 * available_va
    opposite = ask(by_hand(mode, T2=230_000, T3=-230_000), FIRST_MS + 1).setpoints
    assert opposite == ZERO | {"T2": 230_000, "T3": -230_000}


@pytest.mark.parametrize(("most_w", "asked_w"), [(0, 0), (20_000, 20_000), (60_000, 50_000)])
def test_a_persons_setpoint_is_within_the_limits_of_a_feeder(most_w, asked_w):
    book = of_region_c(by_hand(T3=50_000, T2=10_000), high_w=most_w)
    assert ask(book, FIRST_MS + 1).setpoints == ZERO | {"T2": 10_000, "T3": asked_w}


def test_a_persons_setpoint_a_feeder_does_not_take_is_not_written():
    found = ask(of_region_c(by_hand(T3=50_000)), FIRST_MS + 1)
    assert (found.setpoints, found.wake_ms) == (None, FIRST_MS + 60_000)


def test_a_limit_of_a_feeder_takes_a_persons_setpoint_back():
    book = by_hand(T3=50_000)
    book.execute({"T3": 50_000}, authority="operator")
    assert ask(of_region_c(book), FIRST_MS + 1).setpoints == ZERO


@pytest.mark.parametrize(
    ("available_va", "written_w"),
    [
        (100_000, None),
        (97_500, None),  # 1 % of the rating is waited for
        (97_499, 97_499),
        (102_500, None),
        (102_501, 102_501),
        (200_000, 150_000),  # what was asked for is given as soon as it can be
        (150_000, 150_000),
    ],
)
def test_what_is_cut_of_a_persons_setpoint_is_not_written_at_each_flicker(available_va, written_w):
    book = by_hand(T2=150_000)
    cut = ask(book, FIRST_MS + 1, available=FULL | {"T2": 100_000}).setpoints
    assert cut["T2"] == 100_000
    book.execute(dict(cut), authority="operator")
    found = ask(book, FIRST_MS + 2, available=FULL | {"T2": available_va}).setpoints
    assert (found and found["T2"]) == written_w


@pytest.mark.parametrize(("mode", "authority"), [("on", "close"), ("test", "operator")])
def test_a_plan_ends_a_persons_setpoint_for_good_but_in_mode_test(mode, authority):
    book = by_hand(mode, T2=-5_000)
    soon = Interval(FIRST_MS + 10_000, FIRST_MS + 20_000)
    book.plan({"T2": -45, "T3": 45}, interval=soon)
    assert ask(book, soon.start_ms - 1).authority == "operator"
    book.execute({"T2": -16_000, "T3": 16_000})
    assert ask(book, soon.end_ms).authority == authority
    assert (setpoints.manual(book.state, soon.end_ms) is None) is (mode == "on")


def test_a_plan_for_later_does_not_lengthen_a_persons_setpoint():
    book = by_hand("on", T2=-5_000)
    book.plan({"T2": -45_000, "T3": 45_000}, interval=NEXT)
    assert book.state.manual.until_ms == FIRST_MS + 60_000


def test_a_persons_setpoint_holds_where_no_interval_is_open():
    book = by_hand("on", T2=-5_000)
    book.plan({"T2": -45_000, "T3": 45_000}, interval=NEXT)
    assert ask(book, FIRST_MS + 1_000).authority == "operator"


@pytest.mark.parametrize("hours", [1, 24])
def test_a_long_interval_is_held_to_its_end(hours):
    interval = Interval(FIRST_MS, FIRST_MS + hours * 3_600_000)
    book = Book().adopted()
    book.plan({"T2": -45_000, "T3": 45_000}, interval=interval)
    assert ask(book, FIRST_MS).ttl_s == hours * 3_600 + 5


def test_what_was_adopted_lives_to_the_end_of_its_interval_and_acts_at_once():
    book = executing()
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    held = book.state.held
    book.add("readback", sop="SOP-1", instr_id=99, active=held, state="RUN", cause="adopt")
    found = ask(book, FIRST_MS + 100_000)
    assert (found.authority, found.ttl_s, found.act_ms) == ("adopt", 805, 0)
    assert found.plan_index == book.state.plans[FIRST_MS].index


@pytest.mark.parametrize(
    ("target_w", "small", "together"),
    [
        ({"T2": -5_000, "T3": 2_500}, True, False),  # 2 % of the rating and less
        ({"T2": -5_001, "T3": 2_500}, True, True),
        ({"T2": -5_000, "T3": 2_500}, False, True),
        ({"T2": -100_000, "T3": 50_000}, True, True),
    ],
)
def test_only_small_corrections_need_no_common_end(target_w, small, together):
    state = Book().adopted().state
    found = ramps_to(state, ZERO | target_w, {}, small=small)
    assert found["T2"] == 200
    assert (found["T3"] < 200) is together


@pytest.mark.parametrize(("moves_w", "measured_w"), [(5_001, 0), (2_500, 10_000)])
def test_a_large_correction_of_one_terminal_alone_is_shaped_like_any_other(moves_w, measured_w):
    state = Book().adopted().state
    found = ramps_to(state, ZERO | {"T3": moves_w, "T4": 1_000}, {"T3": measured_w}, small=True)
    assert found["T3"] == 200
    assert found["T4"] < 200


def test_a_slow_site_has_no_ramp_below_a_thousandth_a_second():
    to_w = ZERO | {"T2": 100_000, "T3": 10}
    shaped = ramps.together(make_sop(), from_w=ZERO, to_w=to_w, permille=10)
    assert (shaped["T2"], shaped["T3"]) == (10, 1)


@pytest.mark.parametrize(("measured_w", "start_w"), [(92_500, 100_000), (92_499, 92_499)])
def test_a_terminal_within_three_percent_is_where_it_was_told_to_be(measured_w, start_w):
    held = ZERO | {"T2": 100_000}
    found = ramps.start_w(make_sop(), held_w=held, measured_w={"T2": measured_w})
    assert found["T2"] == start_w


@pytest.mark.parametrize(
    ("move_w", "ms"), [(50_000, 1_000), (-50_000, 1_000), (50_001, 1_001), (1, 1), (0, 0)]
)
def test_a_ramp_takes_what_its_move_needs_rounded_up(move_w, ms):
    assert ramps.duration_ms(move_w=move_w, s_va=250_000, permille=200) == ms


def test_a_terminal_without_a_ramp_of_its_own_stays_where_it_was_read():
    held = ZERO | {"T2": 100_000, "T3": 100_000}
    found = ramps.moved_on(
        make_sop(), held_w=held, measured_w={"T2": 7, "T3": 7}, permille={"T3": 200}, for_ms=100
    )
    assert found == {"T2": 7, "T3": 5_007}


def given_q(**q_var):
    sop = make_sop()
    return replace(sop, terminals=tuple(
        replace(t, reactive=Reactive(q_var=q_var[t.id])) if t.id in q_var else t
        for t in sop.terminals
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("target_w", "wanted_var", "held_var"),
    [
        ({"T2": 250_000}, {}, {}),  # exactly its rating, and nothing beside it
        ({}, {"T2": -2_500}, {}),
        ({}, {}, {"T2": -2_500}),
    ],
)
def test_reactive_power_nobody_speaks_of_is_none(target_w, wanted_var, held_var):
    found = reactive.worth_writing(
        make_sop(), target_w=ZERO | target_w, wanted=wanted_var, held=held_var
    )
    assert found is False


@pytest.mark.parametrize(("p_w", "left_var"), [(0, 250_000), (249_999, 707), (250_000, 0)])
def test_what_is_left_for_reactive_power_ends_at_the_rating(p_w, left_var):
    assert reactive.left_var(p_w=p_w, s_va=250_000) == left_var
    assert reactive.left_var(p_w=-p_w, s_va=250_000) == left_var


def test_a_fixed_reactive_power_needs_no_voltage_and_is_cut_at_what_is_available():
    found = reactive.setpoints_var(
        given_q(T2=90_000, T3=-90_000), target_w=ZERO, v_dv={}, available_va=FULL | {"T3": 60_000}
    )
    assert found == ZERO | {"T2": 90_000, "T3": -60_000}


def echoed(held_w, available_va, q_var=None):
    """What is judged of T3, sent 100 kW, that holds so much and has so much available."""
    sent = ZERO | {"T2": -100_000, "T3": 100_000}
    station = make_station(sent | {"T3": held_w}, instruction_id=7)
    rows = tuple(
        replace(t, p_w_set_received=sent[t.id],
                s_va_available=available_va if t.id == "T3" else 250_000)
        for t in station.terminals
    )  # fmt: skip
    station = replace(station, terminals=rows)
    return judge(setpoints=sent, instr_id=7, master="T1", station=station, q_var=q_var)


@pytest.mark.parametrize(
    ("held_w", "available_va", "confirmed"),
    [
        (81_600, 80_000, True),  # 2 % over what is available
        (81_601, 80_000, False),
        (78_400, 80_000, True),
        (78_399, 80_000, False),
        (99_000, 100_000, False),  # it could carry all of it
        (99_000, 101_000, False),
        (99_000, 99_999, True),
        (0, 0, True),  # a terminal that is away holds nothing
    ],
)
def test_a_derated_terminal_holds_what_is_available_to_two_percent(held_w, available_va, confirmed):
    assert isinstance(echoed(held_w, available_va), Confirmed) is confirmed
    assert isinstance(echoed(held_w, available_va, {"T2": 5}), Confirmed) is confirmed


def test_reactive_power_takes_its_part_of_what_is_available():
    assert isinstance(echoed(48_000, 80_000, {"T3": 64_000}), Confirmed)
    assert isinstance(echoed(99_000, 100_000, {"T3": 1_000}), Confirmed)
    row = replace(make_station().terminals[2], p_w_set_active=0, p_w_set_received=100,
                  s_va_available=80)  # fmt: skip
    whole = replace(row, p_w_set_active=79, p_w_set_received=80)
    assert not carries_all_it_can(whole, 80), "it could carry all of it"
    assert carries_all_it_can(row, 100, 80), "the device gives reactive power first"
    assert carries_all_it_can(row, 100, 79)
    assert not carries_all_it_can(row, 100, 77)


def test_a_difference_is_told_with_what_is_held_and_both_numbers():
    station = make_station({"T2": -100_000}, instruction_id=0x1F)
    found = judge(setpoints={"T2": -100_000, "T3": 5, "T9": 6}, instr_id=0xA0, master="T1",
                  station=station)  # fmt: skip
    assert [r.detail for r in found.reasons] == [
        "device reports instruction 0x0000001f, sent 0x000000a0",
        "T3 holds 0 W, sent 5 W",
        "T9 holds None W, sent 6 W",
    ]
    assert found.active == ZERO | {"T2": -100_000}


FREE = MasterLimits(out_w=250_000, in_w=250_000)


@pytest.mark.parametrize(
    ("available_va", "beyond"), [(177_500, False), (177_499, True), (None, True)]
)
def test_what_is_held_beyond_what_is_available_is_judged_at_one_percent(available_va, beyond):
    known = {t: s for t, s in FULL.items() if t != "T3"}
    if available_va is not None:
        known |= {"T3": available_va}
    held = ZERO | {"T3": 180_000}
    assert setpoints._beyond(make_sop(), held, known, FREE) is beyond
    assert setpoints._beyond(make_sop(), ZERO | {"T3": -180_000}, known, FREE) is beyond


@pytest.mark.parametrize(("held_w", "beyond"), [(2_500, False), (2_501, True)])
def test_of_a_terminal_that_is_away_one_percent_is_let_pass(held_w, beyond):
    away = {t: s for t, s in FULL.items() if t != "T3"}
    assert setpoints._beyond(make_sop(), ZERO | {"T3": held_w}, away, FREE) is beyond


@pytest.mark.parametrize("after_ms", [5_000, 60_000], ids=["before meters are missed", "open loop"])
def test_a_terminal_that_is_away_is_asked_for_nothing(after_ms):
    away = {t: s for t, s in FULL.items() if t != "T3"}
    assert ask(executing(), FIRST_MS + after_ms, available=away).setpoints["T3"] == 0


def test_while_one_terminal_gives_way_the_others_follow_their_meters():
    book = executing()
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    book.read((FIRST_MS + 300_000) * 1000, T2=-14_000, T3=15_000)
    less = FULL | {"T3": 120_000}
    found = ask(book, FIRST_MS + 300_000, available=less).setpoints
    assert found["T3"] == 120_000
    assert found["T2"] < -185_000


def test_in_the_last_minute_a_watt_hour_is_corrected():
    changes = []
    for short_wh in range(-5, 6):
        book = executing()
        at_ms = QUARTER.end_ms - 50_000
        book.read(FIRST_MS * 1000, T2=0, T3=0)
        book.read(at_ms * 1000, T2=-42_590, T3=42_590 - short_wh)
        setpoints_w = ask(book, at_ms).setpoints
        changes.append(abs(setpoints_w["T3"] - 180_000) if setpoints_w else 0)
    written = [w for w in changes if w]
    assert 25 < min(written) <= 125, "less than the dead-band of the rest of the interval"


def test_what_flows_is_reckoned_to_the_end_of_the_ramp_and_no_further():
    book = executing({"T2": -100_000, "T3": 100_000})
    assert book.state.active.ramp_ms == 2_000
    began_us = book.state.active.mono_us
    found = setpoints.flows_w(
        book.state, {"T2": 20_000, "T3": -20_000}, read_mono_us=began_us,
        acts_mono_us=began_us + 3_000_000,
    )  # fmt: skip
    assert found == {"T2": -80_000, "T3": 80_000}


@pytest.mark.parametrize(("left_ms", "open_ms", "own_ms"), [(8_000, 5_000, 3_000), (800, 500, 300)])
def test_ramps_that_do_not_fit_are_shortened_by_one_factor(left_ms, open_ms, own_ms):
    close = tracking.Closing(own_ms=6_000, all_ms=6_000)
    power_w = tracking.solve_w(remaining_mwh=40_000, left_ms=left_ms, now_w=1_000, end_w=-500,
                               open_ms=10_000, close=close)  # fmt: skip
    # 10 s and 6 s in what is left: five parts up and three down, none held.
    energy = (1_000 + power_w) / 2 * open_ms + (power_w - 500) / 2 * own_ms
    assert abs(energy / 3600 - 40_000) <= left_ms / 3600


def test_ramps_that_just_fit_are_not_shortened():
    close = tracking.Closing(own_ms=3_000, all_ms=3_000)
    power_w = tracking.solve_w(remaining_mwh=10_000, left_ms=8_000, now_w=0, end_w=0,
                               open_ms=5_000, close=close)  # fmt: skip
    assert power_w == 10_000 * 3_600 * 2 // 8_000


@pytest.mark.parametrize(
    ("wanted_w", "schedule_w", "low_w", "high_w", "bounded_w"),
    [
        (300_000, -100_000, -230_000, 230_000, -90_000),
        (-300_000, -100_000, -230_000, 230_000, -110_000),
        (300_000, 0, -230_000, 230_000, 5_000),
        (-300_000, 0, -230_000, 230_000, -5_000),
        (0, 200_000, -50_000, 100_000, 100_000),
        (0, -200_000, -50_000, 100_000, -50_000),
    ],
)
def test_the_band_holds_both_ways_and_the_guard_after_it(
    wanted_w, schedule_w, low_w, high_w, bounded_w
):
    found = tracking.bounded_w(wanted_w, schedule_w=schedule_w, s_va=250_000, p_w_min=low_w,
                               p_w_max=high_w, available_va=250_000)  # fmt: skip
    assert found == bounded_w


def test_a_derated_terminal_that_absorbs_is_bounded_too():
    found = tracking.bounded_w(-200_000, schedule_w=-200_000, s_va=250_000, p_w_min=-230_000,
                               p_w_max=230_000, available_va=80_000)  # fmt: skip
    assert found == -80_000
