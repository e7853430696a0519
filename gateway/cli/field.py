"""What commands on real devices share: the site's equipment, consent before power, the answer.

Imported inside commands only: it brings the drivers with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from gateway.cli.borrow import BorrowedJournal, Refusal
from gateway.cli.door import door_of
from gateway.cli.output import CommandFailed, ExitCode, Finding, current, emit, fail
from gateway.cli.person import Terminal
from gateway.cli.running import refused
from gateway.commissioning.equipment import DeviceSpec, Equipment, Rack
from gateway.commissioning.finding import Verdict
from gateway.commissioning.plan import (
    HardwarePlan,
    Level,
    PlanGone,
    PlanStore,
    boot_id,
    fingerprint,
    stale,
)
from gateway.commissioning.sat.record import CheckOutcome
from gateway.config.site_file import DeviceConfig, Site, load_site
from gateway.journal.ledger_journal import LedgerJournal
from gateway.model.errors import JournalError
from gateway.model.terminal import Terminal as SopTerminal
from gateway.ports import Clock
from gateway.runtime.clock import BenchClock, SystemClock
from gateway.runtime.latch import FILE as STOPPED

TIMEBASE = "SOPGW_TIMEBASE"  # simulated time of a bench; never set on a plant
READ_ONLY = "SOPGW_READONLY"
EXIT = {
    Verdict.OK: ExitCode.OK,
    Verdict.FAULT: ExitCode.FAILED,
    Verdict.UNDECIDED: ExitCode.UNDECIDED,
}


@dataclass(slots=True, kw_only=True)
class Field:
    """A site whose devices are within reach."""

    site: Site
    equipment: Equipment
    rack: Rack
    clock: Clock
    person: Terminal
    journal: LedgerJournal | BorrowedJournal | None = None

    @property
    def plans(self) -> PlanStore:
        """Return the plans kept beside the ledger; their two minutes are real ones."""
        real = SystemClock()
        return PlanStore(
            state_folder(self.site) / "plans", mono_us=real.mono_us, utc_us=real.utc_us
        )


def state_folder(site: Site) -> Path:
    """Return where plans and acceptance runs are kept: beside the ledger."""
    return site.ledger.dir.parent


def sat_folder(site: Site) -> Path:
    """Return the folder of all acceptance runs of a site."""
    return state_folder(site) / "sat"


def user() -> str:
    """Return who types."""
    with contextlib.suppress(OSError, KeyError):
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return f"uid:{os.getuid()}"


def equipment_of(site: Site, sop_id: str | None) -> Equipment:
    """Return the devices of one SOP."""
    if sop_id is None and len(site.sops) > 1:
        names = ", ".join(s.sop.id for s in site.sops)
        fail(ExitCode.USAGE, f"the site has several SOPs: {names}", code="E002", help="--sop NAME")
    config = site.sops[0] if sop_id is None else _named_sop(site, sop_id)
    converters = {t: _spec(site.devices[name]) for t, name in config.converters.items()}
    sop = config.rated
    if converters:
        station = replace(converters[sop.master], name=sop.id)
        sop = replace(sop, terminals=tuple(_in_whole_percents(t) for t in sop.terminals))
    else:
        station = _spec(site.devices[config.station])
    return Equipment(
        site=site.id,
        sop=sop,
        station=station,
        converters=converters,
        meters={t.meter: _spec(site.devices[t.meter]) for t in config.rated.terminals},
        heartbeat_ms=config.heartbeat.period_ms,
        device_timeout_ms=config.heartbeat.device_timeout_ms,
        on_loss=config.heartbeat.on_loss,
        v_nominal_v=_nominal_v(config.sop.terminals[0].v_dv_min, config.sop.terminals[0].v_dv_max),
    )


def _named_sop(site: Site, sop_id: str) -> Any:
    try:
        return site.sop(sop_id)
    except KeyError:
        names = ", ".join(s.sop.id for s in site.sops)
        fail(ExitCode.USAGE, f"no SOP {sop_id}", code="E002", help=f"one of {names}")


def _nominal_v(low_dv: int, high_dv: int) -> float:
    """Return the middle of the guard's voltage limits, which is the nominal voltage."""
    return (low_dv + high_dv) / 20


