"""Single edges of several modules: what a trade is told, limits of another hour, who is written."""

import dataclasses

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_image, make_policy, make_sop, make_station

from gateway.core import decide, feeder, setpoints, stepped
from gateway.core.alarms import AlarmBook, statistics
from gateway.core.decide import Dispatch, ReadBack
from gateway.core.envelope import curtail
from gateway.core.netting import Leg
from gateway.core.setpoints import wanted
from gateway.core.verify import Accepted, Known, admit
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.trade import Position, Trade

SOP = make_sop()
FULL = {t.id: t.s_va for t in SOP.terminals}
ZERO = dict.fromkeys(FULL, 0)
HOUR_MS = 3_600_000


def trade(p_w=100_000, revision=1):
    position = Position(interval=QUARTER, p_w=p_w, energy_wh=p_w // 4)
    return Trade(
        id="t", revision_number=revision, sop="SOP-1", out_domain="region-b",
        in_domain="region-c", positions=(position,),
    )  # fmt: skip


def told(asked, *, ahead_ms=HOUR_MS, sha256="aa", known=None, **policy):
    verdict = admit(
        asked, sha256=sha256, sop=SOP, policy=make_policy(**policy), earlier=(known or {}).get(asked.id),
        intervals=(), open_count=0, received_ms=FIRST_MS - ahead_ms, mode="on",
        time_quality="good",
    )  # fmt: skip
    if isinstance(verdict, Accepted):
        return []
    return [(r.code.value, r.detail) for r in verdict.reasons]


BEFORE = {"t": Known(revision_number=1, sha256="aa", accepted_index=5, trade=trade())}


@pytest.mark.parametrize(
    ("asked", "sha256", "code"),
    [
        (trade(), "aa", "duplicate"),
        (trade(), "bb", "duplicate"),  # the same trade in other bytes
        (trade(50_000), "aa", "duplicate"),  # the same bytes
        (trade(50_000), "bb", "conflict"),
        (trade(revision=0), "aa", "superseded"),
    ],
)
def test_what_comes_again_is_told_where_it_was_accepted(asked, sha256, code):
    ((found, detail),) = told(asked, sha256=sha256, known=BEFORE)
    assert found == code
    assert detail.endswith("accepted as revision 1 in entry 5")


@pytest.mark.parametrize(
    ("ahead_ms", "detail"),
    [(1, "received 0 s before its start, gate 120 s"), (0, "starts 0 s before it was received")],
)
def test_a_start_a_millisecond_ahead_is_not_yet_past(ahead_ms, detail):
    assert told(trade(), ahead_ms=ahead_ms) == [("late", detail)]


def test_a_horizon_is_told_in_hours():
    found = told(trade(), ahead_ms=49 * HOUR_MS)
    assert found == [("horizon", "ends beyond the horizon of 48 h")]


@pytest.mark.parametrize(
    ("p_w", "detail"), [(230_100, "230.1 kW over 230.0 kW"), (900_000, "900.0 kW over 230.0 kW")]
)
def test_what_a_site_refuses_is_told_in_kilowatts(p_w, detail):
    assert told(trade(p_w), over_limit="refuse") == [("refused_by_policy", detail)]


def limits(valid, domain="region-c"):
    return FeederLimits(
        site="bench", sop="SOP-1", sequence_number=1, created_utc_ms=FIRST_MS, valid=valid,
        limits=(FeederLimit(domain=domain, p_w_min=-10_000, p_w_max=10_000, cause="works"),),
    )  # fmt: skip


@pytest.mark.parametrize(
    "valid",
    [Interval(QUARTER.end_ms, QUARTER.end_ms + 1), Interval(FIRST_MS - 1, FIRST_MS)],
    ids=["later", "earlier"],
)
def test_limits_of_another_hour_leave_an_interval_alone(valid):
    leg = Leg(
        trade_id="a", revision_number=1, out_terminal="T2", in_terminal="T3", energy_wh=25_000
    )
    (found,) = curtail([leg], sop=SOP, interval=QUARTER, available_va=FULL, limits=limits(valid))
    assert (found.planned_wh, found.reasons) == (25_000, ())
    assert feeder.at_terminals(limits(valid), SOP, QUARTER) == {}


def test_the_five_alarms_that_came_most_often_are_named_the_most_frequent_first():
    book = AlarmBook()
    book.raised = [
        (FIRST_MS * 1000, code) for n, code in enumerate("FEDCBA", 1) for _ in range(10 * n)
    ]
    found = statistics(book, [], utc_us=FIRST_MS * 1000, days_count=1)
    assert found.most == (("A", 60), ("B", 50), ("C", 40), ("D", 30), ("E", 20))


def planned():
    book = Book().adopted()
    book.plan({"T2": -45_000, "T3": 45_000})
    return book


@pytest.mark.parametrize(("lead_us", "opens"), [(1_001_000, True), (1_000_999, False)])
def test_what_a_write_takes_is_reckoned_in_whole_milliseconds(lead_us, opens):
    image = make_image(at_ms=FIRST_MS - 1_001, lead_us=lead_us, mono_us=9_000_000)
    found = [a for a in decide.scan(planned().state, image).actions if isinstance(a, Dispatch)]
    assert bool(found) is opens


def test_ramps_are_made_from_where_power_will_be_when_the_write_acts():
    """It takes half a second more, in which each terminal goes on towards what it holds."""
    book = planned()
    book.utc_us = FIRST_MS * 1000
    held = {"T2": -180_000, "T3": 180_000}
    book.execute(held, plan_index=book.state.plans[FIRST_MS].index)
    book.add("mode", mode="blocked", state="EXECUTING", reasons=[])
    now_us = book.state.active.mono_us + 1_000_000
    station = make_station(held, mono_us=now_us, instruction_id=99)
    rows = tuple(
        dataclasses.replace(t, p_w={"T2": -100_000, "T3": 50_000}.get(t.id, 0))
        for t in station.terminals
    )
    station = dataclasses.replace(station, terminals=rows)
    image = make_image(station=station, mono_us=now_us, lead_us=500_000)
    (sent,) = [a for a in decide.scan(book.state, image).actions if isinstance(a, Dispatch)]
    assert sent.ramps == {"T1": 200, "T2": 200, "T3": 120, "T4": 200}  # from 125 kW and 75 kW


def test_a_station_at_rest_after_a_start_holds_nothing_of_ours():
    book = planned()
    book.execute({}, plan_index=book.state.plans[FIRST_MS].index)
    book.boot_number = 2
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    image = make_image(station=make_station(mono_us=2_000_000, instruction_id=99))
    (noted,) = [a for a in decide.scan(book.state, image).actions if isinstance(a, ReadBack)]
    assert noted.cause == "zero"


@pytest.mark.parametrize(("after_ms", "writes"), [(15_000, True), (15_001, False)])
def test_a_meter_that_is_not_read_is_waited_for_fifteen_seconds(after_ms, writes):
    book = planned()
    book.utc_us = FIRST_MS * 1000
    book.execute({"T2": -170_000, "T3": 170_000}, plan_index=book.state.plans[FIRST_MS].index)
    found = wanted(book.state, utc_ms=FIRST_MS + after_ms, lead_ms=0, available_va=FULL)
    assert (found.setpoints is not None) is writes


def test_a_terminal_that_goes_away_in_the_last_seconds_is_asked_for_nothing():
    book = planned()
    book.utc_us = FIRST_MS * 1000
    book.execute({"T2": -180_000, "T3": 180_000}, plan_index=book.state.plans[FIRST_MS].index)
    away = {t: s for t, s in FULL.items() if t != "T3"}
    found = wanted(book.state, utc_ms=QUARTER.end_ms - 10_000, lead_ms=0, available_va=away)
    assert (found.setpoints["T2"], found.setpoints["T3"]) == (-180_000, 0)


def test_a_ramp_is_as_long_as_the_move_not_as_the_power():
    state = Book().adopted().state
    there, back = ZERO | {"T2": 50_000, "T3": 100_000}, ZERO | {"T2": -50_000, "T3": 100_000}
    assert setpoints._shape(state, there, back) == {"T2": 2_000, "T3": 0, "T4": 0}


@pytest.mark.parametrize("is_separate", [False, True])
def test_a_closing_of_one_step_begins_as_late_under_separate_controllers(is_separate):
    book = Book(rearm="auto").adopted()
    book.state.site = dataclasses.replace(book.state.site, separate=is_separate)
    plan = book.plan({"T2": -25_000, "T3": 25_000})
    book.utc_us = FIRST_MS * 1000
    book.execute({"T2": -100_000, "T3": 100_000}, plan_index=plan)
    found = wanted(book.state, utc_ms=QUARTER.end_ms - 14_000, lead_ms=0, available_va=FULL)
    assert found.wake_ms == QUARTER.end_ms - 2_000


def test_who_relieves_the_master_is_told_by_its_move_not_by_its_power():
    before = ZERO | {"T2": 100_000, "T3": -20_000}
    after = ZERO | {"T2": 90_000, "T3": -10_000}
    assert stepped.writing_order(SOP, before, after)[:2] == ["T2", "T3"]


@pytest.mark.parametrize(("payload", "kept"), [({"payload": "YWI="}, b"ab"), ({}, b"")])
def test_a_message_is_kept_with_its_bytes_unless_it_was_too_large(payload, kept):
    book = Book()
    index = book.add("trade.received", topic="t", retain=False, size=2, sha256="x", **payload)
    assert book.state.received[index].payload == kept
