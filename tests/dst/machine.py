"""The computer the gateway runs on: its clocks and its disk, which outlive the process."""

import asyncio

from gateway.model.errors import JournalError
from gateway.ports import LedgerStatus
from ledger.log.canonical import decode, encode

UTC0_US = 1_800_000_000_000_000  # a whole quarter of an hour


class MachineClock:
    """Implements ``gateway.ports.Clock`` over the loop's time; UTC may be stepped."""

    def __init__(self, loop):
        self.loop = loop
        self.step_us = 0
        self.booted_us = -1_000_000_000
        self.word = "good"

    def utc_us(self):
        return UTC0_US + self.loop.now_us + self.step_us

    def mono_us(self):
        return self.loop.now_us - self.booted_us

    async def sleep_until(self, mono_us):
        left_us = mono_us - self.mono_us()
        await asyncio.sleep(max(0, left_us) / 1e6)

    def quality(self):
        return self.word

    def at_least(self, real_us):
        return real_us

    def reboot(self):
        self.booted_us = self.loop.now_us - 5_000_000


class Disk:
    """Leaves in order; those up to ``durable`` survive whatever happens."""

    def __init__(self):
        self.leaves = []
        self.entries = []
        self.fsync_us = (1_000, 8_000)
        self.broken = False

    @property
    def size(self):
        return len(self.leaves)


class MemoryJournal:
    """Implements ``gateway.ports.Journal``: group commit, one flush at a time."""

    def __init__(self, *, disk, clock, life, draw):
        self.boot_number = 0
        self.time_quality = clock.quality
        self._disk, self._clock, self._life, self._draw = disk, clock, life, draw
        self._waiting = []  # (leaf, entry, future) not yet in a flush
        self._flushing = []
        self.failed = False

    async def append(self, kind, fields):
        await self._life.seam("append")
        if self.failed:
            raise JournalError("the disk failed")
        entry = {
            **fields, "kind": kind, "utc_us": self._clock.utc_us(),
            "mono_us": self._clock.mono_us(), "boot": self.boot_number,
            "tq": self.time_quality(),
        }  # fmt: skip
        leaf = encode(entry)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((leaf, entry, done))
        if not self._flushing:
            self._flush()
        return await done

    def _flush(self):
        self._flushing, self._waiting = self._waiting, []
        if self._flushing:
            took_us = self._draw.randint(*self._disk.fsync_us)
            asyncio.get_running_loop().call_later(took_us / 1e6, self._flushed)

    def _flushed(self):
        if not self._life.alive:
            return
        batch, self._flushing = self._flushing, []
        if self._disk.broken:
            self.failed = True
            for _, _, done in [*batch, *self._waiting]:
                if not done.done():
                    done.set_exception(JournalError("the disk failed"))
            self._waiting = []
            return
        for leaf, entry, done in batch:
            index = self.keep(leaf, entry)
            if not done.done():
                done.set_result((index, entry))
        self._flush()

    def keep(self, leaf, entry):
        self._disk.leaves.append(leaf)
        self._disk.entries.append(entry)
        self._life.world.oracle.durable(self._disk.size - 1, entry)
        return self._disk.size - 1

    def cut(self):
        """Power is cut: of what was under way any beginning may have reached the disk."""
        under_way = [*self._flushing]
        for leaf, entry, _ in under_way[: self._draw.randint(0, len(under_way))]:
            self.keep(leaf, entry)
        self._flushing, self._waiting = [], []

    def entries(self, start=0):
        for index in range(start, self._disk.size):
            yield index, dict(decode(self._disk.leaves[index]))

    def status(self):
        return LedgerStatus(
            size=self._disk.size, checkpoint=f"sim\n{self._disk.size}\n", anchored=False
        )

    async def close(self):
        await self._life.seam("close")
