import random

import pytest

from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import wire
from gateway.commissioning.runs.wire import WiringOrder


async def check(opened, meter, *plants, p_w=10_000, before_s=5, span_s=80, seed=5):
    async with opened(*plants, factor=20) as bench:
        order = WiringOrder(
            meter=meter, via=wire.default_via(bench.rack, meter), p_w=p_w, before_s=before_s,
            span_s_max=span_s,
        )  # fmt: skip
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
        bench, "m2", "loads:3000", "reversed:m2:L1", p_w=20_000, before_s=40, span_s=160
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
