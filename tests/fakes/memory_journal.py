"""A journal in memory, durable at once; can be told to fail."""

import asyncio
import json

from gateway.model.errors import JournalError
from gateway.ports import LedgerStatus


class MemoryJournal:
    def __init__(self, clock, *, boot=1):
        self.written = []
        self.clock, self.boot_number = clock, boot
        self.failing = False

    async def append(self, kind, fields):
        if self.failing:
            raise JournalError(f"{kind} not written")
        entry = json.loads(json.dumps(
            {**fields, "kind": kind, "utc_us": self.clock.utc_us(), "mono_us": self.clock.mono_us(),
             "boot": self.boot_number, "tq": "good"}
        ))  # fmt: skip
        self.written.append(entry)
        index = len(self.written) - 1
        await asyncio.sleep(0)
        return index, entry

    def status(self):
        return LedgerStatus(size=len(self.written), checkpoint="", anchored=False)

    def kinds(self):
        return [e["kind"] for e in self.written]


class ManualClock:
    """Time that moves only when told, or when somebody waits for it."""

    def __init__(self, utc_us=1_800_000_000_000_000):
        self.start_us, self.now_us = utc_us, 0

    def utc_us(self):
        return self.start_us + self.now_us

    def mono_us(self):
        return self.now_us + 1_000_000_000

    async def sleep_until(self, mono_us):
        self.now_us = max(self.now_us, mono_us - 1_000_000_000)
        await asyncio.sleep(0)

    def quality(self):
        return "good"

    def at_least(self, real_us):
        return real_us
