"""Disk, peers and other reasons not to command, as the scan sees them; the disk also for real."""

import os
import subprocess

import pytest
from fakes.memory_journal import ManualClock

from gateway.model.reason import Reason, ReasonCode
from gateway.runtime.surroundings import (
    INTAKE_FREE_PPM_MIN,
    LOOK_US,
    PEERS_US,
    STOP_FREE_PPM_MIN,
    Surroundings,
    free_ppm,
)


class Around:
    """Surroundings with everything good, and handles to make it bad."""

    def __init__(self, folder="/", free=None):
        self.clock = ManualClock()
        self.peers, self.rest, self.others = True, True, ()
        self.free_ppm = 900_000
        self.it = Surroundings(
            clock=self.clock,
            folder=folder,
            peers_seen=lambda: self.peers,
            at_rest=lambda: self.rest,
            others=lambda: self.others,
            free=free or (lambda _: self.free_ppm),
        )

    def look(self, later_us=LOOK_US):
        self.clock.now_us += later_us
        return self.it.look()

    def codes(self, later_us=LOOK_US):
        return [r.code for r in self.look(later_us).reasons]


def test_nothing_stands_in_the_way():
    outlook = Around().look()
    assert outlook.reasons == ()
    assert outlook.takes_in


@pytest.mark.parametrize(
    ("free", "takes_in", "stops"),
    [
        (INTAKE_FREE_PPM_MIN, True, False),
        (INTAKE_FREE_PPM_MIN - 1, False, False),
        (STOP_FREE_PPM_MIN, False, False),
        (STOP_FREE_PPM_MIN - 1, False, True),
        (0, False, True),
    ],
)
def test_intake_stops_first_then_the_plant(free, takes_in, stops):
    around = Around()
    around.free_ppm = free
    outlook = around.look()
    assert outlook.takes_in is takes_in
    assert [r.code for r in outlook.reasons] == ([ReasonCode.DISK] if stops else [])


def test_both_come_back_only_with_some_room_to_spare():
    around = Around()
    around.free_ppm = STOP_FREE_PPM_MIN - 1
    assert around.codes() == [ReasonCode.DISK]
    around.free_ppm = STOP_FREE_PPM_MIN + 5_000
    assert around.codes() == [ReasonCode.DISK]
    around.free_ppm = STOP_FREE_PPM_MIN + 10_000
    assert around.codes() == []
    around.free_ppm = INTAKE_FREE_PPM_MIN + 5_000
    assert not around.look().takes_in
    around.free_ppm = INTAKE_FREE_PPM_MIN + 10_000
    assert around.look().takes_in


def test_the_disk_is_not_asked_at_every_scan():
    asked = []
    around = Around(free=lambda folder: asked.append(folder) or 900_000)
    for _ in range(100):
        around.look(LOOK_US // 10)
    assert 9 <= len(asked) <= 11


def test_a_disk_that_does_not_answer_changes_nothing():
    def dead(_):
        raise OSError("gone")

    assert Around(free=dead).look().takes_in


def test_the_broker_is_waited_for_after_a_start_but_not_for_ever():
    around = Around()
    around.peers = False
    assert around.codes() == [ReasonCode.BROKER_LOST]
    around.clock.now_us += PEERS_US
    assert around.codes() == []


def test_a_broker_once_seen_is_not_waited_for_again():
    around = Around()
    assert around.codes() == []
    around.peers = False
    assert around.codes() == []


def test_what_is_held_is_not_dropped_to_wait_for_a_broker():
    around = Around()
    around.peers = around.rest = False
    assert around.codes() == []


def test_others_are_heard_too():
    around = Around()
    around.others = (Reason(code=ReasonCode.CRASH_LOOP),)
    assert around.codes() == [ReasonCode.CRASH_LOOP]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "sopgw-disk", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip("needs root and mount: " + done.stderr.decode().strip())
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_fills(small_disk):
    around = Around(small_disk, free_ppm)
    assert around.look().takes_in
    filling = small_disk / "log"
    total = os.statvfs(small_disk).f_blocks * os.statvfs(small_disk).f_frsize
    with filling.open("wb") as stream:
        stream.write(b"x" * (total * 92 // 100))
    outlook = around.look()
    assert not outlook.takes_in
    assert outlook.reasons == ()
    with filling.open("ab") as stream:
        stream.write(b"x" * (total * 4 // 100))
    assert around.codes() == [ReasonCode.DISK]
    filling.unlink()
    assert around.look().takes_in
    assert around.codes() == []
