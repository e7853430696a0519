"""The echo of a device is compared to the watt."""

from dataclasses import replace

import pytest
from fakes.core import make_station

from firmware_sim.plant.ratings import SPECS
from firmware_sim.plant.sop import Sop
from gateway.core.readback import Confirmed, Differed, carries_all_it_can, judge

SENT = {"T1": 0, "T2": -100_000, "T3": 100_000, "T4": 0}


def verdict(held, instr_id=7, **changes):
    station = make_station(held, instruction_id=instr_id, **changes)
    return judge(setpoints=SENT, instr_id=7, master="T1", station=station)


def test_the_same_setpoints_under_the_same_id_are_confirmed():
    assert isinstance(verdict(SENT), Confirmed)


def test_one_watt_of_difference_is_a_difference_with_both_values():
    found = verdict(SENT | {"T3": 99_999})
    assert isinstance(found, Differed)
    assert found.reasons[0].detail == "T3 holds 99999 W, sent 100000 W"


def test_another_instruction_id_is_a_difference_even_with_equal_setpoints():
    assert isinstance(verdict(SENT, instr_id=8), Differed)


def derated(held, available_va, *, received=None, q_var=None):
    """A station that holds ``held`` of SENT and says what T3 can carry."""
    station = make_station(SENT | held, instruction_id=7)
    rows = tuple(
        replace(t, p_w_set_received=received or SENT["T3"], s_va_available=available_va)
        if t.id == "T3"
        else t
        for t in station.terminals
    )
    return judge(
        setpoints=SENT,
        instr_id=7,
        master="T1",
        station=replace(station, terminals=rows),
        q_var=q_var,
    )


def test_a_derated_terminal_that_holds_all_it_can_is_confirmed_and_says_by_how_much():
    found = derated({"T3": 80_000}, 80_000)
    assert isinstance(found, Confirmed)
    assert found.active["T3"] == 80_000
    assert [r.text() for r in found.reasons] == [
        "derated: T3 holds 80000 W of 100000 W, 80000 VA are available"
    ]


def test_reactive_power_may_come_first():
    assert isinstance(derated({"T3": 48_000}, 80_000, q_var={"T3": 64_000}), Confirmed)
    assert isinstance(derated({"T3": 48_000}, 80_000), Differed)


def test_what_is_available_may_move_while_it_is_read():
    assert isinstance(derated({"T3": 81_000}, 80_000), Confirmed)
    assert isinstance(derated({"T3": 79_000}, 80_000), Confirmed)


@pytest.mark.parametrize(
    ("held", "available_va", "received"),
    [
        (60_000, 80_000, None),  # less than it can
        (84_000, 80_000, None),  # more than it can
        (80_000, 100_000, None),  # it could carry all of it
        (-80_000, 80_000, None),  # the other way
        (80_000, 80_000, 90_000),  # something else was received
        (110_000, 80_000, None),  # more than was sent
        (100_001, 99_999, None),
    ],
)
def test_less_that_derating_does_not_explain_is_a_difference(held, available_va, received):
    found = derated({"T3": held}, available_va, received=received)
    assert isinstance(found, Differed)
    assert {r.code.value for r in found.reasons} == {"readback_differs"}


@pytest.mark.parametrize("q_first", [False, True])
@pytest.mark.parametrize(("p_w", "q_var"), [(200_000, 0), (-200_000, 60_000), (100_000, 120_000)])
@pytest.mark.parametrize("ratio", [0.1, 0.32, 0.5])
def test_what_the_simulated_converter_holds_while_derated_is_what_counts(
    ratio, p_w, q_var, q_first
):
    sop = Sop(SPECS["lv4x250"], seed=1, bias_ratio_max=0.0, noise_ratio=0.0, state="run")
    converter = sop.converters[2]
    converter.derate_ratio, converter.q_first = ratio, q_first
    converter.accept(p_w, q_var)
    (row,) = [
        replace(
            t,
            p_w_set_active=int(converter.p_set_w),
            p_w_set_received=converter.p_set_rx_w,
            s_va_available=int(converter.s_va_available()),
        )
        for t in make_station().terminals
        if t.id == "T3"
    ]
    cut = row.p_w_set_active != p_w
    assert carries_all_it_can(row, p_w, q_var) is cut
    assert not carries_all_it_can(replace(row, p_w_set_received=0), p_w, q_var)


def test_the_masters_power_is_a_residual_and_not_compared():
    assert isinstance(verdict(SENT | {"T1": -3000}), Confirmed)
