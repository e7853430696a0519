"""SunSpec addresses of a terminal, the dead-man of a set value, the lease."""

import struct

import pytest

from firmware_sim.bench import Options, SopDevice
from firmware_sim.faces.registers import ModbusRefusalError, Table
from firmware_sim.faces.sunspec_layout import ABSENT
from firmware_sim.faces.sunspec_map import END, PLACES, SunSpecMap
from firmware_sim.plant.ratings import SPECS
from firmware_sim.timebase import SimClock, TimeBase

# As the terminal's manual prints them, written down a second time.
ADDRESSES = {
    "701.InvSt": 40074, "701.ConnSt": 40075, "701.Alrm": 40076, "701.DERMode": 40078,
    "701.W": 40080, "701.VA": 40081, "701.Var": 40082, "701.A": 40084, "701.LLV": 40085,
    "701.LNV": 40086, "701.Hz": 40087, "701.TotWhInj": 40089, "701.TotWhAbs": 40093,
    "701.TmpCab": 40106, "701.TmpSnk": 40107, "701.TmpSw": 40109, "701.W_SF": 40186,
    "701.VA_SF": 40188, "701.Var_SF": 40189, "701.TotWh_SF": 40190, "702.WMaxRtg": 40227,
    "702.VAMaxRtg": 40232, "702.WMax": 40251, "703.ES": 40279, "704.WSetEna": 40318,
    "704.WSetMod": 40319, "704.WSet": 40320, "704.WSetRvrt": 40322, "704.WSetEnaRvrt": 40326,
    "704.WSetRvrtTms": 40327, "704.WSetRvrtRem": 40329, "704.VarSetEna": 40331,
    "704.VarSetMod": 40332, "704.VarSetPri": 40333, "704.VarSet": 40334, "704.WRmp": 40345,
    "704.VarRmp": 40347, "714.DCW": 40369, "714.DCWhInj": 40370, "714.DCV_SF": 40379,
    "714.Prt_DCV": 40394, "715.LocRemCtl": 40410, "715.DERHb": 40411, "715.ControllerHb": 40413,
    "715.AlarmReset": 40415, "715.OpCtl": 40416,
}  # fmt: skip


@pytest.fixture
def terminal(rig):
    return SunSpecMap(rig.sop, lambda: rig.firmware, 1, serial="S", now_us=lambda: rig.sop.t_us)


@pytest.mark.parametrize("point", ADDRESSES)
def test_address(point):
    assert PLACES[point].address == ADDRESSES[point]


def test_model_headers_and_end(terminal):
    heads = {40002: (1, 66), 40070: (701, 153), 40225: (702, 50), 40277: (703, 17)}
    heads |= {40296: (704, 65), 40363: (714, 43), 40408: (715, 7), END: (0xFFFF, 0)}
    for address, words in heads.items():
        assert tuple(terminal.read(Table.HOLDING, address, 2)) == words
    assert terminal.read(Table.HOLDING, 40000, 2) == [0x5375, 0x6E53]


def test_points_that_do_not_exist_say_so(terminal):
    for point in ("701.TmpAmb", "702.WOvrExtRtg", "704.WSetPct", "714.DCWhInj", "704.PFWInj_PF"):
        place = PLACES[point]
        assert tuple(terminal.read(Table.HOLDING, place.address, place.size)) == ABSENT[place.kind]


def put_i32(terminal, address, value):
    terminal.write(address, struct.unpack(">2H", struct.pack(">i", value)))


def code_of(call, *args):
    with pytest.raises(ModbusRefusalError) as refusal:
        call(*args)
    return refusal.value.exception_code


def test_setpoint_reverts_when_its_writer_falls_silent(rig, terminal):
    terminal.write(40416, [3])
    put_i32(terminal, 40322, 5_000)
    terminal.write(40326, [1, 0, 10])
    terminal.write(40318, [1])
    put_i32(terminal, 40320, 50_000)

    def each():
        terminal.tick(rig.sop.t_us)

    rig.wait(9, heartbeat=False, each=each)
    assert rig.powers[1] == pytest.approx(50_000, abs=1)
    assert terminal.read(Table.HOLDING, 40329, 2)[1] in (0, 1)
    rig.wait(5, heartbeat=False, each=each)
    assert rig.powers[1] == pytest.approx(5_000, abs=1)


def hold(terminal, p_w, *, life_s=5):
    terminal.write(40416, [3])
    terminal.write(40326, [1, 0, life_s])
    terminal.write(40340, [1, 0, life_s])
    terminal.write(40318, [1, 1, *struct.unpack(">2H", struct.pack(">i", p_w))])


def test_each_set_value_has_a_timer_of_its_own(rig, terminal):
    hold(terminal, 50_000)

    def each():
        terminal.tick(rig.sop.t_us)
        if rig.sop.t_us % 1_000_000 == 0:
            terminal.write(40413, [0, 1])  # a sign of life renews neither
            terminal.write(40340, [1, 0, 5])  # and this the other's

    rig.wait(4, heartbeat=False, each=each)
    assert rig.sop.converters[1].p_set_w == 50_000
    rig.wait(2, heartbeat=False, each=each)
    assert rig.sop.converters[1].p_set_w == 0
    assert terminal.read(Table.HOLDING, 40318, 4) == [1, 1, 0, 0]


@pytest.mark.parametrize("how", ["local", "master full"])
def test_nothing_refuses_a_reversion(rig, terminal, how):
    hold(terminal, 200_000)
    if how == "local":
        rig.firmware.local = True
    else:  # alone, the others' power is more than the master carries
        rig.sop.converters[2].accept(-240_000, 0)
        rig.sop.converters[3].accept(-200_000, 0)
    rig.wait(6, heartbeat=False, each=lambda: terminal.tick(rig.sop.t_us))
    assert rig.sop.converters[1].p_set_w == 0


