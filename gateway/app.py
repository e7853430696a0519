"""Composition root: names the concrete parts once, runs them in one task group, closes in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gateway.config.core_site import config_fields, core_site
from gateway.config.secret import read_secret
from gateway.config.site_file import Site as SiteFile
from gateway.config.site_file import SopConfig
from gateway.core.kept_mode import at_start
from gateway.core.state import Site, State
from gateway.devices.connect import Endpoints, open_converters, open_meter, open_station
from gateway.journal.anchoring import Anchoring, kept_here, known_outside, trust, vouched
from gateway.journal.keys import answer_key
from gateway.journal.ledger_journal import LedgerJournal
from gateway.journal.recovery import check_open_work, recover
from gateway.journal.snapshot import Indexed, Memory, Shelf, SnapshotKeeper
from gateway.market import dsse
from gateway.market.mqtt import Broker, MarketLink, broker_from
from gateway.market.node_link import NodeLink
from gateway.market.office import MarketOffice
from gateway.market.topics import Topics
from gateway.model.errors import ConfigError, JournalError
from gateway.model.reason import Reason, ReasonCode
from gateway.operating import Operating, operating
from gateway.ports import Clock, Meter, Station
from gateway.runtime.desk import TradeDesk
from gateway.runtime.dispatch import Dispatcher
from gateway.runtime.loop import Scan
from gateway.runtime.notice import ServiceNotice, this_process
from gateway.runtime.recorder import Recorder
from gateway.runtime.starts import FILE as STARTS
from gateway.runtime.starts import Starts
from gateway.runtime.surroundings import Surroundings
from gateway.runtime.telemetry import Heartbeat, MeterPoller, StationPoller

log = logging.getLogger(__name__)

CHECKPOINT_TOPIC_US = 10_000_000  # how often the newest checkpoint is published
RECEIPTS = "receipts"  # beside the ledger: those kept here bind it at the next start


class Stopped(Exception):  # noqa: N818 - a wish, not an error
    """Somebody asked the gateway to end."""


@dataclass(slots=True, kw_only=True)
class Parts:
    """Everything one SOP's gateway is made of."""

    clock: Clock
    journal: LedgerJournal
    anchoring: Anchoring
    recorder: Recorder
    station: Station
    meters: Mapping[str, Meter]
    link: MarketLink
    node: NodeLink | None
    office: MarketOffice
    poller: StationPoller
    scan: Scan
    starts: Starts
    heartbeat: Heartbeat
    meter_poller: MeterPoller
    people: Operating
    keeper: SnapshotKeeper


def station_of(
    site: SiteFile, config: SopConfig, core: Site, clock: Clock, endpoints: Endpoints
) -> Station:
    """Build the driver of a SOP's station, or of its converters; it connects when it is used."""
    if config.separate:
        found = {t: site.devices[name] for t, name in config.converters.items()}
        return open_converters(
            name=core.sop.id,
            devices={t: (d.name, d.profile, d.url, d.unit) for t, d in found.items()},
            terminals=core.sop.terminals,
            master=core.sop.master,
            clock=clock,
            owner=core.owner_id,
            endpoints=endpoints,
        )
    where = site.devices[config.station]
    return open_station(
        name=where.name,
        profile=where.profile,
        url=where.url,
        unit=where.unit,
        terminals=core.sop.terminals,
        clock=clock,
        owner=core.owner_id,
        endpoints=endpoints,
    )


def meters_of(site: SiteFile, core: Site, clock: Clock, endpoints: Endpoints) -> dict[str, Meter]:
    """Build the drivers of the settling meters, by terminal."""
    return {
        t.id: open_meter(
            name=t.meter,
            profile=site.devices[t.meter].profile,
            url=site.devices[t.meter].url,
            unit=site.devices[t.meter].unit,
            clock=clock,
            endpoints=endpoints,
        )
        for t in core.sop.terminals
    }


