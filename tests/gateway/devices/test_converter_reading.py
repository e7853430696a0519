"""What people see of converters: each point with its registers, who is silent, who failed how often."""

import struct

import pytest
from fakes.converter_bench import converter_bench

from gateway.devices.converter import HELD, MEASURED
from gateway.model.errors import DeviceError

pytestmark = pytest.mark.usefixtures("still_time")


@pytest.fixture
async def bench():
    async with converter_bench() as found:
        yield found


async def test_every_point_of_a_reading_has_the_registers_it_came_from(bench):
    assert bench.station.words("T2") == {}
    await bench.ready()
    await bench.carry_out(0, 100_000, -50_000, 0)
    await bench.live(5)
    words, seen = bench.station.words("T2"), bench.station.last["T2"]
    assert words.keys() >= {*MEASURED, *HELD}
    assert struct.pack(">2H", *words["p_set"]) == (100_000).to_bytes(4, "big")
    assert words["p_set.reversion_time"] == (0, 5)
    assert words["local"] == (0,)
    assert words["v"] == (seen.v_dv,)
    assert struct.unpack(">h", struct.pack(">H", *words["p"])) == (seen.p_w // 10,)
    assert struct.pack(">4H", *words["e.inject"]) == seen.export_wh.to_bytes(8, "big")
    assert bench.station.words("T3")["p_set"] == tuple(
        struct.unpack(">2H", struct.pack(">i", -50_000))
    )


async def test_one_that_is_silent_is_named_and_the_others_are_still_seen(bench):
    await bench.ready()
    await bench.live(1)
    before = dict(bench.station.last)
    bench.fault(3, "half_open")
    bench.wait(1)
    for _ in range(2):
        with pytest.raises(DeviceError):
            await bench.station.read()
    assert bench.station.silent == {"T3"}
    assert dict(bench.station.failures) == {"T3": 2}
    assert bench.station.last_errors["T3"].startswith("sop1-t3: ")
    assert bench.station.last["T3"] == before["T3"]
    assert bench.station.last["T2"].mono_us == before["T2"].mono_us + 1_000_000
    bench.well()
    await bench.station.read()
    assert bench.station.silent == frozenset()
    assert dict(bench.station.failures) == {"T3": 2}
