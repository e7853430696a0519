"""Each alarm's condition: when it holds, and the case beside it when it does not."""

from dataclasses import replace

import pytest
from fakes.core import FIRST_MS, QUARTER, RUNNING, Book, make_station

from gateway.core import interlock
from gateway.core.alarm_conditions import (
    CERTIFICATE_US,
    CHECKPOINT_US,
    CONDITIONS,
    LIMIT_AC_VOLTAGE,
    LIMIT_TEMPERATURE,
    REFUSED_US,
    Seen,
    conditions,
)
from gateway.model.telemetry import State as StationState

NOW_US = FIRST_MS * 1000


def seen(station=None, **changes):
    fields = {"utc_us": NOW_US, "station": station or make_station(), "station_age_us": 100_000}
    return Seen(**(fields | changes))


def terminal(station, name, **changes):
    rows = tuple(replace(t, **changes) if t.id == name else t for t in station.terminals)
    return replace(station, terminals=rows)


def quiet():
    return Book().adopted()


def test_nothing_is_wrong_with_a_station_at_rest():
    assert conditions(quiet().state, seen()) == {}
    assert conditions(Book().state, Seen(utc_us=NOW_US)) == {}, "nor before it was ever read"


def executing():
    book = quiet()
    book.execute({"T2": -50_000, "T3": 50_000})
    return book


def unknown():
    book = quiet()
    book.execute({"T2": -50_000, "T3": 50_000}, outcome="unknown")
    return book


def foreign():
    return quiet().adopted("foreign")


def looping():
    book = quiet()
    reason = {"code": "crash_loop", "detail": "6 starts"}
    book.add("mode", mode="on", state="OBSERVE", reasons=[reason])
    return book


def unarmed():
    book = quiet()
    book.add("operator", user="uid:0", verb="stop", arguments={}, reason="")
    return book


def lagging(done_wh=1000):
    """Ten minutes into a quarter of an hour of 25 kWh, and hardly anything was delivered."""
    book = quiet()
    book.accept("trd-1", "T2", "T3", 100_000)
    book.plan({"T2": -25_000, "T3": 25_000})
    for second in range(0, 841, 60):
        net_wh = done_wh * second // 840
        book.read(NOW_US + second * 10**6, T2=-net_wh, T3=net_wh)
    return book


