"""Whatever ends a test, the terminals are at zero and the station was told so."""

import asyncio
import dataclasses

import pytest

from firmware_sim.plant.ratings import LossCurve
from gateway.commissioning import session
from gateway.commissioning.runs import silence
from gateway.commissioning.session import NotBack, Power, TestRefused, hold
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import JournalError
from gateway.model.telemetry import State

BAND = 2_500  # 1 % of 250 kVA


def reactive_var(bench):
    bench.site.device.advance()
    return [round(c.q_var) for c in bench.site.device.sop.converters]


def at_zero(bench):
    return all(abs(p) < BAND for p in bench.powers_w[1:]) and all(
        abs(q) < BAND for q in reactive_var(bench)
    )


def without_losses(bench):
    """Nothing flows at rest, so that P gives no reason to order zero."""
    for converter in bench.site.device.sop.converters:
        converter.losses = LossCurve(a_pu=1e-9, b_pu=0.0, c_pu=0.0)


class FullAfter:
    """A ledger on a disk that takes so many entries and no more."""

    def __init__(self, count):
        self.left = count

    async def append(self, kind, fields):
        if not self.left:
            raise JournalError("no space left on device")
        self.left -= 1
        return self.left, fields


def with_ramps(rack, **ramp_w_per_s):
    """Give terminals other ramps than the fixture's 20 %/s."""
    sop = rack.equipment.sop
    terminals = tuple(
        dataclasses.replace(t, ramp_w_per_s=ramp_w_per_s.get(t.id, t.ramp_w_per_s))
        for t in sop.terminals
    )
    sop = dataclasses.replace(sop, terminals=terminals)
    rack.equipment = dataclasses.replace(rack.equipment, sop=sop)


async def test_reactive_power_is_taken_back_like_active_power(bench):
    async with bench(factor=10) as b:
        without_losses(b)
        async with hold(b.rack) as held:
            await held.set({"T2": Power(q_var=100_000)}, life_s=60)
            await b.rack.pause(4.0)
            assert reactive_var(b)[1] > 95_000
        assert at_zero(b)


async def test_reactive_power_that_has_only_been_ordered_does_not_come_afterwards(bench):
    async with bench(factor=10) as b:
        without_losses(b)
        async with hold(b.rack) as held:
            await held.set({"T2": Power(q_var=100_000)}, life_s=60)
        await b.rack.pause(3.0)  # the ramp would be done
        assert at_zero(b)


async def moved(b, then=lambda: None, *, journal=None):
    """A test that brings T2 to 100 kW and ends there."""
    async with hold(b.rack, journal=journal) as held:
        await held.set({"T2": Power(p_w=100_000)}, life_s=60)
        await b.rack.pause(4.0)
        assert b.powers_w[1] > 95_000
        then()


async def test_a_refused_way_back_ends_in_stop_and_the_refusal_is_told(bench):
    async with bench(factor=10) as b:

        def taken_over():
            b.site.device.firmware.lease_owner_id = 99

        with pytest.raises(GuardRefused) as told:
            await moved(b, taken_over)
        assert told.value.reason is GuardReason.LEASE
        await b.rack.pause(4.0)
        assert at_zero(b)
        assert (await b.rack.station().read()).state is State.STOPPED


async def test_a_full_ledger_on_the_way_back_ends_in_stop(bench):
    async with bench(factor=10) as b:
        with pytest.raises(JournalError, match="no space"):
            await moved(b, journal=FullAfter(2))
        await b.rack.pause(4.0)
        assert at_zero(b)
        assert (await b.rack.station().read()).state is State.STOPPED


async def test_a_station_that_takes_neither_zero_nor_stop_is_told_as_not_back(bench):
    async with bench(factor=10) as b:

        def switched():
            b.site.device.firmware.local = True

        with pytest.raises(NotBack, match="rejected_local"):
            await moved(b, switched)


async def test_a_test_interrupted_while_its_link_is_dropped_takes_the_power_back(bench):
    async with bench("watchdog", factor=10) as b:  # the device's own timer does not help
        silent = asyncio.Event()

        async def drop_and_wait():
            async with hold(b.rack) as held:
                await held.set({"T2": Power(p_w=100_000)}, life_s=120)
                await b.rack.pause(4.0)
                held.silent = True
                await held.drop()
                silent.set()
                await b.rack.pause(1000.0)

        running = asyncio.ensure_future(drop_and_wait())
        await silent.wait()
        assert b.powers_w[1] > 95_000
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert at_zero(b)


async def test_the_way_to_zero_after_a_trip_is_armed_with_the_ramp_of_the_site(bench):
    async with bench() as b:
        with_ramps(b.rack, T3=25_000)
        async with hold(b.rack):
            assert b.site.device.firmware.failsafe_ramp_permille_per_s == 100
        expected = silence.default_expectation(b.rack, "T2", 150_000)
        assert expected.zero_within_s >= 150_000 / 25_000 + 1.0 + 5.0
        assert (
            session.ramp_s(b.rack.equipment.sop, b.rack.equipment.sop.terminal("T2"), 50_000) == 2
        )


async def test_the_timeout_as_found_is_what_stood_there_before_the_first_arming(bench):
    async with bench() as b:
        firmware = b.site.device.firmware
        firmware.watchdog_ds = 0
        async with hold(b.rack):
            assert firmware.watchdog_ds == 50
        assert await silence.as_found_s(b.rack) == 0.0


async def test_a_station_switched_to_local_is_refused_before_anything_is_written(bench):
    async with bench() as b:
        b.site.device.firmware.local = True
        before = b.site.write_count
        with pytest.raises(TestRefused) as told:
            async with hold(b.rack):
                pass
        assert told.value.cause == "blocked-by-switching-hierarchy"
        assert b.site.write_count == before
