"""Limits a system operator sent: whose they are, how long they hold, what they leave of a plan."""

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import feeder
from gateway.core.envelope import curtail
from gateway.core.netting import Leg, net
from gateway.core.planning import delivery_fields, plans_due
from gateway.core.setpoints import wanted
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits

SOP = make_sop()
FULL = {t.id: t.s_va for t in SOP.terminals}
BEFORE = Interval(FIRST_MS - 900_000, FIRST_MS)


def limits(p_w_min=-20_000, p_w_max=40_000, *, domain="region-c", sequence=7, valid=QUARTER):
    return FeederLimits(
        site="bench", sop="SOP-1", sequence_number=sequence, created_utc_ms=FIRST_MS - 60_000,
        valid=valid,
        limits=(FeederLimit(domain=domain, p_w_min=p_w_min, p_w_max=p_w_max, cause="work"),),
    )  # fmt: skip


def sent(book, found):
    book.add(
        "operator", user="system-operator", verb=feeder.VERB,
        arguments=feeder.fields_of(found), reason="",
    )  # fmt: skip
    return book


def test_what_is_written_down_is_what_was_sent():
    assert sent(Book(), limits()).state.feeder_limits == limits()


@pytest.mark.parametrize(
    ("span", "holds"),
    [
        (QUARTER, True),
        (BEFORE, False),
        (Interval(QUARTER.end_ms, QUARTER.end_ms + 60_000), False),
        (Interval(QUARTER.end_ms - 1, QUARTER.end_ms + 60_000), True),
        (Interval(BEFORE.start_ms, FIRST_MS + 1), True),
    ],
)
def test_a_limit_holds_for_every_interval_it_touches(span, holds):
    assert bool(feeder.at_terminals(limits(), SOP, span)) is holds
    assert (feeder.narrowed(SOP, limits(), span) != SOP) is holds


def test_a_limit_never_widens_what_the_site_allows():
    wide = feeder.narrowed(SOP, limits(-999_000, 999_000), QUARTER)
    assert wide == SOP
    narrow = feeder.narrowed(SOP, limits(), QUARTER).terminal("T3")
    assert (narrow.p_w_min, narrow.p_w_max) == (-20_000, 40_000)


@pytest.mark.parametrize(
    ("new", "held", "at_ms", "codes"),
    [
        (limits(), None, FIRST_MS, []),
        (limits(sequence=8), limits(), FIRST_MS, []),
        (limits(), limits(), FIRST_MS, ["superseded"]),
        (limits(), None, QUARTER.end_ms - 1, []),
        (limits(), None, QUARTER.end_ms, ["limits_expired"]),
        (limits(domain="region-x"), None, FIRST_MS, ["unknown_domain"]),
    ],
)
def test_why_limits_are_not_taken(new, held, at_ms, codes):
    assert [r.code.value for r in feeder.refusals(new, held, SOP, at_ms)] == codes


def leg(trade_id, out, into, energy_wh):
    return Leg(
        trade_id=trade_id,
        revision_number=1,
        out_terminal=out,
        in_terminal=into,
        energy_wh=energy_wh,
    )


@given(
    st.lists(st.tuples(st.permutations(["T1", "T2", "T3", "T4"]), st.integers(0, 60_000)), max_size=6),
    st.integers(-250_000, 0), st.integers(0, 250_000),
)  # fmt: skip
def test_no_plan_goes_beyond_a_feeders_limit(trades, low_w, high_w):
    legs = [leg(f"t{k}", ends[0], ends[1], wh) for k, (ends, wh) in enumerate(trades)]
    found = curtail(
        legs, sop=SOP, interval=QUARTER, available_va=FULL, limits=limits(low_w, high_w)
    )
    planned = [
        leg(p.leg.trade_id, p.leg.out_terminal, p.leg.in_terminal, p.planned_wh) for p in found
    ]
    assert low_w / 4 <= net(planned, list(FULL))["T3"] <= high_w / 4


@pytest.mark.parametrize(
    ("low_w", "high_w", "code"), [(-1, 40_000, "feeder_limit"), (0, 0, "feeder_mask")]
)
def test_what_is_cut_names_the_limit_and_its_cause(low_w, high_w, code):
    (found,) = curtail(
        [leg("a", "T2", "T3", 25_000)], sop=SOP, interval=QUARTER, available_va=FULL,
        limits=limits(low_w, high_w),
    )  # fmt: skip
    assert [r.code.value for r in found.reasons] == [code]
    assert "work" in found.reasons[0].detail
    assert found.planned_wh <= high_w // 4


def test_a_plan_follows_the_limits_of_the_ledger():
    book = sent(Book().adopted(), limits())
    book.accept("a", "T2", "T3", 100_000)
    (plan,) = plans_due(book.state, utc_ms=FIRST_MS - 20_000, available_va=FULL)
    assert 9_000 < plan.fields["planned_wh"]["T3"] <= 10_000


def test_a_limit_that_comes_during_the_interval_is_followed_and_named():
    book = Book().adopted()
    book.accept("a", "T2", "T3", 100_000)
    (plan,) = plans_due(book.state, utc_ms=FIRST_MS - 20_000, available_va=FULL)
    index = book.add("plan", **plan.fields)
    book.utc_us = FIRST_MS * 1000
    book.execute({"T2": -100_400, "T3": 100_400}, plan_index=index)
    sent(book, limits())
    for with_meter in (False, True):
        if with_meter:
            book.read(FIRST_MS * 1000, T2=0, T3=0)
            book.read((FIRST_MS + 60_000) * 1000, T2=-1_600, T3=1_600)
        found = wanted(book.state, utc_ms=FIRST_MS + 60_000, lead_ms=0, available_va=FULL)
        assert found.setpoints["T3"] == 40_000
    book.read(QUARTER.end_ms * 1000, T1=0, T2=-10_000, T3=10_000, T4=0)
    (trade,) = delivery_fields(book.state, book.state.plans[FIRST_MS])["trades"]
    assert "feeder_limit" in trade["reasons"]


def test_the_masters_feeder_bounds_what_the_others_may_do():
    book = sent(Book().adopted(), limits(-30_000, 30_000, domain="region-a"))
    book.plan({"T1": -20_000, "T2": 20_000})
    found = wanted(book.state, utc_ms=FIRST_MS, lead_ms=0, available_va=FULL)
    assert 0 < found.setpoints["T2"] < 30_000
