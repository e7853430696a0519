"""Simulated time from a shared file, exact and without drift."""

import json

import pytest

from firmware_sim.timebase import SimClock, TimeBase


def test_simulated_utc(tmp_path):
    file = tmp_path / "base.json"
    file.write_text(json.dumps({"epoch_ns": 5_000, "utc_epoch_us": 1_000, "factor": 60}))
    base = TimeBase.from_file(file)
    assert base.utc_us(5_000) == 1_000
    assert base.utc_us(5_000 + 1_000_000_000) == 1_000 + 60_000_000
    assert base.utc_us(5_000 - 1_000_000) == 1_000 - 60_000  # an epoch that is still to come


def test_processes_agree_after_a_day():
    base = TimeBase(epoch_ns=123_456_789, utc_epoch_us=0, factor=60.0)
    day_ns = 86_400 * 10**9 // 60
    assert base.utc_us(base.epoch_ns + day_ns) == 86_400_000_000


def test_a_wrong_clock_is_wrong_only_in_utc():
    now = [0]
    clock = SimClock(TimeBase(epoch_ns=0, utc_epoch_us=7, factor=1.0), lambda: now[0])
    clock.step_utc(2_000_000)
    now[0] = 1_000_000_000
    assert clock.utc_us() == 3_000_007
    assert clock.elapsed_us() == 1_000_000


@pytest.mark.parametrize("content", ["{}", "[]", "nonsense", '{"epoch_ns": "x"}'])
def test_a_bad_file_is_refused(tmp_path, content):
    file = tmp_path / "base.json"
    file.write_text(content)
    with pytest.raises((ValueError, KeyError, TypeError)):
        TimeBase.from_file(file)
