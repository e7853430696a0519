"""Settlement of an interval is exact, fair and bit-reproducible."""

from fakes.core import QUARTER, make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Status, meter, report, share_out, tolerance_wh
from gateway.core.energy import Counters
from gateway.core.envelope import Planned
from gateway.core.netting import Leg

SOP = make_sop()
ENDS = (QUARTER.start_ms * 1000, QUARTER.end_ms * 1000)


def planned(trade_id, out, into, contracted_wh, planned_wh=None):
    leg = Leg(
        trade_id=trade_id, revision_number=1, out_terminal=out, in_terminal=into,
        energy_wh=contracted_wh,
    )  # fmt: skip
    return Planned(leg=leg, planned_wh=contracted_wh if planned_wh is None else planned_wh)


def metered(**net_wh):
    """Readings exactly at both boundaries."""
    return {
        t: [
            Counters(utc_us=ENDS[0], import_wh=1000, export_wh=5000, p_w=0),
            Counters(
                utc_us=ENDS[1], import_wh=1000 - min(0, wh), export_wh=5000 + max(0, wh), p_w=0
            ),
        ]
        for t, wh in net_wh.items()
    }


def settle(trades, **net_wh):
    return report(sop=SOP, interval=QUARTER, planned=trades, readings=metered(**net_wh))


def test_a_trade_gets_the_smaller_of_its_two_ends():
    found = settle([planned("a", "T2", "T3", 30_000)], T1=-1500, T2=-29_990, T3=30_020, T4=0)
    assert found.trades[0].delivered_wh == 29_990
    assert found.trades[0].status is Status.DELIVERED


def test_the_master_is_judged_on_the_others_and_its_extra_is_loss():
    found = settle([planned("a", "T1", "T4", 20_000)], T1=-22_100, T2=0, T3=0, T4=19_995)
    assert found.trades[0].delivered_wh == 19_995
    assert found.loss_wh == 22_100 - 19_995


def test_a_curtailed_trade_is_partial_even_when_its_plan_was_met():
    found = settle([planned("a", "T2", "T4", 70_000, 56_000)], T1=0, T2=-56_000, T3=0, T4=56_000)
    assert (found.trades[0].status, found.trades[0].delivered_wh) == (Status.PARTIAL, 56_000)


def test_nothing_delivered_is_failed_and_a_cancelled_trade_is_neither():
    found = settle(
        [planned("a", "T2", "T4", 10_000), planned("b", "T2", "T3", 0)], T1=0, T2=0, T3=0, T4=0
    )
    assert [t.status for t in found.trades] == [Status.FAILED, Status.CANCELLED]


def test_over_delivery_is_shown_and_counts_as_delivered():
    found = settle([planned("a", "T2", "T3", 10_000)], T1=0, T2=-12_000, T3=12_000, T4=0)
    assert (found.trades[0].status, found.trades[0].delivered_wh) == (Status.DELIVERED, 12_000)


def test_an_unread_meter_is_said_and_never_invented():
    found = settle([planned("a", "T2", "T3", 10_000)], T1=0, T2=-10_000, T4=0)
    assert found.trades[0].unmetered
    assert found.trades[0].status is Status.FAILED
    assert found.terminals[2].flags == ("unmetered",)


def test_a_master_trade_is_unmetered_when_any_other_meter_was():
    found = settle([planned("a", "T1", "T4", 10_000)], T1=0, T2=0, T4=10_000)
    assert found.trades[0].unmetered


def test_energy_at_a_terminal_nobody_traded_is_unscheduled():
    assert settle([planned("a", "T2", "T3", 100)], T1=0, T2=-100, T3=100, T4=-7).unscheduled_wh == 7


def test_the_tolerance_is_the_largest_of_its_three_rules():
    assert tolerance_wh(contracted_wh=45_000, s_va=250_000, interval=QUARTER) == 225
    assert tolerance_wh(contracted_wh=1000, s_va=250_000, interval=QUARTER) == 62
    assert tolerance_wh(contracted_wh=100, s_va=1000, interval=QUARTER) == 2


@given(
    st.lists(st.integers(0, 100_000), min_size=1, max_size=9), st.integers(-60_000, 200_000)
)  # fmt: skip
def test_shares_sum_to_the_deviation_exactly_and_follow_the_planned_energy(energies, net_wh):
    trades = [planned(f"t{k}", "T2", "T3", wh) for k, wh in enumerate(energies)]
    terminal = meter(
        sop=SOP, interval=QUARTER, planned=trades, readings=metered(T1=0, T2=0, T3=net_wh, T4=0)
    )[2]
    shares = share_out(terminal, trades)
    deviation = net_wh - sum(energies)
    assert sum(shares.values()) == (deviation if sum(energies) else 0)
    for trade in trades:
        part = shares.get(trade.leg.trade_id, 0)
        exact = deviation * trade.planned_wh / max(1, sum(energies))
        assert abs(part - exact) < 1


@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_the_trades_changes_no_figure(order):
    energy_wh = {"a": 10, "b": 10, "c": 10}
    trades = [planned(t, "T2", "T3", energy_wh[t]) for t in order]
    found = settle(trades, T1=0, T2=-32, T3=31, T4=0)
    assert {t.trade_id: t.delivered_wh for t in found.trades} == {"a": 11, "b": 10, "c": 10}
