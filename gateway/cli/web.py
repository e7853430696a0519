"""Puts the doors beside a running gateway: the page, the northbound servers, one view for all."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from gateway.app import Parts
from gateway.cli.full_check import FullCheck
from gateway.cli.output import note
from gateway.cli.receipt_child import receipt_file
from gateway.config.secret import read_secret
from gateway.config.site_doors import Northbound, PageTls
from gateway.config.site_file import Site, SopConfig
from gateway.devices.converters import Converters
from gateway.hmi.accounts import Accounts
from gateway.hmi.login import Login
from gateway.hmi.observer import Observer
from gateway.hmi.page import FROZEN_TICKS, Page
from gateway.hmi.records import LedgerRecords
from gateway.hmi.state import DeviceView, PointView, PollTimes, SiteView, settled_views
from gateway.market.mqtt import broker_from
from gateway.model.errors import ConfigError, GatewayError, JournalError
from gateway.model.telemetry import Quality, StationTelemetry
from gateway.ports import Station
from gateway.runtime.recorder import Recorder
from ledger.network.tls import serving

log = logging.getLogger(__name__)

STALE_REAL_US = 1_000_000
FROZEN_SCANS = 3  # a scan that takes longer than so many of its periods stands still
READ_WHOLE_MAX = 100_000  # entries; of longer ledgers the page knows what a start remembers
AUDITED_MAX, AUDITED_S = 60, 600.0  # the ledger is not for flooding: the rest is in the log


def doors_beside(
    site: Site, config: SopConfig, *, page: tuple[str, int] | None, simulated: bool
) -> Callable[[Parts], AbstractAsyncContextManager[None]]:
    """Return what ``app.run`` opens beside the gateway: ``page`` is (host, port).

    A door that cannot be opened is a warning: people lose sight, the gateway loses nothing.
    """

    @contextlib.asynccontextmanager
    async def beside(parts: Parts) -> AsyncIterator[None]:
        observer = Observer(
            site=site.id,
            name=site.name,
            sop=config.sop,
            clock=parts.clock,
            simulated=simulated,
            polygons={t: c.corners for t, c in config.measured.items()},
        )
        book, times = observer.daybook, PollTimes()
        meters = {t.id: t.meter for t in config.sop.terminals}
        parts.poller.polled = functools.partial(_taken, times, config, parts.station)
        parts.meter_poller.polled = lambda terminal, duration_ms, *, answered: times.take(
            meters[terminal], duration_ms, answered=answered
        )
        check = FullCheck(directory=site.ledger.dir, vkey=parts.journal.vkey, clock=parts.clock)
        vouched = site.runtime.clock == "kernel" and not simulated
        long = parts.journal.status().size > READ_WHOLE_MAX
        for index, entry in parts.keeper.memory.entries() if long else parts.journal.entries():
            book.take(index, entry)
        book.begin(parts.recorder.state)
        parts.recorder.listeners.append(book.take)
        records = LedgerRecords(
            read=parts.journal.entries,
            size=lambda: parts.journal.status().size,
            places=book.places,
            receipt=functools.partial(receipt_file, site.ledger.dir),
        )

        def views() -> SiteView:
            station = parts.poller.last
            observer.sop = parts.recorder.state.site.sop  # with the limits that people set
            return observer.view(
                station=station,
                ledger=parts.journal.status(),
                devices=[times.into(d) for d in devices(site, config, parts, book.counters)],
                settled=settled_views(parts.recorder.state.settled),
                alarm_rows=parts.people.alarms.rows(),
                feeder=parts.recorder.state.feeder_limits,
                checked=check.last,
                points=points(config, station, parts, book.counters),
                time_quality=parts.scan.time_quality(),
                clock_error_ms=clock_error_ms() if vouched else None,
                scan_us=parts.scan.ended_us,
            )

        async with AsyncExitStack() as doors:
            if page is not None:
                await doors.enter_async_context(
                    page_open(site, page, views, records, parts.recorder)
                )
            for run in (*northbound_runs(site.northbound, views), check.run):
                await doors.enter_async_context(alongside(run))
            yield

    return beside


def clock_error_ms() -> int | None:
    """Return by how much UTC may be off as the kernel says; None where it does not say."""
    from gateway.commissioning.runs.passive import kernel_clock

    said = kernel_clock()
    return said.error_us_max // 1000 if said is not None else None


@contextlib.asynccontextmanager
async def page_open(
    site: Site,
    place: tuple[str, int],
    views: Callable[[], SiteView],
    records: LedgerRecords,
    recorder: Recorder,
) -> AsyncIterator[None]:
    """Open the page at a place; without one when it cannot be opened."""
    host, port = place
    web = site.web
    try:
        tls = page_tls(web.tls) if web and web.tls else None
        accounts = Accounts(web.accounts) if web and web.accounts else None
    except ConfigError as error:
        # Never a page that is more open than it was meant to be.
        log.warning("no page: %s", error)
        yield
        return
    named = web.names if web else ()
    login = None
    if accounts:
        login = Login(accounts, audit_of(recorder), secure=tls is not None, names=named)
    names = {host, socket.gethostname(), socket.getfqdn(), *named}
    scans_ticks = FROZEN_SCANS * site.runtime.scan_ms // 1000
    page = Page(
        views, records, names=names, tls=tls, login=login,
        frozen_ticks=max(FROZEN_TICKS, scans_ticks),
    )  # fmt: skip
    scheme = "https" if tls else "http"
    try:
        opened = await page.start(host, port)
    except OSError as error:
        log.warning("no page: %s:%d: %s", host, port, error)
    else:
        log.info("page on %s://%s:%d", scheme, host, opened)
        note(f"page at {scheme}://{host}:{opened}/")
    try:
        yield
    finally:
        await page.stop()


def page_tls(files: PageTls) -> ssl.SSLContext:
    """Return the page's TLS context; ConfigError names the file that cannot be used."""
    try:
        read_secret(files.key_file)  # its mode and place are judged like every secret's
        return serving(certificate=files.certificate, key=files.key_file, clients=files.clients)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the page's certificate, key or authorities: {error}") from None


