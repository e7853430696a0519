"""``sopgw trade rehearse``: trades on a simulated bench, each held to the outcome it must have."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.output import ExitCode, Finding, emit, say
from gateway.model.units import kwh_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.model.trade import Trade
    from gateway.runtime.clock import BenchClock

WRONGS: Mapping[str, str] = {
    "cut": "link_lost",
    "duplicate": "duplicate",
    "late": "late",
    "retained": "retained",
}
"""What can go wrong, and the reason the gateway must give for it."""
WINDOW_MS = 300_000
POWER_STEP_W = 12  # of which five minutes are whole Wh
GATE_MS = 150_000  # trades are sent at least this long before their interval; the site's is 2 min
REAL_START_S = 6  # real time in which the processes usually are up
CUT_AFTER_MS, CUT_S = 120_000, 60
ARM_AFTER_MS = 30_000  # the operator comes so long after the link is back
SETTLED_MS = 120_000
OUT, INTO = "T2", "T3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to rehearse."""

    count: int
    p_w: int
    wrongs: tuple[str, ...]
    speed_factor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One trade of the rehearsal: its interval after the start, and what must come of it."""

    id: str
    kind: str  # good, or one of WRONGS
    window_index: int
    of: str = ""  # id of the trade that is repeated


def cases_of(order: Order) -> list[Case]:
    """Return the cases, one interval after the other."""
    good = [Case(id=f"R-{k + 1:03d}", kind="good", window_index=k) for k in range(order.count)]
    found = list(good)
    for wrong in order.wrongs:
        number = len(found) + 1
        if wrong == "duplicate":
            found.append(Case(id="R-001", kind=wrong, window_index=0, of="R-001"))
        elif wrong == "cut":
            found.append(Case(id=f"R-{number:03d}", kind=wrong, window_index=order.count))
        else:
            found.append(Case(id=f"R-{number:03d}", kind=wrong, window_index=0))
    return found


def play(order: Order, keep: Path | None) -> None:
    """Run the rehearsal and end the command with what came of each case."""
    with tempfile.TemporaryDirectory(prefix="sopgw-rehearse-") as scratch:
        folder = Path(scratch)
        out = keep or folder / "out"
        out.mkdir(parents=True, exist_ok=True)
        say(f"Rehearsal on a simulated bench, {order.speed_factor}× speed: no device is touched")
        rows = asyncio.run(_play(folder, out, order))
        verified = _verified(out)
    wrong = [row for row in rows if not row["ok"]]
    findings = [
        Finding(
            code="T110",
            message=f"{row['id']} {row['case']}: {row['outcome']}, expected {row['expected']}",
            help=f"sopgw trade explain {row['id']} --ledger DIR/ledger with --keep DIR",
        )
        for row in wrong
    ]
    if not verified:
        findings.append(Finding(code="T111", message="the ledger does not verify"))
    emit(
        {"trades": rows, "ledger_verified": verified},
        text=lambda: table(rows, verified=verified),
        exit_code=ExitCode.FAILED if findings else ExitCode.OK,
        findings=findings,
    )


async def _play(folder: Path, out: Path, order: Order) -> list[dict[str, Any]]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.cli import demo_bench as bench
    from gateway.runtime.clock import BenchClock, SystemClock

    begin_us = SystemClock().utc_us()
    clock = BenchClock.start(utc_epoch_us=begin_us, factor=order.speed_factor)
    clock.save(folder / "timebase.json")
    key = Ed25519PrivateKey.generate()
    cases = cases_of(order)
    first_ms = _first_ms(clock, REAL_START_S * 1000 * order.speed_factor)
    async with contextlib.AsyncExitStack() as machines:
        broker_port, _ = await machines.enter_async_context(bench.broker(folder))
        for case in cases:
            if case.kind == "retained":
                await _publish_retained(broker_port, _signed(case, order, first_ms, clock, key))
        station, meters = await machines.enter_async_context(
            bench.simulated_devices(folder, seed=1)
        )
        ports = bench.Ports(station_port=station, meter_ports=meters, broker_port=broker_port)
        site = out / "site.yaml"
        site.write_text(bench.site_text(ports, key.public_key().public_bytes_raw()), "utf-8")
        await machines.enter_async_context(bench.gateway(site, folder))
        first_ms = _first_ms(clock, 0)  # a slow start moves the trades, not their gate
        await _send(broker_port, cases, order, first_ms, clock, key)
        await _follow(folder, out, clock, cases, first_ms)
    return judge(_entries(out), cases)


def _first_ms(clock: BenchClock, start_ms: int) -> int:
    """Return the first whole interval whose gate is still open when everything is up."""
    ready_ms = clock.utc_us() // 1000 + start_ms + GATE_MS
    return -(-ready_ms // WINDOW_MS) * WINDOW_MS


def trade_of(case: Case, order: Order, first_ms: int) -> Trade:
    """Write a case as a settled trade; the late one is for an interval whose gate is closed."""
    from gateway.cli.demo_bench import REGIONS
    from gateway.model.interval import Interval
    from gateway.model.trade import Position, Trade

    start_ms = first_ms + case.window_index * WINDOW_MS
    if case.kind == "late":
        start_ms = first_ms
    interval = Interval(start_ms, start_ms + WINDOW_MS)
    energy_wh = order.p_w * WINDOW_MS // 3_600_000
    return Trade(
        id=case.id,
        revision_number=1,
        sop="SOP-1",
        out_domain=REGIONS[OUT],
        in_domain=REGIONS[INTO],
        positions=(Position(interval=interval, p_w=order.p_w, energy_wh=energy_wh),),
    )


def _signed(
    case: Case, order: Order, first_ms: int, clock: BenchClock, key: Ed25519PrivateKey
) -> bytes:
    from gateway.market import dsse, schedule_writer

    trade = trade_of(case, order, first_ms)
    body = schedule_writer.write(trade, site="demo", created_utc_ms=clock.utc_us() // 1000)
    return dsse.sign(dsse.PAYLOAD_TYPE_SCHEDULE, body, [key])


async def _publish_retained(broker_port: int, payload: bytes) -> None:
    """Leave a stored message with the broker before the gateway comes."""
    import aiomqtt

    from gateway.market.topics import Topics

    async with aiomqtt.Client("127.0.0.1", broker_port) as client:
        topic = Topics(site="demo", sop="SOP-1").trades
        await client.publish(topic, payload, qos=1, retain=True)


async def _send(
    broker_port: int,
    cases: Sequence[Case],
    order: Order,
    first_ms: int,
    clock: BenchClock,
    key: Ed25519PrivateKey,
) -> None:
    """Send what comes in time, then the repetition, then what is too late."""
    from gateway.cli.demo import send
    from gateway.cli.demo_bench import started_in

    for kind in ("good", "cut", "duplicate"):
        for case in cases:
            if case.kind == kind:
                await send(broker_port, _signed(case, order, first_ms, clock, key))
    for case in cases:
        if case.kind == "late":
            await started_in(clock, first_ms - 60_000)  # inside the gate of two minutes
            await send(broker_port, _signed(case, order, first_ms, clock, key))


async def _follow(
    folder: Path, out: Path, clock: BenchClock, cases: Sequence[Case], first_ms: int
) -> None:
    """Cut the link where that is rehearsed, arm again, wait for the last delivery."""
    from gateway.cli import demo_bench as bench
    from gateway.cli.demo import rearm
    from gateway.runtime.control import ask

    last = max(c.window_index for c in cases)
    end_ms = first_ms + (last + 1) * WINDOW_MS
    cut = next((c for c in cases if c.kind == "cut"), None)
    if cut is not None:
        cut_ms = first_ms + cut.window_index * WINDOW_MS + CUT_AFTER_MS
        await bench.started_in(clock, cut_ms)
        order = {"inject": "link_cut", "for_s": CUT_S, "target": "station"}
        await bench.inject(folder, order)
        await bench.started_in(clock, cut_ms + CUT_S * 1000 + ARM_AFTER_MS)
        await rearm(clock, out / "sopgw.sock", end_ms)
    await bench.started_in(clock, end_ms)
    while clock.utc_us() < (end_ms + SETTLED_MS) * 1000:
        answer = await ask(out / "sopgw.sock", {"verb": "status"})
        if answer["status"]["high_water_ms"] >= end_ms:
            return
        await clock.sleep_until(clock.mono_us() + 5_000_000)


def _entries(out: Path) -> list[tuple[int, dict[str, Any]]]:
    from gateway.journal.ledger_journal import read_entries

    return list(read_entries(out / "ledger"))


def judge(
    entries: Sequence[tuple[int, Mapping[str, Any]]], cases: Sequence[Case]
) -> list[dict[str, Any]]:
    """Hold each case against what the ledger says of it."""
    return [_row(case, entries) for case in cases]


def _row(case: Case, entries: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": case.id, "case": case.kind, "contracted_wh": None, "delivered_wh": None,
        "outcome": "nothing", "reasons": [], "entry": None,
    }  # fmt: skip
    refusal = case.kind in ("duplicate", "late", "retained")
    for index, entry in entries:
        if refusal and entry["kind"] == "trade.refused" and entry["trade_id"] == case.id:
            codes = [r["code"] for r in entry["reasons"]]
            row |= {"outcome": "refused", "reasons": codes, "entry": index}
        elif not refusal and entry["kind"] == "delivery":
            mine = next((t for t in entry["trades"] if t["trade_id"] == case.id), None)
            if mine is not None:
                row |= {k: mine[k] for k in ("contracted_wh", "delivered_wh", "reasons")}
                row |= {"outcome": mine["status"], "entry": index}
    row["expected"] = "delivered" if case.kind == "good" else expected(case.kind)
    row["ok"] = holds(case.kind, row["outcome"], row["reasons"])
    return row


def expected(kind: str) -> str:
    """Say in words what must come of a wrong one."""
    return "partial: link_lost" if kind == "cut" else f"refused: {WRONGS[kind]}"


def holds(kind: str, outcome: str, reasons: Sequence[str]) -> bool:
    """Tell whether an outcome is the one a case must have."""
    if kind == "good":
        return outcome == "delivered"
    wanted = "partial" if kind == "cut" else "refused"
    return outcome == wanted and WRONGS[kind] in reasons


def _verified(out: Path) -> bool:
    from gateway.cli.demo_outcome import run_sopledger
    from gateway.journal.ledger_journal import key_of

    vkey = out / "ledger.vkey"
    vkey.write_text(key_of(out / "ledger.key", "demo.example/SOP-1") + "\n")
    code, _ = run_sopledger("verify", str(out / "ledger"), "--key", str(vkey))
    return code == 0


def table(rows: Sequence[Mapping[str, Any]], *, verified: bool) -> str:
    """Write the rehearsal for people."""
    lines = [f"  {'trade':<7} {'case':<10} {'contracted':>11} {'delivered':>11}  outcome"]
    for row in rows:
        energies = [
            "–" if row[k] is None else kwh_text(row[k]) for k in ("contracted_wh", "delivered_wh")
        ]
        reasons = f": {', '.join(row['reasons'])}" if row["reasons"] else ""
        mark = "✓" if row["ok"] else f"✗ expected {row['expected']}"
        place = "" if row["entry"] is None else f"  #{row['entry']}"
        lines.append(
            f"  {row['id']:<7} {row['case']:<10} {energies[0]:>11} {energies[1]:>11}  "
            f"{row['outcome']}{reasons}{place} {mark}"
        )
    good = sum(row["ok"] for row in rows)
    verdict = "no errors were found" if verified else "DOES NOT VERIFY"
    mark = "✓" if good == len(rows) and verified else "✗"
    lines.append(f"{mark} {good} of {len(rows)} as expected.   Ledger: {verdict}")
    return "\n".join(lines)
