"""Admission of trades: every reason at once, an id decided once and for all."""

from collections.abc import Collection

import pytest
from fakes.core import FIRST_MS, QUARTER, make_policy, make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.verify import (
    INTERVAL_TRADES_MAX,
    Accepted,
    Known,
    Refused,
    admit,
    count_open,
    first_full,
)
from gateway.model.interval import Interval, utc_text
from gateway.model.reason import ReasonCode
from gateway.model.trade import Position, Trade

GATE_MS = 120_000


def trade(*, trade_id="trd-1", revision=1, sop="SOP-1", out="region-b", into="region-c", p_w=100_000,
          interval=QUARTER):  # fmt: skip
    energy_wh = p_w * interval.duration_ms // 3_600_000
    return Trade(
        id=trade_id, revision_number=revision, sop=sop, out_domain=out, in_domain=into,
        positions=(Position(interval=interval, p_w=p_w, energy_wh=energy_wh),),
    )  # fmt: skip


def judge(t, *, known=None, received_ms=FIRST_MS - 600_000, intervals=(), open_count=0, mode="on",
          time_quality="good", sha256="aa", planned_ms=(), full=None, **policy):  # fmt: skip
    return admit(
        t, sha256=sha256, sop=make_sop(), policy=make_policy(**policy), earlier=(known or {}).get(t.id),
        intervals=intervals, open_count=open_count, received_ms=received_ms, mode=mode,
        time_quality=time_quality, planned_ms=planned_ms, full=full,
    )  # fmt: skip


def codes(t, **options):
    verdict = judge(t, **options)
    assert isinstance(verdict, Refused)
    return {r.code for r in verdict.reasons}


def known(t, sha256="aa"):
    return {
        t.id: Known(revision_number=t.revision_number, sha256=sha256, accepted_index=5, trade=t)
    }


def test_a_good_trade_is_placed_on_the_terminals_of_its_regions():
    verdict = judge(trade())
    assert isinstance(verdict, Accepted)
    assert (verdict.out_terminal, verdict.in_terminal) == ("T2", "T3")


