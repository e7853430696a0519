"""The list of values that every northbound door shows."""

from dataclasses import replace

import pytest

from gateway.northbound.values import Sureness, values_of


def by_name(view):
    return {v.name: v for v in values_of(view)}


def test_every_value_has_one_name_and_the_names_stay(view):
    names = [v.name for v in values_of(view)]
    assert len(set(names)) == len(names)
    assert names == [v.name for v in values_of(replace(view, mode="off", v_dc_dv=None))]


def test_values_are_those_of_the_view_in_plain_units(view):
    told = by_name(view)
    assert told["DcVoltage"].content == 801.2
    assert told["Terminals/T2/ActivePower"].content == -150_200
    assert told["Terminals/T2/Meter/ImportEnergy"].content == 1_000
    assert told["OpenTrades"].content == 1
    assert told["ActiveAlarms"].content == 2
    assert told["Settled/Partial/Energy"].content == 41_000
    assert told["Settled/Failed/Energy"].content == 0


def test_a_silent_meter_has_nothing_and_a_lost_station_only_old_values(view):
    told = by_name(view)
    assert told["Terminals/T4/Meter/ActivePower"].sureness is Sureness.NONE
    assert told["Terminals/T4/ActivePower"].sureness is Sureness.GOOD
    lost = replace(view.devices[0], connected=False)
    told = by_name(replace(view, devices=(lost, *view.devices[1:])))
    assert told["Terminals/T4/ActivePower"].sureness is Sureness.STALE
    assert told["Terminals/T2/Meter/ActivePower"].sureness is Sureness.GOOD
    late = replace(view.devices[0], age_ms=view.devices[0].stale_after_ms + 1)
    told = by_name(replace(view, devices=(late, *view.devices[1:])))
    assert told["DcVoltage"].sureness is Sureness.STALE


@pytest.mark.parametrize(
    "fault", [{"connected": False}, {"age_ms": 60_000}, {"frozen": True}, {"unsure": True}]
)
def test_one_converter_that_is_silent_late_frozen_or_unsure_makes_all_of_them_old(view, fault):
    first = replace(view.devices[0], name="c1")
    second = replace(first, name="c2")
    told = by_name(replace(view, devices=(first, second, *view.devices[1:])))
    assert told["Terminals/T1/ActivePower"].sureness is Sureness.GOOD
    told = by_name(replace(view, devices=(first, replace(second, **fault), *view.devices[1:])))
    for name in ("T1/State", "T1/ActivePower", "T1/Voltage", "T2/ActivePower"):
        assert told[f"Terminals/{name}"].sureness is Sureness.STALE, name
    assert told["DcVoltage"].sureness is told["Losses"].sureness is Sureness.STALE
    assert told["Terminals/T2/Meter/ActivePower"].sureness is Sureness.GOOD