def market_of(site: SiteFile, core: Site) -> tuple[MarketLink, NodeLink | None, MarketOffice]:
    """Build the links to the broker and to an own node, and the office that judges and answers."""
    topics = Topics(site=site.id, sop=core.sop.id)
    link = MarketLink(
        broker=_broker(site),
        identifier=f"sopgw-{site.id}-{core.sop.id}",
        subscriptions=[topics.trades, *([topics.limits] if site.market.operators else [])],
        availability=topics.availability,
    )
    key = answer_key(site.ledger.answer_key_file, site.ledger.passphrase())
    where = site.market.node
    node = (
        NodeLink(url=where.url, party=where.party, key=key, inbox=link.inbox, papers=where.papers)
        if where
        else None
    )
    office = MarketOffice(
        link=link,
        topics=topics,
        site=site.id,
        sop=core.sop.id,
        signers={dsse.keyid(s.key): s.key for s in site.market.signers},
        required=site.market.required_count,
        key=key,
        node=node,
        operators={dsse.keyid(o.key): o.key for o in site.market.operators},
    )
    return link, node, office


def ledger_of(
    site: SiteFile, core: Site, clock: Clock, known: Iterable[bytes]
) -> tuple[LedgerJournal, Anchoring, Shelf]:
    """Open the ledger for writing, what anchors it, and the snapshots beside it.

    It is not opened when anybody knows a longer or a different one.
    """
    place, known = site.ledger, list(known)
    witnesses = [(w.url, w.vkey) for w in place.witnesses]
    journal = LedgerJournal.open(
        directory=place.dir,
        origin=place.origin,
        key_file=place.key_file,
        clock=clock,
        passphrase=place.passphrase(),
        known=[*known, *kept_here(place.dir, place.dir.parent / RECEIPTS)],
        vouched=vouched(place.dir, known, witnesses, place.policy_file),
    )
    policy = trust(journal.vkey, witnesses, place.policy_file)
    anchoring = Anchoring(
        place.dir,
        policy,
        every_s=place.checkpoint_every_s,
        size=lambda: journal.status().size,
        tls=place.tls,
    )
    journal.anchoring = anchoring
    return journal, anchoring, Shelf(place.dir, core)


def snapshots_of(
    shelf: Shelf, recorder: Recorder, clock: Clock, remembered: list[Indexed]
) -> SnapshotKeeper:
    """Keep snapshots of the state from now on, as far back as the one this start used."""
    memory = Memory(remembered)
    recorder.listeners.append(memory.take)
    return SnapshotKeeper(
        shelf=shelf,
        state=recorder.state,
        record=recorder.record,
        clock=clock,
        memory=memory,
        last_size=shelf.used_size,
    )


def assemble(site: SiteFile, config: SopConfig, clock: Clock, known: Iterable[bytes] = ()) -> Parts:
    """Open the ledger, recover from it and build everything; nothing is connected yet.

    ``known`` are checkpoints of this ledger that others have seen.
    """
    core = core_site(site, config)
    journal, anchoring, shelf = ledger_of(site, core, clock, known)
    state, remembered = recover(journal, core, shelf)
    check_open_work(state, remembered)
    recorder = Recorder(journal, state)
    endpoints = Endpoints(spares=True)  # devices behind one address share its connection
    station = station_of(site, config, core, clock, endpoints)
    meters = meters_of(site, core, clock, endpoints)
    link, node, office = market_of(site, core)
    poller = StationPoller(station=station, clock=clock, period_us=site.runtime.scan_ms * 1000)
    desk = desk_of(office, recorder, clock, remembered)
    if node is not None:
        node.recall((e for _, e in remembered), (r.sha256 for r in state.received.values()))
    scan = Scan(
        recorder=recorder,
        clock=clock,
        station=station,
        poller=poller,
        dispatcher=Dispatcher(station=station, recorder=recorder, site=core, clock=clock),
        desk=desk,
        market=office,
        period_us=site.runtime.scan_ms * 1000,
        watchdog_ds=config.heartbeat.device_timeout_ms // 100,
        on_loss=config.heartbeat.on_loss,
    )
    journal.time_quality = scan.time_quality
    starts = starts_of(site, scan, recorder, link, clock)
    heartbeat = Heartbeat(
        station=station,
        poller=poller,
        clock=clock,
        period_us=config.heartbeat.period_ms * 1000,
        alive=scan.beats,
    )
    people = operating(
        site,
        path=control_path(site),
        clock=clock,
        journal=journal,
        remembered=remembered,
        recorder=recorder,
        scan=scan,
        poller=poller,
        link=link,
        node=node,
        office=office,
    )
    return Parts(
        clock=clock,
        journal=journal,
        anchoring=anchoring,
        recorder=recorder,
        station=station,
        meters=meters,
        link=link,
        node=node,
        office=office,
        poller=poller,
        scan=scan,
        starts=starts,
        heartbeat=heartbeat,
        meter_poller=meter_poller_of(site, meters, recorder, clock),
        people=people,
        keeper=snapshots_of(shelf, recorder, clock, remembered),
    )


