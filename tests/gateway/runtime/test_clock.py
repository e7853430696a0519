"""The two clocks, and a time base that two processes share."""

import json

import pytest

from gateway.model.errors import ConfigError
from gateway.runtime.clock import BenchClock, SystemClock


def test_the_monotonic_clock_never_steps_back():
    clock = SystemClock()
    seen = [clock.mono_us() for _ in range(1000)]
    assert seen == sorted(seen)


def test_a_bench_clock_survives_the_way_through_its_file(tmp_path):
    clock = BenchClock.start(utc_epoch_us=1_800_000_000_000_000, factor=60)
    clock.save(tmp_path / "timebase.json")
    assert BenchClock.load(tmp_path / "timebase.json") == clock


def test_both_bench_clocks_run_at_the_same_factor():
    clock = BenchClock.start(utc_epoch_us=0, factor=100)
    utc_us, mono_us = clock.utc_us(), clock.mono_us()
    while clock.utc_us() - utc_us < 100_000:
        pass
    assert abs((clock.utc_us() - utc_us) - (clock.mono_us() - mono_us)) < 100_000


async def test_waiting_ends_at_or_after_its_instant():
    clock = BenchClock.start(utc_epoch_us=0, factor=100)
    due_us = clock.mono_us() + 500_000
    await clock.sleep_until(due_us)
    assert clock.mono_us() >= due_us


@pytest.mark.parametrize(
    "text", ["", "[]", '{"epoch_ns": 1}', '{"epoch_ns":"x","utc_epoch_us":1,"factor":1}']
)
def test_a_broken_time_base_is_a_mistake_with_its_file(tmp_path, text):
    path = tmp_path / "timebase.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"timebase\.json"):
        BenchClock.load(path)


def test_the_time_base_file_is_what_the_simulator_reads(tmp_path):
    from firmware_sim.timebase import TimeBase

    clock = BenchClock.start(utc_epoch_us=5_000_000, factor=60)
    clock.save(tmp_path / "t.json")
    base = TimeBase.from_file(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["factor"] == base.factor == 60
    assert base.utc_us(clock.epoch_ns + 1_000_000_000) == 5_000_000 + 60_000_000


def test_the_system_clock_is_as_good_as_somebody_vouches_for(monkeypatch):
    from gateway.runtime import clock as module

    said = ["good"]
    trusting, careful = SystemClock(), SystemClock(lambda: said[0])
    assert trusting.quality() == careful.quality() == "good"
    said[0] = "invalid"
    assert careful.quality() == "good", "asked once a second, not at every scan"
    monkeypatch.setattr(module, "ASK_US", 0)
    assert careful.quality() == "invalid"
    monkeypatch.setattr(module, "EARLIEST_UTC_US", SystemClock().utc_us() + 1_000_000)
    said[0] = "good"
    assert careful.quality() == trusting.quality() == "invalid"


@pytest.mark.parametrize(
    ("status_bits", "error_us", "quality"),
    [
        (0, 0, "good"),
        (0, 50_000, "good"),
        (0, 50_001, "degraded"),
        (0, 1_000_000, "degraded"),
        (0, 1_000_001, "invalid"),
        (0x40, 0, "invalid"),
    ],
)
def test_the_kernel_vouches_by_its_own_bound(monkeypatch, status_bits, error_us, quality):
    from gateway.cli.run import discipline
    from gateway.commissioning.clock import KernelClock
    from gateway.commissioning.runs import passive

    told = KernelClock(status_bits=status_bits, error_us_max=error_us, error_us=0)
    monkeypatch.setattr(passive, "kernel_clock", lambda: told)
    assert discipline() == quality
    monkeypatch.setattr(passive, "kernel_clock", lambda: None)
    assert discipline() == "invalid"
