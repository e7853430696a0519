"""What a plan says in watts, and reactive power to the last var."""

from dataclasses import replace
from math import isqrt

import pytest
from fakes.core import FIRST_MS, Book, make_sop

from gateway.core import feeder, reactive
from gateway.core.planning import plans_due
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit
from gateway.model.terminal import Reactive

FULL = {f"T{k}": 250_000 for k in range(1, 5)}


@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_a_plan_shows_the_mean_power_of_each_energy(minutes):
    interval = Interval(FIRST_MS, FIRST_MS + minutes * 60_000)
    book = Book().adopted()
    book.accept("a", "T2", "T3", 60_000, interval=interval)
    book.accept("b", "T1", "T3", 12_000, interval=interval)
    (plan,) = plans_due(book.state, utc_ms=FIRST_MS, available_va=FULL)
    assert plan.fields["setpoints"] == {"T1": 0, "T2": -60_000, "T3": 72_000, "T4": 0}
    energy_wh = 1000 * minutes
    assert plan.fields["planned_wh"]["T2"] == -energy_wh


def test_plans_come_in_the_order_of_their_intervals():
    book = Book().adopted()
    for number in (2, 0, 1):
        start = FIRST_MS + number * 60_000
        book.accept(f"t{number}", "T2", "T3", 6_000, interval=Interval(start, start + 60_000))
    found = plans_due(book.state, utc_ms=FIRST_MS + 100_000, available_va=FULL)
    assert [p.interval.start_ms for p in found] == [FIRST_MS, FIRST_MS + 60_000, FIRST_MS + 120_000]


def asked(**q_var):
    sop = make_sop()
    return replace(
        sop,
        terminals=tuple(
            replace(t, reactive=Reactive(q_var=q_var[t.id])) if t.id in q_var else t
            for t in sop.terminals
        ),
    )


def given_var(sop, target_w, available=FULL, v_dv=None):
    zero = {f"T{k}": 0 for k in range(1, 5)}
    return reactive.setpoints_var(
        sop, target_w=zero | target_w, v_dv=v_dv or {}, available_va=available
    )


def test_the_master_gives_what_the_others_and_every_loss_leave_it():
    sop = asked(T1=10**6)
    loss = sum(
        sop.losses.loss_w(p_w=p, s_va=250_000) for p in (-150_000, 50_000, 0, 100_000)
    )  # the slaves' three and the master's own
    carried = 100_000 + loss
    found = given_var(sop, {"T2": -150_000, "T3": 50_000})["T1"]
    assert found == isqrt(250_000**2 - carried**2)


@pytest.mark.parametrize(("sign", "p_w"), [(1, 150_000), (-1, -150_000)])
def test_a_terminal_gives_what_its_active_power_leaves_and_no_more(sign, p_w):
    found = given_var(asked(T2=sign * 10**6), {"T2": p_w})
    assert found == {"T1": 0, "T2": sign * 200_000, "T3": 0, "T4": 0}
    assert given_var(asked(T2=sign * 1_000), {"T2": p_w})["T2"] == sign * 1_000


def test_no_reactive_power_is_left_at_full_active_power_or_without_a_converter():
    assert given_var(asked(T2=50_000), {"T2": 250_000})["T2"] == 0
    away = {k: v for k, v in FULL.items() if k != "T2"}
    assert given_var(asked(T2=50_000), {}, available=away)["T2"] == 0


@pytest.mark.parametrize(("change_var", "worth"), [(2_500, False), (2_501, True), (-2_501, True)])
def test_one_percent_of_the_rating_is_not_worth_a_write(change_var, worth):
    held = {"T2": 20_000}
    wanted = {"T2": 20_000 + change_var}
    zero = dict.fromkeys(FULL, 0)
    assert reactive.worth_writing(make_sop(), target_w=zero, wanted=wanted, held=held) is worth


@pytest.mark.parametrize(("p_w", "worth"), [(150_000, False), (150_001, True)])
def test_active_power_that_needs_the_room_calls_for_a_write(p_w, worth):
    held = {"T2": 200_000}  # 150 kW beside it is exactly the rating
    target = dict.fromkeys(FULL, 0) | {"T2": p_w}
    assert reactive.worth_writing(make_sop(), target_w=target, wanted=held, held=held) is worth


def test_the_masters_own_room_is_not_judged_by_its_setpoint_of_zero():
    held = {"T1": 250_000}
    target = dict.fromkeys(FULL, 0) | {"T1": 1}
    assert not reactive.worth_writing(make_sop(), target_w=target, wanted=held, held=held)


@pytest.mark.parametrize(
    ("low_w", "high_w", "sign", "code", "detail"),
    [
        (-90_000, 110_000, 1, "feeder_limit", "T2 limited to +110.0 kW (works)"),
        (-90_000, 110_000, -1, "feeder_limit", "T2 limited to -90.0 kW (works)"),
        (0, 0, 1, "feeder_mask", "T2 limited to +0.0 kW (works)"),
        (0, 1, -1, "feeder_limit", "T2 limited to +0.0 kW (works)"),
    ],
)
def test_a_limit_that_was_sent_is_told_in_kilowatts_with_its_cause(
    low_w, high_w, sign, code, detail
):
    limit = FeederLimit(domain="region-b", p_w_min=low_w, p_w_max=high_w, cause="works")
    told = feeder.reason(limit, sign, "T2")
    assert (told.code.value, told.detail) == (code, detail)
