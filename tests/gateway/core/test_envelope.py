"""Curtailment: every limit holds afterwards, nobody is cut for another's limit, nothing silently."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.envelope import RESERVE_PERMILLE, curtail, energy_limit_wh
from gateway.core.netting import Leg, net
from gateway.model.interval import Interval
from gateway.model.reason import ReasonCode
from gateway.model.terminal import LossCurve, Sop, Terminal

QUARTER = Interval(0, 900_000)


def make_sop(n=4, s_va=250_000, guard_w=230_000, throughput_w=500_000):
    terminals = tuple(
        Terminal(
            id=f"T{k}", index=k - 1, domain=f"region-{k}", meter=f"m{k}", s_va=s_va,
            p_w_min=-guard_w, p_w_max=guard_w, ramp_w_per_s=s_va // 5, v_dv_min=3600, v_dv_max=4400,
        )
        for k in range(1, n + 1)
    )  # fmt: skip
    losses = LossCurve(a_ppm=4000, b_ppm=6000, c_ppm=6000)
    return Sop(
        id="SOP-1", master="T1", terminals=terminals, throughput_w=throughput_w, losses=losses,
        v_dc_dv_min=7200, v_dc_dv_max=8800,
    )  # fmt: skip


SOP = make_sop()
FULL = {t.id: t.s_va for t in SOP.terminals}


def leg(trade_id, out, into, p_w):
    return Leg(
        trade_id=trade_id, revision_number=1, out_terminal=out, in_terminal=into,
        energy_wh=p_w * 900 // 3600,
    )  # fmt: skip


def planned(legs, available_va=FULL, sop=SOP):
    return {
        p.leg.trade_id: p
        for p in curtail(legs, sop=sop, interval=QUARTER, available_va=available_va)
    }


def test_what_fits_is_left_alone_and_has_no_reason():
    found = planned([leg("a", "T2", "T3", 200_000), leg("b", "T4", "T3", 20_000)])
    assert {t: (p.planned_wh, p.reasons) for t, p in found.items()} == {
        "a": (50_000, ()),
        "b": (5_000, ()),
    }


def test_over_the_guard_the_trades_that_share_it_are_cut_pro_rata_and_told_why():
    found = planned(
        [leg("a", "T2", "T4", 200_000), leg("b", "T3", "T4", 100_000), leg("c", "T3", "T2", 40_000)]
    )
    limit_wh = energy_limit_wh(
        p_w=230_000 * (1000 - RESERVE_PERMILLE) // 1000, ramp_w_per_s=50_000, duration_ms=900_000
    )
    cut = found["a"].planned_wh + found["b"].planned_wh
    assert limit_wh - 2 <= cut <= limit_wh
    assert abs(found["a"].planned_wh - 2 * found["b"].planned_wh) <= 2
    assert [r.code for r in found["a"].reasons] == [ReasonCode.GUARD_P]
    assert found["c"].reasons == ()
    assert found["c"].planned_wh == 10_000


def test_a_derated_terminal_limits_and_is_named():
    found = planned([leg("a", "T2", "T3", 150_000)], FULL | {"T3": 100_000})
    assert found["a"].planned_wh < 25_000
    assert found["a"].reasons[0].code is ReasonCode.DERATED
    assert "T3" in found["a"].reasons[0].detail


def test_a_terminal_that_is_away_carries_nothing():
    available = {k: v for k, v in FULL.items() if k != "T3"}
    assert planned([leg("a", "T2", "T3", 150_000)], available)["a"].planned_wh == 0


def test_the_masters_headroom_keeps_room_for_losses():
    found = planned([leg("a", "T1", "T2", 229_000)], sop=make_sop(guard_w=250_000))
    assert found["a"].reasons[0].code is ReasonCode.MASTER_HEADROOM


def test_the_dc_bus_limits_what_crosses_it_not_what_cancels():
    sop = make_sop(throughput_w=150_000)
    across = planned([leg("a", "T2", "T3", 100_000), leg("b", "T4", "T1", 100_000)], sop=sop)
    assert across["a"].reasons[0].code is ReasonCode.THROUGHPUT
    cancelling = planned([leg("a", "T2", "T3", 100_000), leg("b", "T3", "T2", 100_000)], sop=sop)
    assert cancelling["a"].reasons == ()


deals = st.lists(
    st.tuples(
        st.permutations(("T1", "T2", "T3", "T4")).map(lambda p: p[:2]), st.integers(0, 600_000)
    ),
    max_size=8,
)


@given(deals, st.fixed_dictionaries({t: st.integers(0, 250_000) for t in FULL}))
def test_every_limit_holds_after_curtailment_and_no_trade_grows(trades, available_va):
    legs = [leg(f"t{k}", *ends, p_w) for k, (ends, p_w) in enumerate(trades)]
    found = curtail(legs, sop=SOP, interval=QUARTER, available_va=available_va)
    for p in found:
        assert 0 <= p.planned_wh <= p.leg.energy_wh
        assert bool(p.reasons) or p.planned_wh == p.leg.energy_wh
    cut = [
        Leg(
            trade_id=p.leg.trade_id, revision_number=1, out_terminal=p.leg.out_terminal,
            in_terminal=p.leg.in_terminal, energy_wh=p.planned_wh,
        )
        for p in found
    ]  # fmt: skip
    position = net(cut, list(FULL))
    for terminal in SOP.terminals:
        most_wh = min(available_va[terminal.id], 230_000) * 900 // 3600
        assert abs(position[terminal.id]) <= most_wh
    assert sum(e for e in position.values() if e > 0) <= SOP.throughput_w * 900 // 3600


@given(deals)
def test_the_order_of_the_trades_does_not_matter(trades):
    legs = [leg(f"t{k}", *ends, p_w) for k, (ends, p_w) in enumerate(trades)]
    there = {
        p.leg.trade_id: p.planned_wh
        for p in curtail(legs, sop=SOP, interval=QUARTER, available_va=FULL)
    }
    back = {
        p.leg.trade_id: p.planned_wh
        for p in curtail(legs[::-1], sop=SOP, interval=QUARTER, available_va=FULL)
    }
    assert there == back
