"""``sopgw demo``: a simulated site from trade to proof, in about a minute and a half."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import ExitCode, Finding, command, current, emit, say

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.runtime.clock import BenchClock

REAL_START_S = 5  # real time in which the processes usually are up and the trades are in
GATE_MS = 210_000  # trades are sent at least this long before the first interval
SETTLED_MS = 90_000  # after the last interval: its delivery report is out by then


def speed_factor(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    """Read ``60x`` or ``60``."""
    text = value.removesuffix("x").removesuffix("×")
    if not text.isdigit() or not 1 <= int(text) <= 600:
        raise click.BadParameter(f"{value!r}: write 60x, between 1x and 600x")
    return int(text)


@command(
    "demo",
    schema="demo",
    examples=(
        ("sopgw demo", "everything simulated, nothing left behind"),
        ("sopgw demo --keep out", "keep ledger, receipts and report in out/"),
        ("sopgw demo --market", "four regions agree on four nodes first, on the 33-bus feeder"),
    ),
)
@click.option(
    "--speed",
    default="60x",
    show_default=True,
    callback=speed_factor,
    help="Simulated over real time.",
)
@click.option("--seed", default=7, show_default=True, help="Seed of the simulated devices.")
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Leave the results here."
)
@click.option("--headless", is_flag=True, help="No progress bar.")
@click.option("--embedded-broker", is_flag=True, help="Do not use an installed Mosquitto.")
@click.option("--market", is_flag=True, help="From the regions' data to the money that moved.")
def demo(
    speed: int,
    seed: int,
    keep: Path | None,
    headless: bool,  # noqa: FBT001
    embedded_broker: bool,  # noqa: FBT001
    market: bool,  # noqa: FBT001
) -> None:
    """Simulated site, trades, delivery, verified ledger.

    Everything is simulated: no device is touched and nothing listens when it is over.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.UsageError(f"{keep} is not empty; name a new directory")
    with tempfile.TemporaryDirectory(prefix="sopgw-demo-") as scratch:
        folder = Path(scratch)
        out = keep or folder / "out"
        out.mkdir(parents=True, exist_ok=True)
        say(f"SOP gateway demo · everything below is simulated · seed {seed} · {speed}× speed")
        if market:
            from gateway.cli import demo_market

            report = asyncio.run(
                demo_market.play(folder, out, seed=seed, speed=speed, embedded=embedded_broker)
            )
            text = demo_market.conclude(report, kept=keep)
        else:
            report = asyncio.run(
                play(
                    folder, out, seed=seed, speed=speed, bar=not headless, embedded=embedded_broker
                )
            )
            text = conclude(report, out, kept=keep)
    found = report.pop("problems")
    emit(
        report,
        text=text,
        exit_code=ExitCode.OK if report["ok"] else ExitCode.FAILED,
        findings=[Finding(code="X001", message=what) for what in found],
    )


