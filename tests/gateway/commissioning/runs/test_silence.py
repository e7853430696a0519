import asyncio
import dataclasses

import pytest

from firmware_sim.plant.firmware import Failsafe
from gateway.commissioning import watchdog
from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import silence
from gateway.commissioning.runs.person import Answer
from gateway.commissioning.runs.silence import WatchdogOrder
from gateway.commissioning.session import TestRefused, hold
from gateway.commissioning.watchdog import Expectation, How


async def check(bench, how, *plants, factor=5):
    async with bench(*plants, factor=factor) as b:
        expectation = silence.default_expectation(b.rack, "T2", 10_000)
        order = WatchdogOrder(how=how, terminal="T2", p_w=10_000, expectation=expectation)
        writes = b.site.write_count
        found_s = await silence.as_found_s(b.rack)
        result = await silence.run_watchdog(b.rack, order, person=b.person)
        outcome = silence.watchdog_outcome(result, order, found_s)
        return result, outcome, b.powers_w, b.site.write_count - writes


@pytest.mark.parametrize("how", [How.STOP_HEARTBEAT, How.DROP_LINK])
async def test_a_silent_master_brings_the_device_to_zero(bench, how):
    result, outcome, powers_w, _writes = await check(bench, how)
    assert result.verdict is Verdict.OK, result.findings
    zero = result.zero_after
    assert zero.value_s + zero.resolution_s > 4.0
    assert zero.value_s - zero.resolution_s < 6.2
    assert outcome.rows[0].value_text == "5.0 s"
    assert outcome.rows[1].name == f"{how}, ramp_zero: at zero after"
    assert all(abs(p) < 2500 for p in powers_w[1:])


def blocking(bench, *, p_w):
    """The site says ``block``; what a silence at a power must then do."""
    bench.rack.equipment = dataclasses.replace(bench.rack.equipment, on_loss="block")
    expectation = silence.default_expectation(bench.rack, "T2", p_w)
    return WatchdogOrder(how=How.STOP_HEARTBEAT, terminal="T2", p_w=p_w, expectation=expectation)


async def test_a_device_that_blocks_has_no_ramp_to_come_down(bench):
    async with bench(factor=3) as b:
        order = blocking(b, p_w=150_000)
        assert order.expectation.zero_within_s == 6.0
        found_s = await silence.as_found_s(b.rack)
        result = await silence.run_watchdog(b.rack, order)
        assert result.verdict is Verdict.OK, result.findings
        row = silence.watchdog_outcome(result, order, found_s).rows[1]
        assert row.name == "stop-heartbeat, block: at zero after"


async def test_a_device_that_ramps_where_the_site_says_block_is_found(bench):
    async with bench(factor=3) as b:
        firmware = b.site.device.firmware

        def ramps(_said):
            firmware.failsafe = Failsafe.RAMP_ZERO

        result = await silence.run_watchdog(b.rack, blocking(b, p_w=150_000), say=ramps)
        assert [f.code for f in result.findings] == ["no-zero"]


async def test_a_timeout_that_was_not_known_is_told_as_that(bench):
    async with bench() as b:
        order = blocking(b, p_w=10_000)
        result = watchdog.WatchdogResult(
            how=order.how, verdict=Verdict.OK, zero_after=None, findings=()
        )
        row = silence.watchdog_outcome(result, order, None).rows[0]
        assert (row.name, row.value_text) == ("timeout as found", "not known")
        assert row.verdict is Verdict.UNDECIDED


async def test_a_watchdog_that_does_nothing_is_found_and_power_is_taken_back(bench):
    result, outcome, powers_w, _writes = await check(bench, How.STOP_HEARTBEAT, "watchdog")
    assert [f.code for f in result.findings] == ["no-zero"]
    assert outcome.verdict is Verdict.FAULT
    assert all(abs(p) < 2500 for p in powers_w[1:])


async def test_a_watchdog_set_to_zero_fails_without_moving_anything(bench):
    result, outcome, _powers, writes = await check(bench, How.STOP_HEARTBEAT, "watchdog-zero")
    assert [f.code for f in result.findings] == ["watchdog-disabled"]
    assert outcome.rows[1].value_text == "not tried"
    assert writes == 0


