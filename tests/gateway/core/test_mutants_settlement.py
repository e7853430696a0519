"""Settlement to the last watt-hour: tolerance, who is judged by whom, remainders, estimates."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_sop

from gateway.core.delivery import Metered, Status, report, share_out, tolerance_wh
from gateway.core.energy import Counters, at_boundary, frozen, since
from gateway.core.envelope import Planned, curtail, energy_limit_wh, worst_loss_w
from gateway.core.netting import Leg
from gateway.core.planning import delivery_fields, plans_due
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits

SOP = make_sop()
FULL = {t.id: t.s_va for t in SOP.terminals}
ENDS_US = (QUARTER.start_ms * 1000, QUARTER.end_ms * 1000)


def leg(trade_id, out, into, energy_wh):
    return Leg(
        trade_id=trade_id, revision_number=1, out_terminal=out, in_terminal=into,
        energy_wh=energy_wh,
    )  # fmt: skip


def planned(trade_id, out, into, energy_wh):
    return Planned(leg=leg(trade_id, out, into, energy_wh), planned_wh=energy_wh)


def counted(*points):
    return [Counters(utc_us=at_us, import_wh=0, export_wh=wh, p_w=0) for at_us, wh in points]


def metered(**net_wh):
    return {
        t: [Counters(utc_us=ENDS_US[0], import_wh=10**6, export_wh=10**6, p_w=0),
            Counters(utc_us=ENDS_US[1], import_wh=10**6 - min(0, wh),
                     export_wh=10**6 + max(0, wh), p_w=0)]
        for t, wh in net_wh.items()
    }  # fmt: skip


def settle(trades, sop=SOP, **net_wh):
    return report(sop=sop, interval=QUARTER, planned=trades, readings=metered(**net_wh))


@pytest.mark.parametrize(("short_wh", "status"), [(225, Status.DELIVERED), (226, Status.PARTIAL)])
def test_exactly_the_tolerance_still_counts_as_delivered(short_wh, status):
    got = 45_000 - short_wh
    found = settle([planned("a", "T2", "T3", 45_000)], T1=0, T2=-45_000, T3=got, T4=0)
    assert (found.trades[0].delivered_wh, found.trades[0].status) == (got, status)


@pytest.mark.parametrize(
    ("s_va", "minutes", "wh"),
    [(8_000_000, 15, 2_000), (8_000_000, 60, 8_000), (3_600_000, 1, 60), (7_999_999, 15, 1_999)],
)
def test_a_thousandth_of_what_the_rating_could_carry_is_let_pass(s_va, minutes, wh):
    interval = Interval(FIRST_MS, FIRST_MS + minutes * 60_000)
    assert tolerance_wh(contracted_wh=0, s_va=s_va, interval=interval) == wh


def test_half_a_percent_of_a_large_trade_and_two_steps_of_a_meter_are_let_pass():
    assert tolerance_wh(contracted_wh=399_999, s_va=1, interval=QUARTER) == 1_999
    assert tolerance_wh(contracted_wh=400_000, s_va=1, interval=QUARTER) == 2_000
    assert tolerance_wh(contracted_wh=0, s_va=1, interval=QUARTER) == 2


def test_the_larger_rating_of_a_trades_two_ends_sets_its_tolerance():
    big = tuple(replace(t, s_va=8_000_000) if t.id == "T3" else t for t in SOP.terminals)
    sop = make_sop(terminals=big)
    for trade in (planned("a", "T2", "T3", 45_000), planned("a", "T3", "T2", 45_000)):
        signed = {trade.leg.in_terminal: 43_000, trade.leg.out_terminal: -45_000}
        assert settle([trade], sop, T1=0, T4=0, **signed).trades[0].status is Status.DELIVERED


@pytest.mark.parametrize(
    ("ends", "unread", "unmetered"),
    [
        (("T2", "T3"), "T4", False),  # a meter that is none of its business
        (("T2", "T3"), "T3", True),
        (("T2", "T3"), "T2", True),
        (("T1", "T3"), "T1", False),  # the master is judged on the others
        (("T1", "T3"), "T4", True),
        (("T3", "T1"), "T2", True),
    ],
)
def test_a_trade_is_unmetered_when_a_meter_it_is_judged_by_was_not_read(ends, unread, unmetered):
    zero = dict.fromkeys(FULL, 0) | {ends[0]: -9_000, ends[1]: 9_000}
    read = {t: wh for t, wh in zero.items() if t != unread}
    trade = settle([planned("a", *ends, 9_000)], **read).trades[0]
    assert trade.unmetered is unmetered
    assert (trade.status is Status.DELIVERED) is not unmetered


def test_a_meter_that_was_not_read_adds_nothing_to_losses_and_to_what_nobody_ordered():
    found = settle([planned("a", "T2", "T3", 9_000)], T1=-130, T2=-9_000, T3=9_000)
    assert (found.loss_wh, found.unscheduled_wh) == (130, 0)
    found = settle([], T1=-130, T2=40, T3=-50)
    assert found.unscheduled_wh == 90
    assert [t.flags for t in found.terminals] == [(), (), (), ("unmetered",)]


def deviation(planned_wh, judged_wh):
    return Metered(
        terminal="T3", planned_wh=planned_wh, metered_wh=judged_wh, judged_wh=judged_wh,
        estimated=False,
    )  # fmt: skip


@pytest.mark.parametrize("sign", [1, -1])
def test_the_last_watt_hour_of_a_deviation_goes_to_the_largest_remainder(sign):
    trades = [planned("a", "T2", "T3", 3), planned("b", "T2", "T3", 5)]
    assert share_out(deviation(8, 8 + 3 * sign), trades) == {"a": sign, "b": 2 * sign}


def test_a_deviation_is_shared_by_the_trades_of_its_terminal_alone():
    trades = [planned("a", "T2", "T3", 100), planned("b", "T1", "T4", 100),
              planned("c", "T2", "T3", 0)]  # fmt: skip
    assert share_out(deviation(100, 90), trades) == {"a": -10}
    assert share_out(deviation(100, 100), trades) == {"a": 0}


def test_a_trade_that_was_cancelled_gets_nothing_of_the_others_energy():
    trades = [planned("a", "T2", "T3", 100), planned("b", "T2", "T3", 0)]
    found = settle(trades, T1=0, T2=-150, T3=150, T4=0)
    assert [t.delivered_wh for t in found.trades] == [150, 0]


@pytest.mark.parametrize(("start_gap_us", "end_gap_us"), [(1, 0), (0, 1)])
def test_one_wide_bracket_makes_the_energy_an_estimate(start_gap_us, end_gap_us):
    readings = {"T3": counted(
        (ENDS_US[0] - 5_000_000, 0), (ENDS_US[0] + 5_000_000 + start_gap_us, 100),
        (ENDS_US[1] - 5_000_000 - end_gap_us, 900), (ENDS_US[1] + 5_000_000, 1_000),
    )}  # fmt: skip
    found = report(sop=SOP, interval=QUARTER, planned=[], readings=readings)
    assert found.terminals[2].flags == ("estimated",)


@pytest.mark.parametrize(("span_us", "estimated"), [(10_000_000, False), (10_000_001, True)])
def test_a_bracket_of_ten_seconds_is_no_estimate(span_us, estimated):
    boundary = at_boundary(counted((0, 0), (span_us, 9)), 1)
    assert boundary.estimated is estimated


def test_imports_are_interpolated_like_exports():
    rows = [Counters(utc_us=at_us, import_wh=i, export_wh=e, p_w=0)
            for at_us, i, e in ((0, 10, 700), (4_000_000, 30, 700))]  # fmt: skip
    boundary = at_boundary(rows, 1_000)
    assert (boundary.import_mwh, boundary.export_mwh, boundary.net_mwh) == (
        15_000,
        700_000,
        685_000,
    )


def test_energy_so_far_begins_at_the_start_and_goes_back_with_negative_power():
    rows = [Counters(utc_us=at_us, import_wh=0, export_wh=e, p_w=-3_600)
            for at_us, e in ((0, 700), (10_000_000, 800))]  # fmt: skip
    assert since(rows, 5_000, 12_000_000) == 800_000 - 750_000 - 2_000


@pytest.mark.parametrize(("held_w", "still"), [(12_500, True), (-12_500, True), (12_499, False)])
def test_five_percent_of_the_rating_must_move_a_meter(held_w, still):
    rows = [Counters(utc_us=s * 1_000_000, import_wh=5, export_wh=5, p_w=7) for s in range(31)]
    assert frozen(rows, held_w=held_w, s_va=250_000) is still


@pytest.mark.parametrize(("p_w", "still"), [(7_500, True), (7_499, False)])
def test_less_power_than_five_percent_by_its_own_word_is_no_sign_of_a_frozen_meter(p_w, still):
    rows = [Counters(utc_us=s * 1_000_000, import_wh=5, export_wh=5, p_w=p_w + 3 * (s % 2))
            for s in range(1_001)]  # fmt: skip
    assert frozen(rows, held_w=100_000, s_va=150_000) is still


def limited(low_w, high_w, domain="region-a"):
    return FeederLimits(
        site="bench", sop="SOP-1", sequence_number=1, created_utc_ms=FIRST_MS - 1, valid=QUARTER,
        limits=(FeederLimit(domain=domain, p_w_min=low_w, p_w_max=high_w, cause="works"),),
    )  # fmt: skip


def cut(out, into, energy_wh=90_000, *, sop=SOP, limits=None, available=FULL, interval=QUARTER):
    (found,) = curtail([leg("a", out, into, energy_wh)], sop=sop, interval=interval,
                       available_va=available, limits=limits)  # fmt: skip
    return found.planned_wh, [(r.code.value, r.detail) for r in found.reasons]


def carried_wh(limit_w, interval=QUARTER):
    return energy_limit_wh(
        p_w=limit_w * 985 // 1000, ramp_w_per_s=50_000, duration_ms=interval.duration_ms
    )


@pytest.mark.parametrize("ends", [("T1", "T3"), ("T3", "T1")])
@pytest.mark.parametrize(("low_w", "high_w"), [(-90_000, 120_000), (-120_000, 90_000)])
def test_the_masters_feeder_holds_both_ways_by_its_narrower_side_less_every_loss(
    ends, low_w, high_w
):
    wh, reasons = cut(*ends, limits=limited(low_w, high_w))
    assert wh == carried_wh(90_000 - worst_loss_w(SOP, FULL))
    assert [code for code, _ in reasons] == ["feeder_limit"]


def test_a_masters_feeder_too_narrow_for_the_losses_carries_nothing():
    assert cut("T1", "T3", limits=limited(-5_000, 5_000))[0] == 0
    assert cut("T1", "T3", limits=limited(0, 0))[1][0][0] == "feeder_mask"


@pytest.mark.parametrize(
    ("low_w", "reason"),
    [
        (-230_000, ("guard_p", "T2 limited to -230.0 kW")),
        (-229_999, ("feeder_limit", "T2 limited to -230.0 kW (works)")),
    ],
)
def test_a_limit_that_was_sent_is_named_where_it_is_narrower_than_the_sites(low_w, reason):
    assert cut("T2", "T3", limits=limited(low_w, 230_000, "region-b"))[1] == [reason]


def test_a_single_watt_hour_is_too_much_where_the_dc_bus_carries_none():
    assert cut("T2", "T3", 1, sop=make_sop(throughput_w=3)) == (
        0, [("throughput", "DC throughput 0.0 kW")]
    )  # fmt: skip
    assert cut("T2", "T3", 1, sop=make_sop(throughput_w=4)) == (1, [])


def test_a_terminal_that_is_away_loses_what_one_at_rest_loses():
    away = {t: s for t, s in FULL.items() if t != "T4"}
    assert worst_loss_w(SOP, away) == worst_loss_w(SOP, FULL | {"T4": 0})


DAY = Interval(FIRST_MS, FIRST_MS + 86_400_000)


def test_a_master_that_injects_keeps_its_headroom_to_the_watt():
    wide = tuple(replace(t, p_w_min=-250_000, p_w_max=250_000) for t in SOP.terminals)
    sop = make_sop(terminals=wide)
    found = cut("T2", "T1", 9_000_000, sop=sop, interval=DAY)
    assert found[0] == carried_wh(237_500, DAY)
    assert found[1][-1] == ("master_headroom", "T1 limited to +237.5 kW")


def test_a_limit_that_is_cut_by_is_told_with_its_terminal_its_sign_and_its_size():
    assert cut("T2", "T3", available=FULL | {"T2": 100_000})[1] == [
        ("derated", "T2 limited to -100.0 kW")
    ]
    assert cut("T2", "T3", sop=make_sop(throughput_w=150_000))[1][-1] == (
        "throughput", "DC throughput 150.0 kW"
    )  # fmt: skip


@pytest.mark.parametrize("p_w", [2_000_000_000, 2_000_999_999])
def test_a_limit_reached_for_an_instant_is_a_triangle(p_w):
    assert energy_limit_wh(p_w=p_w, ramp_w_per_s=10**9, duration_ms=4_000) == 1_111_111


def test_a_message_of_a_plan_says_all_of_each_trade():
    book = Book().adopted()
    book.accept("b", "T2", "T3", 60_000, revision=3)
    book.accept("a", "T4", "T3", 400_000)
    (plan,) = plans_due(book.state, utc_ms=FIRST_MS, available_va=FULL)
    first, second = plan.fields["trades"]
    assert [first["trade_id"], second["trade_id"]] == ["a", "b"]
    assert second["revision"] == 3
    assert (second["out_terminal"], second["in_terminal"]) == ("T2", "T3")
    assert second["contracted_wh"] == 15_000 > second["planned_wh"] > 0
    assert second["reasons"] == [{"code": "guard_p", "detail": "T3 limited to +230.0 kW"}]
    assert plan.fields["s_va_available"] == FULL
    span = {"start": "2027-01-15T08:00Z", "end": "2027-01-15T08:15Z"}
    assert (plan.fields["sop"], plan.fields["interval"]) == ("SOP-1", span)


def test_a_message_of_a_delivery_says_all_of_each_terminal():
    book = Book().adopted()
    book.accept("a", "T2", "T3", 100_000)
    (plan,) = plans_due(book.state, utc_ms=FIRST_MS, available_va=FULL)
    book.add("plan", **plan.fields)
    for at_us, wh in zip(ENDS_US, (0, 25_000), strict=True):
        book.read(at_us, T1=-wh // 100, T2=-wh, T3=wh - wh // 1000)
    told = delivery_fields(book.state, book.state.plans[FIRST_MS])
    assert told["terminals"] == [
        {"terminal": "T1", "planned_wh": 0, "metered_wh": -250, "judged_wh": 25, "flags": []},
        {"terminal": "T2", "planned_wh": -25_000, "metered_wh": -25_000, "judged_wh": -25_000,
         "flags": []},
        {"terminal": "T3", "planned_wh": 25_000, "metered_wh": 24_975, "judged_wh": 24_975,
         "flags": []},
        {"terminal": "T4", "planned_wh": 0, "metered_wh": None, "judged_wh": 0,
         "flags": ["unmetered"]},
    ]  # fmt: skip
    assert (told["loss_wh"], told["unscheduled_wh"]) == (275, 0)
    (trade,) = told["trades"]
    assert (trade["delivered_wh"], trade["status"], trade["reasons"]) == (24_975, "delivered", [])


def settled(planned_wh, delivered_wh):
    """Status and reasons of a trade of 25 kWh that was curtailed to so much."""
    guard = [{"code": "guard_p", "detail": ""}]
    book = Book().adopted()
    book.plan(
        {"T2": -planned_wh, "T3": planned_wh},
        trades=[{"trade_id": "a", "revision": 1, "out_terminal": "T2", "in_terminal": "T3",
                 "contracted_wh": 25_000, "planned_wh": planned_wh, "reasons": guard}],
    )  # fmt: skip
    for at_us, wh in zip(ENDS_US, (0, delivered_wh), strict=True):
        book.read(at_us, T1=0, T2=-wh, T3=wh, T4=0)
    (told,) = delivery_fields(book.state, book.state.plans[FIRST_MS])["trades"]
    return told["status"], told["reasons"]


@pytest.mark.parametrize(
    ("planned_wh", "delivered_wh", "told"),
    [
        (1, 1, ("partial", ["guard_p"])),
        (0, 0, ("failed", ["guard_p", "shortfall"])),
        (2, 1, ("partial", ["guard_p", "shortfall"])),
    ],
)
def test_what_was_planned_and_came_needs_no_cause_however_little(planned_wh, delivered_wh, told):
    assert settled(planned_wh, delivered_wh) == told
