"""Every single mistake in a meter's profile is caught before much power is commanded."""

import asyncio
import dataclasses
import itertools
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


def phases_apart(points):
    """Whether the phases carry loads that nobody could take for one another, the sum or nothing."""
    for kind in "piq":
        seen = [
            0,
            *(points[f"{kind}{n}"] for n in (1, 2, 3)),
            *([points[kind]] if kind in points else []),
        ]
        least = min(abs(a - b) for a, b in itertools.combinations(seen, 2))
        if least < 0.06 * max(map(abs, seen)):
            return False
    return True


async def loaded(rack, reader):
    """A reading under loads that are apart; loads come and go at random."""
    while True:
        await rack.pause(5)
        poll = await reader.read(FLOWING)
        if phases_apart(poll.points):
            return poll.registers


async def test_no_mutation_of_the_profile_passes_under_load(bench):
    async with bench("loads:40000", factor=60) as b, asyncio.timeout(100):
        reader = b.rack.reader("m2")
        readings = [await loaded(b.rack, reader) for _ in range(3)]
        profile, equipment = reader.profile, b.rack.equipment

    def verdict(of, registers):
        return passive.judge_scales(equipment, of, "m2", decoded(of, registers)).verdict

    assert [verdict(profile, r) for r in readings] == [Verdict.OK] * 3
    passed = []
    for name, what, change in mutations():
        wrong = mutated(profile, name, change)
        # The bytes of one reading may happen to say nearly the same the wrong way round.
        if all(verdict(wrong, r) is not Verdict.FAULT for r in readings):
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
