"""Records say whether power is meant, and are of the terminals that the site has now."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_image, make_site, make_sop, make_station

from gateway.core.decide import Dispatch, StationCommand, scan
from gateway.core.planning import delivery_fields, plans_due
from gateway.core.readback import active_setpoints
from gateway.core.records import Active
from gateway.core.setpoints import _after_w
from gateway.core.state import State
from gateway.model.interval import Interval
from gateway.model.reason import ReasonCode
from gateway.model.setpoint import Command
from gateway.model.telemetry import State as StationState


def active(**setpoints):
    return Active(instr_id=1, setpoints=setpoints, plan_index=0, utc_us=0, mono_us=0, boot_number=1)


@pytest.mark.parametrize(
    ("setpoints", "moves"), [({}, False), ({"T2": 0, "T3": 0}, False), ({"T2": 0, "T3": -1}, True)]
)
def test_any_setpoint_but_zero_moves_power(setpoints, moves):
    assert active(**setpoints).moves_power is moves


def test_ramps_are_over_and_unslowed_unless_said():
    assert (active().ramp_ms, active().slowed) == (0, False)


FULL = {f"T{k}": 250_000 for k in range(1, 6)}


def renamed(old, new):
    return lambda sop: replace(
        sop, terminals=tuple(replace(t, id=new) if t.id == old else t for t in sop.terminals)
    )


def removed(gone):
    return lambda sop: replace(sop, terminals=tuple(t for t in sop.terminals if t.id != gone))


def added(sop):
    new = replace(sop.terminals[-1], id="T5", index=4, domain="region-e", meter="m5")
    return replace(sop, terminals=(*sop.terminals, new))


CHANGES = {
    "T3 renamed": renamed("T3", "T9"), "T4 renamed": renamed("T4", "T9"),
    "T3 removed": removed("T3"), "T4 removed": removed("T4"), "T5 added": added,
}  # fmt: skip
STAGES = ("accepted", "planned", "under power", "closed")


def started_as(change, stage):
    """A trade from T2 to T3 so far on its way, then a start with the terminals changed."""
    book = Book().adopted()
    book.accept("a", "T2", "T3", 100_000)
    if stage >= 1:
        (due,) = plans_due(book.state, utc_ms=FIRST_MS, available_va=FULL)
        plan = book.add("plan", **due.fields)
    if stage >= 2:
        book.utc_us = FIRST_MS * 1000
        book.execute({"T2": -100_000, "T3": 100_000}, plan_index=plan, instr_id=5)
        book.read(book.utc_us, T1=0, T2=0, T3=0, T4=0)
    if stage >= 3:
        book.execute({}, plan_index=plan, instr_id=6, authority="close")
    state = State(replace(make_site(), sop=CHANGES[change](make_sop())))
    for index, entry in enumerate(book.entries):
        state.fold(index, entry)
    book.state, book.boot_number = state, 2
    book.add("boot", version="0", site="bench", sop="SOP-1", previous_boot_index=0, clean=False)
    book.add("mode", mode="on", state="INIT", reasons=[])
    return book


def shown(book, instr_id=6, **held_w):
    """The station after the change: a row of every terminal the site has."""
    row = make_station().terminals[0]
    return make_station(
        mono_us=5_000_000,
        instruction_id=instr_id,
        terminals=tuple(
            replace(row, id=t.id, p_w=held_w.get(t.id, 0), p_w_set_active=held_w.get(t.id, 0))
            for t in book.state.site.sop.terminals
        ),
    )


def scanned(book, at_ms, station):
    return scan(book.state, make_image(at_ms=at_ms, mono_us=5_100_000, station=station))


@pytest.mark.parametrize("stage", range(4), ids=STAGES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_start_with_other_terminals_goes_on_whatever_the_ledger_says_of_the_old_ones(
    change, stage
):
    book = started_as(change, stage)
    ids = {t.id for t in book.state.site.sop.terminals}
    assert book.state.held.keys() == ids
    for at_ms in (FIRST_MS - 20_000, FIRST_MS + 100_000, FIRST_MS + 960_000):
        scanned(book, at_ms, shown(book))
        scanned(book, at_ms, shown(book, 77, T2=-100_000, T9=100_000))
    book.adopted()
    for at_ms in (FIRST_MS - 20_000, FIRST_MS + 100_000, FIRST_MS + 960_000):
        scanned(book, at_ms, shown(book))
    for plan in plans_due(book.state, utc_ms=FIRST_MS, available_va=FULL):
        book.add("plan", **plan.fields)
    lost = change.startswith("T3")
    (record,) = book.state.plans.values()
    (row,) = delivery_fields(book.state, record)["trades"]
    assert (ReasonCode.UNKNOWN_DOMAIN.value in row["reasons"]) is lost
    assert (row["status"], row["delivered_wh"]) == ("failed", 0)
    if lost and not stage:
        assert row["planned_wh"] == 0
        assert record.planned[0].reasons[0].detail == "the site has no T3 any more"


def test_power_under_a_plan_that_names_a_lost_terminal_is_stopped():
    book = started_as("T3 renamed", STAGES.index("under power"))
    holds = shown(book, 5, T2=-100_000, T9=100_000)
    stop = StationCommand(command=Command.ENTER_STANDBY)
    assert scanned(book, FIRST_MS + 100_000, holds).actions == (stop,)


def test_power_of_terminals_that_did_not_change_goes_on_beside_a_new_one():
    book = started_as("T5 added", STAGES.index("under power"))
    holds = shown(book, 5, T2=-100_000, T3=100_000)
    book.add(
        "readback",
        sop="SOP-1",
        instr_id=5,
        active=active_setpoints(holds),
        state="RUN",
        cause="adopt",
    )
    (sent,) = [
        a for a in scanned(book, FIRST_MS + 101_000, holds).actions if isinstance(a, Dispatch)
    ]
    assert sent.authority == "adopt"
    assert dict(sent.setpoints) == {"T1": 0, "T2": -100_000, "T3": 100_000, "T4": 0, "T5": 0}


def test_power_at_a_lost_terminal_alone_is_stopped_and_counts_as_a_fail_safe():
    """From the master to T3, which goes: no other slave shows that anything flows."""
    book = Book().adopted()
    book.accept("a", "T1", "T3", 100_000)
    (due,) = plans_due(book.state, utc_ms=FIRST_MS, available_va=FULL)
    plan = book.add("plan", **due.fields)
    book.utc_us = FIRST_MS * 1000
    book.execute({"T3": 100_000}, plan_index=plan, instr_id=5)
    state = State(replace(make_site(), sop=CHANGES["T3 removed"](make_sop())))
    for index, entry in enumerate(book.entries):
        state.fold(index, entry)
    book.state, book.boot_number = state, 2
    book.add("boot", version="0", site="bench", sop="SOP-1", previous_boot_index=0, clean=False)
    running = shown(book, 5)
    assert scanned(book, FIRST_MS + 100_000, running).actions == (
        StationCommand(command=Command.ENTER_STANDBY),
    )
    rests = replace(running, state=StationState.STANDBY)
    (read,) = scanned(book, FIRST_MS + 100_000, rests).actions
    assert read.cause == "failsafe"
    book.add(
        "readback", sop="SOP-1", instr_id=5, active=read.active, state="STANDBY", cause="failsafe"
    )
    assert not book.state.armed


def test_the_power_an_interval_ends_with_is_zero_before_a_plan_that_is_void():
    book = Book().adopted()
    following = Interval(QUARTER.end_ms, QUARTER.end_ms + 900_000)
    book.accept("now", "T2", "T4", 100_000)
    book.accept("lost", "T2", "T3", 100_000, interval=following)
    book.accept("kept", "T2", "T4", 100_000, interval=following)
    for at_ms in (FIRST_MS, QUARTER.end_ms):
        (due,) = plans_due(book.state, utc_ms=at_ms - 30_000, available_va=FULL)
        book.add("plan", **due.fields)
    state = State(replace(make_site(), sop=CHANGES["T3 removed"](make_sop())))
    for index, entry in enumerate(book.entries):
        state.fold(index, entry)
    assert _after_w(state, QUARTER.end_ms) == {}
    assert _after_w(state, FIRST_MS)["T4"] == 100_000


def test_an_unknown_outcome_is_not_executed_where_a_terminal_under_power_went():
    book = Book().adopted()
    book.execute({"T3": 100_000}, instr_id=5, outcome="unknown")
    state = State(replace(make_site(), sop=CHANGES["T3 removed"](make_sop())))
    for index, entry in enumerate(book.entries):
        state.fold(index, entry)
    book.state = state
    (settled,) = scanned(book, FIRST_MS, shown(book, 5)).actions
    assert settled.outcome == "failed"
    book.add(
        "readback", sop="SOP-1", instr_id=5, active=settled.active, state="RUN", cause="reconcile",
        intent_index=settled.intent.index, outcome="failed",
    )  # fmt: skip
    # Nobody can read that it failed, so what may flow there is stopped.
    stop = StationCommand(command=Command.ENTER_STANDBY)
    assert scanned(book, FIRST_MS, shown(book, 5)).actions == (stop,)
    assert stop not in scanned(book, FIRST_MS, shown(book, 0)).actions  # it fell to zero by itself


def test_power_at_the_terminal_that_the_site_file_now_calls_the_master_is_seen():
    book = Book(rearm="auto").adopted()
    book.execute({"T4": 100_000}, instr_id=5)
    state = State(replace(make_site("auto"), sop=replace(make_sop(), master="T4")))
    for index, entry in enumerate(book.entries):
        state.fold(index, entry)
    book.state, book.boot_number = state, 2
    book.add("boot", version="0", site="bench", sop="SOP-1", previous_boot_index=0, clean=False)
    book.add("mode", mode="on", state="INIT", reasons=[])
    holds = shown(book, 5, T4=100_000)
    (read,) = scanned(book, FIRST_MS, holds).actions
    assert (read.cause, read.active["T4"]) == ("adopt", 100_000)
    book.add("readback", sop="SOP-1", instr_id=5, active=read.active, state="RUN", cause="adopt")
    sent = [a for a in scanned(book, FIRST_MS, holds).actions if isinstance(a, Dispatch)]
    assert [(d.authority, any(d.setpoints.values())) for d in sent] == [("failsafe", False)]
