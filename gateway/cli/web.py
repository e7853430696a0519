"""Puts the page beside a running gateway: the observer's view, the ledger's records, the door."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from gateway.app import Parts
from gateway.cli.output import note
from gateway.config.site_file import Site, SopConfig
from gateway.hmi.observer import Observer
from gateway.hmi.page import Page
from gateway.hmi.records import LedgerRecords
from gateway.hmi.state import DeviceView, PointView
from gateway.journal.ledger_journal import LedgerJournal
from gateway.model.telemetry import StationTelemetry
from ledger.audit.receipt import ReceiptError

log = logging.getLogger(__name__)

STALE_REAL_US = 1_000_000


def page_beside(
    site: Site, config: SopConfig, *, host: str, port: int, simulated: bool
) -> Callable[[Parts], AbstractAsyncContextManager[None]]:
    """Return what ``app.run`` opens beside the gateway: the page on ``host`` and ``port``.

    A door that cannot be opened is a warning: people lose sight, the gateway loses nothing.
    """

    @contextlib.asynccontextmanager
    async def beside(parts: Parts) -> AsyncIterator[None]:
        observer = Observer(
            site=site.id, name=site.name, sop=config.sop, clock=parts.clock, simulated=simulated
        )
        book = observer.daybook
        for index, entry in parts.journal.entries():
            book.take(index, entry)
        parts.recorder.listeners.append(book.take)
        records = LedgerRecords(
            read=parts.journal.entries,
            size=lambda: parts.journal.status().size,
            places=book.places,
            receipt=lambda trade_id: receipt(parts.journal, trade_id),
        )

        def views() -> Any:
            station = parts.poller.last
            return observer.view(
                station=station,
                ledger=parts.journal.status(),
                devices=devices(site, config, parts, book.counters),
                points=points(config.station, station, parts, book.counters),
                time_quality=parts.scan.time_quality(),
            )

        page = Page(views, records, names={host, socket.gethostname(), socket.getfqdn()})
        try:
            opened = await page.start(host, port)
        except OSError as error:
            log.warning("no page: %s:%d: %s", host, port, error)
        else:
            log.info("page on http://%s:%d", host, opened)
            note(f"page at http://{host}:{opened}/")
        try:
            yield
        finally:
            await page.stop()

    return beside


def receipt(journal: LedgerJournal, trade_id: str) -> Mapping[str, Any] | None:
    """Return a trade's receipt, None while its intervals are not settled."""
    try:
        return journal.receipt(trade_id)
    except ReceiptError:
        return None


def devices(
    site: Site, config: SopConfig, parts: Parts, counters: Mapping[str, Mapping[str, Any]]
) -> list[DeviceView]:
    """Return the station and the meters with their ages."""
    poller, now_us = parts.poller, parts.clock.utc_us()
    where = site.devices[config.station]
    told = [
        DeviceView(
            name=where.name,
            kind=where.profile.id,
            address=where.url,
            connected=poller.link_up,
            age_ms=poller.age_us() // 1000 if poller.last else None,
            error_count=poller.errors_count,
            stale_after_ms=_stale_ms(site.runtime.scan_ms, parts),
        )
    ]
    for terminal in config.sop.terminals:
        where, row = site.devices[terminal.meter], counters.get(terminal.id)
        told.append(
            DeviceView(
                name=where.name,
                kind=where.profile.id,
                address=where.url,
                connected=row is not None and terminal.id not in parts.meter_poller.failed,
                age_ms=max(now_us - row["utc_us"], 0) // 1000 if row else None,
                stale_after_ms=_stale_ms(site.runtime.meter_poll_ms, parts),
            )
        )
    return told


def _stale_ms(period_ms: int, parts: Parts) -> int:
    """Return four missed polls, but never less than a second of real time on a fast bench."""
    return max(4 * period_ms, parts.clock.at_least(STALE_REAL_US) // 1000)


def points(
    name: str,
    station: StationTelemetry | None,
    parts: Parts,
    counters: Mapping[str, Mapping[str, Any]],
) -> list[PointView]:
    """Return what the station and the meters say, value by value."""
    told: list[PointView] = []
    if station is not None:
        age_ms = parts.poller.age_us() // 1000
        values = [
            ("state", station.state.name, ""),
            ("v_dc", f"{station.v_dc_dv / 10:.1f}", "V"),
            ("loss", str(station.loss_w), "W"),
            ("instruction_id", f"{station.instruction_id:#010x}", ""),
            ("watchdog_remaining", f"{station.watchdog_remaining_ds / 10:.1f}", "s"),
            ("fault", f"{station.fault_bits:#010x}", ""),
            ("alarm", f"{station.alarm_bits:#06x}", ""),
        ]
        for t in station.terminals:
            values += [
                (f"{t.id}.state", t.state.name, ""),
                (f"{t.id}.p", str(t.p_w), "W"),
                (f"{t.id}.p_set_active", str(t.p_w_set_active), "W"),
                (f"{t.id}.q", str(t.q_var), "var"),
                (f"{t.id}.v", f"{t.v_dv / 10:.1f}", "V"),
                (f"{t.id}.s_available", str(t.s_va_available), "VA"),
            ]
        told += [
            PointView(
                device=name,
                point=point,
                value=value,
                unit=unit,
                raw="",
                quality=station.quality.value,
                age_ms=age_ms,
            )
            for point, value, unit in values
        ]
    now_us = parts.clock.utc_us()
    for row in counters.values():
        raw = " ".join(f"{register:04x}" for register in row["registers"])
        for point, unit in (("export_wh", "Wh"), ("import_wh", "Wh"), ("p_w", "W")):
            told.append(
                PointView(
                    device=row["meter"],
                    point=point.rpartition("_")[0],
                    value=str(row[point]),
                    unit=unit,
                    raw=raw,
                    quality=row["quality"],
                    age_ms=max(now_us - row["utc_us"], 0) // 1000,
                )
            )
    return told