def _in_whole_percents(terminal: SopTerminal) -> SopTerminal:
    """Return a terminal with the ramp that a converter of its own can be told."""
    percent = terminal.ramp_w_per_s * 100 // terminal.s_va
    return replace(terminal, ramp_w_per_s=percent * terminal.s_va // 100)


def _spec(config: DeviceConfig) -> DeviceSpec:
    return DeviceSpec(name=config.name, profile=config.profile, url=config.url, unit=config.unit)


def clock_of() -> Clock:
    """Return the machine's clock, or a bench's where its time base is named."""
    path = os.environ.get(TIMEBASE)
    return BenchClock.load(Path(path)) if path else SystemClock()


@contextlib.asynccontextmanager
async def opened(config_path: Path, sop_id: str | None) -> AsyncIterator[Field]:
    """Open the lines to a site's devices; closes them and the ledger at the end."""
    site = load_site(config_path)
    clock = clock_of()
    equipment = equipment_of(site, sop_id)
    field = Field(
        site=site, equipment=equipment, rack=Rack(equipment, clock), clock=clock, person=Terminal()
    )
    field.rack.stopped = lambda: "; ".join(stop_left(site))
    try:
        yield field
    finally:
        await field.rack.close()
        if field.journal is not None:
            await field.journal.close()


def known_device(field: Field, name: str) -> str:
    """Return the name if there is such a device; exit 2 otherwise."""
    names = [field.equipment.station.name, *field.equipment.meters]
    if name not in names:
        fail(
            ExitCode.USAGE,
            f"no device “{name}”",
            code="E002",
            help=f"one of {', '.join(names)}",
        )
    return name


def refuse_without_station(field: Field, what: str) -> None:
    """End with exit 5 where the SOP has no station controller to be tested."""
    if field.equipment.converters:
        fail(
            ExitCode.REFUSED,
            station_wanted(field, what),
            code="H014",
            where=field.equipment.sop.id,
            help="sopgw doctor converters looks at them; sopgw test step, sweep and watchdog "
            "move power on them",
        )


def station_wanted(field: Field, what: str) -> str:
    """Say why a test cannot be made where the terminals have converters of their own."""
    return f"{what} needs a station; {field.equipment.sop.id} has a converter at each terminal"


def known_terminal(field: Field, name: str) -> str:
    """Return the name if it is a terminal that can be scheduled; exit 2 otherwise."""
    slaves = [t.id for t in field.equipment.sop.slaves]
    if name not in slaves:
        why = " (the master's power is a residual)" if name == field.equipment.sop.master else ""
        fail(
            ExitCode.USAGE,
            f"no terminal “{name}” to set{why}",
            code="E002",
            help=f"one of {', '.join(slaves)}",
        )
    return name


# Consent before power


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What was given on the command line to let power move."""

    yes: bool = False
    confirm: str = ""
    applied: str = ""  # id of a plan that `apply` has just taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an operation would do."""

    command: tuple[str, ...]
    level: Level
    lines: tuple[str, ...]
    frames: tuple[str, ...]


async def consent(field: Field, preview: Preview, given: Consent) -> None:
    """Return when the operation may go on; otherwise keep a plan and end with exit 6."""
    refuse_when_read_only()
    if given.applied:
        taken = _applied(field, given.applied)
        if taken.command != preview.command:
            fail(ExitCode.REFUSED, f"{taken.id} is a plan of another command", code="H003")
        return
    if given.confirm:
        if given.confirm != field.equipment.sop.id:
            fail(
                ExitCode.UNCONFIRMED,
                f"--confirm {given.confirm} is not the name of the SOP",
                code="H002",
                help=f"--confirm {field.equipment.sop.id}",
            )
        return
    if given.yes and preview.level is Level.MODERATE:
        return
    await _keep(field, preview)


def refuse_when_read_only() -> None:
    """End with exit 5 where writing is forbidden to this environment."""
    if os.environ.get(READ_ONLY, "") not in ("", "0"):
        fail(
            ExitCode.REFUSED,
            f"{READ_ONLY} is set: no command of this environment writes to a device",
            code="H001",
            help=f"unset {READ_ONLY}",
        )


def _applied(field: Field, plan_id: str) -> HardwarePlan:
    try:
        return field.plans.load(plan_id, suffix=".applied")
    except PlanGone as gone:
        fail(ExitCode.REFUSED, str(gone), code="H003")


async def _keep(field: Field, preview: Preview) -> None:
    """Keep a plan, show it, write nothing."""
    seen = await field.rack.station().read()
    plan = field.plans.make(
        command=preview.command,
        sop=field.equipment.sop.id,
        level=preview.level,
        lines=preview.lines,
        frames=preview.frames,
        site_sha256=field.site.sha256,
        state=fingerprint(seen),
    )
    how = f"sopgw apply {plan.id}"
    if preview.level is Level.SEVERE:
        how += f" --confirm {plan.sop}"
    raise CommandFailed(
        ExitCode.UNCONFIRMED,
        [Finding(code="H000", message="this moves power; nothing was written", help=how)],
        data={"plan": plan.data()},
        text="\n".join(plan_text(plan, how=how)),
    )


def plan_text(plan: HardwarePlan, *, how: str) -> list[str]:
    """Write a plan for people."""
    lines = [f"Plan {plan.id}   sopgw {' '.join(plan.command)}   [{plan.level}]"]
    lines += [f"  {line}" for line in plan.lines]
    for frame in plan.frames:
        lines += textwrap.wrap(frame, 98, initial_indent="  ", subsequent_indent="    ")
    lines.append(f"This moves power. Run it with:  {how}        (valid 120 s)")
    return lines


async def recheck(field: Field, plan: HardwarePlan) -> list[str]:
    """Return why a kept plan may not be applied any more."""
    real = SystemClock()
    seen = await field.rack.station().read()
    return stale(
        plan,
        site_sha256=field.site.sha256,
        state=fingerprint(seen),
        mono_us=real.mono_us(),
        boot_id=boot_id(),
    )


async def take_control(
    field: Field, words: Sequence[str], *, reason: str = "", applied: str = ""
) -> None:
    """Hold control alone: borrowed from the running service, else by opening the ledger.

    The service lends it in mode ``test``, to an engineer, while the plan's state still holds.
    Without one nobody has it while a stop waits that ``sopgw stop`` left.
    """
    path = door_of(field.site.path, field.site)
    if path.exists() and await answers(path):
        plan = _applied(field, applied) if applied else None
        await _borrow(field, path, words, plan)
        await _note_begin(field, words, reason)
        return
    refuse_while_stopped(field.site)
    try:
        field.journal = own_ledger(field.site, field.clock)
    except JournalError as error:
        fail(
            ExitCode.LOCKED,
            f"the ledger cannot be written: {error}",
            code="H011",
            help="without an entry before it, no power is moved",
        )
    await _note_begin(field, words, reason)


def own_ledger(site: Site, clock: Clock) -> LedgerJournal:
    """Open the ledger where no service does, in its last boot; never one that was set back.

    Raises JournalError as the service would: an entry after the last one of an older copy would
    make another history of it.
    """
    from gateway.app import RECEIPTS
    from gateway.journal.anchoring import kept_here, vouched

    journal = LedgerJournal.open(
        directory=site.ledger.dir,
        origin=site.ledger.origin,
        key_file=site.ledger.key_file,
        clock=clock,
        passphrase=site.ledger.passphrase(),
        known=kept_here(site.ledger.dir, state_folder(site) / RECEIPTS),
        vouched=vouched(site.ledger.dir),
    )
    size = journal.status().size
    for _index, entry in journal.entries(max(0, size - 1)):
        journal.boot_number = int(entry.get("boot", 0))
    return journal


def stop_left(site: Site) -> tuple[str, ...]:
    """Say that a stop waits which ``sopgw stop`` left, and how it is taken back; else nothing."""
    path = state_folder(site) / STOPPED
    if not os.path.lexists(path):
        return ()
    return (
        "stopped by `sopgw stop`, and nobody has armed since",
        f"start the service, which takes the stop, then `sopgw arm`; without a service: rm {path}",
    )


def refuse_while_stopped(site: Site) -> None:
    """End with exit 5 while a stop waits: whoever gave it was promised zero until it is armed."""
    left = stop_left(site)
    if left:
        fail(ExitCode.REFUSED, f"blocked-by-interlocking: {left[0]}", code="H005", help=left[1])


async def _note_begin(field: Field, words: Sequence[str], reason: str) -> None:
    assert field.journal is not None, "control was taken"
    await field.journal.append(
        "operator",
        {"user": user(), "verb": words[0], "arguments": list(words[1:]), "reason": reason},
    )


async def _borrow(
    field: Field, path: Path, words: Sequence[str], plan: HardwarePlan | None
) -> None:
    state = {"state": dict(plan.state), "site_sha256": plan.site_sha256} if plan else {}
    try:
        lent = await BorrowedJournal.open(path, words, plan=state)
    except Refusal as no:
        refused(no.answer, path)
    field.journal = lent
    field.rack.owner = lent.owner_id  # the station's lease stays with the gateway


async def answers(path: Path) -> bool:
    """Tell whether a service listens at a socket."""
    try:
        async with asyncio.timeout(1.0):
            _reader, writer = await asyncio.open_unix_connection(str(path))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


# Answers


def outcome_data(outcome: CheckOutcome) -> dict[str, Any]:
    """Return the JSON form of a check."""
    return {
        "verdict": outcome.verdict.value,
        "rows": [r.data() for r in outcome.rows],
        "findings": [f.data() for f in outcome.findings],
        "note": outcome.note,
    }


MARKS = {Verdict.OK: "✓", Verdict.FAULT: "✗", Verdict.UNDECIDED: "?"}


def outcome_text(outcome: CheckOutcome) -> str:
    """Write a check for people: one line a value, the findings, one line of verdict."""
    width = max((len(r.name) for r in outcome.rows), default=0)
    value_width = max((len(r.value_text) for r in outcome.rows), default=0)
    lines = [
        f"  {r.name:<{width}}  {r.value_text:<{value_width}}  {r.limit:<16}  "
        f"{MARKS[r.verdict]}".rstrip()
        for r in outcome.rows
    ]
    if outcome.note:
        lines.append(f"  {outcome.note}")
    for finding in outcome.findings:
        lines += [f"✗ {finding.where}: {finding.what}.", f"  {finding.mend}."]
    words = {Verdict.OK: "ok", Verdict.FAULT: "FAULT", Verdict.UNDECIDED: "undecided"}
    lines.append(f"{MARKS[outcome.verdict]} {words[outcome.verdict]}")
    return "\n".join(lines)


def answer(outcome: CheckOutcome, extra: Mapping[str, Any], *, entries: Sequence[int] = ()) -> None:
    """End a command with what a check found."""
    findings = [
        Finding(code=f.code, message=f.what, where=f.where, help=f.mend) for f in outcome.findings
    ]
    if outcome.verdict is Verdict.UNDECIDED and not findings:
        findings = [Finding(code="undecided", message=outcome.note or "not enough evidence")]
    text = outcome_text(outcome)
    if entries:
        text += f"\n  ledger #{entries[0]} to #{entries[-1]}"
    emit(
        {**extra, **outcome_data(outcome)},
        text=text,
        exit_code=EXIT[outcome.verdict],
        findings=findings if outcome.verdict is not Verdict.OK else (),
        ledger={"entry": entries[0] if entries else None},
    )


def progress(text: str) -> None:
    """Show what goes on, where a person looks."""
    if sys.stderr.isatty() and not current().json:
        click.echo(f"  {text}", err=True)