@pytest.mark.parametrize(
    ("changes", "options", "code"),
    [
        ({"sop": "SOP-9"}, {}, ReasonCode.UNKNOWN_SOP),
        ({"out": "region-x"}, {}, ReasonCode.UNKNOWN_DOMAIN),
        ({"into": "region-b"}, {}, ReasonCode.SAME_DOMAIN),
        ({}, {"received_ms": FIRST_MS - GATE_MS + 1}, ReasonCode.LATE),
        ({}, {"received_ms": FIRST_MS + 1}, ReasonCode.LATE),
        ({}, {"received_ms": FIRST_MS - 200_000_000}, ReasonCode.HORIZON),
        ({}, {"mode": "off"}, ReasonCode.MODE_BLOCKED),
        ({}, {"time_quality": "invalid"}, ReasonCode.TIME_QUALITY),
        ({}, {"open_count": 10_000}, ReasonCode.RATE),
        ({}, {"full": QUARTER}, ReasonCode.RATE),
        ({"p_w": 0}, {}, ReasonCode.ORPHAN),
        ({"p_w": 0}, {"full": QUARTER}, ReasonCode.ORPHAN),  # it may wait for its trade
        ({"p_w": 240_000}, {"over_limit": "refuse"}, ReasonCode.REFUSED_BY_POLICY),
        ({}, {"intervals": [Interval(FIRST_MS, FIRST_MS + 300_000)]}, ReasonCode.RESOLUTION),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(changes, options, code):
    assert codes(trade(**changes), **options) == {code}


def test_a_trade_exactly_at_the_gate_is_in_time():
    assert isinstance(judge(trade(), received_ms=FIRST_MS - GATE_MS), Accepted)


def test_all_reasons_come_at_once():
    found = codes(trade(sop="x", out="region-x"), received_ms=FIRST_MS, mode="off")
    assert found == {
        ReasonCode.UNKNOWN_SOP,
        ReasonCode.UNKNOWN_DOMAIN,
        ReasonCode.LATE,
        ReasonCode.MODE_BLOCKED,
    }


def test_the_same_bytes_again_are_a_duplicate_and_nothing_else():
    assert codes(trade(), known=known(trade()), received_ms=FIRST_MS + 10**9) == {
        ReasonCode.DUPLICATE
    }


def test_other_content_under_the_same_id_is_a_conflict():
    assert codes(trade(p_w=50_000), known=known(trade()), sha256="bb") == {ReasonCode.CONFLICT}


def test_an_older_revision_is_superseded():
    assert codes(trade(revision=1), known=known(trade(revision=2))) == {ReasonCode.SUPERSEDED}


def test_a_higher_revision_replaces_and_a_zero_one_cancels_before_the_gate():
    before = known(trade())
    assert isinstance(judge(trade(revision=2, p_w=50_000), known=before, sha256="bb"), Accepted)
    assert isinstance(judge(trade(revision=2, p_w=0), known=before, sha256="bb"), Accepted)


def test_after_the_gate_nothing_changes_an_accepted_trade():
    late = FIRST_MS - GATE_MS + 1
    assert codes(trade(revision=2, p_w=0), known=known(trade()), sha256="bb", received_ms=late) == {
        ReasonCode.LATE
    }


def test_a_revision_keeps_its_parties():
    changed = trade(revision=2, into="region-d")
    assert codes(changed, known=known(trade()), sha256="bb") == {ReasonCode.CONFLICT}


def test_an_over_limit_trade_is_taken_where_the_site_curtails():
    assert isinstance(judge(trade(p_w=400_000)), Accepted)


@pytest.mark.parametrize("revised", [False, True])
def test_nothing_joins_an_interval_that_is_planned_even_where_the_gate_is_short(revised):
    """Accepted then, it would be neither planned nor reported: nobody would ever answer for it."""
    before = known(trade()) if revised else {}
    asked = trade(revision=2, p_w=50_000) if revised else trade()
    options = {"known": before, "received_ms": FIRST_MS - 20_000, "gate_ms": 5_000}
    assert isinstance(judge(asked, **options), Accepted)
    assert isinstance(judge(asked, planned_ms=(FIRST_MS + 900_000,), **options), Accepted)
    verdict = judge(asked, planned_ms=(FIRST_MS,), **options)
    assert isinstance(verdict, Refused)
    (reason,) = verdict.reasons
    assert reason.code is ReasonCode.LATE
    assert "planned already" in reason.detail


NEXT = Interval(QUARTER.end_ms, QUARTER.end_ms + 900_000)


def spanning(*intervals, trade_id="trd-1", p_w=1000):
    return Trade(
        id=trade_id, revision_number=1, sop="SOP-1", out_domain="region-b", in_domain="region-c",
        positions=tuple(Position(interval=i, p_w=p_w, energy_wh=0) for i in intervals),
    )  # fmt: skip


def standing(count):
    return {f"x-{k}": None for k in range(count)}


def test_an_interval_is_full_for_who_is_not_in_it():
    schedule = {QUARTER: standing(3), NEXT: standing(INTERVAL_TRADES_MAX)}
    assert first_full(spanning(QUARTER), schedule) is None
    assert first_full(spanning(QUARTER, NEXT), schedule) == NEXT
    assert first_full(spanning(NEXT, p_w=0), schedule) == NEXT  # a row all the same
    assert first_full(spanning(QUARTER, NEXT, trade_id="x-5"), schedule) is None
    assert first_full(spanning(NEXT), {NEXT: standing(INTERVAL_TRADES_MAX - 1)}) is None


def test_a_full_interval_is_named():
    (reason,) = judge(trade(), full=QUARTER).reasons
    assert reason.detail == f"128 trades are in the interval of {utc_text(FIRST_MS)}"


def test_a_trade_of_many_intervals_is_open_once():
    assert count_open({}) == 0
    assert count_open({QUARTER: standing(3), NEXT: standing(5)}) == 5


@st.composite
def disjoint(draw):
    """Intervals that never overlap, in any order."""
    steps = draw(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=12))
    found, at_ms = [], FIRST_MS
    for taken, minutes in steps:
        if taken:
            found.append(Interval(at_ms, at_ms + minutes * 60_000))
        at_ms += minutes * 60_000
    return draw(st.permutations(found))


SPANS = st.builds(
    lambda k, n: Interval(FIRST_MS + k * 60_000, FIRST_MS + (k + n) * 60_000),
    st.integers(0, 40), st.integers(1, 15),
)  # fmt: skip


def one_by_one(t, intervals):
    """Every position against every interval."""
    for mine in (p.interval for p in t.positions):
        for other in intervals:
            if other != mine and other.start_ms < mine.end_ms and mine.start_ms < other.end_ms:
                return [f"{utc_text(other.start_ms)} is traded in another resolution"]
    return []


@given(disjoint(), st.data())
def test_overlaps_are_those_found_one_by_one(intervals, data):
    either = st.one_of(SPANS, st.sampled_from(intervals)) if intervals else SPANS
    asked = spanning(*data.draw(st.lists(either, min_size=1, max_size=6)))
    verdict = judge(asked, intervals=intervals)
    told = [r.detail for r in verdict.reasons] if isinstance(verdict, Refused) else []
    assert told == one_by_one(asked, intervals)


class Walked(Collection):
    """Counts how often it is gone through."""

    def __init__(self, items):
        self.items, self.walks = items, 0

    def __iter__(self):
        self.walks += 1
        return iter(self.items)

    def __len__(self):
        return len(self.items)

    def __contains__(self, item):
        raise AssertionError("a search is a walk")


@pytest.mark.parametrize("clash", [False, True])
def test_what_is_scheduled_is_gone_through_once_however_many_positions(clash):
    minutes = [Interval(FIRST_MS + k * 60_000, FIRST_MS + (k + 1) * 60_000) for k in range(300)]
    last = Interval(FIRST_MS + 299 * 60_000, FIRST_MS + 301 * 60_000)
    intervals = Walked([*minutes[:-1], last] if clash else minutes)
    assert isinstance(judge(spanning(*minutes), intervals=intervals), Refused) is clash
    assert intervals.walks == 1
