"""Limits to the last watt-hour: what is named as the limit, and where exactly it lies."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_policy, make_sop

from gateway.core.envelope import RESERVE_PERMILLE, curtail, energy_limit_wh, worst_loss_w
from gateway.core.netting import Leg
from gateway.core.planning import SETTLE_MS, deliveries_due, delivery_fields
from gateway.core.verify import Accepted, admit
from gateway.model.interval import Interval
from gateway.model.trade import Position, Trade

FULL = {f"T{k}": 250_000 for k in range(1, 5)}


def guarded(guard_w, **changes):
    """The bench with other guards, the same for all terminals."""
    sop = make_sop(**changes)
    return replace(
        sop,
        terminals=tuple(replace(t, p_w_min=-guard_w, p_w_max=guard_w) for t in sop.terminals),
    )


def most_wh(limit_w):
    """Energy of the trapezoid under a limit, by its own arithmetic."""
    p_w = limit_w * (1000 - RESERVE_PERMILLE) // 1000
    ramp_s = p_w / 50_000
    return int(p_w * (900 - ramp_s) / 3600)


def cut(out, into, p_w=400_000, sop=None, available=FULL):
    leg = Leg(
        trade_id="a", revision_number=1, out_terminal=out, in_terminal=into, energy_wh=p_w // 4
    )
    (planned,) = curtail([leg], sop=sop or make_sop(), interval=QUARTER, available_va=available)
    return planned.planned_wh, [r.code.value for r in planned.reasons]


@pytest.mark.parametrize(
    ("available_va", "limit_w", "name"),
    [(250_000, 250_000, "rating"), (249_000, 249_000, "derated"), (120_000, 120_000, "derated")],
)
def test_a_terminal_is_called_derated_only_below_its_rating(available_va, limit_w, name):
    sop = guarded(300_000, throughput_w=900_000)
    wh, reasons = cut("T2", "T3", sop=sop, available=FULL | {"T3": available_va, "T2": 250_000})
    assert reasons[0] in (name, "rating")
    assert name in reasons
    assert abs(wh - most_wh(limit_w)) <= 1


def test_the_master_keeps_five_percent_and_when_it_absorbs_room_for_every_loss():
    sop = guarded(300_000, throughput_w=900_000)
    injects, why = cut("T2", "T1", sop=sop)
    assert why == ["rating", "master_headroom"] or why == ["master_headroom"]
    assert abs(injects - most_wh(237_500)) <= 1
    absorbs, why = cut("T1", "T2", sop=sop)
    assert why[0] == "master_headroom"
    assert abs(absorbs - most_wh(237_500 - worst_loss_w(sop, FULL))) <= 1


def test_a_master_without_room_carries_nothing_rather_than_less_than_nothing():
    assert cut("T1", "T2", available=FULL | {"T1": 10_000})[0] == 0


def test_losses_are_bounded_by_what_each_terminal_can_carry():
    sop = make_sop()
    whole, half = worst_loss_w(sop, FULL), worst_loss_w(sop, dict.fromkeys(FULL, 115_000))
    assert 0 < half < whole
    assert whole == sum(sop.losses.loss_w(p_w=230_000, s_va=250_000) for _ in FULL)
    lopsided = replace(sop, terminals=tuple(replace(t, p_w_max=100_000) for t in sop.terminals))
    assert worst_loss_w(lopsided, FULL) == whole, "the larger of the two directions counts"


@pytest.mark.parametrize("direction", [("T2", "T3"), ("T3", "T2")])
def test_exactly_the_limit_is_carried_whole_and_one_watt_hour_more_is_cut(direction):
    limit_wh = energy_limit_wh(
        p_w=230_000 * (1000 - RESERVE_PERMILLE) // 1000, ramp_w_per_s=50_000, duration_ms=900_000
    )
    for energy_wh, reasons in ((limit_wh, 0), (limit_wh + 1, 1)):
        leg = Leg(trade_id="a", revision_number=1, out_terminal=direction[0],
                  in_terminal=direction[1], energy_wh=energy_wh)  # fmt: skip
        (planned,) = curtail([leg], sop=make_sop(), interval=QUARTER, available_va=FULL)
        assert planned.planned_wh == limit_wh
        assert len(planned.reasons) == reasons


def test_exactly_the_throughput_is_carried_whole():
    sop = make_sop(throughput_w=150_000)
    assert cut("T2", "T3", 150_000, sop=sop) == (37_500, [])
    wh, reasons = cut("T2", "T3", 150_004, sop=sop)
    assert (wh, reasons) == (37_500, ["throughput"])


def test_what_is_left_of_a_shared_limit_goes_out_to_the_last_watt_hour_by_remainder():
    sop = make_sop(throughput_w=40)  # 10 Wh a quarter of an hour
    legs = [
        Leg(trade_id=name, revision_number=1, out_terminal="T2", in_terminal="T3", energy_wh=wh)
        for name, wh in (("a", 5), ("b", 5), ("c", 3))
    ]
    found = {p.leg.trade_id: p.planned_wh for p in
             curtail(legs, sop=sop, interval=QUARTER, available_va=FULL)}  # fmt: skip
    assert found == {"a": 4, "b": 4, "c": 2}  # 3.85, 3.85, 2.31 of ten


@pytest.mark.parametrize(
    ("p_w", "duration_ms", "wh"),
    [
        (50_000, 3_600_000, 49_986),  # one second up and one down: a second's worth is missing
        (1_250_000, 60_000, 12_152),  # 25 s up, 10 s held, 25 s down
        (100_000, 4_000, 55),  # up for two seconds, down for two: a triangle
        (1_000_000, 4_000, 55),  # a limit that is never reached
    ],
)
def test_the_energy_under_a_limit_is_that_of_a_trapezoid_or_a_triangle(p_w, duration_ms, wh):
    assert energy_limit_wh(p_w=p_w, ramp_w_per_s=50_000, duration_ms=duration_ms) == wh


def trade(p_w, *, start_ms=FIRST_MS, count=1):
    spans = [Interval(start_ms + k * 900_000, start_ms + (k + 1) * 900_000) for k in range(count)]
    return Trade(
        id="t", revision_number=1, sop="SOP-1", out_domain="region-b", in_domain="region-c",
        positions=tuple(Position(interval=s, p_w=p_w, energy_wh=p_w // 4) for s in spans),
    )  # fmt: skip


def judged(asked, *, received_ms=FIRST_MS - 3_600_000, open_count=0, intervals=(), **policy):
    verdict = admit(
        asked, sha256="s", sop=make_sop(), policy=make_policy(**policy), earlier=None,
        intervals=intervals,
        open_count=open_count, received_ms=received_ms, mode="on", time_quality="good",
    )  # fmt: skip
    return "accepted" if isinstance(verdict, Accepted) else verdict.reasons


def test_a_site_that_refuses_takes_exactly_its_limit_and_names_what_is_over():
    refuse = {"over_limit": "refuse"}
    assert judged(trade(230_000), **refuse) == "accepted"
    (reason,) = judged(trade(230_100), **refuse)
    assert (reason.code.value, reason.detail) == ("refused_by_policy", "230.1 kW over 230.0 kW")
    assert judged(trade(230_100)) == "accepted", "a site that curtails takes it"


def test_the_horizon_ends_with_the_trades_last_interval():
    hour_ms = 3_600_000
    asked = trade(1000, start_ms=FIRST_MS + hour_ms, count=4)
    assert judged(asked, received_ms=FIRST_MS, horizon_ms=2 * hour_ms) == "accepted"
    (reason,) = judged(asked, received_ms=FIRST_MS, horizon_ms=2 * hour_ms - 1)
    assert reason.code.value == "horizon"


def test_as_many_trades_as_the_site_keeps_open_and_not_one_more():
    assert judged(trade(1000), open_count=9, open_count_max=10) == "accepted"
    (reason,) = judged(trade(1000), open_count=10, open_count_max=10)
    assert (reason.code.value, reason.detail) == ("rate", "10 trades are open")


@pytest.mark.parametrize(
    ("before_ms", "detail"),
    [
        (119_999, "received 119 s before its start, gate 120 s"),
        (119_000, "received 119 s before its start, gate 120 s"),
        (0, "starts 0 s before it was received"),
        (-5_000, "starts 5 s before it was received"),
    ],
)
def test_what_comes_late_is_told_by_how_much(before_ms, detail):
    (reason,) = judged(trade(1000), received_ms=FIRST_MS - before_ms)
    assert (reason.code.value, reason.detail) == ("late", detail)


def delivered(delivered_wh, *, planned_wh=25_000, reasons=()):
    """A delivery of one trade by its meters, and the causes told for it."""
    book = Book().adopted()
    book.accept("a", "T2", "T3", 100_000)
    book.plan(
        {"T2": -planned_wh, "T3": planned_wh},
        trades=[{"trade_id": "a", "revision": 1, "out_terminal": "T2", "in_terminal": "T3",
                 "contracted_wh": 25_000, "planned_wh": planned_wh, "reasons": list(reasons)}],
    )  # fmt: skip
    zero = {f"T{k}": 0 for k in range(1, 5)}
    book.read(QUARTER.start_ms * 1000, **zero)
    book.read(QUARTER.end_ms * 1000, **(zero | {"T2": -delivered_wh, "T3": delivered_wh}))
    (record,) = deliveries_due(book.state, utc_ms=QUARTER.end_ms)
    (told,) = delivery_fields(book.state, record)["trades"]
    return told["status"], told["reasons"]


def test_a_plan_followed_to_half_a_percent_needs_no_cause_beside_its_curtailment():
    guard = [{"code": "guard_p", "detail": ""}]
    assert delivered(19_900, planned_wh=20_000, reasons=guard) == ("partial", ["guard_p"])
    assert delivered(19_899, planned_wh=20_000, reasons=guard) == (
        "partial", ["guard_p", "shortfall"]
    )  # fmt: skip


def test_a_shortfall_is_told_and_what_was_delivered_is_not_explained():
    assert delivered(25_000) == ("delivered", [])
    assert delivered(20_000) == ("partial", ["shortfall"])


@pytest.mark.parametrize(("after_ms", "due"), [(SETTLE_MS - 1, 0), (SETTLE_MS, 1)])
def test_meters_are_waited_for_a_minute_and_no_longer(after_ms, due):
    book = Book().adopted()
    book.plan({"T2": -25_000, "T3": 25_000})
    assert len(deliveries_due(book.state, utc_ms=QUARTER.end_ms + after_ms)) == due


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "taken"),
    [(-300_000, 0, True), (900_000, 1_200_000, True), (-299_999, 1, False), (899_999, 1_200_000, False),
     (0, 900_000, True), (300_000, 600_000, False)],
)  # fmt: skip
def test_intervals_of_another_length_may_touch_and_not_overlap(start_ms, end_ms, taken):
    other = Interval(FIRST_MS + start_ms, FIRST_MS + end_ms)
    assert (judged(trade(1000), intervals=[other]) == "accepted") is taken
