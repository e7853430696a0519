"""Each interlock alone forbids power, and says its name."""

import dataclasses

import pytest
from fakes.core import OWNER, make_sop, make_station

from gateway.core import interlock
from gateway.core.interlock import Conditions, permissives
from gateway.model.reason import ReasonCode
from gateway.model.telemetry import Quality, State

SOP = make_sop()


def conditions(**changes):
    fields = {
        "mode": "on", "armed": True, "station": make_station(), "station_age_us": 0,
        "configured": True, "time_quality": "good", "executing": False,
    }  # fmt: skip
    return Conditions(**(fields | changes))


def codes(**changes):
    return {r.code for r in permissives(SOP, conditions(**changes), owner_id=OWNER)}


def test_with_all_in_order_power_is_permitted():
    assert codes() == set()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mode": "blocked"}, ReasonCode.MODE_BLOCKED),
        ({"armed": False}, ReasonCode.NOT_ARMED),
        ({"station": None}, ReasonCode.LINK_LOST),
        ({"station_age_us": 3_000_001}, ReasonCode.LINK_LOST),
        ({"configured": False}, ReasonCode.WATCHDOG),
        ({"time_quality": "degraded"}, ReasonCode.TIME_QUALITY),
        ({"time_quality": "invalid", "executing": True}, ReasonCode.TIME_QUALITY),
    ],
)
def test_a_condition_of_the_gateway_forbids(changes, code):
    assert codes(**changes) == {code}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status_bits": make_station().status_bits | interlock.STATUS_ESTOP}, ReasonCode.ESTOP),
        ({"status_bits": make_station().status_bits | interlock.STATUS_LOCAL}, ReasonCode.LOCAL),
        ({"status_bits": make_station().status_bits & ~interlock.STATUS_REMOTE}, ReasonCode.LOCAL),
        (
            {"status_bits": make_station().status_bits | interlock.STATUS_INTERLOCK},
            ReasonCode.BREAKER_OPEN,
        ),
        (
            {"status_bits": make_station().status_bits & ~interlock.STATUS_MASTER_OK},
            ReasonCode.TERMINAL_LOST,
        ),
        ({"fault_bits": 1}, ReasonCode.FAULT),
        ({"state": State.STOPPED}, ReasonCode.STATE),
        ({"master": "T2"}, ReasonCode.TERMINAL_LOST),
        ({"lease_owner": OWNER + 1}, ReasonCode.LEASE),
        ({"quality": Quality.BAD}, ReasonCode.STALE),
    ],
)
def test_a_condition_of_the_station_forbids(changes, code):
    assert codes(station=dataclasses.replace(make_station(), **changes)) == {code}


def test_all_reasons_come_at_once():
    assert codes(mode="off", armed=False, configured=False) == {
        ReasonCode.MODE_BLOCKED,
        ReasonCode.NOT_ARMED,
        ReasonCode.WATCHDOG,
    }


def test_degraded_time_may_finish_what_is_running():
    assert codes(time_quality="degraded", executing=True) == set()


def test_a_free_lease_is_as_good_as_ours():
    assert codes(station=make_station(lease_owner=0)) == set()
