"""Reactive power comes from what active power leaves, fixed or by the feeder's voltage."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, Book, make_site, make_sop
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import reactive
from gateway.core.setpoints import wanted
from gateway.core.state import State
from gateway.model.terminal import Reactive

CURVE = Reactive(curve=((3680, 60_000), (3920, 0), (4080, 0), (4320, -60_000)))
FULL = {f"T{k}": 250_000 for k in range(1, 5)}
ZERO = dict.fromkeys(FULL, 0)


def sop_with(**terminals):
    sop = make_sop()
    return replace(
        sop, terminals=tuple(replace(t, reactive=terminals.get(t.id)) for t in sop.terminals)
    )


@pytest.mark.parametrize(
    ("v_dv", "q_var"),
    [
        (3000, 60_000), (3680, 60_000), (3800, 30_000), (3920, 0), (4000, 0), (4080, 0),
        (4200, -30_000), (4320, -60_000), (5000, -60_000),
    ],
)  # fmt: skip
def test_the_curve_is_straight_between_its_points_and_flat_beyond(v_dv, q_var):
    assert reactive.wanted_var(CURVE, v_dv) == q_var


@given(st.integers(3000, 5000), st.integers(3000, 5000))
def test_a_higher_voltage_never_asks_for_more(one_dv, other_dv):
    low, high = sorted((one_dv, other_dv))
    assert reactive.wanted_var(CURVE, low) >= reactive.wanted_var(CURVE, high)


@given(
    st.integers(-230_000, 230_000), st.integers(-230_000, 230_000),
    st.integers(-400_000, 400_000), st.integers(0, 250_000),
)  # fmt: skip
def test_active_power_goes_first_and_the_rating_holds(p2_w, p3_w, q_var, available_va):
    sop = sop_with(T1=Reactive(q_var=q_var), T2=Reactive(q_var=q_var))
    found = reactive.setpoints_var(
        sop, target_w=ZERO | {"T2": p2_w, "T3": p3_w}, v_dv={},
        available_va=FULL | {"T2": available_va},
    )  # fmt: skip
    assert abs(found["T2"]) <= abs(q_var)
    if abs(p2_w) < available_va:
        assert p2_w**2 + found["T2"] ** 2 <= available_va**2
    else:
        assert found["T2"] == 0
    assert found["T1"] ** 2 + (p2_w + p3_w) ** 2 <= 250_000**2 or found["T1"] == 0
    assert found["T3"] == found["T4"] == 0


def test_without_a_voltage_nothing_is_given_by_curve():
    found = reactive.setpoints_var(sop_with(T2=CURVE), target_w=ZERO, v_dv={}, available_va=FULL)
    assert found["T2"] == 0


def book_with(**terminals):
    book = Book()
    book.state = State(replace(make_site(), sop=sop_with(**terminals)))
    for entry in book.entries:
        book.state.fold(book.state.size, entry)
    return book.adopted()


def ask(book, at_ms, v_dv):
    return wanted(
        book.state, utc_ms=at_ms, lead_ms=0, available_va=FULL, v_dv=dict.fromkeys(FULL, v_dv)
    )


def test_reactive_power_travels_with_the_opening_and_follows_the_voltage_by_steps():
    book = book_with(T2=Reactive(q_var=25_000), T3=CURVE)
    index = book.plan({"T2": -25_000, "T3": 25_000})
    opened = ask(book, FIRST_MS, 4200)
    assert dict(opened.q_var) == ZERO | {"T2": 25_000, "T3": -30_000}
    book.utc_us = FIRST_MS * 1000
    book.execute(dict(opened.setpoints), plan_index=index, q_var=opened.q_var)
    same_w = dict(opened.setpoints)
    book.read(FIRST_MS * 1000, T2=0, T3=0)
    later_ms = FIRST_MS + 10_000
    book.read(later_ms * 1000, T2=same_w["T2"] // 360, T3=same_w["T3"] // 360)
    again = ask(book, later_ms, 4205)  # 625 var less: not worth a write
    assert again.setpoints is None
    again = ask(book, later_ms, 4220)
    assert again.q_var["T3"] == -35_000
    assert again.authority == "tracking"


def test_after_an_interval_reactive_power_goes_to_zero_too():
    book = book_with(T2=Reactive(q_var=25_000))
    book.execute({}, q_var={"T2": 25_000})
    found = ask(book, FIRST_MS, 4000)
    assert found.authority == "close"
    assert not any(found.q_var.values())
