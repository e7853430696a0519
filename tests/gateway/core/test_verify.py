"""Admission of trades: every reason at once, an id decided once and for all."""

import pytest
from fakes.core import FIRST_MS, QUARTER, make_policy, make_sop

from gateway.core.verify import Accepted, Known, Refused, admit
from gateway.model.interval import Interval
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
          time_quality="good", sha256="aa", planned_ms=(), **policy):  # fmt: skip
    return admit(
        t, sha256=sha256, sop=make_sop(), policy=make_policy(**policy), known=known or {},
        intervals=intervals, open_count=open_count, received_ms=received_ms, mode=mode,
        time_quality=time_quality, planned_ms=planned_ms,
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
        ({"p_w": 0}, {}, ReasonCode.ORPHAN),
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
