from dataclasses import replace

import pytest

from gateway.commissioning.equipment import Poll
from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import passive
from gateway.devices.profile import Point, PointType, Register


def codes(outcome):
    return [(f.code, f.where) for f in outcome.findings]


async def test_every_device_answers_with_its_latency(bench):
    async with bench() as b:
        outcome = await passive.network(b.rack, polls_count=3)
    assert outcome.verdict is Verdict.OK
    assert [r.name for r in outcome.rows] == ["station", "m1", "m2", "m3", "m4"]
    assert all(" ms" in r.value_text for r in outcome.rows)


async def test_a_mute_device_is_a_finding_and_the_others_are_still_asked(bench):
    async with bench(factor=1) as b:
        await b.site.device.meter_servers[1].close()
        outcome = await passive.network(b.rack, polls_count=2)
    assert codes(outcome) == [("no-answer", "m2")]
    assert len(outcome.rows) == 5


async def test_scales_of_a_sound_meter_hold_and_idle_identities_are_listed_as_unsaid(bench):
    async with bench() as b:
        writes = b.site.write_count
        outcome = await passive.scales(b.rack, "m2")
        assert b.site.write_count == writes
    assert (outcome.verdict, codes(outcome)) == (Verdict.OK, [])
    assert "sum-p" in outcome.note
    assert any("4366" in r.value_text or "43" in r.value_text for r in outcome.rows)


async def test_swapped_words_are_named_as_one_fault(bench):
    async with bench("words:m3") as b:
        outcome = await passive.scales(b.rack, "m3")
    assert codes(outcome) == [("word-order", "m3")]
    assert "word_order: little" in outcome.findings[0].mend


async def test_swapped_words_are_named_where_a_scale_factor_stands_beside(bench):
    """Volts in tenths as two words, the low one first, and a factor of one word with them."""
    async with bench() as b:
        meter, equipment = b.rack.reader("m2").profile, b.rack.equipment
    table = meter.point("v1").register.table
    volts = tuple(
        Point(
            name=f"v{n}", register=Register(table=table, address=2 * n), type=PointType.INT32,
            unit="V", scale_point="sf.v",
        )
        for n in (1, 2, 3)
    )  # fmt: skip
    factor = Point(name="sf.v", register=Register(table=table, address=10), type=PointType.SUNSSF)
    profile = replace(meter, points=(*volts, factor))
    words = {10: 0xFFFF} | {2 * n: 2309 for n in (1, 2, 3)} | {2 * n + 1: 0 for n in (1, 2, 3)}
    seen = {f"v{n}": 2309 * 6553.6 for n in (1, 2, 3)}
    poll = Poll(t_s=0, width_s=0, points=seen, registers=words)
    assert codes(passive.judge_scales(equipment, profile, "m2", poll)) == [("word-order", "m2")]


async def test_under_load_identities_speak_too(bench):
    async with bench("loads:30000") as b:
        outcome = await passive.scales(b.rack, "m2")
    assert (outcome.verdict, outcome.note) == (Verdict.OK, "")


async def test_a_reference_decides(bench):
    async with bench() as b:
        good = await passive.scales(b.rack, "m2", references=[("v1", 230.9, 3.0)])
        bad = await passive.scales(b.rack, "m2", references=[("v1", 23.09, 0.3)])
    assert good.verdict is Verdict.OK
    assert [c for c, _ in codes(bad)] == ["scale-10"]


async def test_the_station_balances(bench):
    async with bench() as b:
        outcome = await passive.scales(b.rack, "station")
    assert outcome.verdict is Verdict.OK
    assert {"losses", "DC link"} <= {r.name for r in outcome.rows}


async def test_signs_say_nothing_without_power(bench):
    async with bench() as b:
        outcome = await passive.sign_check(b.rack, "m2", span_s=5)
    assert outcome.verdict is Verdict.UNDECIDED
    assert "check wiring" in outcome.note


class Mute:
    """A meter that answers, and has no value for its power now and then."""

    def __init__(self, reader):
        self.reader, self.count = reader, 0
        self.profile, self.has = reader.profile, reader.has

    async def read(self, names):
        poll = await self.reader.read(names)
        self.count += 1
        if self.count % 2:
            return poll
        points = {k: v for k, v in poll.points.items() if k != "p"}
        return replace(poll, points=points, missing=("p",))


async def test_a_poll_without_power_is_no_sample(bench):
    async with bench() as b:
        mute = Mute(b.rack.reader("m2"))
        b.rack.reader = lambda _name: mute
        found = await passive.sign_samples(b.rack, "m2", span_s=6)
    assert 0 < len(found) <= mute.count / 2 + 1


async def test_the_station_clock_is_told_from_its_ticks(bench):
    async with bench(factor=4) as b:
        outcome, run = await passive.clocks(b.rack, span_s=5.0)
    assert run.station is not None
    assert abs(run.station.rate_ppm) <= run.station.rate_uncertainty_ppm + 1
    assert {r.name for r in outcome.rows} >= {"host"}


def test_the_kernel_answers_or_says_nothing():
    got = passive.kernel_clock()
    assert got is None or got.error_us_max >= 0


async def test_a_refused_register_does_not_take_its_block_down(bench):
    async with bench() as b:
        reader = b.rack.reader("m2")
        table = reader.profile.point("v1").register.table
        words = await reader.registers(table, 0x0BB7 - 3, 10)
    assert sorted(words) == list(range(0x0BB7, 0x0BB7 + 7))


async def test_an_unknown_device_is_a_key_error(bench):
    async with bench() as b:
        with pytest.raises(KeyError):
            b.rack.reader("m9")
