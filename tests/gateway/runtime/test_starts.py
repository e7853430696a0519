"""Starts without an orderly end are counted across processes, in a file."""

import json
import os
import signal
import subprocess
import sys

import pytest
from fakes.memory_journal import ManualClock

from gateway.model.reason import ReasonCode
from gateway.runtime.starts import FILE, WITHIN_US, Starts

MOST = 3


@pytest.fixture
def clock():
    return ManualClock()


def started(path, clock, most=MOST):
    starts = Starts(path, most=most, clock=clock)
    starts.began()
    return starts


def test_so_many_starts_and_no_more(tmp_path, clock):
    for _ in range(MOST):
        assert not started(tmp_path / FILE, clock).looping
    starts = started(tmp_path / FILE, clock)
    assert starts.looping
    (reason,) = starts.reasons()
    assert reason.code is ReasonCode.CRASH_LOOP
    assert "sopgw arm" in reason.detail


def test_an_orderly_end_does_not_count(tmp_path, clock):
    for _ in range(3 * MOST):
        starts = started(tmp_path / FILE, clock)
        assert not starts.looping
        assert starts.reasons() == ()
        starts.ended()


def test_old_starts_are_forgotten_and_so_are_those_of_a_clock_that_was_ahead(tmp_path, clock):
    for _ in range(MOST):
        started(tmp_path / FILE, clock)
    clock.now_us += WITHIN_US
    assert not started(tmp_path / FILE, clock).looping
    clock.now_us -= 10 * WITHIN_US
    for _ in range(MOST):
        assert not started(tmp_path / FILE, clock).looping


def test_only_arming_ends_it_not_time_and_not_another_start(tmp_path, clock):
    for _ in range(MOST + 1):
        starts = started(tmp_path / FILE, clock)
    clock.now_us += 10 * WITHIN_US
    starts = started(tmp_path / FILE, clock)
    assert starts.looping
    starts.take(7, {"kind": "operator", "verb": "mode"})
    assert starts.looping
    starts.take(8, {"kind": "operator", "verb": "arm"})
    assert not starts.looping
    assert starts.reasons() == ()
    assert not started(tmp_path / FILE, clock).looping


@pytest.mark.parametrize("content", ["", "{", "[]", '{"starts_utc_us": ["x"], "looping": false}'])
def test_a_damaged_file_is_counted_anew(tmp_path, clock, content):
    (tmp_path / FILE).write_text(content)
    assert not started(tmp_path / FILE, clock).looping
    assert len(json.loads((tmp_path / FILE).read_text())["starts_utc_us"]) == 1


def test_a_folder_that_cannot_be_written_costs_the_count_alone(tmp_path, clock):
    assert not started(tmp_path / "missing" / FILE, clock).looping


CHILD = """
import sys, time
from pathlib import Path
from gateway.runtime.clock import SystemClock
from gateway.runtime.starts import Starts
starts = Starts(Path(sys.argv[1]), most=3, clock=SystemClock())
starts.began()
print("looping" if starts.looping else "counted", flush=True)
time.sleep(60)
"""


def test_real_processes_killed_one_after_another(tmp_path):
    said = []
    for _ in range(MOST + 2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / FILE)], stdout=subprocess.PIPE, text=True
        )
        said.append(child.stdout.readline().strip())
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert said == ["counted"] * MOST + ["looping"] * 2
