import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.sat.record import EVENTS, CheckOutcome, RecordError, RunRecord, runs_in


def fault(*findings, verdict=Verdict.FAULT):
    return CheckOutcome(verdict=verdict, findings=tuple(findings))


def finding(code="x", punch=Punch.B):
    return Finding(code=code, where="m2", what="w", mend="m", punch=punch)


def test_what_was_written_is_there_after_opening_again(run, clock):
    run.begin("1.1")
    run.done("1.1", CheckOutcome(verdict=Verdict.OK), by="e")
    again = RunRecord.open(run.folder, now_us=clock)
    assert again.events == run.events
    assert again.state().checks["1.1"].status == "ok"
    assert list(runs_in(run.folder.parent)) == [run.folder]


def test_a_last_line_cut_by_a_power_failure_is_dropped(run, clock):
    run.begin("1.1")
    path = run.folder / EVENTS
    whole = path.read_bytes()
    for cut in range(1, 30):
        path.write_bytes(whole[:-cut])
        again = RunRecord.open(run.folder, now_us=clock)
        assert len(again.events) == 1
        again.begin("1.1")
        assert len(RunRecord.open(run.folder, now_us=clock).events) == 2
        path.write_bytes(whole)


def test_a_damaged_line_before_the_last_is_refused(run, clock):
    run.begin("1.1")
    path = run.folder / EVENTS
    path.write_bytes(path.read_bytes().replace(b'"seq":1', b'"seq":7'))
    with pytest.raises(RecordError, match="line 1"):
        RunRecord.open(run.folder, now_us=clock)
    path.write_bytes(b"nonsense\n")
    with pytest.raises(RecordError):
        RunRecord.open(run.folder, now_us=clock)
    with pytest.raises(RecordError, match="no run"):
        RunRecord.open(run.folder / "other", now_us=clock)


def test_findings_open_items_and_a_repeat_without_them_closes(run):
    run.done("2.1", fault(finding("a"), finding("b", Punch.A)), by="e")
    assert [(p.number, p.code) for p in run.state().open_punch()] == [("B-01", "a"), ("A-01", "b")]
    run.done("2.1", fault(finding("a")), by="e")
    assert [p.number for p in run.state().open_punch()] == ["B-01"]
    run.done("2.1", fault(finding("a"), finding("b", Punch.A)), by="e")
    assert [p.number for p in run.state().open_punch()] == ["B-01", "A-02"]
    run.done("2.1", CheckOutcome(verdict=Verdict.OK), by="e")
    assert run.state().open_punch() == []
    assert all("repeated" in p.closed_by for p in run.state().punch)


def test_undecided_closes_nothing(run):
    run.done("2.1", fault(finding()), by="e")
    run.done("2.1", fault(verdict=Verdict.UNDECIDED), by="e")
    assert len(run.state().open_punch()) == 1


def test_b_items_close_by_hand_and_a_items_do_not(run):
    run.done("2.1", fault(finding("a"), finding("b", Punch.A)), by="e")
    run.close_punch("B-01", how="label replaced", by="e")
    assert [p.number for p in run.state().open_punch()] == ["A-01"]
    assert run.state().punch[0].closed_by == "e: label replaced"
    with pytest.raises(RecordError, match="repeat"):
        run.close_punch("A-01", how="looks fine", by="e")
    with pytest.raises(RecordError, match="no open punch item"):
        run.close_punch("B-01", how="again", by="e")


def test_skipping_needs_a_reason(run):
    with pytest.raises(RecordError, match="reason"):
        run.skip("1.1", reason=" ", by="e")
    run.skip("1.1", reason="no clock on this bench", by="e")
    assert run.state().checks["1.1"].status == "skipped"


def test_the_verdict_follows_from_checks_punch_and_witness(run):
    assert run.state().verdict == "incomplete"
    for check in run.state().plan.checks():
        run.done(check.id, CheckOutcome(verdict=Verdict.OK), by="e")
    assert run.state().verdict == "incomplete", "the hold point has no witness yet"
    run.witnessed("3", witness="DSO witness")
    assert run.state().verdict == "accepted"
    run.done("2.1", fault(finding(), verdict=Verdict.OK), by="e")
    assert run.state().verdict == "accepted with reservations"
    run.done("2.1", fault(finding(punch=Punch.A)), by="e")
    assert run.state().verdict == "rejected"
    run.done("2.1", CheckOutcome(verdict=Verdict.UNDECIDED), by="e")
    assert run.state().verdict == "rejected"


def test_a_record_never_holds_a_float(run):
    with pytest.raises(TypeError, match="floats"):
        run.append("note", {"value": [1, {"x": 0.5}]})
    assert len((run.folder / EVENTS).read_text().splitlines()) == 1


def test_each_line_is_canonical_json(run):
    run.begin("1.1")
    for line in (run.folder / EVENTS).read_text().splitlines():
        assert line == json.dumps(
            json.loads(line), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )


def test_two_commands_on_one_run_write_one_after_the_other(run, clock):
    run.begin("1.1")
    second = RunRecord.open(run.folder, now_us=clock)
    second.skip("2.2", reason="no labels on this bench", by="e")
    run.done("1.1", CheckOutcome(verdict=Verdict.OK), by="e")
    second.begin("2.1")
    again = RunRecord.open(run.folder, now_us=clock)
    assert [e["seq"] for e in again.events] == [1, 2, 3, 4, 5]
    assert run.state().checks["2.2"].status == "skipped", "the walk sees what was skipped meanwhile"
    assert again.state().checks["1.1"].status == "ok"


def test_many_commands_at_once_leave_a_run_that_reads(run, clock):
    def note(number):
        record = RunRecord.open(run.folder, now_us=clock)
        for _ in range(10):
            record.append("note", {"by": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(8)))
    assert len(RunRecord.open(run.folder, now_us=clock).events) == 81


def test_half_a_line_of_a_command_that_died_is_dropped_by_the_next_that_writes(run, clock):
    path = run.folder / EVENTS
    with path.open("ab") as file:
        file.write(b'{"seq":2,"kind":"beg')
    run.begin("1.1")
    assert [e["kind"] for e in RunRecord.open(run.folder, now_us=clock).events] == ["new", "begin"]


def test_a_file_that_was_cut_or_changed_meanwhile_is_not_written_on(run):
    path = run.folder / EVENTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(RecordError, match="was cut"):
        run.begin("1.1")
    path.write_bytes(whole + whole)
    with pytest.raises(RecordError, match="line 2"):
        run.begin("1.1")
