"""A trade that is over: its id is refused as before, and little is kept of it."""

import dataclasses

import pytest
from fakes.core import FIRST_MS, QUARTER, Book, make_policy, make_sop, span
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import ended
from gateway.core.verify import Known, Refused, admit
from gateway.model.interval import Interval
from gateway.model.reason import ReasonCode
from gateway.model.trade import Position, Trade

NEXT = Interval(QUARTER.end_ms, QUARTER.end_ms + QUARTER.duration_ms)
TEXTS = st.text(max_size=8)
TRADES = st.builds(
    Trade, id=st.just("t"), revision_number=st.integers(1, 3), sop=TEXTS, out_domain=TEXTS,
    in_domain=TEXTS,
    positions=st.lists(
        st.builds(Position, interval=st.sampled_from([QUARTER, NEXT]), p_w=st.integers(0, 2),
                  energy_wh=st.integers(0, 2)), min_size=1, max_size=3,
    ).map(tuple),
)  # fmt: skip


def judged(trade, earlier, sha256, *, received_ms):
    verdict = admit(
        trade, sha256=sha256, sop=make_sop(), policy=make_policy(), earlier=earlier, intervals=(),
        open_count=0, received_ms=received_ms, mode="on", time_quality="good",
    )  # fmt: skip
    return verdict.reasons if isinstance(verdict, Refused) else None


@given(before=TRADES, again=TRADES, first=TEXTS, sha256=TEXTS, index=st.integers(0, 2**53))
def test_whatever_comes_under_its_id_is_answered_as_while_all_of_it_was_kept(
    before, again, first, sha256, index
):
    known = Known(
        revision_number=before.revision_number, sha256=first, accepted_index=index, trade=before
    )
    kept = ended.unpacked(ended.packed(known))
    for trade, text in ((again, sha256), (before, sha256), (again, first)):
        late_ms = NEXT.end_ms + 1
        whole = judged(trade, known, text, received_ms=late_ms)
        assert whole is not None
        assert judged(trade, kept, text, received_ms=late_ms) == whole
        assert kept.same_message(text) == known.same_message(text)


def test_where_time_was_set_back_a_revision_of_it_comes_too_late_all_the_same():
    trade = Trade(
        id="t", revision_number=1, sop="SOP-1", out_domain="region-b", in_domain="region-c",
        positions=(Position(interval=QUARTER, p_w=1000, energy_wh=250),),
    )  # fmt: skip
    known = Known(revision_number=1, sha256="aa", accepted_index=5, trade=trade)
    kept = ended.unpacked(ended.packed(known))
    revision = dataclasses.replace(trade, revision_number=2)
    (reason,) = judged(revision, kept, "bb", received_ms=FIRST_MS - 600_000)
    assert reason.code is ReasonCode.LATE


def deliver(book, interval, *trade_ids):
    rows = [
        {"trade_id": t, "contracted_wh": 1, "planned_wh": 1, "delivered_wh": 1,
         "status": "delivered", "reasons": []} for t in trade_ids
    ]  # fmt: skip
    book.add("delivery", sop="SOP-1", interval=span(interval), terminals=[], trades=rows)


def accept(book, trade_id, *intervals):
    received = book.add(
        "trade.received", topic="t", retain=False, size=1, sha256="x", payload="YQ=="
    )
    positions = [{"interval": span(i), "p_w": 4000, "energy_wh": 1000} for i in intervals]
    book.add("trade.accepted", received_index=received, sha256="x", trade_id=trade_id, revision=1,
             out_terminal="T2", in_terminal="T3", last=True, positions=positions)  # fmt: skip


def test_it_is_over_with_the_last_of_its_intervals():
    book = Book()
    accept(book, "long", QUARTER, NEXT)
    accept(book, "short", QUARTER)
    deliver(book, QUARTER, "long", "short")
    assert set(book.state.known) == {"long"}
    assert set(book.state.over) == {"short"}
    deliver(book, NEXT, "long")
    assert book.state.known == {}
    found = ended.find(book.state.known, book.state.over, "long")
    assert (found.revision_number, found.start_ms) == (1, QUARTER.start_ms)
    assert found.same_message("x")
    assert ended.find(book.state.known, book.state.over, "another") is None


@pytest.mark.parametrize("count", [1, 96])
def test_what_is_kept_of_it_does_not_grow_with_its_intervals(count):
    book = Book()
    length_ms = QUARTER.duration_ms
    intervals = [
        Interval(FIRST_MS + k * length_ms, FIRST_MS + (k + 1) * length_ms) for k in range(count)
    ]
    accept(book, "t", *intervals)
    for interval in intervals:
        deliver(book, interval, "t")
    assert book.state.known == {}
    assert len(book.state.over["t"]) == 56
    assert book.state.schedule == {}


def test_a_revision_accepted_after_all_is_what_counts():
    book = Book()
    book.accept("t", "T2", "T3", 4000)
    deliver(book, QUARTER, "t")
    book.accept("t", "T2", "T3", 8000, interval=NEXT, revision=2)
    assert ended.find(book.state.known, book.state.over, "t").revision_number == 2