async def test_a_pulled_cable_is_judged_by_what_stands_there_afterwards(bench):
    result, outcome, powers_w, _writes = await check(bench, How.UNPLUG)
    assert result.zero_after.resolution_s > 1.0, "nobody could look while the cable was out"
    assert (result.verdict, result.findings) == (Verdict.UNDECIDED, ()), "nor is it guessed"
    assert "nobody looked" in outcome.note
    assert all(abs(p) < 2500 for p in powers_w[1:])


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([Answer.SKIP], "the cable was not pulled"),
        ([Answer.FAIL], "the cable was not pulled"),
        ([Answer.DONE, Answer.QUIT], "the cable was not plugged in again"),
    ],
)
async def test_a_cable_that_nobody_pulled_or_plugged_in_says_nothing_of_the_watchdog(
    bench, answers, why
):
    async with bench("watchdog", factor=5) as b:

        async def ask(_what):
            return answers.pop(0)

        b.person.ask = ask
        expectation = silence.default_expectation(b.rack, "T2", 10_000)
        order = WatchdogOrder(how=How.UNPLUG, terminal="T2", p_w=10_000, expectation=expectation)
        result = await silence.run_watchdog(b.rack, order, person=b.person)
        outcome = silence.watchdog_outcome(result, order, 5.0)
        assert (outcome.verdict, outcome.findings) == (Verdict.UNDECIDED, ())
        assert outcome.note.endswith(why)
        assert outcome.rows[-1].value_text == "not tried"
        assert all(abs(p) < 2500 for p in b.powers_w[1:])


async def test_a_pulled_cable_behind_a_dead_watchdog_is_found(bench):
    result, _outcome, powers_w, _writes = await check(bench, How.UNPLUG, "watchdog")
    assert [f.code for f in result.findings] == ["no-zero"]
    assert all(abs(p) < 2500 for p in powers_w[1:])


async def test_an_interrupted_test_of_a_dead_watchdog_leaves_no_power_behind(bench):
    async with bench("watchdog", factor=5) as b:
        expectation = silence.default_expectation(b.rack, "T2", 10_000)
        order = WatchdogOrder(how=How.DROP_LINK, terminal="T2", p_w=10_000, expectation=expectation)

        def interrupt(said):
            if said == "silent now":
                assert b.powers_w[1] > 9_000
                running.cancel()

        running = asyncio.ensure_future(silence.run_watchdog(b.rack, order, say=interrupt))
        with pytest.raises(asyncio.CancelledError):
            await running
        assert all(abs(p) < 2500 for p in b.powers_w[1:])


async def test_a_watchdog_that_was_off_before_this_program_armed_it_does_not_pass(bench):
    async with bench() as b:
        b.site.device.firmware.watchdog_ds = 0
        async with hold(b.rack):  # any test before this one arms it
            pass
        writes = b.site.write_count
        expectation = silence.default_expectation(b.rack, "T2", 10_000)
        order = WatchdogOrder(
            how=How.STOP_HEARTBEAT, terminal="T2", p_w=10_000, expectation=expectation
        )
        result = await silence.run_watchdog(b.rack, order)
        assert [f.code for f in result.findings] == ["watchdog-disabled"]
        assert b.site.write_count == writes


async def test_a_refusal_is_told_as_it_is(bench):
    async with bench() as b:
        b.site.device.firmware.local = True
        expectation = silence.default_expectation(b.rack, "T2", 10_000)
        order = WatchdogOrder(
            how=How.STOP_HEARTBEAT, terminal="T2", p_w=10_000, expectation=expectation
        )
        with pytest.raises(TestRefused, match="switched to local"):
            await silence.run_watchdog(b.rack, order)


async def test_the_setpoint_outlives_the_silence_and_cannot_stand_in_for_the_watchdog(bench):
    async with bench("watchdog", factor=40) as b:
        expectation = Expectation(zero_within_s=150.0, zero_band_w=2_500)
        order = WatchdogOrder(
            how=How.STOP_HEARTBEAT, terminal="T2", p_w=10_000, expectation=expectation
        )
        # The planted fault also stops the setpoint's own timer: it goes on here.
        life_s = []
        operate = b.site.device.firmware.request

        def request(asked, now_us):
            life_s.append(asked.ttl_s)
            operate(asked, now_us)

        b.site.device.firmware.request = request
        result = await silence.run_watchdog(b.rack, order)
        assert [f.code for f in result.findings] == ["no-zero"]
        assert max(life_s) > 150