def audit_of(recorder: Recorder) -> Callable[[str, str, str], Coroutine[Any, Any, None]]:
    """Return what makes logins entries of the ledger, so many in a time."""
    written: list[float] = []

    async def audit(event: str, name: str, address: str) -> None:
        log.info("page login %s name=%s address=%s", event, name, address)
        now_s = asyncio.get_running_loop().time()
        written[:] = [at for at in written if now_s - at < AUDITED_S]
        if len(written) >= AUDITED_MAX:
            return
        written.append(now_s)
        arguments = {"door": "page", "event": event, "address": address}
        # A ledger that fails ends the gateway elsewhere; the door itself only looks on.
        with contextlib.suppress(JournalError):
            await recorder.record(
                "operator", user=f"page:{name}", verb="login", arguments=arguments, reason=""
            )

    return audit


def northbound_runs(
    northbound: Northbound, views: Callable[[], SiteView]
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """Return what is to run beside the gateway for the doors that the site file names.

    A door that cannot be made stays shut alone.
    """
    runs: list[Callable[[], Coroutine[Any, Any, None]]] = []
    for door in (_opcua_run, _mqtt_run):
        try:
            runs += door(northbound, views)
        except (GatewayError, OSError, ValueError) as error:
            log.warning("no northbound door: %s", error)
    return runs


def _opcua_run(
    northbound: Northbound, views: Callable[[], SiteView]
) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
    o = northbound.opcua
    if o is None:
        return
    from gateway.northbound.opcua_feed import OpcuaFeed, OpcuaServing

    read_secret(o.key_file)
    serving = OpcuaServing(
        host=o.host, port=o.port, certificate=o.certificate, key=o.key_file, trusted=o.trusted
    )
    yield OpcuaFeed(serving, views).run


def _mqtt_run(
    northbound: Northbound, views: Callable[[], SiteView]
) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
    m = northbound.mqtt
    if m is None:
        return
    from gateway.northbound.mqtt_publisher import MqttPublisher, MqttPublishing

    broker = broker_from(
        m.broker,
        username=m.username,
        password=read_secret(m.password_file) if m.password_file else None,
        ca_file=m.ca_file,
        certificate=m.certificate,
        key_file=m.key_file,
    )
    publishing = MqttPublishing(
        broker=broker, home_assistant=m.home_assistant, sparkplug=m.sparkplug
    )
    yield MqttPublisher(publishing, views).run


@contextlib.asynccontextmanager
async def alongside(run: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run something that only looks on: when it breaks the log says so and the gateway goes on."""
    running = asyncio.create_task(run())
    running.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a northbound door broke: %r", error)


def devices(
    site: Site, config: SopConfig, parts: Parts, counters: Mapping[str, Mapping[str, Any]]
) -> list[DeviceView]:
    """Return the station, or the converters, and the meters with their ages."""
    poller, now_us = parts.poller, parts.clock.utc_us()
    own = parts.station if isinstance(parts.station, Converters) else None
    if own is not None:
        told = list(_converters(site, config, parts, own))
    else:
        where = site.devices[config.station]
        told = [
            DeviceView(
                name=where.name,
                kind=where.profile.id,
                address=where.url,
                connected=poller.link_up,
                age_ms=poller.age_us() // 1000 if poller.last else None,
                error_count=poller.errors_count,
                last_error=poller.last_error,
                stale_after_ms=_stale_ms(site.runtime.scan_ms, parts),
                frozen=poller.frozen,
                unsure=_unsure(parts),
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
                last_error=parts.meter_poller.last_errors.get(terminal.id, ""),
                stale_after_ms=_stale_ms(site.runtime.meter_poll_ms, parts),
            )
        )
    return told


def _converters(
    site: Site, config: SopConfig, parts: Parts, own: Converters
) -> Iterator[DeviceView]:
    """Yield each converter: whether it answered the last poll, and how old its last answer is.

    Their signs of life and their values are judged as one: where one is not believed none is.
    """
    now_us = parts.clock.mono_us()
    for terminal, name in config.converters.items():
        where, seen = site.devices[name], own.last.get(terminal)
        yield DeviceView(
            name=where.name,
            kind=where.profile.id,
            address=where.url,
            connected=seen is not None and terminal not in own.silent,
            age_ms=(now_us - seen.mono_us) // 1000 if seen is not None else None,
            error_count=own.failures[terminal],
            last_error=own.last_errors.get(terminal, ""),
            stale_after_ms=_stale_ms(site.runtime.scan_ms, parts),
            frozen=parts.poller.frozen,
            unsure=_unsure(parts),
        )


def _unsure(parts: Parts) -> bool:
    """Whether the last telemetry is not to be believed, though it came."""
    return parts.poller.last is not None and parts.poller.last.quality is not Quality.GOOD


def _stale_ms(period_ms: int, parts: Parts) -> int:
    """Return four missed polls, but never less than a second of real time on a fast bench."""
    return max(4 * period_ms, parts.clock.at_least(STALE_REAL_US) // 1000)


def _taken(
    times: PollTimes, config: SopConfig, station: Station, duration_ms: int, *, answered: bool
) -> None:
    """Count a poll of the station; one of converters, which are asked together, for each.

    Unanswered it is by those that were silent, and by all where it failed otherwise.
    """
    silent: set[str] = set()
    if isinstance(station, Converters):
        silent = {config.converters[t] for t in station.silent}
    for name in config.controllers:
        failed = not answered and (not silent or name in silent)
        times.take(name, duration_ms, answered=not failed)


def points(
    config: SopConfig,
    station: StationTelemetry | None,
    parts: Parts,
    counters: Mapping[str, Mapping[str, Any]],
) -> list[PointView]:
    """Return what the station, or the converters, and the meters say, value by value."""
    told: list[PointView] = []
    own = parts.station if isinstance(parts.station, Converters) else None
    if station is not None:
        age_ms = parts.poller.age_us() // 1000
        values = [*_of_all(station), *(() if own is not None else _of_terminals(station))]
        told += [
            PointView(
                device=config.station or config.sop.id,
                point=point,
                value=value,
                unit=unit,
                raw="",
                quality=station.quality.value,
                age_ms=age_ms,
            )
            for point, value, unit in values
        ]
    if own is not None:
        told += _said(config, parts, own)
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


def _of_all(station: StationTelemetry) -> Iterator[tuple[str, str, str]]:
    """Yield point, value and unit of what a station, or all converters together, say."""
    yield "state", station.state.name, ""
    yield "v_dc", f"{station.v_dc_dv / 10:.1f}", "V"
    yield "loss", str(station.loss_w), "W"
    yield "instruction_id", f"{station.instruction_id:#010x}", ""
    yield "watchdog_remaining", f"{station.watchdog_remaining_ds / 10:.1f}", "s"
    yield "fault", f"{station.fault_bits:#010x}", ""
    yield "alarm", f"{station.alarm_bits:#06x}", ""


def _of_terminals(station: StationTelemetry) -> Iterator[tuple[str, str, str]]:
    """Yield point, value and unit of what a station says of its terminals."""
    for t in station.terminals:
        yield f"{t.id}.state", t.state.name, ""
        yield f"{t.id}.p", str(t.p_w), "W"
        yield f"{t.id}.p_set_active", str(t.p_w_set_active), "W"
        yield f"{t.id}.q", str(t.q_var), "var"
        yield f"{t.id}.v", f"{t.v_dv / 10:.1f}", "V"
        yield f"{t.id}.s_available", str(t.s_va_available), "VA"


def _said(config: SopConfig, parts: Parts, own: Converters) -> Iterator[PointView]:
    """Yield what each converter said last, by the points of its profile, with their registers."""
    now_us = parts.clock.mono_us()
    for terminal, seen in own.last.items():
        words = own.words(terminal)
        believed = not (terminal in own.silent or parts.poller.frozen or _unsure(parts))
        quality = Quality.GOOD if believed else Quality.UNCERTAIN
        for point, value, unit in (
            ("state.code", seen.state.name, ""),
            ("local", "local" if seen.local else "remote", ""),
            ("fault.bits", f"{seen.fault_bits:#010x}", ""),
            ("p", str(seen.p_w), "W"),
            ("p_set", str(seen.p_w_set), "W"),
            ("p_set.reversion_left", f"{seen.left_ds / 10:.1f}", "s"),
            ("q", str(seen.q_var), "var"),
            ("q_set", str(seen.q_var_set), "var"),
            ("v", f"{seen.v_dv / 10:.1f}", "V"),
            ("dc.v", f"{seen.v_dc_dv / 10:.1f}", "V"),
            ("s_available", str(seen.s_va_available), "VA"),
            ("e.inject", str(seen.export_wh), "Wh"),
            ("e.absorb", str(seen.import_wh), "Wh"),
        ):
            yield PointView(
                device=config.converters[terminal],
                point=point,
                value=value,
                unit=unit,
                raw=" ".join(f"{word:04x}" for word in words.get(point, ())),
                quality=quality.value,
                age_ms=(now_us - seen.mono_us) // 1000,
            )
