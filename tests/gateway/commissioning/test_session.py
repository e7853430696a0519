"""Whatever ends a test, the terminals are at zero and the station was told so."""

import asyncio
import dataclasses

import pytest
from fakes.memory_journal import MemoryJournal

from firmware_sim.faces.rtu import PtyBus
from firmware_sim.plant.firmware import Failsafe, Order
from firmware_sim.plant.ratings import LossCurve
from gateway.commissioning import session
from gateway.commissioning.runs import silence
from gateway.commissioning.session import NotBack, Power, TestRefused, hold
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import JournalError, OutcomeUnknown
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


def with_station(rack, **fields):
    """Say something else of the station than the fixture does."""
    station = dataclasses.replace(rack.equipment.station, **fields)
    rack.equipment = dataclasses.replace(rack.equipment, station=station)


def with_filters(bench, *, q_var):
    """Let a filter at every terminal draw that much, whatever is ordered."""
    converters, read = bench.site.device.sop.converters, bench.site.station.read

    def felt(table, address, count):
        for converter in converters:
            converter.q_var += q_var
        words = read(table, address, count)
        for converter in converters:
            converter.q_var -= q_var
        return words

    bench.site.station.read = felt


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


async def test_stop_leaves_once_the_driver_lets_something_leave_again(bench):
    async with bench("watchdog", factor=10) as b:  # the device's own timers do not help
        firmware, wire = b.site.device.firmware, b.site.device.responder.wire
        request = firmware.request

        def operate_gets_lost(asked, now_us):
            if asked.code != Order.OPERATE:
                request(asked, now_us)
                return
            wire.cut = wire.silent = True
            asyncio.get_running_loop().call_later(0.1, wire.heal)

        with pytest.raises(OutcomeUnknown):
            await moved(b, lambda: setattr(firmware, "request", operate_gets_lost))
        await b.rack.pause(4.0)
        assert at_zero(b)
        assert (await b.rack.station().read()).state is State.STOPPED


async def test_a_station_that_stays_mute_is_told_as_not_back(bench):
    async with bench("watchdog", factor=10) as b:
        wire = b.site.device.responder.wire

        def mute():
            wire.cut = wire.silent = True

        with pytest.raises(NotBack, match="not known to be at zero"):
            await moved(b, mute)


@pytest.mark.parametrize("q_var", [5_000, 15_000])
async def test_what_a_filter_draws_at_rest_is_neither_taken_back_nor_told(bench, q_var):
    async with bench(factor=10) as b:
        without_losses(b)
        with_filters(b, q_var=q_var)
        firmware = b.site.device.firmware
        async with hold(b.rack):
            firmware.lease_owner_id = 99  # a SELECT would be refused
        assert firmware.counters.select_count == 0
        assert (await b.rack.station().read()).state is State.STANDBY


async def test_beside_a_filter_power_is_taken_back_and_the_test_is_not_lost(bench):
    async with bench(factor=10) as b:
        with_filters(b, q_var=15_000)
        async with hold(b.rack) as held:
            await held.set({"T2": Power(p_w=50_000, q_var=50_000)}, life_s=60)
            await b.rack.pause(3.0)
        assert at_zero(b)
        assert (await b.rack.station().read()).state is State.RUN


async def test_reactive_power_left_on_by_another_test_is_taken_back(bench):
    async with bench(factor=10) as b:
        without_losses(b)
        async with hold(b.rack) as killed:
            await killed.set({"T2": Power(q_var=100_000)}, life_s=60)
            await b.rack.pause(4.0)
            async with hold(b.rack):
                assert reactive_var(b)[1] > 95_000
            await b.rack.pause(4.0)
            assert at_zero(b)


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


async def test_one_serial_line_is_enough_to_hold_a_station(bench):
    async with bench() as b:
        bus = PtyBus(b.site.device.responder)
        with_station(b.rack, url=f"modbus+rtu://{bus.open()}?baud=115200")
        try:
            async with hold(b.rack) as held:
                await held.set({"T2": Power(p_w=10_000)})
        finally:
            await b.rack.close()
            bus.close()
        assert b.rack.timeout_found_s == 5.0
        assert b.site.device.firmware.counters.operate_count >= 1


