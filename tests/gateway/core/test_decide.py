"""One scan: the right action for what was seen, and nothing is changed by deciding."""

import copy
import dataclasses

import pytest
from fakes.core import OWNER, QUARTER, RUNNING, Book, make_image, make_station

from gateway.core import decide, interlock
from gateway.core.decide import (
    ChangeState,
    Configure,
    Deliver,
    Dispatch,
    MakePlan,
    ReadBack,
    Settle,
    StationCommand,
)  # fmt: skip
from gateway.model.reason import ReasonCode
from gateway.model.setpoint import Command
from gateway.model.telemetry import Quality
from gateway.model.telemetry import State as StationState

HELD = {"T2": -100_000, "T3": 100_000}


def actions(book, **image):
    return decide.scan(book.state, make_image(**image)).actions


def of(kind, found):
    return [a for a in found if isinstance(a, kind)]


def executing(instr_id=99):
    book = Book().adopted()
    plan = book.plan({"T2": -25_000, "T3": 25_000})
    book.execute(HELD, plan_index=plan, instr_id=instr_id)
    return book


def holding(**changes):
    return make_station(HELD, mono_us=2_000_000, **({"instruction_id": 99} | changes))


def test_deciding_changes_nothing():
    book = Book()
    book.accept("a", "T2", "T3", 100_000)
    before = copy.deepcopy(book.state.__reduce_ex__(2)[2])
    decide.scan(book.state, make_image())
    assert book.state.__reduce_ex__(2)[2] == before


def test_the_same_state_and_image_give_the_same_decision():
    book = executing()
    image = make_image(station=holding())
    assert decide.scan(book.state, image) == decide.scan(book.state, image)


def test_a_station_that_is_not_configured_is_configured_before_anything_moves():
    found = actions(Book().adopted(), configured=False)
    assert of(Configure, found)
    assert not of(Dispatch, found)


def test_nobody_writes_into_a_link_that_is_down():
    assert not of(Configure, actions(Book().adopted(), configured=False, link_up=False))


def test_a_due_interval_is_planned_and_moved_only_after_its_plan_is_written():
    book = Book().adopted()
    book.accept("a", "T2", "T3", 100_000)
    found = actions(book)
    assert of(MakePlan, found)
    assert not of(Dispatch, found)
    book.add("plan", **of(MakePlan, found)[0].plan.fields)
    assert of(Dispatch, actions(book))[0].authority == "plan"


@pytest.mark.parametrize("changes", [{"mode": "blocked"}, {"mode": "off"}])
def test_in_a_blocked_mode_nothing_is_written(changes):
    book = Book(**changes).adopted()
    book.plan({"T2": -25_000, "T3": 25_000})
    assert not of(Dispatch, actions(book))


def test_power_goes_to_zero_when_the_mode_is_blocked():
    book = executing()
    book.add("mode", mode="blocked", state="EXECUTING", reasons=[])
    found = of(Dispatch, actions(book, station=holding(), mono_us=5_000_000))
    assert found[0].authority == "failsafe"
    assert not any(found[0].setpoints.values())


def refuse_zero(book):
    zero = [{"terminal": t, "mode": "P_Q", "p_w": 0, "q_var": 0} for t in ("T1", "T2", "T3", "T4")]
    intent = book.add(
        "intent", sop="SOP-1", authority="failsafe", plan_index=-1, instr_id=7, setpoints=zero,
        ramp_permille_per_s=200, ttl_s=5, staged="", expires_mono_us=0,
    )  # fmt: skip
    why = [{"code": "select_failed", "detail": "rejected"}]
    book.add("abort", intent_index=intent, instr_id=7, reasons=why)


def test_a_device_that_takes_no_setpoint_of_zero_is_told_to_stop():
    book = executing()
    book.add("mode", mode="blocked", state="EXECUTING", reasons=[])
    for _ in range(3):
        found = actions(book, station=holding(), mono_us=5_000_000)
        assert of(Dispatch, found)[0].authority == "failsafe"
        assert not of(StationCommand, found)
        refuse_zero(book)
    found = actions(book, station=holding(), mono_us=5_000_000)
    assert of(StationCommand, found) == [StationCommand(command=Command.ENTER_STANDBY)]
    assert not of(Dispatch, found)


def test_a_stale_station_gets_no_write():
    found = actions(executing(), station=holding(), station_age_us=4_000_000)
    assert not of(Dispatch, found)
    assert of(ChangeState, found)[0].state == "FAILSAFE"


def test_a_converter_that_went_to_zero_by_itself_is_noticed():
    station = make_station(instruction_id=0, status_bits=RUNNING | interlock.STATUS_FAILSAFE,
                           mono_us=2_000_000)  # fmt: skip
    assert of(ReadBack, actions(executing(), station=station))[0].cause == "failsafe"


