import pytest

from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import silence
from gateway.commissioning.runs.silence import WatchdogOrder
from gateway.commissioning.watchdog import How


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
    assert all(abs(p) < 2500 for p in powers_w[1:])


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
    result, _outcome, powers_w, _writes = await check(bench, How.UNPLUG)
    assert result.verdict is Verdict.OK, result.findings
    assert result.zero_after.resolution_s > 1.0, "nobody could look while the cable was out"
    assert all(abs(p) < 2500 for p in powers_w[1:])


async def test_a_pulled_cable_behind_a_dead_watchdog_is_found(bench):
    result, _outcome, powers_w, _writes = await check(bench, How.UNPLUG, "watchdog")
    assert [f.code for f in result.findings] == ["no-zero"]
    assert all(abs(p) < 2500 for p in powers_w[1:])
