"""What every station must do, whatever it is made of."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from gateway.model.errors import DeviceNotSent, DeviceRefused
from gateway.model.setpoint import Ack, Command, ControlMode, Instruction, Setpoint
from gateway.model.telemetry import Quality, State

IDS = itertools.count(0x5001)
COMM_FAULT = 1 << 9
SELECTED = 1 << 10


def instruction(p_w=(0, -40_000, 30_000, 10_000), *, masters=("T1",), **fields):
    setpoints = tuple(
        Setpoint(
            terminal=f"T{n + 1}",
            mode=ControlMode.VDC_Q if f"T{n + 1}" in masters else ControlMode.P_Q,
            p_w=p,
        )
        for n, p in enumerate(p_w)
    )
    values = {"id": next(IDS), "sop": "SOP-1", "ramp_permille_per_s": 200, "ttl_s": 60} | fields
    return Instruction(setpoints=setpoints, **values)


async def ready(station, watchdog_ds=50):
    await station.read()
    await station.configure(
        watchdog_ds=watchdog_ds, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=7
    )
    await station.heartbeat(1)
    return await station.read()


async def carried_out(station, wanted):
    assert await station.select(wanted) is Ack.ACCEPTED
    assert await station.staged_equals(wanted)
    assert await station.operate(wanted) is Ack.EXECUTED


async def until(station, condition, beats=None):
    """Read (and beat the heart while there are beats) until the telemetry is as wanted."""
    async with asyncio.timeout(60):
        while True:
            if beats is not None:
                await station.heartbeat(next(beats))
            seen = await station.read()
            if condition(seen):
                return seen
            await asyncio.sleep(0.1)


async def test_a_fresh_station_stands_by_and_holds_nothing(bench):
    seen = await bench.station().read()
    assert seen.state is State.STANDBY
    assert seen.master == "T1"
    assert seen.instruction_id == 0
    assert seen.quality is Quality.GOOD
    assert [t.id for t in seen.terminals] == ["T1", "T2", "T3", "T4"]
    assert all(t.p_w_set_active == 0 for t in seen.terminals)
    assert 7000 < seen.v_dc_dv < 9000


async def test_select_read_back_operate_effect(bench):
    station = bench.station()
    await ready(station)
    alike = instruction()
    slower = (
        replace(s, ramp_permille_per_s=150) if s.terminal == "T2" else s for s in alike.setpoints
    )
    wanted = replace(alike, setpoints=tuple(slower))
    assert await station.select(wanted) is Ack.ACCEPTED
    assert (await station.read()).status_bits & SELECTED
    assert not await station.staged_equals(alike), "each terminal's own ramp is staged"
    assert await station.staged_equals(wanted)
    assert not await station.staged_equals(instruction((0, -40_000, 30_000, 10_001)))
    assert await station.operate(wanted) is Ack.EXECUTED
    seen = await station.read()
    assert seen.instruction_id == wanted.id
    assert seen.ack_code == Ack.EXECUTED
    assert seen.lease_owner == 7
    assert [t.p_w_set_active for t in seen.terminals] == [0, -40_000, 30_000, 10_000]
    seen = await until(
        station,
        lambda s: (
            all(
                abs(t.p_w - p) <= 2500
                for t, p in zip(s.terminals[1:], (-40_000, 30_000, 10_000), strict=True)
            )
            # The master carries what is left and the losses; each reading has its noise.
            and abs(sum(t.p_w for t in s.terminals) + s.loss_w) < 1500
        ),
        itertools.count(2),
    )
    assert seen.state is State.RUN


async def test_operate_needs_its_own_select(bench):
    station = bench.station()
    await ready(station)
    first, second = instruction(), instruction()
    with pytest.raises(DeviceNotSent):
        await station.operate(first)
    await station.select(first)
    with pytest.raises(DeviceNotSent):
        await station.operate(second)
    assert await station.command(Command.CANCEL) is Ack.EXECUTED
    with pytest.raises(DeviceNotSent):
        await station.operate(first)
    assert (await station.read()).instruction_id == 0


async def test_an_instruction_is_operated_once(bench):
    station = bench.station()
    await ready(station)
    wanted = instruction()
    await carried_out(station, wanted)
    with pytest.raises(DeviceNotSent):
        await station.operate(wanted)


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        (instruction((0, -230_001, 0, 0)), "power-limit"),
        (instruction((0, -1, 0, 0), masters=("T1", "T2")), "master"),
        (instruction((0, -1, 0, 0), ttl_s=0), "time-to-live"),
        (instruction((0, -1, 0, 0), ramp_permille_per_s=201), "ramp"),
        (instruction((0, -1, 0)), "terminals"),
    ],
)
async def test_the_guard_refuses_before_anything_leaves(bench, wanted, word):
    station = bench.station()
    before = await ready(station)
    with pytest.raises(DeviceNotSent, match=word) as caught:
        await station.select(wanted)
    assert not caught.value.retryable
    after = await station.read()
    assert (after.ack_seq, after.instruction_id) == (before.ack_seq, before.instruction_id)


async def test_the_station_has_limits_of_its_own(bench, four_terminals):
    loose = four_terminals(s_va=400_000, p_w_min=-400_000, p_w_max=400_000, ramp_w_per_s=400_000)
    station = bench.station(terminals=loose)
    await ready(station)
    assert await station.select(instruction((0, -260_000, 0, 0))) is Ack.REJECTED_RANGE
    assert await station.select(instruction((0, 0, 0, 0), masters=("T2",))) is Ack.REJECTED_RANGE
    assert (await station.read()).instruction_id == 0


async def test_without_heartbeat_the_power_goes_to_zero_and_stays_there(bench):
    station = bench.station()
    await ready(station, watchdog_ds=10)
    await carried_out(station, instruction())
    await until(station, lambda s: s.terminals[1].p_w < -35_000, itertools.count(2))
    seen = await until(station, lambda s: s.state is State.STANDBY)
    assert seen.status_bits & COMM_FAULT
    assert seen.instruction_id == 0
    assert all(abs(t.p_w) < 2500 for t in seen.terminals[1:])
    # The heart beats again, and nothing moves without a new SELECT.
    for beat in range(100, 103):
        await station.heartbeat(beat)
    seen = await station.read()
    assert all(t.p_w_set_active == 0 for t in seen.terminals)
    await carried_out(station, instruction())


async def test_the_time_to_live_ends_an_instruction(bench):
    station = bench.station()
    await ready(station)
    await carried_out(station, instruction((0, -10_000, 0, 0), ttl_s=1))
    await asyncio.sleep(1.1)
    seen = await until(station, lambda s: s.instruction_id == 0, itertools.count(2))
    assert seen.terminals[1].p_w_set_active == 0


async def test_a_second_controller_is_kept_out_while_the_lease_lives(bench):
    ours, theirs = bench.station(owner=7), bench.station(owner=8)
    await theirs.read()  # connects: the lease must still live when it asks
    await ready(ours)
    await carried_out(ours, instruction())
    with pytest.raises((DeviceNotSent, DeviceRefused)):
        await theirs.configure(
            watchdog_ds=50, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=8
        )
    assert await theirs.select(instruction((0, 0, 0, 0))) is Ack.REJECTED_LEASE
    await theirs.read()
    with pytest.raises(DeviceNotSent, match="lease"):
        await theirs.select(instruction((0, 0, 0, 0)))
    assert (await ours.read()).lease_owner == 7
    assert await theirs.command(Command.STOP) is Ack.EXECUTED  # stopping is always allowed


async def test_the_watchdog_is_armed_and_read_back(bench):
    station = bench.station()
    await ready(station, watchdog_ds=40)
    await station.heartbeat(5)
    seen = await station.read()
    assert 10 <= seen.watchdog_remaining_ds <= 40
    for wrong in (0, 9):
        with pytest.raises((DeviceNotSent, DeviceRefused)):
            await station.configure(
                watchdog_ds=wrong, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=7
            )


async def test_meters_count_export_while_injecting_and_import_while_absorbing(bench):
    station, absorbs, injects = bench.station(), bench.meter(2), bench.meter(3)
    await ready(station)
    before = [await m.read() for m in (absorbs, injects)]
    await carried_out(station, instruction((0, -200_000, 150_000, 0)))
    beats = itertools.count(2)
    await until(station, lambda s: s.terminals[2].p_w > 140_000, beats)
    await until(station, lambda s: s.terminals[1].p_w < -190_000, beats)
    after = [await m.read() for m in (absorbs, injects)]
    assert after[0].import_wh > before[0].import_wh
    assert after[0].export_wh == before[0].export_wh
    assert after[1].export_wh > before[1].export_wh
    assert after[1].import_wh == before[1].import_wh
    assert after[0].p_w < -180_000
    assert after[1].p_w > 135_000
    assert after[0].utc_us > before[0].utc_us
    assert after[0].registers
