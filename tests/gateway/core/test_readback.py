"""The echo of a device is compared to the watt."""

from fakes.core import make_station

from gateway.core.readback import Confirmed, Differed, judge

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


def test_the_masters_power_is_a_residual_and_not_compared():
    assert isinstance(verdict(SENT | {"T1": -3000}), Confirmed)
