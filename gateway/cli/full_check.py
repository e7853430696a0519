"""Verifies the whole ledger once a day, beside the gateway: every byte, in a process of its own.

The child runs at the lowest priority and only reads; what it finds is shown on the page and told to
monitors. Who needs proof runs ``sopledger verify`` himself, elsewhere, with the key he trusts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path

from gateway.ports import Clock

log = logging.getLogger(__name__)

FIRST_REAL_US = 600_000_000  # a start has more urgent things to do
EVERY_US = 86_400_000_000
GOOD, BAD = 0, 8  # exit codes of sopledger verify; anything else is no verdict
NICE = 19
REAL_S_MAX = 6 * 3600  # 10 million entries take some minutes; a child that hangs is ended


class FullCheck:
    """The last verdict on the ledger in a folder, by its own key."""

    def __init__(self, *, directory: Path, vkey: str, clock: Clock) -> None:
        """Check ``directory`` with the ledger's verifier key."""
        self.last: tuple[int, bool] | None = None
        """When the last check ended, in UTC microseconds, and whether nothing was found."""
        self._directory, self._vkey, self._clock = directory, vkey, clock

    async def run(self) -> None:
        """Check until cancelled."""
        clock = self._clock
        await clock.sleep_until(clock.mono_us() + clock.at_least(FIRST_REAL_US))
        while True:
            try:
                await self.check()
            except OSError as error:  # a full disk, or a child that hung: there is another day
                log.warning("the daily check of the ledger came to no end: %r", error)
            await clock.sleep_until(clock.mono_us() + max(EVERY_US, clock.at_least(FIRST_REAL_US)))

    async def check(self) -> None:
        """Check once; without a verdict the one before stands."""
        with tempfile.NamedTemporaryFile("w", suffix=".vkey") as key:
            key.write(f"{self._vkey}\n")
            key.flush()
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "ledger", "verify", str(self._directory),
                "--key", key.name,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, child.pid, NICE)
                async with asyncio.timeout(REAL_S_MAX):
                    code = await child.wait()
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        if code in (GOOD, BAD):
            self.last = (self._clock.utc_us(), code == GOOD)
        if code != GOOD:
            log.error("the daily check of the ledger ended with %d: sopledger verify", code)