def test_after_a_fail_safe_nothing_moves_until_armed():
    book = executing()
    book.adopted("failsafe")
    assert not of(Dispatch, actions(book, mono_us=9_000_000))
    book.add("operator", user="uid:0", verb="arm", arguments={}, reason="")
    assert of(Dispatch, actions(book, mono_us=9_000_000))


def test_a_latched_fail_safe_is_ended_by_a_select_not_by_a_command():
    book = Book().adopted()
    book.plan({"T2": -25_000, "T3": 25_000})
    standby = {"state": StationState.STANDBY, "mono_us": 9_000_000}
    latched = make_station(status_bits=RUNNING | interlock.STATUS_FAILSAFE, **standby)
    assert of(Dispatch, actions(book, station=latched, mono_us=9_000_000))
    assert of(StationCommand, actions(book, station=make_station(**standby), mono_us=9_000_000))


def test_setpoints_of_a_stranger_are_not_fought():
    station = make_station({"T2": -5000, "T3": 5000}, instruction_id=12345, mono_us=2_000_000)
    book = Book().adopted()
    read = of(ReadBack, actions(book, station=station))[0]
    assert read.cause == "foreign"
    book.adopted("foreign")
    book.plan({"T2": -25_000, "T3": 25_000})
    found = actions(book, station=station)
    assert not of(Dispatch, found)
    why = of(ChangeState, found)[0].reasons
    assert ReasonCode.FOREIGN_WRITE in {r.code for r in why}


def failed(sent=None, instr_id=77):
    """Something was sent, and the station was not seen to hold it as it was sent."""
    book = executing()
    book.execute(sent or {"T2": -50_000, "T3": 50_000}, outcome="failed", instr_id=instr_id)
    return book


@pytest.mark.parametrize(
    ("held", "armed"),
    [
        ({"T2": -50_000, "T3": 50_000}, True),  # what was sent came late
        ({"T2": -30_000, "T3": 30_000}, False),  # cut in silence
        ({"T1": -4_000, "T2": -50_000, "T3": 50_000}, True),  # a residual is not compared
    ],
)
def test_what_is_held_otherwise_than_sent_is_stopped_and_a_person_arms_again(held, armed):
    book = failed()
    station = make_station(held, instruction_id=77, mono_us=2_000_000)
    (read,) = of(ReadBack, actions(book, station=station))
    assert read.cause == "differs"
    book.add(
        "readback", sop="SOP-1", instr_id=77, active=dict(read.active), state="RUN", cause="differs"
    )
    assert book.state.armed is armed
    assert not any(book.state.held.values())
    (stop,) = of(StationCommand, actions(book, station=station, mono_us=9_000_000))
    assert stop.command is Command.ENTER_STANDBY
    rests = make_station(instruction_id=77, mono_us=9_000_000, state=StationState.STANDBY)
    again = of(StationCommand, actions(book, station=rests, mono_us=9_000_000))
    assert Command.ENTER_STANDBY not in [c.command for c in again]


def test_what_came_late_is_known_by_its_setpoints_where_a_late_select_hides_its_id():
    book = failed({"T2": -40_000, "T3": 40_000})
    hidden = make_station({"T2": -40_000, "T3": 40_000}, instruction_id=31, mono_us=2_000_000)
    assert of(ReadBack, actions(book, station=hidden))[0].cause == "differs"
    other = make_station({"T2": -40_000, "T3": 40_001}, instruction_id=31, mono_us=2_000_000)
    assert of(ReadBack, actions(book, station=other))[0].cause == "foreign"


def test_anothers_setpoint_after_a_failure_is_still_a_strangers():
    station = make_station({"T2": -5_000, "T3": 5_000}, instruction_id=78, mono_us=2_000_000)
    assert of(ReadBack, actions(failed(), station=station))[0].cause == "foreign"
    assert of(ReadBack, actions(failed(instr_id=0), station=station))[0].cause == "foreign"


def restarted(phase="commit", outcome=None, *, authority="tracking"):
    book = executing(instr_id=50)
    intent = book.add(
        "intent", sop="SOP-1", authority=authority, plan_index=-1, instr_id=99,
        setpoints=[{"terminal": t, "mode": "P_Q", "p_w": p, "q_var": 0} for t, p in HELD.items()],
        ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0,
    )  # fmt: skip
    for kind in ("prepared", "commit"):
        if phase in ("prepared", "commit") and not (phase == "prepared" and kind == "commit"):
            book.add(kind, intent_index=intent, instr_id=99, reasons=[])
    book.boot_number = 2
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    return book


def test_an_instruction_never_committed_is_aborted_not_operated_after_a_restart():
    for phase in ("intent", "prepared"):
        settle = of(Settle, actions(restarted(phase), station=holding(instruction_id=50)))
        assert settle[0].outcome == "abort"


