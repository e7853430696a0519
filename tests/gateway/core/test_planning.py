"""Intervals are planned once, in time, and reported once, with the causes that explain them."""

import pytest
from fakes.core import FIRST_MS, QUARTER, Book

from gateway.core.planning import ARM_MS, SETTLE_MS, deliveries_due, delivery_fields, plans_due
from gateway.model.interval import Interval

FULL = {f"T{k}": 250_000 for k in range(1, 5)}


def book_with_trade(p_w=100_000):
    book = Book().adopted()
    book.accept("a", "T2", "T3", p_w)
    return book


def due(book, at_ms):
    return plans_due(book.state, utc_ms=at_ms, available_va=FULL)


@pytest.mark.parametrize(("before_ms", "count"), [(ARM_MS + 1, 0), (ARM_MS, 1), (0, 1)])
def test_a_plan_is_made_half_a_minute_before_its_interval(before_ms, count):
    assert len(due(book_with_trade(), FIRST_MS - before_ms)) == count


def half_a_day(book, *, available_va=None, active=None):
    """A trade of 100 kW of which 20 kWh came, executed while T3 had so much available."""
    plan = book.add("plan", **due(book, FIRST_MS)[0].fields)
    zero = {f"T{k}": 0 for k in range(1, 5)}
    sent = zero | {"T2": -100_000, "T3": 100_000}
    book.utc_us = FIRST_MS * 1000
    said = {"image": {"s_va_available": FULL | {"T3": available_va}}} if available_va else {}
    intent = book.add(
        "intent", sop="SOP-1", authority="plan", plan_index=plan, instr_id=5, ttl_s=900,
        setpoints=[{"terminal": t, "mode": "P_Q", "p_w": p, "q_var": 0} for t, p in sent.items()],
        ramp_permille_per_s=200, staged="", expires_mono_us=0, **said,
    )  # fmt: skip
    book.add("prepared", intent_index=intent, instr_id=5)
    book.add("commit", intent_index=intent, instr_id=5, reasons=[])
    book.add(
        "outcome", intent_index=intent, instr_id=5, outcome="executed", reasons=[],
        active=sent | (active or {}),
    )  # fmt: skip
    for at_ms, wh in ((FIRST_MS, 0), (QUARTER.end_ms, 20_000)):
        book.utc_us = at_ms * 1000
        book.read(book.utc_us, T1=0, T2=-wh, T3=wh, T4=0)
    record = book.state.plans[FIRST_MS]
    return record, delivery_fields(book.state, record)["trades"][0]


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        ({}, ["shortfall"]),
        ({"available_va": 99_999}, ["derated"]),
        ({"available_va": 100_000}, ["shortfall"]),
        ({"active": {"T3": 80_000}}, ["derated"]),
        ({"active": {"T1": -3_000}}, ["shortfall"]),  # a residual is not compared
    ],
)
def test_what_a_derated_terminal_could_not_carry_is_called_so(said, reasons):
    _, trade = half_a_day(book_with_trade(), **said)
    assert (trade["planned_wh"], trade["delivered_wh"]) == (25_000, 20_000)
    assert trade["reasons"] == reasons


def test_a_derating_is_forgotten_with_its_interval():
    book = book_with_trade()
    record, _ = half_a_day(book, available_va=80_000)
    assert book.state.derated == {record.index: {"T3"}}
    book.add("delivery", **delivery_fields(book.state, record))
    assert book.state.derated == {}


def test_an_interval_is_planned_once():
    book = book_with_trade()
    book.add("plan", **due(book, FIRST_MS)[0].fields)
    assert due(book, FIRST_MS) == []


def test_the_plan_sums_to_zero_and_leaves_the_master_to_the_others():
    book = book_with_trade()
    book.accept("b", "T1", "T4", 40_000)
    fields = due(book, FIRST_MS)[0].fields
    assert fields["planned_wh"] == {"T1": -10_000, "T2": -25_000, "T3": 25_000, "T4": 10_000}
    assert fields["setpoints"]["T1"] == 0


