"""Makes the one view of a site from the ledger's fold and the newest telemetry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.hmi.alarms import as_listed
from gateway.hmi.daybook import DayBook
from gateway.hmi.state import (
    Corner,
    DeviceView,
    LedgerView,
    PointView,
    SettledView,
    SiteView,
    feeder_views,
    terminal_views,
)
from gateway.model.limits import FeederLimits
from gateway.model.telemetry import StationTelemetry
from gateway.model.terminal import Sop
from gateway.ports import Clock, LedgerStatus


class Observer:
    """Looks at one SOP; ``daybook`` is to be given every entry, those of the start included."""

    def __init__(
        self,
        *,
        site: str,
        name: str,
        sop: Sop,
        clock: Clock,
        simulated: bool,
        polygons: Mapping[str, tuple[Corner, ...]] | None = None,
    ) -> None:
        """Observe ``sop`` of a site; ``simulated`` puts the banner on every page.

        ``polygons`` are the measured capabilities by terminal.
        """
        self.daybook = DayBook()
        self._site, self._name = site, name
        self.sop = sop
        self._clock, self._simulated = clock, simulated
        self._checkpoint, self._checkpoint_us = "", 0
        self._polygons = polygons

    def view(
        self,
        *,
        station: StationTelemetry | None,
        ledger: LedgerStatus,
        devices: Sequence[DeviceView] = (),
        points: Sequence[PointView] = (),
        settled: Sequence[SettledView] = (),
        alarm_rows: Sequence[Mapping[str, Any]] = (),
        time_quality: str = "good",
        clock_error_ms: int | None = None,
        scan_us: int | None = None,
        feeder: FeederLimits | None = None,
        checked: tuple[int, bool] | None = None,
    ) -> SiteView:
        """Return the site as it is now.

        ``settled`` comes from the fold of the whole ledger: the daybook may know its end alone.
        ``alarm_rows`` are the standing alarms by the site's own list, with who shelved them.
        ``scan_us`` is when the last scan ended: a look at the site does not keep the scan alive.
        ``checked`` is when the whole ledger was last verified, and whether nothing was found.
        """
        now_us = self._clock.utc_us()
        book = self.daybook
        return SiteView(
            utc_us=now_us,
            site=self._site,
            name=self._name,
            sop=self.sop.id,
            mode=book.mode,
            state=book.state,
            reasons=book.reasons,
            simulated=self._simulated,
            time_quality=time_quality,
            clock_error_ms=clock_error_ms,
            v_dc_dv=station.v_dc_dv if station else None,
            v_dc_dv_min=self.sop.v_dc_dv_min,
            v_dc_dv_max=self.sop.v_dc_dv_max,
            loss_w=station.loss_w if station else None,
            heartbeat_ds=station.watchdog_remaining_ds if station else None,
            terminals=terminal_views(self.sop, station, book.counters, self._polygons),
            trades=book.trades(now_us),
            unlisted_us=book.unlisted_us[0] if book.unlisted_us else None,
            refused=book.refused(),
            alarms=as_listed(book.alarms(), alarm_rows),
            settled=tuple(settled),
            devices=tuple(devices),
            points=tuple(points),
            ledger=self._ledger(ledger, now_us, checked),
            feeder=feeder_views(feeder, self.sop),
            version=book.version,
            config_sha256=book.config_sha256,
            started_us=book.started_us,
            scan_us=scan_us,
        )

    def _ledger(
        self, status: LedgerStatus, now_us: int, checked: tuple[int, bool] | None
    ) -> LedgerView:
        """Read origin, size and root of the checkpoint; its time is when it was first seen."""
        if status.checkpoint != self._checkpoint:
            self._checkpoint, self._checkpoint_us = status.checkpoint, now_us
        lines = status.checkpoint.split("\n")
        signed = len(lines) >= 3 and lines[1].isdecimal()
        return LedgerView(
            size=status.size,
            origin=lines[0] if signed else "",
            checkpoint_size=int(lines[1]) if signed else 0,
            checkpoint_us=self._checkpoint_us if signed else None,
            root=lines[2] if signed else "",
            anchored=status.anchored,
            checked_us=checked[0] if checked else None,
            checked_ok=checked[1] if checked else None,
        )