def test_in_fast_time_a_timer_lasts_as_long_as_a_stall_of_the_host(rig, terminal):
    rig.firmware.limit_floor_us = 60_000_000
    hold(terminal, 50_000)
    rig.wait(50, heartbeat=False, each=lambda: terminal.tick(rig.sop.t_us))
    assert rig.sop.converters[1].p_set_w == 50_000
    rig.wait(11, heartbeat=False, each=lambda: terminal.tick(rig.sop.t_us))
    assert rig.sop.converters[1].p_set_w == 0


@pytest.mark.parametrize("remembering", [False, True])
def test_what_was_written_is_gone_after_a_restart(remembering):
    clock = SimClock(TimeBase(epoch_ns=0, utc_epoch_us=0, factor=1.0), lambda: 0)
    device = SopDevice(SPECS["lv4x250"], clock, Options(state="standby"))
    face = device.terminal_maps[1]
    hold(face, 50_000)
    device.reboot(remembering=remembering)
    # A bad device comes back at its old set value, without the timer that would end it.
    held = [1, 1, 0, 50_000] if remembering else [0, 1, 0, 0]
    assert face.read(Table.HOLDING, 40318, 4) == held
    assert face.read(Table.HOLDING, 40326, 5) == [0] * 5
    assert face.read(Table.HOLDING, 40340, 3) == [0] * 3


def test_refusals(rig, terminal):
    assert code_of(put_i32, terminal, 40320, 250_001) == 3
    assert code_of(terminal.write, 40320, [1]) == 3  # half of an int32
    assert code_of(terminal.write, 40321, [1]) == 2
    assert code_of(terminal.write, 40080, [1]) == 2  # a measurement
    assert code_of(terminal.write, 40319, [0]) == 3  # only watts
    assert code_of(terminal.write, 40345, [0]) == 3
    assert code_of(terminal.write, 40416, [9]) == 3
    rig.firmware.local = True
    assert code_of(put_i32, terminal, 40320, 1000) == 4
    assert terminal.read(Table.HOLDING, 40410, 1) == [1]


def test_an_operation_that_finds_nothing_to_do_is_no_error(rig, terminal):
    for code in (2, 3, 3, 1, 2, 2, 0, 0):
        terminal.write(40416, [code])
    assert code_of(terminal.write, 40416, [3]) == 4  # out of a stop it must be started first
    rig.wait(2)
    terminal.write(40416, [0])
    assert rig.sop.converters[1].state.name == "STOPPED"


def test_a_leased_station_takes_no_direct_setpoint(rig, terminal):
    rig.operate([0, 1000, 0, 0])
    rig.wait(1)
    assert code_of(put_i32, terminal, 40320, 1000) == 4


def test_powers_fit_their_scale(rig, terminal):
    rig.operate([0, 240_000, -240_000, 0])
    rig.wait(8)
    assert terminal.read(Table.HOLDING, 40080, 1) == [24_000]
    assert terminal.read(Table.HOLDING, 40186, 1) == [1]


def test_the_setting_of_most_apparent_power_follows_a_derating(rig, terminal):
    assert terminal.read(Table.HOLDING, 40256, 1) == [25_000]
    rig.sop.converters[1].derate_ratio = 0.6
    rig.wait(1)
    assert terminal.read(Table.HOLDING, 40256, 1) == [15_000]
    assert terminal.read(Table.HOLDING, 40232, 1) == [25_000]  # the rating stays


def test_priority_of_vars(rig, terminal):
    terminal.write(40333, [1])
    assert rig.sop.converters[1].q_first
    terminal.write(40333, [0])
    assert not rig.sop.converters[1].q_first
    assert code_of(terminal.write, 40333, [2]) == 3


def test_a_lease_without_an_operate_does_not_take_the_dead_man_away(rig, terminal):
    hold(terminal, 100_000, life_s=10)
    rig.stage([0, 0, 0, 0])
    assert rig.command(7) == 1
    rig.wait(5, each=lambda: terminal.tick(rig.sop.t_us))
    assert rig.firmware.leased(rig.sop.t_us)
    assert rig.powers[1] == pytest.approx(100_000, abs=1)
    rig.wait(10, each=lambda: terminal.tick(rig.sop.t_us))
    assert rig.powers[1] == pytest.approx(0, abs=1)
    assert terminal.read(Table.HOLDING, 40320, 2) == [0, 0]


def test_an_operate_replaces_a_set_value_and_its_dead_man(rig, terminal):
    hold(terminal, 100_000, life_s=10)
    rig.operate([0, 40_000, 0, 0])
    rig.wait(12, each=lambda: terminal.tick(rig.sop.t_us))
    assert rig.powers[1] == pytest.approx(40_000, abs=1)


def test_a_reversion_adds_no_power_to_a_fail_safe(rig, terminal):
    put_i32(terminal, 40322, 50_000)
    hold(terminal, 100_000, life_s=10)
    rig.stage([0, 0, 0, 0])
    rig.firmware.watchdog_ds = 90
    assert rig.command(7) == 1
    rig.wait(12, heartbeat=False, each=lambda: terminal.tick(rig.sop.t_us))
    assert rig.firmware.failsafe_active
    assert rig.sop.converters[1].p_set_w == 0


def test_the_value_of_a_reversion_is_judged_like_the_set_value(terminal):
    assert code_of(put_i32, terminal, 40322, 10_000_000) == 3
    assert code_of(put_i32, terminal, 40336, -250_001) == 3
    put_i32(terminal, 40322, 250_000)
    assert code_of(put_i32, terminal, 40336, 1000) == 3