@pytest.mark.parametrize(("instr_id", "outcome"), [(99, "executed"), (50, "failed")])
def test_what_a_commissioning_left_open_is_judged_by_reading_for_it_writes_no_commit(
    instr_id, outcome
):
    book = restarted("intent", authority="operator")
    settle = of(Settle, actions(book, station=holding(instruction_id=instr_id)))
    assert settle[0].outcome == outcome


@pytest.mark.parametrize(("instr_id", "outcome"), [(99, "executed"), (50, "failed")])
def test_a_committed_instruction_is_judged_by_reading_the_device(instr_id, outcome):
    settle = of(Settle, actions(restarted(), station=holding(instruction_id=instr_id)))
    assert settle[0].outcome == outcome


def test_nothing_is_dispatched_while_an_outcome_is_unknown():
    book = executing()
    book.execute({"T2": -1, "T3": 1}, instr_id=77, outcome="unknown")
    older = make_station(HELD, instruction_id=99, mono_us=1)
    assert not of(Dispatch, actions(book, station=older, station_age_us=1))


def without_answer(sent):
    """An OPERATE whose answer was lost: intended at 1 s, committed at 2 s, called unknown at 3 s."""
    book = executing(instr_id=50)
    rows = [
        {"terminal": t, "mode": "P_Q", "p_w": sent.get(t, 0), "q_var": 0}
        for t in ("T1", "T2", "T3", "T4")
    ]
    intent = book.add(
        "intent", sop="SOP-1", authority="tracking", plan_index=-1, instr_id=99, setpoints=rows,
        ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0,
    )  # fmt: skip
    book.add("prepared", intent_index=intent, instr_id=99)
    for book.mono_us, kind, fields in (
        (2_000_000, "commit", {}),
        (3_000_000, "outcome", {"outcome": "unknown", "active": {}}),
    ):
        book.add(kind, intent_index=intent, instr_id=99, reasons=[], **fields)
    return book


LESS = {"T2": -50_000, "T3": 50_000}


@pytest.mark.parametrize(
    ("held", "instr_id", "mono_us", "outcomes"),
    [
        (HELD, 50, 1_500_000, []),  # read between intent and OPERATE
        (HELD, 50, 3_000_000, []),
        (HELD, 50, 3_000_001, ["failed"]),
        (LESS, 99, 3_100_000, ["executed"]),
    ],
)
def test_an_unknown_outcome_is_settled_by_what_was_read_after_it(held, instr_id, mono_us, outcomes):
    station = make_station(held, instruction_id=instr_id, mono_us=mono_us)
    found = actions(without_answer(LESS), station=station, mono_us=3_200_000)
    assert [a.outcome for a in of(Settle, found)] == outcomes
    assert not of(Dispatch, found)


@pytest.mark.parametrize("sent", [LESS, {}], ids=["other power", "to zero"])
def test_what_was_read_before_an_outcome_was_unknown_is_no_strangers_and_no_fail_safe(sent):
    book = without_answer(sent)
    done = make_station(sent, instruction_id=99, mono_us=2_500_000)
    found = actions(book, station=done, mono_us=3_200_000)
    assert not of(ReadBack, found)
    assert not of(Settle, found)
    later = make_station(sent, instruction_id=99, mono_us=3_100_000)
    found = actions(book, station=later, mono_us=3_200_000)
    assert [a.outcome for a in of(Settle, found)] == ["executed"]


def test_the_clock_of_another_start_of_the_machine_does_not_keep_an_unknown_outcome_open():
    book = without_answer(LESS)
    book.boot_number, book.mono_us = 2, 500_000
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    station = make_station(LESS, instruction_id=99, mono_us=700_000)
    found = actions(book, station=station, mono_us=800_000)
    assert [a.outcome for a in of(Settle, found)] == ["executed"]


def test_after_a_restart_the_device_is_adopted_before_anything_is_written():
    book = executing()
    book.boot_number = 2
    book.add("boot", version="0", site="b", sop="SOP-1", previous_boot_index=0, clean=False)
    found = actions(book, station=holding())
    assert [type(a) for a in found] == [ReadBack]
    assert found[0].cause == "adopt"


def test_an_interval_is_reported_while_the_link_is_down():
    book = executing()
    for at_ms in (QUARTER.start_ms, QUARTER.end_ms):
        book.read(at_ms * 1000, T1=0, T2=0, T3=0, T4=0)
    found = actions(book, at_ms=QUARTER.end_ms, station=holding(), station_age_us=10**9)
    assert of(Deliver, found)


