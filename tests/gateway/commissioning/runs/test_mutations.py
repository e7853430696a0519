"""Every single mistake in a meter's profile is caught before much power is commanded."""

import dataclasses
from decimal import Decimal

import pytest

from gateway.commissioning.equipment import Poll
from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import passive
from gateway.devices.codec import codecs_of
from gateway.devices.profile import Order, Register

FLOWING = (
    "v1",
    "v2",
    "v3",
    "i1",
    "i2",
    "i3",
    "p1",
    "p2",
    "p3",
    "q1",
    "q2",
    "q3",
    "p",
    "q",
    "s",
    "f",
)
FACTORS = (10, Decimal("0.1"), 1000, Decimal("0.001"), -1)


def mutations():
    for name in FLOWING:
        for factor in FACTORS:
            yield name, f"scale ×{factor}", {"factor": factor}
        yield name, "words swapped", {"word_order": Order.LITTLE}
        yield name, "bytes swapped", {"byte_order": Order.LITTLE}
        for by in (-2, -1, 1, 2):
            yield name, f"register {by:+d}", {"by": by}


def mutated(profile, name, change):
    points = []
    for point in profile.points:
        if point.name != name:
            points.append(point)
        elif "factor" in change:
            points.append(dataclasses.replace(point, scale=point.scale * change["factor"]))
        elif "by" in change:
            at = point.register
            register = Register(table=at.table, address=at.address + change["by"])
            points.append(dataclasses.replace(point, register=register))
        else:
            points.append(dataclasses.replace(point, **change))
    return dataclasses.replace(profile, points=tuple(points))


def decoded(profile, words):
    points, missing = {}, []
    for name, codec in codecs_of(profile).items():
        at, size = codec.point.register.address, codec.point.register_count
        if name not in FLOWING:
            continue
        value = codec.decode([words.get(at + k, 0xFFFF) for k in range(size)])[0]
        if isinstance(value, int | float):
            points[name] = float(value)
        else:
            missing.append(name)
    return Poll(t_s=0, width_s=0, points=points, registers=words, missing=tuple(missing))


async def test_no_mutation_of_the_profile_passes_under_load(bench):
    async with bench("loads:40000", factor=60) as b:
        await b.rack.pause(60)  # so that the phases carry different loads
        reader = b.rack.reader("m2")
        poll = await reader.read(FLOWING)
        profile, equipment = reader.profile, b.rack.equipment
    sound = passive.judge_scales(equipment, profile, "m2", decoded(profile, poll.registers))
    assert sound.verdict is Verdict.OK, sound.findings
    passed = []
    for name, what, change in mutations():
        wrong = mutated(profile, name, change)
        seen = decoded(wrong, poll.registers)
        if passive.judge_scales(equipment, wrong, "m2", seen).verdict is not Verdict.FAULT:
            passed.append((name, what))
    # A current has no sign of its own, and the frequency's sign no grid has: both are caught.
    # What the identities cannot see is a phase taken for another of the same kind: voltages of
    # three sound phases differ by less than any tolerance. The wiring check sees it.
    neighbours = {(v, f"register {by:+d}") for v in ("v1", "v2", "v3") for by in (-2, 2)}
    assert set(passed) <= neighbours, set(passed) - neighbours


@pytest.mark.parametrize("factor", [10, Decimal("0.1")])
async def test_a_counter_of_the_wrong_scale_is_caught_by_its_growth(factor):
    from gateway.commissioning import scale

    lines = scale.counters(
        "m2", p_w_mean=10_000, span_s=60, import_wh=(0, round(167 * float(factor))),
        export_wh=(0, 0), resolution_wh=1, import_positive=True,
    )  # fmt: skip
    assert [line.verdict for line in lines] == [Verdict.FAULT]
