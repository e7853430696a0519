"""The interlocks: each bit of the station's status where its map has it, each condition alone."""

from dataclasses import replace

import pytest
from fakes.core import OWNER, RUNNING, make_sop, make_station

from gateway.core import interlock
from gateway.core.interlock import Conditions, permissives
from gateway.model.telemetry import Quality
from gateway.model.telemetry import State as StationState


def codes(station=None, **changes):
    fields = {
        "mode": "on", "armed": True, "station": station or make_station(), "station_age_us": 0,
        "configured": True, "time_quality": "good", "executing": False,
    }  # fmt: skip
    found = permissives(make_sop(), Conditions(**(fields | changes)), owner_id=OWNER)
    return [r.code.value for r in found]


def test_nothing_forbids_a_station_that_runs_on_our_word():
    assert codes() == []


def test_the_bits_of_the_station_map_are_the_ones_that_are_looked_at():
    # Station map sop-station-v1, register STATUS: bit numbers as its manual prints them.
    assert {
        "remote": interlock.STATUS_REMOTE, "failsafe": interlock.STATUS_FAILSAFE,
        "master ok": interlock.STATUS_MASTER_OK, "local": interlock.STATUS_LOCAL,
        "estop": interlock.STATUS_ESTOP, "interlock": interlock.STATUS_INTERLOCK,
    } == {
        "remote": 32, "failsafe": 512, "master ok": 2048, "local": 4096, "estop": 8192,
        "interlock": 16384,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("bit", "when_set", "code"),
    [
        (32, False, "local"),
        (2048, False, "terminal_lost"),
        (4096, True, "local"),
        (8192, True, "estop"),
        (16384, True, "breaker_open"),
    ],
)
def test_each_bit_forbids_alone(bit, when_set, code):
    bits = RUNNING | bit if when_set else RUNNING & ~bit
    assert codes(make_station(status_bits=bits)) == [code]


@pytest.mark.parametrize(
    "bit", [b for b in range(16) if 1 << b not in (32, 2048, 4096, 8192, 16384)]
)
def test_no_other_bit_forbids(bit):
    assert codes(make_station(status_bits=RUNNING ^ (1 << bit))) == []


@pytest.mark.parametrize("state", list(StationState))
def test_power_moves_in_standby_in_run_and_derated_and_in_no_other_state(state):
    allowed = state in (StationState.STANDBY, StationState.RUN, StationState.DERATED)
    assert (codes(make_station(state=state)) == []) is allowed


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"fault_bits": 1}, "fault"),
        ({"master": "T2"}, "terminal_lost"),
        ({"master": ""}, "terminal_lost"),
        ({"lease_owner": OWNER + 1}, "lease"),
    ],
)
def test_each_condition_of_the_station_forbids_alone(changes, code):
    assert codes(make_station(**changes)) == [code]


@pytest.mark.parametrize("owner", [0, OWNER])
def test_a_free_lease_is_as_good_as_our_own(owner):
    assert codes(make_station(lease_owner=owner)) == []


def test_telemetry_that_is_not_good_forbids():
    assert codes(replace(make_station(), quality=Quality.BAD)) == ["stale"]


@pytest.mark.parametrize(
    ("mode", "manual", "allowed"),
    [("on", False, True), ("test", True, True), ("test", False, False), ("blocked", True, False),
     ("test-blocked", True, False), ("off", True, False)],
)  # fmt: skip
def test_the_mode_lets_power_through_or_a_persons_test(mode, manual, allowed):
    assert (codes(mode=mode, manual=manual) == []) is allowed


@pytest.mark.parametrize(
    ("quality", "executing", "allowed"),
    [("good", False, True), ("degraded", True, True), ("degraded", False, False),
     ("invalid", True, False)],
)  # fmt: skip
def test_degraded_time_finishes_what_runs_and_begins_nothing(quality, executing, allowed):
    assert (codes(time_quality=quality, executing=executing) == []) is allowed


@pytest.mark.parametrize(("age_us", "allowed"), [(3_000_000, True), (3_000_001, False)])
def test_the_station_may_be_silent_for_three_seconds(age_us, allowed):
    assert (codes(station_age_us=age_us) == []) is allowed


@pytest.mark.parametrize("changes", [{"armed": False}, {"configured": False}])
def test_neither_an_unarmed_site_nor_an_unconfigured_watchdog_moves_power(changes):
    assert codes(**changes) == ["not_armed" if "armed" in changes else "watchdog"]


def test_every_reason_is_told_at_once():
    wrong = make_station(fault_bits=1, status_bits=RUNNING | 8192, lease_owner=OWNER + 1)
    found = codes(wrong, armed=False, mode="blocked", time_quality="invalid", configured=False)
    assert sorted(found) == sorted(
        ["mode_blocked", "time_quality", "estop", "fault", "lease", "watchdog", "not_armed"]
    )


def test_how_long_the_station_was_silent_is_told_in_milliseconds():
    silent = Conditions(
        mode="on", armed=True, station=make_station(), station_age_us=1_234_000_999,
        configured=True, time_quality="good", executing=False,
    )  # fmt: skip
    (reason,) = permissives(make_sop(), silent, owner_id=OWNER)
    assert reason.detail == "silent for 1234000 ms"


@pytest.mark.parametrize(
    ("changes", "details"),
    [
        ({"master": "T2"}, ["Vdc master is T2, not T1"]),
        ({"master": ""}, ["Vdc master is none, not T1"]),
        ({"lease_owner": 7}, ["lease is held by 7"]),
        ({"fault_bits": 0x1F}, ["bits 0x1f"]),
        ({"state": StationState.INIT}, ["station is INIT"]),
        ({"status_bits": RUNNING & ~32}, ["control is local"]),
        ({"status_bits": RUNNING | 16384}, ["station reports an interlock"]),
    ],
)
def test_what_the_station_forbids_by_is_told_as_it_says_it(changes, details):
    found = interlock.station_reasons(make_sop(), make_station(**changes), owner_id=OWNER)
    assert [r.detail for r in found] == details