def stuck_meter(net_wh=0):
    """Power is held for half a minute and the meter repeats itself, or moves by so much."""
    book = executing()
    for second in (0, 10, 20, 30):
        book.read(NOW_US + second * 10**6, T3=net_wh * second // 30)
    return book


def holding(**off_w):
    """The station as it follows T2 -50 kW and T3 50 kW, or so much off."""
    station = make_station({"T2": -50_000, "T3": 50_000})
    for name, off in off_w.items():
        told = next(t for t in station.terminals if t.id == name)
        station = terminal(station, name, p_w=told.p_w + off)
    return station


FOLLOWS = holding(T3=-2_600)
SETTLED_US = NOW_US - 600_000_000 + 6_500_000  # the setpoint is from ten minutes before
LOCKED = make_station(state=StationState.LOCKOUT)
PRESSED = make_station(status_bits=RUNNING | interlock.STATUS_ESTOP)
LATE_US = NOW_US + 840 * 10**6
HOLDS = [
    ("A-101", quiet, seen(PRESSED)),
    ("A-101", quiet, seen(make_station(state=StationState.ESTOP))),
    ("A-102", unknown, seen()),
    ("A-103", quiet, seen(meter_p_w={"T2": 20_000})),
    ("A-103", executing, seen(meter_p_w={"T2": -50_000}, station_age_us=60_000_000)),
    ("A-104", unarmed, seen()),
    ("A-105", foreign, seen()),
    ("A-106", looping, seen()),
    ("A-110", quiet, seen(make_station(fault_bits=4))),
    ("A-110", quiet, seen(LOCKED)),
    ("A-110", quiet, seen(terminal(make_station(), "T3", fault_bits=1))),
    ("A-120", quiet, seen(station_age_us=3_000_001)),
    ("A-121", quiet, seen(meter_age_us={"T2": 15_000_001})),
    ("A-122", quiet, seen(broker_online=False)),
    ("A-123", quiet, seen(node_online=False)),
    ("A-130", lagging, seen(utc_us=LATE_US)),
    ("A-131", quiet, seen(refused=((NOW_US - REFUSED_US + 1, "trd-9: late"),))),
    ("A-140", quiet, seen(ledger_wrong="w1 has cosigned size 9, this is 7")),
    ("A-141", quiet, seen(checkpoint_age_us=CHECKPOINT_US)),
    ("A-150", quiet, seen(time_quality="degraded")),
    ("A-151", quiet, seen(clock_step_us=-90_000_000)),
    ("A-160", quiet, seen(terminal(make_station(), "T2", p_w=100_000), meter_p_w={"T2": 98_400})),
    ("A-161", executing, seen(FOLLOWS, utc_us=SETTLED_US)),
    ("A-162", quiet, seen(station_frozen=True)),
    ("A-162", stuck_meter, seen(terminal(make_station(), "T3", p_w=50_000))),
    ("A-170", quiet, seen(terminal(make_station(), "T2", limit_bits=LIMIT_AC_VOLTAGE))),
    ("A-180", quiet, seen(disk_free_ppm=199_999)),
    ("A-181", quiet, seen(certificate=("web.pem", NOW_US + CERTIFICATE_US))),
    ("A-181", quiet, seen(certificate=("web.pem", NOW_US - 1))),
    ("A-190", quiet, seen(terminal(make_station(), "T2", limit_bits=LIMIT_TEMPERATURE))),
    ("A-200", quiet, seen(config_changed=True)),
]
BESIDE = [
    ("A-101", quiet, seen(PRESSED, station_age_us=10_000_000)),
    ("A-102", executing, seen()),
    ("A-103", quiet, seen(meter_p_w={"T2": 5_000})),
    ("A-103", quiet, seen(meter_p_w={"T1": -9_000})),
    ("A-103", executing, seen(meter_p_w={"T2": -50_000})),
    ("A-110", quiet, seen(make_station(fault_bits=4), station_age_us=10_000_000)),
    ("A-120", quiet, seen(station_age_us=3_000_000)),
    ("A-121", quiet, seen(meter_age_us={"T2": 15_000_000})),
    ("A-130", lambda: lagging(done_wh=25_000), seen(utc_us=LATE_US)),
    ("A-130", lagging, seen(utc_us=NOW_US + QUARTER.duration_ms * 1000)),
    ("A-131", quiet, seen(refused=((NOW_US - REFUSED_US, "trd-9: late"),))),
    ("A-141", quiet, seen(checkpoint_age_us=CHECKPOINT_US - 1)),
    ("A-160", quiet, seen(terminal(make_station(), "T2", p_w=100_000), meter_p_w={"T2": 98_600})),
    ("A-160", quiet, seen(terminal(make_station(), "T2", p_w=20_000), meter_p_w={"T2": 0})),
    ("A-161", executing, seen(holding(T3=-2_500), utc_us=SETTLED_US)),
    ("A-161", executing, seen(FOLLOWS, utc_us=NOW_US - 600_000_000 + 2_000_000)),
    ("A-161", executing, seen(terminal(FOLLOWS, "T3", limit_bits=1), utc_us=SETTLED_US)),
    ("A-162", lambda: stuck_meter(net_wh=400), seen()),
    ("A-162", quiet, seen()),
    ("A-170", quiet, seen(terminal(make_station(), "T2", limit_bits=LIMIT_TEMPERATURE))),
    ("A-180", quiet, seen(disk_free_ppm=200_000)),
    ("A-181", quiet, seen(certificate=("web.pem", NOW_US + CERTIFICATE_US + 1))),
]


@pytest.mark.parametrize(("code", "made", "sight"), HOLDS)
def test_it_holds_and_says_what(code, made, sight):
    assert conditions(made().state, sight).get(code)


@pytest.mark.parametrize(("code", "made", "sight"), BESIDE)
def test_it_does_not_hold_beside_it(code, made, sight):
    assert code not in conditions(made().state, sight)


def test_every_condition_was_seen_to_hold():
    assert {code for code, _, _ in HOLDS} == set(CONDITIONS)


def test_several_refusals_are_one_alarm_with_a_count():
    refused = tuple((NOW_US - n, f"trd-{n}: late") for n in (3, 2, 1))
    assert conditions(quiet().state, seen(refused=refused))["A-131"] == "trd-1: late and 2 more"
