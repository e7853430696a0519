"""What is written when: opened at the start, followed by meter, closed by one write in time."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import feeder
from gateway.core.headroom import MasterLimits, cut_to
from gateway.core.setpoints import TTL_MARGIN_S, _beyond, flows_w, ramps_to, stuck, wanted
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits

FULL = {f"T{k}": 250_000 for k in range(1, 5)}
NEXT = Interval(QUARTER.end_ms, QUARTER.end_ms + 900_000)


def ask(book, at_ms, lead_ms=0):
    return wanted(book.state, utc_ms=at_ms, lead_ms=lead_ms, available_va=FULL)


def planned(interval=QUARTER, **targets_wh):
    book = Book().adopted()
    book.plan(targets_wh or {"T2": -45_000, "T3": 45_000}, interval=interval)
    return book


def executing(held=None, at_ms=FIRST_MS, **targets_wh):
    book = planned(**targets_wh)
    book.utc_us = at_ms * 1000
    index = book.state.plans[FIRST_MS].index
    book.execute(held or {"T2": -180_000, "T3": 180_000}, plan_index=index)
    return book


def test_nothing_is_written_before_the_interval_but_the_start_is_watched():
    found = ask(planned(), FIRST_MS - 10_000, lead_ms=300)
    assert found.setpoints is None
    assert found.wake_ms == FIRST_MS - 300


def test_the_interval_is_opened_at_its_start_with_its_ramps_in_the_power():
    found = ask(planned(), FIRST_MS - 200, lead_ms=300)
    assert found.authority == "plan"
    assert found.act_ms == FIRST_MS
    assert 180_000 < found.setpoints["T3"] < 181_500
    assert found.setpoints["T1"] == 0
    assert found.ttl_s == 900 + TTL_MARGIN_S  # from OPERATE, which acts at the start


def test_within_five_seconds_the_setpoint_stays():
    book = executing()
    assert ask(book, FIRST_MS + 4_999).setpoints is None


def test_a_shortfall_by_meter_raises_the_setpoint_of_that_terminal_alone():
    book = executing()
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    at_ms = FIRST_MS + 300_000
    book.read(at_ms * 1000, T2=-15_000, T3=14_500)
    found = ask(book, at_ms)
    assert found.authority == "tracking"
    assert found.setpoints["T3"] > 182_000
    assert abs(found.setpoints["T2"] + 180_000) < 1000


def test_without_a_meter_the_terminal_runs_open_loop():
    book = executing()
    assert ask(book, FIRST_MS + 400_000).setpoints is None


def test_a_meter_gone_silent_is_not_extrapolated_for_ever():
    book = executing()
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    book.read(FIRST_MS * 1000 + 5_000_000, T2=-250, T3=250)
    assert ask(book, FIRST_MS + 60_000).setpoints is None


def test_in_the_last_quarter_minute_nothing_is_corrected():
    book = executing()
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    book.read((QUARTER.end_ms - 14_000) * 1000, T2=-40_000, T3=40_000)
    assert ask(book, QUARTER.end_ms - 14_000).setpoints is None


def test_all_terminals_close_by_one_write_so_that_the_longest_ramp_ends_in_time():
    book = executing({"T2": -200_000, "T3": 150_000, "T4": 50_000})
    found = ask(book, QUARTER.end_ms - 4_300, lead_ms=500)
    assert found.authority == "close"
    assert found.setpoints == {"T1": 0, "T2": 0, "T3": 0, "T4": 0}
    assert found.act_ms == QUARTER.end_ms - 4_000


def test_the_closing_instant_is_announced_so_that_it_is_not_slept_through():
    book = executing({"T2": -200_000, "T3": 200_000})
    assert ask(book, QUARTER.end_ms - 10_000, lead_ms=500).wake_ms == QUARTER.end_ms - 4_500


def test_between_intervals_of_one_direction_power_does_not_dip():
    book = executing()
    book.plan({"T2": -40_000, "T3": 40_000}, interval=NEXT)
    found = ask(book, QUARTER.end_ms - 300)
    assert found.setpoints["T3"] == 160_000
    assert found.setpoints["T2"] == -160_000


def test_power_that_no_plan_stands_for_goes_to_zero():
    book = Book().adopted()
    book.execute({"T2": -1000, "T3": 1000})
    found = ask(book, FIRST_MS)
    assert found.authority == "close"
    assert not any(found.setpoints.values())


def test_a_quarter_minute_before_the_end_is_too_late_to_open():
    assert ask(planned(), QUARTER.end_ms - 15_000).setpoints is None


def test_what_was_adopted_is_written_unchanged_first():
    book = executing()
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    held = book.state.held
    book.add("readback", sop="SOP-1", instr_id=99, active=held, state="RUN", cause="adopt")
    found = ask(book, FIRST_MS + 60_000)
    assert (found.authority, dict(found.setpoints)) == ("adopt", held)


def test_an_interval_without_power_of_the_slaves_is_not_written():
    assert ask(planned(T1=0), FIRST_MS).setpoints is None


def test_the_end_of_an_interval_is_known_from_the_next_trades_before_their_plan():
    book = executing()
    book.accept("b", "T2", "T3", 160_000, interval=NEXT)
    assert ask(book, QUARTER.end_ms - 300).setpoints["T3"] == 160_000


def test_ramps_of_an_opening_end_together():
    found = ask(planned(T2=-45_000, T3=22_500), FIRST_MS - 200, lead_ms=300)
    assert found.ramps["T2"] == 200
    assert 99 <= found.ramps["T3"] <= 102


def test_slowed_ramps_are_given_back_once_they_ended():
    book = planned(T2=-45_000, T3=22_500)
    book.utc_us = FIRST_MS * 1000
    index = book.state.plans[FIRST_MS].index
    opened = ask(book, FIRST_MS - 200, lead_ms=300)
    book.execute(dict(opened.setpoints), plan_index=index, ramps=opened.ramps)
    assert ask(book, FIRST_MS + 4_000).setpoints is None
    again = ask(book, FIRST_MS + 5_000)
    assert again.authority == "tracking"
    assert set(again.ramps.values()) == {200}
    book.utc_us += 5_000_000
    book.execute(dict(again.setpoints), plan_index=index, authority="tracking", ramps=again.ramps)
    assert not book.state.active.slowed


def test_tracking_waits_for_ramps_longer_than_its_step():
    book = planned()
    book.utc_us = FIRST_MS * 1000
    index = book.state.plans[FIRST_MS].index
    slow = dict.fromkeys(("T1", "T2", "T3", "T4"), 100)
    book.execute({"T2": -180_000, "T3": 180_000}, plan_index=index, ramps=slow)
    assert ask(book, FIRST_MS + 7_000).setpoints is None
    assert ask(book, FIRST_MS + 7_300).setpoints is not None


def test_a_way_to_zero_begins_at_what_flows():
    book = executing()
    found = ramps_to(book.state, {f"T{k}": 0 for k in range(1, 5)}, {"T2": -90_000, "T3": 180_000})
    assert found == {"T1": 200, "T2": 100, "T3": 200, "T4": 200}


def test_what_was_adopted_at_a_boundary_is_not_prolonged_into_the_next_interval():
    book = executing()
    book.plan({"T2": 10_000, "T3": -10_000}, interval=NEXT)
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    book.add(
        "readback", sop="SOP-1", instr_id=99, active=book.state.held, state="RUN", cause="adopt"
    )
    found = ask(book, NEXT.start_ms + 1000)
    assert found.authority == "plan"
    assert found.setpoints["T2"] > 0


def test_all_slaves_together_never_ask_more_than_the_master_carries():
    book = executing(
        T2=55_000, T3=-20_000, T4=20_000, held={"T2": 210_000, "T3": -80_000, "T4": 80_000}
    )
    book.read(FIRST_MS * 1000, T2=0, T3=0, T4=0)
    at_ms = FIRST_MS + 600_000
    book.read(at_ms * 1000, T2=30_000, T3=-13_000, T4=10_000)
    found = ask(book, at_ms)
    assert found.setpoints["T2"] + found.setpoints["T3"] + found.setpoints["T4"] <= 245_000


def test_what_gives_way_to_the_master_never_asks_a_derated_terminal_for_more():
    book = planned(T2=-34_500, T3=55_000, T4=36_000)
    derated = FULL | {"T2": 60_000}
    found = wanted(book.state, utc_ms=FIRST_MS - 200, lead_ms=300, available_va=derated)
    powers = [found.setpoints[t] for t in ("T2", "T3", "T4")]
    assert -60_000 <= powers[0] <= 0
    assert sum(powers) <= 245_000


def test_a_terminal_out_of_reach_changes_nothing_for_the_others():
    """What it asks for in vain must not lengthen the ramps that the others reckon with."""
    at_ms, found = QUARTER.end_ms - 60_000, []
    for lacking_wh in (0, 3_000):
        book = executing(
            {"T2": -225_000, "T3": 60_000, "T4": 60_000}, T2=-56_000, T3=15_000, T4=15_000
        )
        book.read(FIRST_MS * 1000, T2=0, T3=0, T4=0)
        book.read(at_ms * 1000, T2=-52_500 + lacking_wh, T3=14_000, T4=14_000)
        found.append(ask(book, at_ms).setpoints)
    assert found[1]["T2"] <= -225_000
    assert abs(found[0]["T3"] - found[1]["T3"]) <= 600  # 0.1 % of what it still has to deliver


def test_a_small_closing_stands_a_second_before_the_next_opening():
    book = executing({"T2": -160_500, "T3": 160_500})
    book.plan({"T2": -40_000, "T3": 40_000}, interval=NEXT)
    assert ask(book, QUARTER.end_ms - 10_000).wake_ms == QUARTER.end_ms - 1000


def test_more_than_a_terminal_can_carry_is_taken_back_at_once():
    book = executing()
    less = FULL | {"T3": 120_000}

    def asked(at_ms, available_va):
        return wanted(book.state, utc_ms=at_ms, lead_ms=0, available_va=available_va).setpoints

    assert asked(FIRST_MS + 1_000, FULL) is None  # within five seconds nothing else is due
    assert asked(FIRST_MS + 1_000, FULL | {"T3": 177_500}) is None  # 1 % is waited for
    assert asked(FIRST_MS + 1_000, FULL | {"T3": 177_499})["T3"] == 177_499
    assert asked(FIRST_MS + 1_000, less)["T3"] == 120_000


def test_so_it_is_in_the_last_seconds_where_nothing_else_is_changed():
    book = executing()
    at_ms = QUARTER.end_ms - 14_000
    less = FULL | {"T3": 120_000}
    found = wanted(book.state, utc_ms=at_ms, lead_ms=0, available_va=less)
    assert (found.setpoints["T2"], found.setpoints["T3"]) == (-180_000, 120_000)
    assert found.authority == "tracking"
    assert wanted(book.state, utc_ms=at_ms, lead_ms=0, available_va=FULL).setpoints is None


def test_in_the_last_seconds_the_master_is_not_left_with_what_it_cannot_carry():
    book = executing(
        {"T2": -200_000, "T3": 230_000, "T4": -30_000}, T2=-50_000, T3=57_500, T4=-7_500
    )
    at_ms = QUARTER.end_ms - 14_000
    less = FULL | {"T3": 20_000, "T1": 150_000}
    found = wanted(book.state, utc_ms=at_ms, lead_ms=0, available_va=less).setpoints
    assert found["T3"] <= 20_000
    assert abs(sum(found.values())) < 150_000


def told(held_w, at_ms, **available_va):
    """What is written where power is held, and what is available changed."""
    book = executing(held_w, **{t: w // 4 for t, w in held_w.items()})
    found = wanted(book.state, utc_ms=at_ms, lead_ms=0, available_va=FULL | available_va)
    return found.setpoints


LATE_MS, EARLY_MS = QUARTER.end_ms - 14_000, FIRST_MS + 1_000  # frozen; between two steps


@pytest.mark.parametrize("at_ms", [LATE_MS, EARLY_MS], ids=["late", "early"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_derated_master_is_relieved_at_once(at_ms, sign):
    held = {"T2": sign * 215_000}
    assert told(held, at_ms) is None
    found = told(held, at_ms, T1=150_000)
    assert 135_000 < sign * sum(found.values()) < 150_000


@pytest.mark.parametrize(
    ("power_w", "available_va", "kept"),
    [
        (100_000, 103_180, True),  # 5,680 W of losses, 1 % of its rating waited for
        (100_000, 103_179, False),
        (-100_000, 97_500, True),  # what it injects the losses lower
        (-100_000, 97_499, False),
    ],
)
def test_a_master_is_beyond_by_one_percent_its_losses_included(power_w, available_va, kept):
    assert (told({"T2": power_w}, LATE_MS, T1=available_va) is None) is kept


def limited(book, domain, low_w=0, high_w=0):
    limit = FeederLimit(domain=domain, p_w_min=low_w, p_w_max=high_w, cause="work")
    sent = FeederLimits(
        site="bench", sop="SOP-1", sequence_number=1, created_utc_ms=FIRST_MS, valid=QUARTER,
        limits=(limit,),
    )  # fmt: skip
    book.add(
        "operator", user="system-operator", verb=feeder.VERB,
        arguments=feeder.fields_of(sent), reason="",
    )  # fmt: skip
    return book


@pytest.mark.parametrize("at_ms", [LATE_MS, EARLY_MS], ids=["late", "early"])
def test_a_limit_of_a_feeder_holds_at_once(at_ms):
    book = limited(executing(), "region-c")
    found = ask(book, at_ms).setpoints
    assert found["T3"] == 0
    assert abs(found["T2"] + 180_000) < 1_000


@pytest.mark.parametrize("at_ms", [LATE_MS, EARLY_MS], ids=["late", "early"])
def test_so_does_one_of_the_masters_feeder(at_ms):
    book = executing({"T2": 180_000}, T2=45_000)
    found = ask(limited(book, "region-a", -90_000, 90_000), at_ms).setpoints
    assert 80_000 < found["T2"] < 90_000
    book = executing({"T2": 180_000}, T2=45_000)  # with every loss the master draws 187,716 W
    assert ask(limited(book, "region-a", -185_216, 185_216), at_ms).setpoints is None
    book = executing({"T2": 180_000}, T2=45_000)
    assert ask(limited(book, "region-a", -185_215, 185_215), at_ms).setpoints is not None


def guarded(book, low_w, high_w):
    said = {"terminal": "T1", "p_w_min": low_w, "p_w_max": high_w}
    book.add("operator", user="an-engineer", verb="limits", arguments=said, reason="")
    return book


@pytest.mark.parametrize("at_ms", [LATE_MS, EARLY_MS], ids=["late", "early"])
def test_a_narrower_guard_of_the_master_takes_power_back_at_once_in_its_direction(at_ms):
    book = executing({"T2": 180_000}, T2=45_000)
    found = ask(guarded(book, -90_000, 230_000), at_ms).setpoints
    assert 80_000 < found["T2"] < 90_000
    book = executing({"T2": 180_000}, T2=45_000)
    assert ask(guarded(book, -230_000, 90_000), at_ms).setpoints is None  # that way nothing flows
    book = executing({"T2": -180_000}, T2=-45_000)
    found = ask(guarded(book, -230_000, 90_000), at_ms).setpoints
    assert found["T2"] == -90_000


def test_a_limit_sent_for_a_feeder_does_not_widen_nor_shut_a_guard_of_one_direction():
    book = executing({"T2": 100_000}, T2=25_000)  # drawn at the master
    book = limited(guarded(book, -200_000, 0), "region-a", -150_000, 150_000)
    assert ask(book, EARLY_MS).setpoints is None


@given(
    powers=st.tuples(*[st.integers(-230_000, 230_000)] * 3),
    available_va=st.tuples(*[st.integers(0, 250_000)] * 4),
    out_w=st.integers(0, 230_000),
    in_w=st.integers(0, 230_000),
)
def test_what_was_cut_once_is_not_cut_again(powers, available_va, out_w, in_w):
    held = {"T1": 0} | dict(zip(("T2", "T3", "T4"), powers, strict=True))
    available = dict(zip(FULL, available_va, strict=True))
    limits = MasterLimits(out_w=out_w, in_w=in_w)
    cut = cut_to(make_sop(), held, available, limits)
    assert not _beyond(make_sop(), cut, available, limits)


def test_a_meter_that_stood_still_is_followed_no_more_and_its_terminal_goes_to_the_schedule():
    book = executing({"T2": -180_000, "T3": 195_000})  # raised while nobody knew it
    for second in range(0, 331, 5):
        book.utc_us = (FIRST_MS + second * 1000) * 1000
        done_wh = second * 50  # 180 kW
        still_wh = min(done_wh, 290 * 50)
        book.read(book.utc_us, T1=0, T2=-done_wh, T3=still_wh, T4=0)
    found = ask(book, FIRST_MS + 331_000).setpoints
    assert found["T3"] == 180_000
    assert abs(found["T2"] + 180_000) < 3_000


def at_rest_then(held_w, minutes_read=2):
    """A meter that repeated itself at rest, then power was written and nothing was read since."""
    book = planned()
    for second in range(-60 * minutes_read, 1, 5):
        book.utc_us = (FIRST_MS + second * 1000) * 1000
        book.read(book.utc_us, T1=0, T2=0, T3=0, T4=0)
    book.execute(held_w, plan_index=book.state.plans[FIRST_MS].index)
    return book


def test_readings_of_before_power_flowed_say_nothing_about_a_meter():
    book = at_rest_then({"T2": -180_000, "T3": 180_000})
    terminal = book.state.site.sop.terminal("T3")
    assert not stuck(book.state, terminal)
    for second, still in ((5, False), (29, False), (30, True)):
        book.utc_us = (FIRST_MS + second * 1000) * 1000
        book.read(book.utc_us, T3=0)
        assert stuck(book.state, terminal) is still
    assert not stuck(book.state, book.state.site.sop.terminal("T4")), "nothing is held there"


def test_it_counts_over_corrections_and_not_over_a_start_from_little():
    book = at_rest_then({"T2": -20_000, "T3": 20_000})
    terminal = book.state.site.sop.terminal("T3")
    plan_index = book.state.plans[FIRST_MS].index
    for second in range(5, 31, 5):
        book.utc_us = (FIRST_MS + second * 1000) * 1000
        book.read(book.utc_us, T3=0)
    book.execute({"T2": -180_000, "T3": 180_000}, plan_index=plan_index)
    assert not stuck(book.state, terminal), "so far little was to move it"
    for second in range(35, 71, 5):
        book.utc_us = (FIRST_MS + second * 1000) * 1000
        book.read(book.utc_us, T3=0)
        book.execute({"T2": -182_000, "T3": 182_000}, plan_index=plan_index)
    assert stuck(book.state, terminal)


def test_open_loop_asks_for_no_more_than_a_derated_terminal_carries():
    book = at_rest_then({"T2": -180_000, "T3": 180_000})
    for second in range(5, 61, 5):
        book.utc_us = (FIRST_MS + second * 1000) * 1000
        book.read(book.utc_us, T2=-50 * second, T3=0)
    less = FULL | {"T3": 60_000}
    at_ms = FIRST_MS + 61_000
    found = wanted(book.state, utc_ms=at_ms, lead_ms=0, available_va=less).setpoints
    assert found["T3"] == 60_000


@pytest.mark.parametrize(
    ("read_s", "acts_s", "expected_w"),
    [(0, 1, 50_000), (0, 3, 100_000), (3, 4, 0), (0, 0, 0)],
)
def test_what_flows_when_a_write_acts_goes_on_while_its_ramp_is_under_way(
    read_s, acts_s, expected_w
):
    book = Book().adopted()
    plan = book.plan({"T2": -25_000, "T3": 25_000})
    book.execute({"T2": -100_000, "T3": 100_000}, plan_index=plan)
    began_us = book.state.active.mono_us
    assert book.state.active.ramp_ms == 2000
    found = flows_w(
        book.state,
        {"T1": 0, "T2": 0, "T3": 0},
        read_mono_us=began_us + read_s * 1_000_000,
        acts_mono_us=began_us + acts_s * 1_000_000,
    )
    assert (found["T2"], found["T3"]) == (-expected_w, expected_w)


def test_what_flows_without_a_setpoint_of_ours_is_what_was_read():
    found = flows_w(Book().adopted().state, {"T2": 7_000}, read_mono_us=0, acts_mono_us=1_000_000)
    assert found == {"T2": 7_000}


@pytest.mark.parametrize("sent", [False, True])
def test_limits_sent_for_the_next_interval_are_in_the_end_power_before_its_plan(sent):
    """A feeder that will be shut is closed in time, and what is sold until then is delivered."""
    book = executing()
    book.accept("next", "T2", "T3", 180_000, interval=NEXT)
    if sent:
        book.state.feeder_limits = FeederLimits(
            site="bench", sop="SOP-1", sequence_number=1, created_utc_ms=FIRST_MS, valid=NEXT,
            limits=(FeederLimit(domain="region-c", p_w_min=0, p_w_max=0),),
        )  # fmt: skip
    at_ms = FIRST_MS + 600_000
    for ms, wh in ((FIRST_MS, 0), (at_ms, 30_000)):
        book.read(ms * 1000, T2=-wh, T3=wh)
    held = ask(book, at_ms).setpoints
    # 180 kW to the end; where it must close, 3.6 s of ramp are made up for in five minutes.
    assert (held is not None and held["T3"] > 180_900) is sent


def test_what_a_narrower_guard_forbids_is_cut_and_not_adopted():
    """Held since before the site file was changed; the last guard would refuse to repeat it."""
    book = executing()
    book.state.adopt_pending = True
    assert ask(book, FIRST_MS + 60_000).authority == "adopt"
    terminals = tuple(
        replace(t, p_w_min=-100_000, p_w_max=100_000) for t in book.state.site.sop.terminals
    )
    book.state.site = replace(book.state.site, sop=make_sop(terminals=terminals))
    found = ask(book, FIRST_MS + 60_000)
    assert found.authority == "tracking"
    assert (found.setpoints["T2"], found.setpoints["T3"]) == (-100_000, 100_000)