def desk_of(
    office: MarketOffice, recorder: Recorder, clock: Clock, remembered: list[Indexed]
) -> TradeDesk:
    """The desk with what it answered before."""
    desk = TradeDesk(market=office, recorder=recorder, clock=clock)
    for index, entry in remembered:
        desk.remember(index, entry)
    return desk


def starts_of(
    site: SiteFile, scan: Scan, recorder: Recorder, link: MarketLink, clock: Clock
) -> Starts:
    """Count this start, and let the scan see what is around it: disk, peers, earlier crashes."""
    path = control_path(site).with_name(STARTS)
    starts = Starts(path, most=site.runtime.restarts_count_max, clock=clock)
    recorder.listeners.append(starts.take)
    scan.around = Surroundings(
        clock=clock,
        folder=site.ledger.dir,
        peers_seen=lambda: link.connection_seq > 0,
        at_rest=lambda: not any(scan.state.held.values()),
        others=starts.reasons,
    )
    return starts


def meter_poller_of(
    site: SiteFile, meters: Mapping[str, Meter], recorder: Recorder, clock: Clock
) -> MeterPoller:
    """Build what reads the meters; the boundaries of open plans are read close by."""
    plans = recorder.state.plans
    return MeterPoller(
        meters=meters,
        recorder=recorder,
        clock=clock,
        period_us=site.runtime.meter_poll_ms * 1000,
        boundaries=lambda: [(p.interval.start_ms, p.interval.end_ms) for p in plans.values()],
    )


def _broker(site: SiteFile) -> Broker:
    password = None
    if site.market.password_file is not None:
        password = read_secret(site.market.password_file)
    return broker_from(
        site.market.broker,
        username=site.market.username,
        password=password,
        ca_file=site.market.ca_file,
        certificate=site.market.certificate,
        key_file=site.market.client_key_file,
    )


def control_path(site: SiteFile) -> Path:
    """Where the running gateway of this site listens for orders."""
    return site.ledger.dir.parent / "sopgw.sock"


