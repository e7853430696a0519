"""How instructions end that an orderly stop interrupted."""

import pytest
from fakes.core import Book, make_station

from gateway.core.decide import endings
from gateway.model.reason import Reason, ReasonCode

WHY = Reason(code=ReasonCode.OPERATOR, detail="asked to stop")
SENT = {"T1": 0, "T2": -50_000, "T3": 50_000, "T4": 0}


def interrupted(*kinds, command=None, outcome=None):
    """An instruction that came as far as these entries."""
    book = Book().adopted()
    rows = (
        []
        if command
        else [{"terminal": t, "mode": "P_Q", "p_w": p, "q_var": 0} for t, p in SENT.items()]
    )
    fields = {"command": command} if command else {}
    intent = book.add(
        "intent", sop="SOP-1", authority="plan", plan_index=-1, instr_id=7, setpoints=rows,
        ramp_permille_per_s=200, ttl_s=10, staged="", expires_mono_us=0, **fields,
    )  # fmt: skip
    for kind in kinds:
        book.add(kind, intent_index=intent, instr_id=7, reasons=[])
    if outcome:
        book.add("outcome", intent_index=intent, instr_id=7, outcome=outcome, active={}, reasons=[])
    return book


def ended(book, station=None):
    return [(s.outcome, [r.code for r in s.reasons]) for s in endings(book.state, station, WHY)]


@pytest.mark.parametrize("station", [None, make_station(SENT, instruction_id=7, mono_us=9_000_000)])
@pytest.mark.parametrize("kinds", [(), ("prepared",)])
def test_what_never_left_is_aborted_whatever_the_station_holds(kinds, station):
    assert ended(interrupted(*kinds), station) == [("abort", [ReasonCode.OPERATOR])]


@pytest.mark.parametrize(
    ("held", "mono_us", "outcome"),
    [
        (SENT, 9_000_000, "executed"),
        ({}, 9_000_000, "failed"),
        (SENT, 1_000_000, "unknown"),  # read before it: says nothing
    ],
)
def test_what_may_have_left_ends_as_the_station_says(held, mono_us, outcome):
    station = make_station(held, instruction_id=7, mono_us=mono_us)
    ((word, _),) = ended(interrupted("prepared", "commit"), station)
    assert word == outcome


def test_without_the_station_it_stays_unknown_and_what_is_unknown_is_not_said_twice():
    assert ended(interrupted("prepared", "commit")) == [("unknown", [ReasonCode.OPERATOR])]
    assert ended(interrupted(command="CONFIGURE")) == [("unknown", [ReasonCode.OPERATOR])]
    assert ended(interrupted("prepared", "commit", outcome="unknown")) == []


def test_what_was_unknown_is_settled_by_reading():
    station = make_station(SENT, instruction_id=7, mono_us=9_000_000)
    found = ended(interrupted("prepared", "commit", outcome="unknown"), station)
    assert [word for word, _ in found] == ["executed"]


def test_nothing_open_needs_no_ending():
    assert ended(Book().adopted(), make_station()) == []
