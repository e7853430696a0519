"""What a rehearsal says becomes a check's outcome."""

import json

from gateway.cli.sat_rehearsal import outcome_of
from gateway.cli.sat_store import load_plan
from gateway.commissioning.finding import Punch, Verdict


def answer(exit_code, rows, *, verified=True, errors=()):
    return json.dumps(
        {"exit_code": exit_code, "data": {"trades": rows, "ledger_verified": verified},
         "errors": list(errors)}
    ).encode()  # fmt: skip


GOOD = {"id": "R-001", "case": "good", "contracted_wh": 1000, "delivered_wh": 999, "reasons": [],
        "outcome": "delivered", "expected": "delivered", "ok": True}  # fmt: skip
LATE = {"id": "R-002", "case": "late", "contracted_wh": None, "delivered_wh": None,
        "reasons": ["late"], "outcome": "refused", "expected": "refused: late", "ok": True}  # fmt: skip


def test_a_good_rehearsal_passes_with_a_row_a_trade():
    outcome = outcome_of(answer(0, [GOOD, LATE]))
    assert outcome.verdict is Verdict.OK
    assert [r.value_text for r in outcome.rows] == [
        "delivered, 999 of 1000 Wh", "refused (late)", "every byte verified"
    ]  # fmt: skip
    assert outcome.findings == ()


def test_a_trade_with_another_outcome_is_an_a_item():
    bad = {**LATE, "outcome": "nothing", "reasons": [], "ok": False}
    error = {"code": "T110", "message": "R-002 late: nothing", "help": ""}
    outcome = outcome_of(answer(1, [GOOD, bad], errors=[error]))
    assert outcome.verdict is Verdict.FAULT
    assert outcome.findings[0].punch is Punch.A
    assert [r.verdict for r in outcome.rows] == [Verdict.OK, Verdict.FAULT, Verdict.OK]


def test_no_answer_decides_nothing():
    for raw in (b"", b"Traceback", b"[]", b'{"exit_code": 99, "data": {}}'):
        assert outcome_of(raw).verdict is Verdict.UNDECIDED
    error = {"code": "E004", "message": "no broker", "help": ""}
    outcome = outcome_of(answer(4, [], errors=[error]))
    assert (outcome.verdict, outcome.note) == (Verdict.UNDECIDED, "no broker")


def test_the_shipped_plan_ends_with_it():
    last = list(load_plan("sop-lv").checks())[-1]
    assert last.run == "trade rehearse"
