"""The soak's own arithmetic, and a few seconds of it."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("soak", Path(__file__).with_name("soak.py"))
soak = importlib.util.module_from_spec(spec)
before = list(sys.path)
spec.loader.exec_module(soak)
sys.path[:] = before


@pytest.mark.parametrize("an_hour", [0.0, 43.0, 2048.0])
def test_a_slope_is_found_within_its_own_interval(an_hour):
    noise = random.Random(1)
    samples = [(k / 360, 70_000 + an_hour * k / 360 + noise.uniform(-8, 8)) for k in range(7 * 360)]
    found, half = soak.slope(samples)
    assert abs(found - an_hour) <= 2 * half
    assert half < 8


def test_memory_that_stands_still_has_no_slope():
    assert soak.slope([(k / 10, 70_000) for k in range(100)]) == (0.0, 0.0)


def test_the_ninety_ninth_percentile():
    assert soak.p99(range(1, 101)) == 100
    assert soak.p99([*([1.0] * 99), 50.0]) == 50.0
    assert soak.p99([7.0]) == 7.0


async def test_a_few_seconds_of_it_move_no_handle(monkeypatch):
    for name in soak.as_installed():
        monkeypatch.setenv(name, "")  # restored after the run, which sets them
    report = await soak.soak(seconds=8, factor=10, every_s=0.5, past=2_000)
    assert report["trades"] >= 2
    assert report["entries"] > 1_900, "it began with a past"
    assert report["scans"] > 20
    low, high = report["threads"]
    assert high - low <= 1
    low, high = report["fds"]
    assert high - low <= 4
    assert len(report["plain_p99_ms"]) == 4, "a plain server was asked by turns"
    assert report["answers_counted"][1] > 0
    assert report["answers_counted"][2] <= report["answers_counted"][0]


def test_the_gateway_is_measured_with_the_memory_settings_of_its_unit():
    assert soak.as_installed()["MALLOC_MMAP_THRESHOLD_"] == "65536"
