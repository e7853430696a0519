"""Wires what people of a site have of a running gateway: the socket, the alarms, the status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.commissioning.plan import fingerprint, stale_state
from gateway.config.alarm_file import alarm_path, load_alarms
from gateway.config.site_file import Site as SiteFile
from gateway.core.access import Person
from gateway.hmi.daybook import DayBook
from gateway.hmi.entry_words import entry_words
from gateway.journal.ledger_journal import LedgerJournal
from gateway.market.mqtt import MarketLink
from gateway.market.node_link import NodeLink
from gateway.market.office import MarketOffice
from gateway.ports import Clock
from gateway.runtime.alarms import AlarmWatch
from gateway.runtime.clock import SystemClock
from gateway.runtime.control import ControlSocket
from gateway.runtime.latch import FILE as STOPPED
from gateway.runtime.latch import StopLatch
from gateway.runtime.look import Look
from gateway.runtime.loop import Scan
from gateway.runtime.orders import Orders
from gateway.runtime.recorder import Recorder
from gateway.runtime.status import status_fields
from gateway.runtime.telemetry import StationPoller

ENTRIES_MAX = 60  # a screen
TRADES_MAX = 40  # around now; `trade ls` shows all
AROUND_US = 6 * 3600 * 1_000_000


def certificates_of(site: SiteFile) -> list[Path]:
    """Return the certificate files whose end is watched: ours, and those we believe in."""
    page = site.web.tls if site.web else None
    opcua, mqtt = site.northbound.opcua, site.northbound.mqtt
    papers = site.market.node.papers if site.market.node else None
    named = [
        site.market.certificate,
        site.market.ca_file,
        *((papers.certificate, papers.ca_file) if papers else ()),
        page.certificate if page else None,
        page.clients if page else None,
        *(site.ledger.tls or ())[:2],
        opcua.certificate if opcua else None,
        *((mqtt.certificate, mqtt.ca_file) if mqtt else ()),
        site.log.certificate,
        site.log.ca_file,
    ]
    return [path for path in named if path is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operating:
    """What runs beside the scan for people."""

    alarms: AlarmWatch
    control: ControlSocket
    orders: Orders
    latch: StopLatch


def operating(
    site: SiteFile,
    *,
    path: Path,
    clock: Clock,
    journal: LedgerJournal,
    remembered: Iterable[tuple[int, Mapping[str, Any]]],
    recorder: Recorder,
    scan: Scan,
    poller: StationPoller,
    link: MarketLink,
    node: NodeLink | None,
    office: MarketOffice,
) -> Operating:
    """Build the people's side of one SOP; nothing is opened yet."""
    watch = AlarmWatch(
        rules=load_alarms(alarm_path(site.path.parent)),
        recorder=recorder,
        market=office,
        clock=clock,
        seen=Look(
            scan=scan,
            poller=poller,
            clock=clock,
            ledger=journal.status,
            broker_online=link.online.is_set,
            node_online=node.online.is_set if node else lambda: True,
            meter_poll_ms=site.runtime.meter_poll_ms,
            folder=site.ledger.dir,
            site_file=site.path,
            certificates=certificates_of(site),
        ),
    )
    book = DayBook()
    for index, entry in remembered:
        watch.take(index, entry)
        book.take(index, entry)
    book.begin(recorder.state)
    recorder.listeners.append(book.take)
    orders = Orders(scan=scan, alarms=watch, clock=clock, stale=_stale(site, poller))

    control = ControlSocket(
        path=path,
        orders=orders,
        access=site.access,
        questions={
            "status": lambda _: {
                "status": status_of(clock, journal, scan, poller, link, office, orders, watch)
                | {"trades": trades_around(book, clock.utc_us())}
            },
            "alarms": lambda _: {"alarms": watch.rows()},
            "limits": orders.limits,
            "entries": entries_of(journal),
        },
        mono_us=clock.mono_us,
    )

    def stop(user: str) -> Awaitable[object]:
        return orders.carry_out("stop", Person(user=user, roles=frozenset()), {})

    latch = StopLatch(path.with_name(STOPPED), stop=stop, clock=clock)
    return Operating(alarms=watch, control=control, orders=orders, latch=latch)


def status_of(
    clock: Clock,
    journal: LedgerJournal,
    scan: Scan,
    poller: StationPoller,
    link: MarketLink,
    office: MarketOffice,
    orders: Orders,
    watch: AlarmWatch,
) -> dict[str, Any]:
    """Write what `sopgw status` and `top` show, but for the trades."""
    return status_fields(
        scan,
        poller,
        journal.status(),
        orders,
        watch.rows(),
        utc_us=clock.utc_us(),
        broker_online=link.online.is_set(),
        answer_key=office.public_key,
        simulated=not isinstance(clock, SystemClock),
    )


def trades_around(book: DayBook, now_us: int) -> list[dict[str, Any]]:
    """Return the trades of the hours around now, newest last."""
    around = book.trades(now_us, around_us=AROUND_US)
    rows: list[dict[str, Any]] = msgspec.to_builtins(around[-TRADES_MAX:])
    return rows


def entries_of(journal: LedgerJournal) -> Callable[..., Awaitable[Mapping[str, Any]]]:
    """Answer with the newest entries; in a thread, one at a time: it reads and syncs files."""
    reading = asyncio.Lock()

    async def entries(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        async with reading:
            return {"entries": await asyncio.to_thread(_entries, journal, asked)}

    return entries


def _entries(journal: LedgerJournal, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the newest entries as lines for a list."""
    count = asked.get("count", ENTRIES_MAX)
    count = min(ENTRIES_MAX, count) if isinstance(count, int) and count > 0 else ENTRIES_MAX
    start = max(0, journal.status().size - count)
    return [
        {
            "index": index,
            "utc_us": entry["utc_us"],
            "kind": entry["kind"],
            "what": entry_words(entry),
        }
        for index, entry in journal.entries(start)
    ]


def _stale(site: SiteFile, poller: StationPoller) -> Callable[[Mapping[str, Any]], list[str]]:
    """Return what compares the state a plan was made in with the present one."""

    def compare(arguments: Mapping[str, Any]) -> list[str]:
        reasons = []
        sha256, state = arguments.get("site_sha256"), arguments.get("state")
        if sha256 is not None and sha256 != site.sha256:
            reasons.append("the gateway runs another site file")
        if isinstance(state, Mapping):
            if poller.last is None:
                return ["the station was not read yet"]
            reasons += stale_state(state, fingerprint(poller.last))
        return reasons

    return compare
