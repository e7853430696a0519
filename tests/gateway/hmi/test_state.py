import dataclasses

import pytest

from gateway.hmi.state import (
    FAULTS,
    POLL_BOUNDS_MS,
    DeviceView,
    PollTimes,
    bit_words,
    feeder_views,
    observe,
    poll_quantile,
    settled_views,
    terminal_views,
)
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.telemetry import State, StationTelemetry, TerminalTelemetry
from gateway.model.terminal import LossCurve, Sop, Terminal


def test_view_is_frozen(view):
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.mode = "off"


def test_stale_devices_are_those_silent_old_frozen_or_unsure(make_view):
    def device(name, connected, age_ms, **more):
        return DeviceView(
            name=name, kind="k", address="a", connected=connected, age_ms=age_ms, **more
        )

    view = make_view(
        devices=(
            device("a", True, 5_000),
            device("b", True, 5_001),
            device("c", False, 10),
            device("d", True, None),
            device("e", True, 0, frozen=True),
            device("f", True, 0, unsure=True),
        )
    )
    assert view.stale == ("b", "c", "d", "e", "f")


def test_sums_of_the_fold_come_in_the_order_of_their_outcomes():
    told = settled_views({"partial": (1, 300, 200), "delivered": (2, 500, 500)})
    assert [(s.outcome, s.count, s.contracted_wh, s.delivered_wh) for s in told] == [
        ("delivered", 2, 500, 500),
        ("partial", 1, 300, 200),
    ]


def test_bits_in_words():
    assert bit_words(0b1000_0000_0001, FAULTS) == ("dc_overvoltage", "breaker_fail")
    assert bit_words(1 << 40, FAULTS) == ("bit 40",)
    assert bit_words(0, FAULTS) == ()


def test_polls_are_counted_at_their_bound():
    counts = (0,) * (len(POLL_BOUNDS_MS) + 1)
    assert observe(counts, 5) == (1, *counts[1:])
    assert observe(counts, 6)[:2] == (0, 1)
    assert observe(counts, 10_000)[-1] == 1


def terminal(name, index):
    return Terminal(
        id=name, index=index, domain=f"r{index}", meter=f"m{index}", s_va=250_000,
        p_w_min=-230_000, p_w_max=230_000, ramp_w_per_s=50_000, v_dv_min=3_600, v_dv_max=4_400,
    )  # fmt: skip


@pytest.fixture
def sop():
    return Sop(
        id="SOP-1",
        master="T1",
        terminals=(terminal("T1", 0), terminal("T2", 1)),
        throughput_w=500_000,
        losses=LossCurve(a_ppm=4_000, b_ppm=6_000, c_ppm=6_000),
        v_dc_dv_min=7_200,
        v_dc_dv_max=8_800,
    )


def test_terminals_before_the_first_telemetry_are_unknown_not_zero(sop):
    first, second = terminal_views(sop, None, {})
    assert (first.id, first.master, second.master) == ("T1", True, False)
    assert (first.state, first.p_w, first.set_p_w, first.meter_p_w) == ("UNKNOWN", None, None, None)


def test_terminals_from_telemetry_and_meters(sop):
    def told(name, p_w, fault_bits):
        return TerminalTelemetry(
            id=name, state=State.RUN, p_w=p_w, q_var=5, v_dv=4_010, s_va_available=250_000,
            p_w_set_active=p_w, p_w_set_received=p_w, fault_bits=fault_bits, limit_bits=1,
            export_wh=1, import_wh=2,
        )  # fmt: skip

    station = StationTelemetry(
        utc_us=1, mono_us=1, state=State.RUN, status_bits=0, fault_bits=0, alarm_bits=0, ack_seq=0,
        ack_code=0, heartbeat_count=0, watchdog_remaining_ds=50, instruction_id=1, master="T1",
        v_dc_dv=8_000, loss_w=900, uptime_s=5, lease_owner=1,
        terminals=(told("T1", -40_000, 0), told("T2", 40_000, 1)),
    )  # fmt: skip
    reading = {"meter": "m1", "import_wh": 7, "export_wh": 9, "p_w": 39_900}
    first, second = terminal_views(sop, station, {"T2": reading}, {"T2": ((1, 2),)})
    assert (first.set_p_w, second.set_p_w) == (None, 40_000)  # nobody sets the master's power
    assert (first.p_w, first.meter_p_w, first.limits) == (-40_000, None, ("current",))
    assert (second.meter_p_w, second.meter_export_wh, second.faults) == (
        39_900,
        9,
        ("dc_overvoltage",),
    )
    assert second.polygon == ((1, 2),)


def test_poll_times_are_kept_by_device_and_errors_counted():
    times = PollTimes()
    for duration_ms, answered in ((3, True), (30, True), (3_000, False)):
        times.take("m1", duration_ms, answered=answered)
    bare = DeviceView(name="m1", kind="k", address="a", connected=True)
    view = times.into(bare)
    assert (view.request_count, view.error_count, view.poll_sum_ms) == (3, 1, 3_033)
    assert view.poll_counts == (1, 0, 0, 1, 0, 0, 0, 0, 0, 1)
    other = dataclasses.replace(bare, name="m2")
    assert times.into(other) is other


def test_a_quantile_is_the_bound_that_holds_it():
    counts = (60, 30, 9, 0, 0, 0, 0, 0, 0, 1)
    assert [poll_quantile(counts, p) for p in (50, 60, 61, 99, 100)] == [5, 5, 10, 25, None]


def test_limits_name_the_terminals_of_their_region():
    terminal = Terminal(
        id="T2", index=1, domain="r2", meter="m2", s_va=250_000, p_w_min=-230_000,
        p_w_max=230_000, ramp_w_per_s=50_000, v_dv_min=3_600, v_dv_max=4_400,
    )  # fmt: skip
    other = dataclasses.replace(terminal, id="T3", index=2, domain="r3", meter="m3")
    sop = Sop(
        id="S", master="T2", terminals=(terminal, other), throughput_w=500_000,
        losses=LossCurve(a_ppm=1, b_ppm=1, c_ppm=1), v_dc_dv_min=7_200, v_dc_dv_max=8_800,
    )  # fmt: skip
    limits = FeederLimits(
        site="s", sop="S", sequence_number=1, created_utc_ms=0, valid=Interval(1_000, 61_000),
        limits=(FeederLimit(domain="r2", p_w_min=-5, p_w_max=5, cause="congestion"),),
    )  # fmt: skip
    assert feeder_views(None, sop) == ()
    (view,) = feeder_views(limits, sop)
    assert (view.domain, view.terminals, view.p_w_max) == ("r2", ("T2",), 5)
    assert (view.start_us, view.end_us) == (1_000_000, 61_000_000)


def test_a_silent_meter_does_not_make_the_converters_values_old(view, silent):
    assert view.stale == ("m4",)
    assert not view.station_stale
    assert silent.station_stale
