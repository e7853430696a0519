"""Net positions are exact whatever the order of the trades."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.netting import Leg, net

TERMINALS = ("T1", "T2", "T3", "T4")


def leg(out, into, energy_wh, trade_id="t"):
    return Leg(
        trade_id=trade_id,
        revision_number=1,
        out_terminal=out,
        in_terminal=into,
        energy_wh=energy_wh,
    )


legs = st.builds(
    lambda ends, energy_wh: leg(*ends, energy_wh),
    st.permutations(TERMINALS).map(lambda p: p[:2]),
    st.integers(0, 10**9),
)


@given(st.lists(legs, max_size=30), st.randoms())
def test_positions_sum_to_zero_in_any_order(trades, random):
    position = net(trades, TERMINALS)
    assert sum(position.values()) == 0
    shuffled = list(trades)
    random.shuffle(shuffled)
    assert net(shuffled, TERMINALS) == position


def test_the_buyers_feeder_is_injected_into_and_the_sellers_drawn_from():
    assert net([leg("T2", "T3", 5)], TERMINALS) == {"T1": 0, "T2": -5, "T3": 5, "T4": 0}


def test_a_trade_within_one_terminal_is_a_bug():
    with pytest.raises(AssertionError):
        leg("T1", "T1", 5)