def test_the_lease_of_another_keeps_our_hands_off():
    book = Book().adopted()
    book.plan({"T2": -25_000, "T3": 25_000})
    station = make_station(lease_owner=OWNER + 1, mono_us=2_000_000)
    assert not of(Dispatch, actions(book, station=station))


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"status_bits": RUNNING | interlock.STATUS_ESTOP}, "ESTOP"),
        ({"status_bits": RUNNING | interlock.STATUS_LOCAL}, "LOCAL"),
        ({"state": StationState.LOCKOUT}, "LOCKOUT"),
        ({}, "READY"),
    ],
)
def test_the_state_says_what_dominates(changes, state):
    found = actions(Book().adopted(), station=make_station(mono_us=2_000_000, **changes))
    assert of(ChangeState, found)[0].state == state


def test_the_id_of_an_aborted_select_does_not_make_our_setpoints_a_strangers():
    found = actions(executing(), station=holding(instruction_id=123456))
    assert not of(ReadBack, found)


def test_at_speed_a_setpoint_may_outlive_its_interval_by_real_time_not_simulated():
    book = Book().adopted()
    book.plan({"T2": -25_000, "T3": 25_000})
    slow, fast = (of(Dispatch, actions(book, ttl_margin_s=s))[0].ttl_s for s in (5, 60))
    assert fast - slow == 55


def stepped(step_us, after_us):
    book = executing()
    book.mono_us = 2_000_000 - after_us
    book.add("time_step", step_us=step_us)
    return book


@pytest.mark.parametrize(
    ("step_us", "to_zero"), [(900_000, False), (1_100_000, True), (-1_100_000, True)]
)
def test_a_clock_that_was_wrong_by_more_than_a_second_leads_to_zero(step_us, to_zero):
    found = of(Dispatch, actions(stepped(step_us, 1_000_000), station=holding()))
    zero = [d for d in found if d.authority == "failsafe" and not any(d.setpoints.values())]
    assert bool(zero) is to_zero


def test_a_stop_that_was_lost_is_sent_again_while_its_instruction_is_held():
    book = executing()
    book.add("operator", user="u", verb="stop", arguments={}, reason="")
    station = holding()
    found = actions(book, station=station)
    assert of(StationCommand, found)[0].command is Command.ENTER_STANDBY
    assert not of(ReadBack, found)
    book.add("operator", user="u", verb="arm", arguments={}, reason="")
    assert not of(StationCommand, actions(book, station=station))


@pytest.mark.parametrize(
    ("alarmed", "p_w", "to_zero"),
    [(True, 80_000, True), (True, 95_000, False), (False, 80_000, False)],
)
def test_a_terminal_that_does_not_follow_by_far_takes_all_power_away(alarmed, p_w, to_zero):
    book = executing()
    if alarmed:  # the alarm came after its own delay
        book.add("alarm", code=decide.NOT_FOLLOWING, active=True, detail="")
    station = holding()
    rows = tuple(dataclasses.replace(t, p_w=p_w) if t.id == "T3" else t for t in station.terminals)
    found = of(Dispatch, actions(book, station=dataclasses.replace(station, terminals=rows)))
    zero = [d for d in found if d.authority == "failsafe" and not any(d.setpoints.values())]
    assert bool(zero) is to_zero


@pytest.mark.parametrize(
    ("quality", "since_write_us", "told"),
    [(Quality.UNCERTAIN, 6_000_000, True), (Quality.UNCERTAIN, 4_000_000, False),
     (Quality.GOOD, 6_000_000, False)],
)  # fmt: skip
def test_power_that_nobody_sees_is_told_to_stop_not_only_left_to_the_watchdog(
    quality, since_write_us, told
):
    book = executing()
    mono_us = book.state.last_write_mono_us + since_write_us
    station = dataclasses.replace(holding(), quality=quality)
    stops = of(StationCommand, actions(book, station=station, mono_us=mono_us))
    assert [s.command for s in stops] == [Command.ENTER_STANDBY] * told


def test_a_station_at_rest_that_nobody_sees_is_told_nothing():
    station = make_station(quality=Quality.UNCERTAIN, mono_us=2_000_000)
    assert not of(StationCommand, actions(Book().adopted(), station=station, mono_us=9_000_000))


@pytest.mark.parametrize(("p_w", "opened"), [(7_500, True), (7_501, False), (-40_000, False)])
def test_nothing_opens_while_power_still_runs_down_after_a_fail_safe(p_w, opened):
    book = Book().adopted()
    book.plan({"T2": -25_000, "T3": 25_000})
    station = make_station(mono_us=9_000_000)
    rows = tuple(dataclasses.replace(t, p_w=p_w) if t.id == "T3" else t for t in station.terminals)
    station = dataclasses.replace(station, terminals=rows)
    found = of(Dispatch, actions(book, station=station, mono_us=9_000_000))
    assert [d.authority for d in found] == ["plan"] * opened
