import asyncio
import contextlib
import itertools

import pytest

from gateway.devices.poller import PollClass, Poller, once_names, poll_classes
from gateway.devices.profile import Kind, Point, Profile, Protocol, Register, Table
from gateway.model.errors import OutcomeUnknown


class StepClock:
    """Time that moves only when somebody waits or works."""

    def __init__(self, end_us):
        self.now_us, self.end_us = 0, end_us

    def utc_us(self):
        return self.now_us

    def mono_us(self):
        return self.now_us

    async def sleep_until(self, mono_us):
        self.now_us = max(self.now_us, mono_us)
        if self.now_us > self.end_us:
            raise asyncio.CancelledError
        await asyncio.sleep(0)


def poller(classes, *, seconds, takes_ms=0, fails=False):
    clock, polls = StepClock(seconds * 1_000_000), []

    async def poll(names):
        polls.append((clock.now_us // 1000, names))
        clock.now_us += takes_ms * 1000
        if fails:
            raise OutcomeUnknown("d", "mute")
        return {}

    return Poller(classes=classes, poll=poll, on_values=lambda _: None, clock=clock), polls


async def run(found):
    with contextlib.suppress(asyncio.CancelledError):
        await found.run()


def points(**periods):
    return Profile(
        id="x", kind=Kind.METER, protocol=Protocol.MODBUS,
        points=tuple(
            Point(name=name, register=Register(table=Table.INPUT, address=n), poll_ms=ms)
            for n, (name, ms) in enumerate(periods.items())
        ),
    )  # fmt: skip


async def test_each_class_keeps_its_period():
    fast, slow = (
        PollClass(period_ms=p, offset_ms=o, names=(str(p),)) for p, o in ((200, 0), (1000, 100))
    )
    found, polls = poller((fast, slow), seconds=10)
    await run(found)
    assert [t for t, names in polls if names == ("200",)] == list(range(0, 10_001, 200))
    assert [t for t, names in polls if names == ("1000",)] == list(range(100, 10_001, 1000))
    assert found.counts == {"polls": len(polls), "missed": 0}


async def test_a_slow_device_skips_beats_and_never_stacks_them():
    found, polls = poller(
        (PollClass(period_ms=100, offset_ms=0, names=("a",)),), seconds=10, takes_ms=250
    )
    await run(found)
    starts = [t for t, _ in polls]
    assert all(b - a >= 250 for a, b in itertools.pairwise(starts))
    assert all(t % 100 == 0 for t in starts)  # on the grid, not drifting
    assert found.counts["missed"] >= 60


async def test_a_mute_device_is_polled_on_and_counted():
    found, polls = poller(
        (PollClass(period_ms=1000, offset_ms=0, names=("a",)),), seconds=5, fails=True
    )
    await run(found)
    assert found.counts["failed"] == len(polls) == 6


@pytest.mark.parametrize("count", [1, 4, 7])
def test_devices_and_classes_are_spread_over_the_period(count):
    profile = points(a=1000, b=1000, c=5000, d=0, e=None)
    assert once_names(profile) == ("d",)
    offsets = {}
    for index in range(count):
        for found in poll_classes(profile, index=index, count=count):
            assert 0 <= found.offset_ms < found.period_ms
            offsets.setdefault(found.period_ms, []).append(found.offset_ms)
            assert found.names == (("a", "b") if found.period_ms == 1000 else ("c",))
    for period_ms, found in offsets.items():
        gaps = [b - a for a, b in itertools.pairwise(found)]
        assert all(abs(gap - period_ms / count) <= 1 for gap in gaps)
