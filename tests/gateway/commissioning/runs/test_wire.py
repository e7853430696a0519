import random
from dataclasses import replace

import pytest

from gateway.commissioning import wiring
from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import wire
from gateway.commissioning.runs.wire import WiringOrder, WiringRun
from gateway.commissioning.wiring import PhaseSample

pytestmark = pytest.mark.alone  # a half lasts half a second here: a busy neighbour costs whole ones


async def check(opened, meter, *plants, p_w=10_000, before_s=5, seed=5):
    async with opened(*plants, factor=20) as bench:
        via = wire.default_via(bench.rack, meter)
        order = WiringOrder(meter=meter, via=via, p_w=p_w, before_s=before_s)
        run = await wire.run_wiring(bench.rack, order, random.Random(seed).random)
        outcome = wire.outcome(bench.rack, run)
        return outcome, bench.powers_w, run


def codes(outcome):
    return [(f.code, f.where) for f in outcome.findings]


async def test_a_good_meter_is_ok_and_the_terminal_is_back_at_zero(bench):
    outcome, powers_w, run = await check(bench, "m2")
    assert (outcome.verdict, codes(outcome)) == (Verdict.OK, [])
    assert abs(powers_w[1]) < 2500
    assert 4 <= len(run.halves) <= 8
    assert len(outcome.rows) == 4


@pytest.mark.parametrize(
    ("plant", "meter", "wanted"),
    [
        ("reversed:m2:L2", "m2", [("ct-reversed", "m2 L2")]),
        ("crossed:m3", "m3", [("phase-order", "m3 L1 and L2")]),
        ("ratio:m4:0.5", "m4", [("ct-ratio", "m4 L1, L2, L3")]),
        ("ratio:m4:1.2", "m4", [("ratio", "m4 L1, L2, L3")]),
        ("counters:m2", "m2", [("counters-swapped", "m2 counters")]),
        ("reversed:m1:L3", "m1", [("ct-reversed", "m1 L3")]),
        ("energy:m3:10", "m3", [("scale-10", "m3 counters")]),
        ("meters:m2:m3", "m2", [("meters-swapped", "m2 and m3")]),
        ("meters:m2:m3", "m3", [("meters-swapped", "m3 and m2")]),
    ],
)
async def test_a_planted_fault_is_named(bench, plant, meter, wanted):
    outcome, powers_w, _run = await check(bench, meter, plant)
    assert (outcome.verdict, codes(outcome)) == (Verdict.FAULT, wanted)
    assert all(abs(p) < 2500 for p in powers_w[1:])


async def test_a_fault_is_found_among_switching_loads(bench):
    outcome, _powers, run = await check(
        bench, "m2", "loads:3000", "reversed:m2:L1", p_w=20_000, before_s=40
    )
    assert run.load_step_w > 0
    assert codes(outcome) == [("ct-reversed", "m2 L1")]


async def test_loads_too_large_for_the_injection_end_it_before_anything_moves(bench):
    async with bench("loads:15000", factor=60) as opened:
        writes = opened.site.write_count
        order = WiringOrder(meter="m2", via="T2", p_w=5000, before_s=120)
        run = await wire.run_wiring(opened.rack, order, random.Random(1).random)
        outcome = wire.outcome(opened.rack, run)
        assert opened.site.write_count == writes
    assert outcome.verdict is Verdict.UNDECIDED
    assert "inject at least" in outcome.note


async def test_readings_that_cannot_be_end_it_before_anything_moves(bench):
    async with bench("words:m3", factor=20) as opened:
        writes = opened.site.write_count
        order = WiringOrder(meter="m3", via="T3", p_w=10_000, before_s=5)
        run = await wire.run_wiring(opened.rack, order, random.Random(1).random)
        outcome = wire.outcome(opened.rack, run)
        assert opened.site.write_count == writes
    assert outcome.verdict is Verdict.UNDECIDED
    assert "scale or word order first" in outcome.note


@pytest.mark.parametrize(("half_s", "verdict"), [(10.0, Verdict.UNDECIDED), (20.0, Verdict.OK)])
async def test_a_slow_ramp_wants_longer_halves_and_makes_no_fault(bench, half_s, verdict):
    async with bench(factor=20) as b:
        sop = b.rack.equipment.sop
        slow = tuple(replace(t, ramp_w_per_s=2500) for t in sop.terminals)
        b.rack.equipment = replace(b.rack.equipment, sop=replace(sop, terminals=slow))
        order = WiringOrder(
            meter="m2", via="T2", p_w=10_000, half_s=half_s, before_s=5, span_s_max=8 * half_s
        )
        run = await wire.run_wiring(b.rack, order, random.Random(5).random)
        outcome = wire.outcome(b.rack, run)
    assert (outcome.verdict, codes(outcome)) == (verdict, [])
    assert ("T2 moves until the end of a half" in outcome.note) is (half_s == 10.0)


async def test_at_the_masters_meter_the_meter_of_who_injects_is_not_accused(bench):
    _outcome, _powers, run = await check(bench, "m1")
    assert run.order.via == "T2"
    assert run.elsewhere_w.keys() == {"m3", "m4"}


async def test_a_meter_that_shows_nothing_is_said_to_and_swapped_with_nobody(bench):
    async with bench() as b:
        run = WiringRun(order=WiringOrder(meter="m1", via="T2", p_w=10_000))
        for k in range(4):
            p_w = -10_000.0 if k % 2 else 10_000.0
            run.halves.append(wiring.Half(t_start_s=10.0 * k, t_end_s=10.0 * k + 10, p_w=p_w))
        run.samples = [PhaseSample(t_s=t / 2, p_w=(0.0,) * 3, q_var=(0.0,) * 3) for t in range(80)]
        run.terminal = [(0.0, 10_000.0)]
        run.elsewhere_w = {"m3": [0.0] * 4, "m4": [0.0] * 4}
        run.result = wire.judged(b.rack, run)
        outcome = wire.outcome(b.rack, run)
    assert (outcome.verdict, codes(outcome)) == (Verdict.UNDECIDED, [])
    assert "m1 shows nothing of it" in outcome.note
