import asyncio

import pytest

from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.sat import walk
from gateway.commissioning.sat.record import CheckOutcome, RecordError, RunRecord

REVERSED = Finding(code="ct-reversed", where="m2 L2", what="CT reversed", mend="swap S1 and S2")
DISABLED = Finding(
    code="watchdog-disabled", where="station", what="watchdog off", mend="set 5 s", punch=Punch.A
)


def test_a_hold_point_waits_for_its_witness(go, site, run):
    stopped = go()
    assert (stopped.why, stopped.step) == ("hold", "3")
    assert site.asked == ["1.1", "2.1", "2.2"]
    assert go(witness="DSO").why == "finished"
    assert site.asked == ["1.1", "2.1", "2.2", "3.1", "4.1"]
    assert run.state().verdict == "accepted"
    assert run.state().witnessed == {"3": "DSO"}


def test_at_a_terminal_the_hold_point_asks_who_is_there(go, site, run):
    asked = []

    async def nobody(step):
        asked.append(step.id)
        return ""

    async def somebody(step):
        asked.append(step.id)
        return "DSO"

    assert go(summon=nobody).why == "hold"
    assert run.state().witnessed == {}
    assert go(summon=somebody).why == "finished"
    assert run.state().witnessed == {"3": "DSO"}
    assert asked == ["3", "3"], "nobody is asked where no witness is needed"


def test_a_witness_point_notes_who_was_there_and_waits_for_nobody(go, run):
    go(witness="DSO")
    assert run.state().witnessed == {"2": "DSO", "3": "DSO"}


def test_a_fault_does_not_end_the_walk_but_is_repeated_next_time(go, site, run):
    site.planted["2.1"] = REVERSED
    stopped = go(witness="DSO")
    assert (stopped.why, stopped.text) == ("open", "not passed: 2.1")
    assert run.state().verdict == "rejected"
    site.planted.clear()
    site.asked.clear()
    assert go().why == "finished"
    assert site.asked == ["2.1"]
    assert run.state().verdict == "accepted"
    assert run.state().checks["2.1"].attempts_count == 2


def test_a_check_after_which_nobody_knows_of_zero_stands_in_the_record_and_ends_the_walk(site, run):
    ended = RuntimeError("not known to be at zero")

    async def moving(check):
        if check.id == "2.1":
            outcome = CheckOutcome(verdict=Verdict.FAULT, findings=(DISABLED,))
            raise walk.NotAtZero(outcome, ended)
        return await site.execute(check)

    with pytest.raises(RuntimeError) as told:
        asyncio.run(walk.walk(run, moving, by="e", announce=lambda *_: None))
    assert told.value is ended
    assert site.asked == ["1.1"], "nothing more was begun"
    assert run.state().checks["2.1"].status == "fault"
    assert [p.number for p in run.state().open_punch("A")] == ["A-01"]


def test_a_gated_step_waits_until_no_a_item_is_open(go, site, run):
    site.planted["3.1"] = DISABLED
    stopped = go(witness="DSO")
    assert (stopped.why, stopped.step) == ("gate", "4")
    assert "A-01" in stopped.text
    assert "4.1" not in site.asked
    site.planted.clear()
    assert go().why == "finished"
    assert site.asked[-2:] == ["3.1", "4.1"]


def test_a_walk_cut_in_the_middle_goes_on_at_the_check_it_was_cut_in(go, site, run, clock):
    async def dies(check):
        if check.id == "2.1":
            raise KeyboardInterrupt
        return await site.execute(check)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(walk.walk(run, dies, by="e", announce=lambda *_: None))
    again = RunRecord.open(run.folder, now_us=clock)
    assert again.state().checks["2.1"].status == "running"
    assert walk.resume_text(again) == (
        "Resuming run 2026-11-21-a at check 2.1 (1.1 ok, not repeated). Use --from 1.1 to repeat."
    )
    site.asked.clear()
    asyncio.run(walk.walk(again, site.execute, by="e", announce=lambda *_: None))
    assert site.asked == ["2.1", "2.2"]


def test_from_repeats_what_passed_and_step_runs_one_step_alone(go, site):
    go(witness="DSO")
    site.asked.clear()
    go(start_at="3.1")
    assert site.asked == ["3.1", "4.1"]
    site.asked.clear()
    go(only_step="2")
    assert site.asked == ["2.1", "2.2"]
    with pytest.raises(RecordError, match=r"no check 9\.9"):
        go(start_at="9.9")
    with pytest.raises(RecordError, match="no step 9"):
        go(only_step="9")


def test_a_new_run_has_nothing_to_resume_and_a_finished_one_neither(go, run):
    assert walk.resume_text(run) == ""
    go(witness="DSO")
    assert walk.resume_text(run) == ""


def test_skipped_checks_are_passed_over(go, site, run):
    run.skip("2.2", reason="no labels on a bench", by="e")
    go(witness="DSO")
    assert "2.2" not in site.asked
    assert run.state().verdict == "accepted with reservations"


def test_a_gated_step_that_failed_is_repeated_and_not_locked_out_by_itself(go, site, run):
    site.planted["4.1"] = DISABLED
    assert go(witness="DSO").why == "open"
    assert go().why == "open"
    site.planted.clear()
    assert go().why == "finished"