async def test_a_timeout_without_a_value_as_found_does_not_keep_a_test_from_its_way(bench):
    async with bench() as b:
        profile = b.rack.equipment.station.profile
        points = [
            dataclasses.replace(p, not_available=(0xFFFF,)) if p.name == "wdg.timeout" else p
            for p in profile.points
        ]
        with_station(b.rack, profile=dataclasses.replace(profile, points=tuple(points)))
        b.site.device.firmware.watchdog_ds = 0xFFFF
        async with hold(b.rack):
            assert b.site.device.firmware.watchdog_ds == 50
        assert await silence.as_found_s(b.rack) is None, "read again it would be what we wrote"


@pytest.mark.parametrize(
    ("on_loss", "armed"), [("ramp_zero", Failsafe.RAMP_ZERO), ("block", Failsafe.BLOCK)]
)
async def test_what_is_armed_for_a_silence_is_what_the_site_says(bench, on_loss, armed):
    async with bench() as b:
        b.rack.equipment = dataclasses.replace(b.rack.equipment, on_loss=on_loss)
        async with hold(b.rack):
            assert b.site.device.firmware.failsafe is armed


async def test_a_station_switched_to_local_is_refused_before_anything_is_written(bench):
    async with bench() as b:
        b.site.device.firmware.local = True
        before = b.site.write_count
        with pytest.raises(TestRefused) as told:
            async with hold(b.rack):
                pass
        assert told.value.cause == "blocked-by-switching-hierarchy"
        assert b.site.write_count == before


async def stopped_meanwhile(b, then, *, journal=None):
    """A test that goes on in some way after somebody has stopped it all."""
    words = []
    b.rack.stopped = lambda: "; ".join(words)
    async with hold(b.rack, journal=journal) as held:
        await held.set({"T2": Power(p_w=50_000)}, life_s=60)
        await b.rack.pause(3.0)
        words.append("stopped by a person")
        await then(held)


async def test_after_a_stop_a_session_sets_nothing_but_zero(bench):
    async with bench(factor=10) as b:
        journal = MemoryJournal(b.rack.clock)
        with pytest.raises(TestRefused, match="stopped by a person") as told:
            await stopped_meanwhile(
                b, lambda held: held.set({"T2": Power(p_w=60_000)}), journal=journal
            )
        assert told.value.cause == "blocked-by-interlocking"
        intents = [e for e in journal.written if e["kind"] == "intent"]
        assert [e["setpoints"][1]["p_w"] for e in intents] == [50_000, 0]
        assert at_zero(b)


async def test_a_stop_ends_a_session_that_has_nothing_more_to_set(bench):
    async with bench(factor=10) as b:
        with pytest.raises(TestRefused, match="stopped by a person"):
            await stopped_meanwhile(b, lambda _held: b.rack.pause(30.0))
        assert at_zero(b)


async def test_a_stop_on_the_way_to_zero_does_not_interrupt_it(bench):
    async with bench(factor=10) as b:
        words = []
        b.rack.stopped = lambda: "; ".join(words)
        async with hold(b.rack) as held:
            await held.set({"T2": Power(p_w=100_000)}, life_s=60)
            await b.rack.pause(4.0)
            select = held.station.select

            async def stopping(instruction):
                words.append("stopped by a person")
                return await select(instruction)

            held.station.select = stopping
        assert words
        assert at_zero(b)
        assert (await b.rack.station().read()).state is State.RUN, "its ramp, not STOP"


async def unanswered(b, journal):
    """A test whose order is carried out and not answered."""
    async with hold(b.rack, journal=journal) as held:
        operate = held.station.operate

        async def lost(instruction):
            await operate(instruction)
            held.station.operate = operate
            raise OutcomeUnknown("station", "no answer")

        held.station.operate = lost
        await held.set({"T2": Power(p_w=50_000)}, life_s=60)


async def test_a_lost_answer_stands_in_the_ledger_as_unknown(bench):
    async with bench(factor=10) as b:
        journal = MemoryJournal(b.rack.clock)
        with pytest.raises(OutcomeUnknown):
            await unanswered(b, journal)
        assert journal.kinds()[:2] == ["intent", "outcome"]
        assert journal.written[1]["outcome"] == "unknown"
        assert at_zero(b)
