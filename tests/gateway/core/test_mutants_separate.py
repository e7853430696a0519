"""Terminals with controllers of their own, at the edges of waiting and of the master's room."""

import dataclasses

import pytest
from fakes.core import FIRST_MS, QUARTER, RUNNING, Book, make_image, make_station

from gateway.core import decide, feeder, interlock, setpoints
from gateway.core.decide import Dispatch, StationCommand
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.setpoint import Command

HELD = {"T2": -100_000, "T3": 100_000}
BEGAN_US = 1_000_000  # when a Book's instructions end
RAMP_US = 2_000_000  # 100 kW at 50 kW a second


def stepping(held=HELD, mode="on"):
    book = Book(rearm="auto", mode=mode)
    book.state.site = dataclasses.replace(book.state.site, separate=True)
    book.adopted()
    plan = book.plan({"T2": -50_000, "T3": 50_000})
    book.utc_us = FIRST_MS * 1000
    book.execute(held, plan_index=plan)
    assert book.state.active.ramp_ms == max(map(abs, held.values())) // 50
    for second, wh in ((0, 0), (300, 7_000)):  # less than planned: there is something to correct
        book.read((FIRST_MS + second * 1000) * 1000, T2=-wh, T3=wh)
    return book


def station(held=HELD, *, mono_us, carries_w=None, **changes):
    """A station that was told so much and carries that, or as much as is said."""
    found = make_station(held, mono_us=mono_us, **({"instruction_id": 99} | changes))
    rows = tuple(
        dataclasses.replace(t, p_w=(carries_w or held).get(t.id, 0)) for t in found.terminals
    )
    return dataclasses.replace(found, terminals=rows)


def sent(book, **image):
    actions = decide.scan(book.state, make_image(**image)).actions
    return [a for a in actions if isinstance(a, Dispatch)]


@pytest.mark.parametrize(
    ("after_us", "goes_on"),
    [(RAMP_US + 2_000_000, False), (RAMP_US + 2_000_001, True), (RAMP_US, False)],
)
def test_a_step_that_does_not_arrive_is_waited_for_two_seconds_beyond_its_ramp(after_us, goes_on):
    now_us = BEGAN_US + after_us
    late = station(mono_us=now_us, carries_w={"T2": -100_000})
    image = {"at_ms": FIRST_MS + 300_000, "mono_us": now_us, "station": late}
    assert bool(sent(stepping(), **image)) is goes_on


@pytest.mark.parametrize(("read_us", "goes_on"), [(BEGAN_US, False), (BEGAN_US + 1, True)])
def test_only_a_reading_of_after_the_step_says_that_it_arrived(read_us, goes_on):
    image = {"at_ms": FIRST_MS + 300_000, "mono_us": BEGAN_US + RAMP_US}
    assert bool(sent(stepping(), station=station(mono_us=read_us), **image)) is goes_on


def test_steps_of_before_the_machine_started_anew_are_not_waited_for():
    image = {"at_ms": FIRST_MS + 300_000, "mono_us": BEGAN_US - 1}
    late = station(mono_us=BEGAN_US - 1, carries_w={"T2": -100_000})
    assert sent(stepping(), station=late, **image)


@pytest.mark.parametrize(("after_us", "count"), [(RAMP_US, 0), (RAMP_US + 2_000_001, 1)])
def test_the_way_to_zero_waits_for_the_ramp_of_the_last_step_too(after_us, count):
    book = stepping()
    book.add("mode", mode="blocked", state="EXECUTING", reasons=[])
    now_us = BEGAN_US + after_us
    late = station(mono_us=now_us, carries_w={"T2": -100_000})
    found = sent(book, at_ms=FIRST_MS + 300_000, mono_us=now_us, station=late)
    assert [d.authority for d in found] == ["failsafe"] * count


@pytest.mark.parametrize(("after_us", "count"), [(999_999, 0), (9_000_000, 1)])
def test_where_no_step_is_safe_all_power_ends_at_the_pace_of_writes(after_us, count):
    now_us = BEGAN_US + after_us
    full = station(mono_us=now_us)
    rows = tuple(
        dataclasses.replace(t, s_va_available=0) if t.id == "T1" else t for t in full.terminals
    )
    full = dataclasses.replace(full, terminals=rows)
    image = make_image(at_ms=FIRST_MS + 300_000, mono_us=now_us, station=full)
    decision = decide.scan(stepping().state, image)
    found = [a for a in decision.actions if isinstance(a, Dispatch)]
    assert [(d.authority, any(d.setpoints.values()), d.toward) for d in found] == [
        ("failsafe", False, {})
    ] * count
    assert not count or decision.wake_ms == 0