async def run(
    site: SiteFile,
    *,
    sop_id: str | None,
    clock: Clock,
    mode: str | None,
    beside: Callable[[Parts], AbstractAsyncContextManager[None]] | None = None,
) -> None:
    """Run one SOP's gateway until it is asked to stop or something fatal happens.

    ``mode`` is what somebody asked for at this start; None: the site file's, or the one that a
    person set before a crash. ``beside`` is open while the gateway runs; it takes no part.

    Raises:
        ConfigError: the site has several SOPs and none was named, or the ledger has open work of
            another site, SOP or region.
        JournalError: the ledger cannot be trusted or written; the station was sent to zero.
    """
    if sop_id is None and len(site.sops) > 1:
        raise ConfigError(f"name one of the SOPs with --sop: {[s.sop.id for s in site.sops]}")
    config = site.sop(sop_id) if sop_id else site.sops[0]
    witnesses = [(w.url, w.vkey) for w in site.ledger.witnesses]
    known = await known_outside(
        site.ledger.origin, witnesses, site.ledger.policy_file, site.ledger.tls
    )
    parts = assemble(site, config, clock, known)
    parts.starts.began()
    state = parts.recorder.state
    kept = at_start(state.mode_kept, site.mode)
    if mode is None and kept != site.mode:
        log.warning("mode %s instead of %s: a person set it before the crash", kept, site.mode)
    why = Reason(code=ReasonCode.OPERATOR, detail="asked to stop")
    try:
        await parts.scan.start(
            boot_fields=boot_fields(state),
            config={
                "mode": mode or kept,
                "sha256": site.sha256,
                "config": config_fields(site, state.site, parts.office.public_key),
            },
        )
        await parts.people.latch.take()  # before anything is commanded
        async with beside(parts) if beside else nullcontext():
            await _run_parts(parts)
        parts.starts.ended()
    except Exception as error:
        failed = next((e for e in _each(error) if isinstance(e, JournalError)), None)
        if failed is None:
            ended = f"ended by {type(next(_each(error))).__name__}"
            why = Reason(code=ReasonCode.GATEWAY_RESTART, detail=ended)
            raise
        why = Reason(code=ReasonCode.LEDGER, detail="the ledger failed")
        if failed is error:
            raise
        raise failed from None
    finally:
        await _close(parts, why)


def _each(error: BaseException) -> Iterator[BaseException]:
    """Give what ended a task, however deep the groups around it are."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _each(one)
    else:
        yield error


def boot_fields(state: State) -> dict[str, Any]:
    """Write the ``boot`` entry of this start."""
    return {
        "version": version("sop-gateway"),
        "site": state.site.site,
        "sop": state.site.sop.id,
        "previous_boot_index": state.previous_boot_index,
        "clean": state.clean,
    }


async def _run_parts(parts: Parts) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(parts.link.run(), name="market")
            if parts.node is not None:
                group.create_task(parts.node.run(), name="node")
            group.create_task(parts.poller.run(), name="station")
            group.create_task(parts.heartbeat.run(), name="heartbeat")
            group.create_task(parts.meter_poller.run(), name="meters")
            group.create_task(parts.scan.run(), name="scan")
            group.create_task(parts.people.control.run(), name="control")
            group.create_task(parts.people.latch.run(), name="latch")
            group.create_task(parts.people.alarms.run(), name="alarms")
            group.create_task(_publish_checkpoints(parts), name="checkpoints")
            group.create_task(parts.anchoring.run(), name="anchoring")
            group.create_task(parts.keeper.run(), name="snapshots")
            group.create_task(_notice(parts).run(), name="notice")
            group.create_task(_end_when(stopping), name="stop")
    except* Stopped:
        log.info("stopping")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _end_when(asked: asyncio.Event) -> None:
    """Bring the task group down once somebody asks for it."""
    await asked.wait()
    raise Stopped


def _notice(parts: Parts) -> ServiceNotice:
    """Build what tells the service manager that scans end."""
    notice = ServiceNotice(
        manager=this_process(),
        clock=parts.clock,
        state=lambda: parts.scan.state,
        scans_count=lambda: parts.scan.scans_count,
        lent=parts.people.orders.lent,
    )
    parts.recorder.listeners.append(notice.take)
    return notice


async def _publish_checkpoints(parts: Parts) -> None:
    told = ""
    while True:
        status = parts.journal.status()
        if status.checkpoint != told:
            told = status.checkpoint
            await parts.office.tell("checkpoint", {"checkpoint": told, "anchored": status.anchored})
        await parts.clock.sleep_until(parts.clock.mono_us() + CHECKPOINT_TOPIC_US)


async def _close(parts: Parts, why: Reason) -> None:
    """Leave the station at zero, say goodbye in the ledger, then close it."""
    try:
        await parts.scan.safe_stop(why)
        if why.code is not ReasonCode.LEDGER:
            mode = parts.recorder.state.mode
            await parts.recorder.record("mode", mode=mode, state="OFF", reasons=[why.fields()])
    finally:
        await parts.recorder.settled()
        await parts.station.close()
        for meter in parts.meters.values():
            await meter.close()
        await parts.journal.close()