def test_an_interval_that_no_gateway_ran_in_is_planned_at_nothing_and_says_so():
    fields = due(book_with_trade(), QUARTER.end_ms)[0].fields
    assert fields["trades"][0]["planned_wh"] == 0
    assert fields["trades"][0]["reasons"][0]["code"] == "gateway_restart"


def planned_book(p_w=100_000):
    book = book_with_trade(p_w)
    book.add("plan", **due(book, FIRST_MS)[0].fields)
    return book


def read_all(book, utc_ms, **net_wh):
    book.read(utc_ms * 1000, **({f"T{k}": 0 for k in range(1, 5)} | net_wh))


def test_a_delivery_waits_for_every_meter_and_then_no_longer_than_a_minute():
    book = planned_book()
    read_all(book, QUARTER.start_ms)
    assert deliveries_due(book.state, utc_ms=QUARTER.end_ms) == []
    assert len(deliveries_due(book.state, utc_ms=QUARTER.end_ms + SETTLE_MS)) == 1
    read_all(book, QUARTER.end_ms)
    assert len(deliveries_due(book.state, utc_ms=QUARTER.end_ms)) == 1


def test_no_interval_is_reported_before_it_ended_even_when_the_meters_are_ahead():
    book = planned_book()
    read_all(book, QUARTER.end_ms + 5000)
    assert deliveries_due(book.state, utc_ms=QUARTER.end_ms - 1) == []


def settle(book, **net_wh):
    read_all(book, QUARTER.start_ms)
    read_all(book, QUARTER.end_ms, **net_wh)
    record = deliveries_due(book.state, utc_ms=QUARTER.end_ms)[0]
    fields = delivery_fields(book.state, record)
    book.add("delivery", **fields)
    return fields


def test_a_delivered_trade_needs_no_reason():
    trade = settle(planned_book(), T2=-25_000, T3=24_990)["trades"][0]
    assert (trade["status"], trade["delivered_wh"], trade["reasons"]) == ("delivered", 24_990, [])


def test_a_shortfall_names_what_held_during_the_interval():
    book = planned_book()
    book.utc_us = FIRST_MS * 1000 + 60_000_000
    book.add("mode", mode="on", state="FAILSAFE", reasons=[{"code": "link_lost", "detail": ""}])
    trade = settle(book, T2=-15_000, T3=15_000)["trades"][0]
    assert (trade["status"], trade["reasons"]) == ("partial", ["link_lost"])


def test_a_shortfall_that_nothing_explains_says_so():
    trade = settle(planned_book(), T2=-15_000, T3=15_000)["trades"][0]
    assert trade["reasons"] == ["shortfall"]


def test_a_curtailed_trade_that_met_its_plan_names_only_the_limit():
    book = planned_book(300_000)
    planned_wh = book.state.plans[FIRST_MS].target_wh["T3"]
    book.utc_us = FIRST_MS * 1000 + 60_000_000
    book.add("mode", mode="on", state="FAILSAFE", reasons=[{"code": "link_lost", "detail": ""}])
    trade = settle(book, T2=-planned_wh, T3=planned_wh)["trades"][0]
    assert (trade["status"], trade["reasons"]) == ("partial", ["guard_p"])


def test_a_reported_interval_is_closed_for_ever():
    book = planned_book()
    settle(book, T2=-25_000, T3=25_000)
    assert book.state.plans == {}
    assert book.state.high_water_ms == QUARTER.end_ms
    assert due(book, QUARTER.end_ms) == []


def test_a_cancelled_trade_is_reported_as_such():
    book = Book().adopted()
    book.accept("a", "T2", "T3", 100_000)
    book.accept("a", "T2", "T3", 0, revision=2)
    book.add("plan", **due(book, FIRST_MS)[0].fields)
    trade = settle(book)["trades"][0]
    assert (trade["status"], trade["reasons"]) == ("cancelled", ["cancelled"])


def test_adjoining_intervals_are_planned_in_order_of_time():
    book = book_with_trade()
    after = Interval(QUARTER.end_ms, QUARTER.end_ms + 900_000)
    book.accept("b", "T2", "T4", 10_000, interval=after)
    assert [p.interval for p in due(book, QUARTER.end_ms)] == [QUARTER, after]
