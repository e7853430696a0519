"""One look at the gateway for its alarms: what the conditions need besides the ledger's state."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.core.alarm_conditions import Seen
from gateway.ports import Clock, LedgerStatus
from gateway.runtime.certificates import Certificates
from gateway.runtime.loop import Scan
from gateway.runtime.telemetry import StationPoller

STALE_REAL_US = 1_000_000  # never call a meter stale before this much real time
MISSED_POLLS = 3


class Look:
    """Collects what is seen now; keeps since when the ledger lacks a checkpoint."""

    def __init__(
        self,
        *,
        scan: Scan,
        poller: StationPoller,
        clock: Clock,
        ledger: Callable[[], LedgerStatus],
        broker_online: Callable[[], bool],
        node_online: Callable[[], bool] = lambda: True,
        meter_poll_ms: int,
        folder: Path,
        site_file: Path,
        certificates: Sequence[Path] = (),
    ) -> None:
        """Look at these parts; ``folder`` is the ledger's, ``site_file`` what was loaded.

        ``node_online`` stays true where the gateway has no market node of its own.
        """
        self._certificates = Certificates(certificates, clock)
        self._scan, self._poller, self._clock = scan, poller, clock
        self._ledger, self._broker_online = ledger, broker_online
        self._node_online = node_online
        self._meter_poll_ms = meter_poll_ms
        self._folder, self._site_file = folder, site_file
        self._began_us = clock.utc_us()
        self._checkpoint, self._fresh_mono_us = "", clock.mono_us()
        self._signature = self._file_signature()
        self._digest = self._file_digest()

    def __call__(self, refused: tuple[tuple[int, str], ...]) -> Seen:
        """Return what is seen now."""
        utc_us, state, ledger = self._clock.utc_us(), self._scan.state, self._ledger()
        last = {t: track[-1] for t, track in state.readings.items() if track}
        terminals = [t.id for t in state.site.sop.terminals]
        read_us = {t: last[t].utc_us if t in last else self._began_us for t in terminals}
        ages_us = {t: utc_us - max(read_us[t], self._began_us) for t in terminals}
        stale_us = max(
            MISSED_POLLS * self._meter_poll_ms * 1000, self._clock.at_least(STALE_REAL_US)
        )
        return Seen(
            utc_us=utc_us,
            station=self._poller.last,
            station_age_us=self._poller.age_us(),
            stale_after_us=self._scan.stale_after_us,
            time_quality=self._scan.time_quality(),
            clock_step_us=state.stepped_us(self._clock.mono_us()),
            meter_age_us=ages_us,
            meter_p_w={t: c.p_w for t, c in last.items() if ages_us[t] <= stale_us},
            meter_stale_us=stale_us,
            broker_online=self._broker_online(),
            node_online=self._node_online(),
            ledger_wrong="; ".join(filter(None, (ledger.contradiction, ledger.damage))),
            checkpoint_age_us=self._checkpoint_age_us(ledger),
            disk_free_ppm=self._disk_free_ppm(),
            config_changed=self._config_changed(),
            station_frozen=self._poller.frozen,
            certificate=self._certificates.first_to_end(),
            refused=refused,
        )

    def _checkpoint_age_us(self, status: LedgerStatus) -> int:
        """How long entries wait for a signed checkpoint; 0 when none waits."""
        now_us = self._clock.mono_us()
        lines = status.checkpoint.split("\n")
        covered = len(lines) > 1 and lines[1].isdecimal() and int(lines[1]) >= status.size
        if covered or status.checkpoint != self._checkpoint:
            self._checkpoint, self._fresh_mono_us = status.checkpoint, now_us
        return now_us - self._fresh_mono_us

    def _disk_free_ppm(self) -> int | None:
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return None
        return found.f_bavail * 1_000_000 // max(1, found.f_blocks)

    def _config_changed(self) -> bool:
        """Read the file again only when it looks different."""
        signature = self._file_signature()
        if signature == self._signature:
            return False
        return self._file_digest() != self._digest

    def _file_signature(self) -> tuple[int, int]:
        try:
            found = self._site_file.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_size)

    def _file_digest(self) -> str:
        try:
            return hashlib.sha256(self._site_file.read_bytes()).hexdigest()
        except OSError:
            return ""