async def play(
    folder: Path, out: Path, *, seed: int, speed: int, bar: bool, embedded: bool
) -> dict[str, Any]:
    """Run the story and return the report with what did not come out."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.cli import demo_bench as bench
    from gateway.cli import demo_story as story
    from gateway.runtime.clock import BenchClock, SystemClock

    quarter_us = story.QUARTER_MS * 1000
    soon_us = (SystemClock().utc_us() // quarter_us + 2) * quarter_us
    begin_us = soon_us - GATE_MS * 1000 - REAL_START_S * 1_000_000 * speed
    clock = BenchClock.start(utc_epoch_us=begin_us, factor=speed)
    clock.save(folder / "timebase.json")
    key = Ed25519PrivateKey.generate()
    async with contextlib.AsyncExitStack() as machines:
        broker_port, broker_name = await machines.enter_async_context(
            bench.broker(folder, embedded=embedded)
        )
        await publish_retained(broker_port, key, soon_us // 1000, clock)
        station, meters = await machines.enter_async_context(
            bench.simulated_devices(folder, seed=seed)
        )
        ports = bench.Ports(station_port=station, meter_ports=meters, broker_port=broker_port)
        site = out / "site.yaml"
        site.write_text(bench.site_text(ports, key.public_key().public_bytes_raw()), "utf-8")
        await machines.enter_async_context(bench.gateway(site, folder))
        say(
            f"Started   SOP-1 (Modbus TCP :{station})   meters :{meters[0]}–{meters[-1]}   "
            f"{broker_name} :{broker_port}"
        )
        # A slow start moves the story to the next quarter of an hour.
        ready_us = clock.utc_us() + GATE_MS * 1000
        first_ms = -(-ready_us // quarter_us) * story.QUARTER_MS
        await tell_story(clock, folder, out, broker_port, key, first_ms, bar=bar)
    return report_of(folder, out, clock, seed=seed)


async def tell_story(
    clock: BenchClock,
    folder: Path,
    out: Path,
    broker_port: int,
    key: Ed25519PrivateKey,
    first_ms: int,
    *,
    bar: bool,
) -> None:
    """Send the trades, cut the link, send the operator, wait for the last delivery."""
    from gateway.cli import demo_bench as bench
    from gateway.cli import demo_story as story
    from gateway.runtime.control import ask

    for deal in story.DEALS:
        await send(broker_port, envelope(deal, key, first_ms, clock))
    duplicate = next(d for d in story.DEALS if d.id == story.DUPLICATE)
    await send(broker_port, envelope(duplicate, key, first_ms, clock))
    spans = story.intervals(first_ms)
    cut_ms = spans[3].start_ms + story.LINK_LOST_AFTER_MS
    end_ms = spans[-1].end_ms
    moments = [
        cut_ms,
        spans[3].start_ms + story.ARM_AFTER_MS + story.LINK_LOST_S * 1000 // 2,
        end_ms,
    ]
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(watch(clock, first_ms, end_ms, bar=bar))
        await bench.started_in(clock, moments[0])
        order = {"inject": "link_cut", "for_s": story.LINK_LOST_S, "target": "station"}
        await bench.inject(folder, order)
        await bench.started_in(clock, moments[1])
        await rearm(clock, out / "sopgw.sock", spans[3].end_ms)
        await bench.started_in(clock, end_ms)
        while clock.utc_us() < (end_ms + SETTLED_MS) * 1000:
            answer = await ask(out / "sopgw.sock", {"verb": "status"})
            if answer["status"]["high_water_ms"] >= end_ms:
                break
            await clock.sleep_until(clock.mono_us() + 5_000_000)
        watcher.cancel()


async def rearm(clock: BenchClock, socket: Path, before_ms: int) -> None:
    """The demo's operator: sees that the device went to zero by itself, and arms the site again."""
    from gateway.runtime.control import ask

    while clock.utc_us() < before_ms * 1000:
        status = (await ask(socket, {"verb": "status"}))["status"]
        reachable = not any(r.startswith("link_lost") for r in status["reasons"])
        if not status["armed"] and reachable:
            await ask(socket, {"verb": "arm"})
            return
        await clock.sleep_until(clock.mono_us() + 2_000_000)


def envelope(deal: Any, key: Ed25519PrivateKey, first_ms: int, clock: BenchClock) -> bytes:
    """Sign a deal the way the market does."""
    from gateway.cli.demo_story import trade_of
    from gateway.market import dsse, schedule_writer

    body = schedule_writer.write(
        trade_of(deal, first_ms), site="demo", created_utc_ms=clock.utc_us() // 1000
    )
    return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body, [key])


async def send(broker_port: int, payload: bytes) -> None:
    """Send one message and wait for its signed answer."""
    from gateway.market.mqtt import broker_from
    from gateway.market.submission import submit
    from gateway.market.topics import Topics

    await submit(
        payload,
        broker=broker_from(f"mqtt://127.0.0.1:{broker_port}"),
        topics=Topics(site="demo", sop="SOP-1"),
        wait_s=5.0,
        gateway_key=None,
    )


async def publish_retained(
    broker_port: int, key: Ed25519PrivateKey, first_ms: int, clock: BenchClock
) -> None:
    """Leave a stored message with the broker before the gateway comes: it must be refused."""
    import aiomqtt

    from gateway.cli.demo_story import RETAINED
    from gateway.market.topics import Topics

    async with aiomqtt.Client("127.0.0.1", broker_port) as client:
        topic = Topics(site="demo", sop="SOP-1").trades
        await client.publish(topic, envelope(RETAINED, key, first_ms, clock), qos=1, retain=True)


async def watch(clock: BenchClock, first_ms: int, end_ms: int, *, bar: bool) -> None:
    """Show how far the day is."""
    with progress(bar=bar) as update:
        while True:
            done_ms = clock.utc_us() // 1000 - first_ms
            update(max(0.0, min(1.0, done_ms / (end_ms - first_ms))))
            await clock.sleep_until(clock.mono_us() + clock.at_least(200_000))


