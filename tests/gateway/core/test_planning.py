"""Intervals are planned once, in time, and reported once, with the causes that explain them."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_sop

from gateway.core.planning import (
    ARM_MS,
    ENTRY_BYTES_MAX,
    SETTLE_MS,
    WORDS_MAX,
    deliveries_due,
    delivery_fields,
    plans_due,
)
from gateway.core.verify import INTERVAL_TRADES_MAX
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.reason import ReasonCode
from ledger.log.canonical import INTEGER_MAX, LEAF_BYTES_MAX, encode

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


@pytest.mark.parametrize(("terminal", "reasons"), [("T3", ["guard_p"]), ("T4", ["shortfall"])])
def test_a_shortfall_names_a_guard_that_became_narrower_after_the_plan(terminal, reasons):
    book = planned_book()
    said = {"terminal": terminal, "p_w_min": -50_000, "p_w_max": 50_000}
    book.add("operator", user="an-engineer", verb="limits", arguments=said, reason="")
    trade = settle(book, T2=-15_000, T3=15_000)["trades"][0]
    assert (trade["status"], trade["reasons"]) == ("partial", reasons)


def narrow(book, terminal, limit_w, after_s):
    book.utc_us = FIRST_MS * 1000 + after_s * 1_000_000
    said = {"terminal": terminal, "p_w_min": -limit_w, "p_w_max": limit_w}
    book.add("operator", user="an-engineer", verb="limits", arguments=said, reason="")


def test_a_guard_that_was_narrower_for_a_while_is_named_and_one_after_the_end_is_not():
    book = planned_book()
    narrow(book, "T3", 50_000, 60)
    narrow(book, "T3", 230_000, 300)
    assert settle(book, T2=-15_000, T3=15_000)["trades"][0]["reasons"] == ["guard_p"]
    assert book.state.narrowed == {}
    book = planned_book()
    narrow(book, "T3", 50_000, 901)
    assert settle(book, T2=-15_000, T3=15_000)["trades"][0]["reasons"] == ["shortfall"]


def test_what_was_derated_when_it_was_planned_is_not_narrower_for_that():
    book = Book().adopted()
    book.accept("a", "T1", "T2", 200_000)
    book.accept("b", "T1", "T3", 200_000)
    away = dict.fromkeys(("T1", "T3", "T4"), 250_000) | {"T2": 0}
    (plan,) = plans_due(book.state, utc_ms=FIRST_MS - 20_000, available_va=away)
    book.add("plan", **plan.fields)
    narrow(book, "T4", 200_000, 60)
    assert book.state.narrowed == {}


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


ADDED = {
    "kind": "delivery", "utc_us": INTEGER_MAX, "mono_us": INTEGER_MAX, "boot": INTEGER_MAX,
    "tq": "uncertain",
}  # fmt: skip
"""What the journal adds to the fields, as long as it gets."""


def size(fields):
    return len(encode(dict(fields) | ADDED))


def longest(kind, k, length):
    return f"{kind}{k:03}".ljust(length, "x")


def full_book(trades, terminals=8, *, cause='"' * 200, masked=False):
    """An interval of trades with the longest names, each cut at both its ends and in between.

    Sellers are derated, buyers' feeders limited, and the DC bus takes less than both; or sellers'
    feeders are limited and the buyers' masked, which is the most text of two causes.
    """
    names = [longest("T", k, 40) for k in range(terminals)]
    book = Book().adopted()
    bare = make_sop().terminals[0]
    sop = make_sop(
        id=longest("S", 0, 40), master=names[-1], throughput_w=80_000_000 * (terminals // 2),
        terminals=tuple(
            replace(bare, id=name, index=k, domain=f"region-{k}", s_va=900_000_000,
                    p_w_min=-900_000_000, p_w_max=900_000_000, ramp_w_per_s=900_000_000)
            for k, name in enumerate(names)
        ),
    )  # fmt: skip
    book.state.site = replace(book.state.site, sop=sop)
    ends_w = (140_000_000, 0) if masked else (900_000_000, 100_000_000)
    limits = tuple(
        FeederLimit(
            domain=f"region-{k}", p_w_min=-ends_w[k % 2], p_w_max=ends_w[k % 2], cause=cause
        )
        for k in range(terminals)
    )
    if cause:
        book.state.feeder_limits = FeederLimits(
            site="bench", sop=sop.id, sequence_number=1, created_utc_ms=0,
            valid=Interval(FIRST_MS - 1, FIRST_MS + 10**9), limits=limits,
        )  # fmt: skip
    for k in range(trades):
        out = 2 * k % terminals
        ends = names[out], names[out + 1]
        book.accept(longest("trade", k, 60), *ends, 1_000_000_000, revision=999_999)
    return book


def planned_in_full(book):
    available = {t.id: 150_000_000 for t in book.state.site.sop.terminals[:-1]}
    available |= {book.state.site.sop.master: 900_000_000}
    (plan,) = plans_due(book.state, utc_ms=FIRST_MS, available_va=available)
    return plan


@pytest.mark.parametrize("terminals", [4, 8, 32])
@pytest.mark.parametrize(("masked", "count"), [(False, 3), (True, 2)])
def test_the_plan_of_a_full_interval_fits_an_entry(terminals, masked, count):
    book = full_book(INTERVAL_TRADES_MAX, terminals, masked=masked)
    plan = planned_in_full(book)
    assert size(plan.fields) <= LEAF_BYTES_MAX
    assert len(plan.fields["trades"]) == INTERVAL_TRADES_MAX
    assert max(len(row["reasons"]) for row in plan.fields["trades"]) == count
    book.add("plan", **plan.fields)


def test_a_plan_of_three_reasons_a_trade_and_every_detail_left_out_fits_an_entry():
    """No limits that were sent say so much of every trade: the bound of what the core can say."""
    plan = planned_in_full(full_book(INTERVAL_TRADES_MAX, 16))
    codes = sorted((c.value for c in ReasonCode), key=len)[-3:]
    rows = [
        row | {"planned_wh": 250_000_000, "reasons": [{"code": c, "detail": ""} for c in codes]}
        for row in plan.fields["trades"]
    ]
    assert size(plan.fields | {"trades": rows}) <= LEAF_BYTES_MAX


def test_a_plan_that_is_too_long_tells_a_detail_once_and_every_word_always():
    few = planned_in_full(full_book(2, 2, cause="work")).fields["trades"]
    assert all(r["detail"] for row in few for r in row["reasons"])
    rows = planned_in_full(full_book(INTERVAL_TRADES_MAX, 2, cause="w" * 200)).fields["trades"]
    told = [(r["code"], r["detail"]) for row in rows for r in row["reasons"]]
    details = [detail for _, detail in told if detail]
    assert details
    assert len(details) == len(set(details)) < len(told)
    assert all(row["reasons"] for row in rows)


def test_a_plan_that_fits_keeps_every_detail():
    fields = planned_in_full(full_book(INTERVAL_TRADES_MAX, 2, cause="")).fields
    assert all(row["reasons"] for row in fields["trades"])
    assert all(r["detail"] for row in fields["trades"] for r in row["reasons"])


def delivered_in_full(*, codes):
    book = full_book(INTERVAL_TRADES_MAX, 32)
    book.add("plan", **planned_in_full(book).fields)
    book.utc_us = FIRST_MS * 1000 + 1
    reasons = [{"code": c.value, "detail": ""} for c in codes]
    book.add("mode", mode="on", state="FAILSAFE", reasons=reasons)
    (record,) = book.state.plans.values()
    return delivery_fields(book.state, record)


def test_the_delivery_of_a_full_interval_fits_an_entry_whatever_held():
    fields = delivered_in_full(codes=ReasonCode)
    assert size(fields) <= LEAF_BYTES_MAX
    assert len(fields["trades"]) == INTERVAL_TRADES_MAX
    assert {len(row["reasons"]) for row in fields["trades"]} == {WORDS_MAX}
    longest_words = sorted((c.value for c in ReasonCode), key=len)[-WORDS_MAX:]
    for row in fields["trades"]:
        row |= {"reasons": longest_words, "planned_wh": 250_000_000, "delivered_wh": 250_000_000}
    for row in fields["terminals"]:
        row |= dict.fromkeys(("planned_wh", "metered_wh", "judged_wh"), -INTEGER_MAX)
    assert size(fields) <= LEAF_BYTES_MAX


def test_a_delivery_that_fits_names_all_that_held():
    held = [c.value for c in (*ReasonCode,)[:10]]
    fields = delivered_in_full(codes=(*ReasonCode,)[:10])
    assert all(set(held) <= set(row["reasons"]) for row in fields["trades"])


def test_what_is_kept_to_leaves_room_for_what_the_journal_adds():
    assert len(encode(ADDED)) + ENTRY_BYTES_MAX <= LEAF_BYTES_MAX
