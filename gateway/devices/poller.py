"""Polls points by period: classes start spread over their period and never overlap themselves.

A class that takes longer than its period skips beats and counts them; it never stacks polls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.devices.profile import Profile
from gateway.model.errors import DeviceError
from gateway.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class PollClass:
    """Points of one period; ``offset_ms`` is where in the period they start."""

    period_ms: int
    offset_ms: int
    names: tuple[str, ...]


def poll_classes(profile: Profile, *, index: int = 0, count: int = 1) -> tuple[PollClass, ...]:
    """The classes of a profile for the device at ``index`` of ``count`` on one line.

    Devices and classes are spread evenly over each period, so that the line is asked steadily.
    """
    by_period: dict[int, list[str]] = {}
    for point in profile.all_points():
        if point.poll_ms:
            by_period.setdefault(point.poll_ms, []).append(point.name)
    periods = sorted(by_period)
    return tuple(
        PollClass(
            period_ms=period_ms,
            offset_ms=period_ms * (index * len(periods) + place) // (count * len(periods)),
            names=tuple(by_period[period_ms]),
        )
        for place, period_ms in enumerate(periods)
    )


def once_names(profile: Profile) -> tuple[str, ...]:
    """Points that are read once after connecting."""
    return tuple(p.name for p in profile.all_points() if p.poll_ms == 0)


class Poller:
    """Runs the classes of one device until cancelled."""

    def __init__(
        self,
        *,
        classes: Sequence[PollClass],
        poll: Callable[[tuple[str, ...]], Awaitable[Mapping[str, object]]],
        on_values: Callable[[Mapping[str, object]], None],
        clock: Clock,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.late_us_max = 0
        self._classes = classes
        self._poll = poll
        self._on_values = on_values
        self._clock = clock

    async def run(self) -> None:
        """Poll for ever; the failures of the device are counted, not raised."""
        start_us = self._clock.mono_us()
        due_us = {c: start_us + c.offset_ms * 1000 for c in self._classes}
        while due_us:
            poll_class = min(due_us, key=lambda c: due_us[c])
            await self._clock.sleep_until(due_us[poll_class])
            self.late_us_max = max(self.late_us_max, self._clock.mono_us() - due_us[poll_class])
            await self._poll_once(poll_class)
            due_us[poll_class] = self._next(due_us[poll_class], poll_class.period_ms * 1000)

    async def _poll_once(self, poll_class: PollClass) -> None:
        try:
            self._on_values(await self._poll(poll_class.names))
            self.counts["polls"] += 1
        except DeviceError:
            self.counts["failed"] += 1

    def _next(self, due_us: int, period_us: int) -> int:
        """The next beat that has not gone by; a beat just due is still taken."""
        late_us = self._clock.mono_us() - due_us - period_us
        missed = max(0, -(-late_us // period_us)) if late_us > 0 else 0
        self.counts["missed"] += missed
        return due_us + period_us * (1 + missed)