@contextlib.contextmanager
def progress(*, bar: bool) -> Iterator[Any]:
    """Yield a function of the fraction done; a bar on a terminal, nothing elsewhere."""
    import sys

    if not bar or not sys.stderr.isatty() or current().json or current().quiet:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("Trading  "),
        BarColumn(60),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("day", total=1.0)
        yield lambda fraction: shown.update(task, completed=fraction)


def report_of(folder: Path, out: Path, clock: BenchClock, *, seed: int) -> dict[str, Any]:
    """Read everything back from disk and judge it."""
    from gateway.cli import demo_outcome as outcome
    from gateway.cli import demo_story as story
    from gateway.journal.ledger_journal import LedgerJournal, canonical_leaf, key_of

    ledger = out / "ledger"
    (out / "ledger.vkey").write_text(key_of(out / "ledger.key", "demo.example/SOP-1") + "\n")
    entries = outcome.read_ledger(ledger)
    rows = outcome.trade_rows(entries)
    receipts = out / "receipts"
    receipts.mkdir()
    for trade_id in sorted({row["id"] for row in rows if "id" in row}):
        receipt = LedgerJournal.receipt_of(ledger, trade_id)
        (receipts / f"{trade_id}.json").write_text(json.dumps(receipt) + "\n", "utf-8")
    code, _ = outcome.run_sopledger("verify", str(ledger), "--key", str(out / "ledger.vkey"))
    victim = next(e for e in entries if e["kind"] == "outcome" and e["index"] > len(entries) // 2)
    fields = {k: v for k, v in victim.items() if k != "index"}
    tampered, where = outcome.tamper(
        ledger, folder / "tampered", out / "ledger.vkey", canonical_leaf(fields)
    )
    truth = outcome.truth_rows(folder / "truth.csv", clock.utc_epoch_us)
    found = outcome.problems(
        rows, verified=code == 0, tamper=where if tampered == ExitCode.TAMPERED else None
    )
    report: dict[str, Any] = {
        "schema": "sopgw/v1/demo",
        "ok": not found,
        "seed": seed,
        "trades": rows,
        "ledger": {
            "entries": len(entries),
            "checkpoint_size": len(entries),
            "verified": code == 0,
        },
        "energy_balance_wh": outcome.energy_balance_wh(entries, truth),
        "faults": [
            {"fault": "link_cut", "for_s": story.LINK_LOST_S, "trade": story.CUT},
            {"fault": "duplicate", "trade": story.DUPLICATE},
            {"fault": "retained", "trade": story.RETAINED.id},
            {"fault": "tampered_copy", "entry": victim["index"], "found": where},
        ],
    }
    _write(out, report, entries, truth)
    for log in ("gateway.log", "sopsim.log"):
        if found and (folder / log).exists():
            shutil.copy(folder / log, out / log)
    return report | {"problems": found}


def _write(out: Path, report: dict[str, Any], entries: Any, truth: Any) -> None:
    from gateway.hmi import delivery_report

    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    (out / "report.html").write_text(delivery_report.render(report, entries, truth), "utf-8")


def conclude(report: dict[str, Any], out: Path, *, kept: Path | None) -> str:
    """Write what the demo prints at its end, 100 columns wide at most."""
    from gateway.cli import demo_outcome as outcome
    from gateway.cli import demo_report

    entries = outcome.read_ledger(out / "ledger")
    cut = next(f for f in report["faults"] if f["fault"] == "tampered_copy")
    ledger = report["ledger"]
    verdict = "no errors were found" if ledger["verified"] else "DOES NOT VERIFY"
    lines = [
        "Trades",
        demo_report.table(report),
        demo_report.braille_plot(entries, "T4"),
        f"Ledger    {ledger['entries']} entries, checkpoint {ledger['checkpoint_size']}, {verdict}",
        f"Tamper    one byte of entry {cut['entry']} changed in a copy, found at:",
        f"          {cut['found'][:88]}",
        f"Balance   all meters and losses together: {report['energy_balance_wh']} Wh",
    ]
    if kept is not None:
        lines.append(f"Report    {kept / 'report.html'}   receipts in {kept / 'receipts'}")
        lines.append(f"Next      sopledger verify {kept / 'ledger'} --key {kept / 'ledger.vkey'}")
    lines += [f"✗ {what}" for what in report["problems"]]
    return "\n".join(lines)