def masters_feeder(book, most_w):
    limits = FeederLimits(
        site="bench", sop="SOP-1", sequence_number=1, created_utc_ms=FIRST_MS, valid=QUARTER,
        limits=(FeederLimit(domain="region-a", p_w_min=-most_w, p_w_max=most_w, cause="works"),),
    )  # fmt: skip
    book.add("operator", user="system-operator", verb=feeder.VERB, reason="",
             arguments=feeder.fields_of(limits))  # fmt: skip
    return book


def test_a_step_is_over_in_seconds_and_not_held_to_what_the_masters_feeder_may_carry():
    first = []
    for most_w in (None, 60_000):
        held = {"T2": -200_000, "T3": 200_000}
        book = stepping(held)
        if most_w is not None:
            masters_feeder(book, most_w)
        book.add("mode", mode="blocked", state="EXECUTING", reasons=[])
        now_us = BEGAN_US + 9_000_000
        image = {"at_ms": FIRST_MS + 300_000, "mono_us": now_us}
        (step,) = sent(book, station=station(held, mono_us=now_us), **image)
        first.append(step.setpoints)
    assert first[0] == first[1]


@pytest.mark.parametrize(("separate", "told"), [(True, 1), (False, 0)])
def test_only_of_separate_controllers_one_alone_may_fall_to_its_fail_safe(separate, told):
    book = stepping()
    book.state.site = dataclasses.replace(book.state.site, separate=separate)
    now_us = BEGAN_US + 9_000_000
    alone = station(
        {"T2": -100_000}, mono_us=now_us, status_bits=RUNNING | interlock.STATUS_FAILSAFE
    )
    actions = decide.scan(book.state, make_image(mono_us=now_us, station=alone)).actions
    stops = [a for a in actions if isinstance(a, StationCommand)]
    assert [a.command for a in stops] == [Command.ENTER_STANDBY] * told


@pytest.mark.parametrize(
    ("toward", "after_ms", "goes_on"),
    [(True, 2_000, True), (False, 4_999, False), (False, 5_000, True)],
)
def test_the_next_step_does_not_wait_for_the_next_correction(toward, after_ms, goes_on):
    book = Book(rearm="auto")
    book.state.site = dataclasses.replace(book.state.site, separate=True)
    book.adopted()
    plan = book.plan({"T2": -50_000, "T3": 50_000})
    book.utc_us = FIRST_MS * 1000
    rows = [{"terminal": t, "mode": "P_Q", "p_w": HELD.get(t, 0), "q_var": 0} for t in
            ("T1", "T2", "T3", "T4")]  # fmt: skip
    later = {"toward": {"T1": 0, "T2": -200_000, "T3": 200_000, "T4": 0}} if toward else {}
    intent = book.add("intent", sop="SOP-1", authority="plan", plan_index=plan, instr_id=99,
                      setpoints=rows, ramp_permille_per_s=200, ttl_s=10, staged="",
                      expires_mono_us=0, **later)  # fmt: skip
    book.add("prepared", intent_index=intent, instr_id=99)
    book.add("commit", intent_index=intent, instr_id=99, reasons=[])
    book.add("outcome", intent_index=intent, instr_id=99, outcome="executed", reasons=[],
             active={"T1": 0, "T4": 0} | HELD)  # fmt: skip
    assert book.state.active.stepping is toward
    now_us = BEGAN_US + after_ms * 1000
    image = {"at_ms": FIRST_MS + after_ms, "mono_us": now_us, "station": station(mono_us=now_us)}
    assert bool(sent(book, **image)) is goes_on


def test_ramps_under_one_controller_end_together_and_who_stays_needs_none():
    zero = dict.fromkeys(("T1", "T2", "T3", "T4"), 0)
    to_w = zero | {"T2": -100_000, "T3": 50_000}
    book = Book().adopted()
    assert setpoints._shape(book.state, zero, to_w) == {"T2": 2_000, "T3": 2_000, "T4": 0}
    book.state.site = dataclasses.replace(book.state.site, separate=True)
    assert setpoints._shape(book.state, zero, to_w)["T4"] == 0
