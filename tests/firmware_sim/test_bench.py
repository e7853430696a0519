"""A whole device: what a power cycle ends and what not, and energy when gates close between steps."""

import pytest

from firmware_sim.faces.registers import Table

START, RESET = 1, 3


def test_a_power_cycle_releases_no_emergency_stop(bench):
    bench.inject("estop")
    bench.inject("reboot")
    bench.wait(4)
    assert bench.states == ["ESTOP"] * 4
    assert bench.command(START) == 3
    bench.inject("clear")
    assert bench.states == ["STOPPED"] * 4


def test_a_power_cycle_ends_no_lockout_and_leaves_no_fault_nobody_can_clear(bench):
    bench.inject("trip", terminal=2, bits=256)
    bench.inject("trip", terminal=3)
    for remembering in (False, True):
        bench.inject("reboot", remembering=remembering)
        bench.wait(4)
        assert bench.states == ["STOPPED", "LOCKOUT", "STOPPED", "STOPPED"]
        assert [int(c.faults) for c in bench.device.sop.converters] == [0, 256, 0, 0]
    bench.command(START)
    bench.wait(5)
    assert bench.states == ["STANDBY", "LOCKOUT", "STANDBY", "STANDBY"]


def test_a_remembering_device_runs_no_terminal_that_was_locked_out(bench):
    bench.operate([0, 50_000, 20_000, 0])
    bench.wait(3)
    bench.inject("trip", terminal=2, bits=256)
    bench.inject("reboot", remembering=True)
    assert bench.states == ["RUN", "LOCKOUT", "RUN", "RUN"]
    assert bench.powers[1] == 0


def test_after_a_power_cycle_the_converter_is_as_its_registers_say(bench):
    face, converter = bench.device.terminal_maps[1], bench.device.sop.converters[1]
    face.write(40333, [1])
    face.write(40345, [100])
    bench.command(10, arg=3)
    bench.inject("reboot")
    assert face.read(Table.HOLDING, 40333, 1) == [0]
    assert face.read(Table.HOLDING, 40345, 1) == [20]
    assert not converter.q_first
    assert converter.ramp_permille_per_s == 200
    modes = [c.mode.name for c in bench.device.sop.converters]
    assert modes == ["P_Q", "P_Q", "VDC_Q", "P_Q"]  # the master in force stays it


def test_a_key_switch_on_local_outlasts_a_power_cycle(bench):
    bench.inject("local")
    bench.inject("reboot")
    assert bench.device.firmware.local
    bench.inject("clear")
    assert not bench.device.firmware.local


def counters_wh(bench):
    """Every counter a client can read, of terminal 2 and its meter."""
    device = bench.device
    device.advance()
    meter = device.meter_servers[1].responder.units[1].read(Table.HOLDING, 0x0C83, 8)
    station = device.station_map.read(Table.INPUT, 1140 + 18, 8)
    sunspec = device.terminal_maps[1].read(Table.HOLDING, 40089, 4)
    return [
        int.from_bytes(b"".join(w.to_bytes(2, "big") for w in words), "big")
        for words in (meter[:4], meter[4:], station[:4], station[4:], sunspec)
    ]


@pytest.mark.parametrize("how", ["trip", "estop", "stop by the station", "standby by SunSpec"])
def test_no_counter_falls_when_gates_close_between_two_steps(make_bench, how):
    bench = make_bench(factor=60.0, start_energy_wh=0.0)
    bench.operate([0, 240_000, -100_000, 0])
    bench.wait(20)
    bench.ns += round(0.09e9 / 60)
    before = counters_wh(bench)
    match how:
        case "trip":
            bench.inject("trip", terminal=2)
        case "estop":
            bench.inject("estop")
        case "stop by the station":
            assert bench.command(6) == 2
        case _:
            pdu = bytes((6, *(40416).to_bytes(2, "big"), 0, 2))
            assert bench.device.responder.respond(2, pdu) == pdu
    assert bench.powers[1] == 0
    for _ in range(3):
        after = counters_wh(bench)
        assert all(a >= b for a, b in zip(after, before, strict=True)), (before, after)
        before = after
        bench.wait(1)


@pytest.mark.parametrize("factor", [1.0, 60.0])
@pytest.mark.parametrize("fault", ["trip", "master_trip", "estop"])
def test_energy_balances_through_an_injected_trip(make_bench, factor, fault):
    bench = make_bench(factor=factor)
    sop, meters = bench.device.sop, bench.device.meters
    bench.operate([0, 200_000, -150_000, 100_000])
    bench.wait(20.013)

    def balance_wh():
        ahead_s = bench.device.ahead_s()
        metered = sum(m.export_wh(ahead_s) - m.import_wh(ahead_s) for m in meters)
        return metered + sop.loss_wh + sop.loss_w * ahead_s / 3600

    before = balance_wh()
    bench.inject(fault, **({"terminal": 4} if fault == "trip" else {}))
    assert sum(bench.powers) == pytest.approx(-sop.loss_w, abs=1e-3)
    assert balance_wh() == pytest.approx(before, abs=1e-6)
    bench.wait(10)
    assert balance_wh() == pytest.approx(before, abs=1e-6)


def test_after_an_order_between_two_steps_the_physics_is_on_its_grid_again(bench):
    bench.ns += 33_000_000
    bench.write(4, [1])
    assert bench.device.t_us == bench.device.sop.t_us == 33_000
    bench.ns += 30_000_000
    bench.device.advance()
    assert bench.device.t_us == 60_000
