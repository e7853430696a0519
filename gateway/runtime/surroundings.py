"""What must be good around the gateway before it commands: disk, peers, no crash loop.

Reasons found here hold the gateway in observing mode like any interlock. Below a tenth of free
disk nothing new is taken in and waits at the broker; below a twentieth the plant goes to zero
while there is still room to write that down. Nothing is ever deleted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.model.reason import Reason, ReasonCode
from gateway.ports import Clock

INTAKE_FREE_PPM_MIN = 100_000
STOP_FREE_PPM_MIN = 50_000
HYSTERESIS_PPM = 10_000  # so that one deleted file does not begin and end trading by turns
LOOK_US = 5_000_000  # between two looks at the disk
PEERS_US = 60_000_000  # after a start the broker is waited for so long, not for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One look around."""

    reasons: tuple[Reason, ...] = ()
    takes_in: bool = True


def free_ppm(folder: Path) -> int:
    """Return what is left of the disk under a folder, in millionths."""
    disk = os.statvfs(folder)
    return 1_000_000 * disk.f_bavail // max(1, disk.f_blocks)


class Surroundings:
    """Looks around for the scan."""

    def __init__(
        self,
        *,
        clock: Clock,
        folder: Path,
        peers_seen: Callable[[], bool],
        at_rest: Callable[[], bool],
        others: Callable[[], tuple[Reason, ...]],
        free: Callable[[Path], int] = free_ppm,
    ) -> None:
        """Look at the disk of ``folder``.

        Args:
            clock: for the pace of looking and the wait for peers.
            folder: on the disk that must not fill.
            peers_seen: whether the broker was reached since the start.
            at_rest: whether no power is held; what is held is adopted, broker or not.
            others: further reasons not to command.
            free: how the disk is asked.
        """
        self._clock = clock
        self._folder = folder
        self._peers_seen = peers_seen
        self._at_rest = at_rest
        self._others = others
        self._free = free
        self._began_us = clock.mono_us()
        self._looked_us: int | None = None
        self._full = self._stopped = False
        self._free_ppm = 1_000_000
        self._waiting = True

    def look(self) -> Outlook:
        """Return what stands in the way now."""
        now_us = self._clock.mono_us()
        if self._looked_us is None or now_us - self._looked_us >= LOOK_US:
            self._looked_us = now_us
            self._look_at_disk()
        found = list(self._others())
        if self._stopped:
            detail = f"{self._free_ppm / 10_000:.1f} % free"
            found.append(Reason(code=ReasonCode.DISK, detail=detail))
        self._waiting = self._waiting and not (
            self._peers_seen() or not self._at_rest() or now_us - self._began_us > PEERS_US
        )
        if self._waiting:
            detail = "not reached since the start"
            found.append(Reason(code=ReasonCode.BROKER_LOST, detail=detail))
        return Outlook(reasons=tuple(found), takes_in=not self._full)

    def _look_at_disk(self) -> None:
        try:
            self._free_ppm = free = self._free(self._folder)
        except OSError:  # what cannot be asked cannot be written to either: the ledger will tell
            return
        self._full = free < INTAKE_FREE_PPM_MIN + (HYSTERESIS_PPM if self._full else 0)
        self._stopped = free < STOP_FREE_PPM_MIN + (HYSTERESIS_PPM if self._stopped else 0)
