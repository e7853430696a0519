"""Where acceptance runs, plans and reports of a site lie, and how a check of a plan is executed.

Imported inside commands only.
"""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from gateway.cli.field import (
    Field,
    clock_of,
    refuse_while_stopped,
    sat_folder,
    station_wanted,
    take_control,
    user,
)
from gateway.cli.operations import OPERATIONS
from gateway.cli.output import CommandFailed, ExitCode, end_of, fail
from gateway.cli.person import Terminal
from gateway.cli.preview import refuse_beyond_guards
from gateway.cli.refusals import refusals_told
from gateway.cli.sat_rehearsal import REHEARSAL, rehearse
from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.runs.person import Answer
from gateway.commissioning.sat import plan as plans
from gateway.commissioning.sat import report as reports
from gateway.commissioning.sat import sign as signing
from gateway.commissioning.sat.canonical import canonical
from gateway.commissioning.sat.plan import Check, Place, PlanError, SatPlan
from gateway.commissioning.sat.record import CheckOutcome, RecordError, Row, RunRecord, runs_in
from gateway.commissioning.sat.walk import NotAtZero
from gateway.config.problem import ConfigFileError, Problem
from gateway.config.site_file import Site
from gateway.config.yaml_reader import Document, Node, read_file
from gateway.journal.owner import as_owner
from gateway.model.errors import ConfigError
from gateway.runtime.clock import SystemClock

SIGNED = "signatures.jsonl"


def plan_folders() -> tuple[Path, ...]:
    """Return where plan files are looked for: here, in the tree, where they are installed."""
    here = Path(__file__).resolve().parents[2] / "configs" / "plans"
    return (Path(), here, Path(sys.prefix) / "share" / "sopgw" / "plans")


def load_plan(name: str) -> SatPlan:
    """Read a plan by name or path; every mistake with its line and column."""
    path = _plan_path(name)
    document = read_file(path, prefix="S")
    document.raise_if_failed()
    assert document.root is not None
    try:
        return plans.read_plan(_plain(document.root))
    except PlanError as wrong:
        raise ConfigFileError(_problem(document, m, str(path)) for m in wrong.mistakes) from None


def _plan_path(name: str) -> Path:
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    for folder in plan_folders():
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({p.stem for folder in plan_folders()[1:] for p in folder.glob("*.yaml")})
    return fail(ExitCode.USAGE, f"there is no plan “{name}”", code="E002", help=f"one of {known}")


def _plain(node: Node) -> Any:
    if node.kind == "map":
        return {key.text: _plain(value) for key, value in node.entries}
    if node.kind == "list":
        return [_plain(item) for item in node.items]
    return node.value


def _problem(document: Document, mistake: plans.Mistake, file: str) -> Problem:
    """Find the line of a mistake: the deepest part of its path that stands in the file."""
    node, at = document.root, document.root
    for step in mistake.path:
        node = node.get(step) if node is not None else None
        at = node or at
    assert at is not None
    return Problem(
        code="S030",
        severity="error",
        message=mistake.message,
        file=file,
        line=at.line,
        column=at.column,
        width=at.width,
        help=mistake.help,
    )


def places_of(field: Field) -> list[Place]:
    """Return the terminals with their meters, for binding a plan."""
    sop = field.equipment.sop
    return [Place(terminal=t.id, meter=t.meter, master=t.id == sop.master) for t in sop.terminals]


def new_run(
    field: Field, plan: SatPlan, *, phase: str, witness: str, people: Mapping[str, str]
) -> RunRecord:
    """Begin a run; its name is the day and a letter."""
    bound = plans.bind(
        plan,
        sop=field.equipment.sop.id,
        station=field.equipment.station.name,
        places=places_of(field),
    )
    folder = sat_folder(field.site)
    day = reports.utc_text(field.clock.utc_us())[:10]
    letters = "abcdefghijklmnopqrstuvwxyz"
    name = next((f"{day}-{x}" for x in letters if not (folder / f"{day}-{x}").exists()), "")
    if not name:
        fail(ExitCode.REFUSED, f"26 runs on {day} already", code="S010")
    header = {
        "site": field.site.name,
        "site_id": field.site.id,
        "sop": field.equipment.sop.id,
        "phase": phase,
        "witness": witness,
        "people": dict(people),
        "settings": settings_of(field),
    }
    return RunRecord.create(folder / name, plan=bound, header=header, now_us=field.clock.utc_us)


def settings_of(field: Field) -> dict[str, str]:
    """Return versions and hashes as found."""
    found = {
        "software": f"sop-gateway {metadata.version('sop-gateway')}",
        "python": platform.python_version(),
        "site file": field.site.sha256,
        "heartbeat": f"{field.equipment.heartbeat_ms} ms, device timeout "
        f"{field.equipment.device_timeout_ms} ms",
    }
    for device in field.site.devices.values():
        found[f"profile {device.name}"] = f"{device.profile.id} {device.profile_sha256}"
    return found


def open_run(site: Site, name: str | None) -> RunRecord:
    """Open a run by name, or the newest one."""
    folder = sat_folder(site)
    clock = clock_of()
    if name is None:
        runs = list(runs_in(folder))
        if not runs:
            fail(ExitCode.USAGE, "there is no run yet", code="S011", help="sopgw sat new --plan P")
        return RunRecord.open(runs[-1], now_us=clock.utc_us)
    try:
        return RunRecord.open(folder / name, now_us=clock.utc_us)
    except RecordError as wrong:
        known = ", ".join(p.name for p in runs_in(folder))
        fail(ExitCode.USAGE, str(wrong), code="S011", help=f"runs: {known or 'none'}")


class Executor:
    """Executes checks of a plan with the same operations as the commands."""

    def __init__(self, field: Field, *, allowed: str, person: Terminal) -> None:
        self._field = field
        self._allowed = allowed  # the SOP's name once it was confirmed
        self._person = person
        self._controls = False

    async def __call__(self, check: Check) -> CheckOutcome:
        """Carry one check out; what it cannot do is an outcome, not an end.

        Raises NotAtZero where the plant is not known to be at zero after it, and CommandFailed
        while a stop waits.
        """
        if check.manual:
            return await self._manual(check)
        if check.run == "doctor":
            return doctor_outcome(self._field, check.arguments)
        if check.run == REHEARSAL:
            return await rehearse(check)
        operation = OPERATIONS.get(check.run)
        if operation is None:
            return CheckOutcome(
                verdict=Verdict.UNDECIDED, note=f"run by hand: sopgw {check.run}; then sat step"
            )
        given = parameters_of(check)
        if operation.station and self._field.equipment.converters:
            return CheckOutcome(
                verdict=Verdict.UNDECIDED, note=station_wanted(self._field, check.run)
            )
        try:
            if operation.moves is not None:
                refuse_beyond_guards(self._field, operation.moves(self._field, given))
        except CommandFailed as failed:
            return failed_outcome(failed, check)
        if operation.moves is not None:
            refusal = await self._power(check)
            if refusal is not None:
                return refusal
        try:
            with refusals_told():
                size = self._field.journal.status().size if self._field.journal else -1
                outcome = await operation.run(self._field, given)
        except CommandFailed as failed:
            outcome = failed_outcome(failed, check)
            if failed.exit_code is ExitCode.UNVERIFIED:
                raise NotAtZero(outcome, failed) from failed
            return outcome
        except ConfigError as wrong:  # what the device says of itself is not what its profile says
            end = end_of(wrong)
            return failed_outcome(CommandFailed(end.exit_code, end.findings), check)
        if size >= 0 and operation.moves is not None:
            return _with_entry(outcome, size)
        return outcome

    async def _power(self, check: Check) -> CheckOutcome | None:
        sop = self._field.equipment.sop.id
        if self._allowed != sop and sys.stdin.isatty():
            typed = await _ask_name(check, sop)
            self._allowed = typed
        if self._allowed != sop:
            return CheckOutcome(
                verdict=Verdict.UNDECIDED,
                note=f"moves power and was not confirmed: sopgw sat run --confirm {sop}",
            )
        refuse_while_stopped(self._field.site)
        if not self._controls:
            await take_control(self._field, ("sat", "run"), reason="acceptance")
            self._controls = True
        return None

    async def _manual(self, check: Check) -> CheckOutcome:
        answer = await self._person.ask(check.manual)
        verdicts = {Answer.DONE: Verdict.OK, Answer.FAIL: Verdict.FAULT}
        verdict = verdicts.get(answer, Verdict.UNDECIDED)
        findings = (
            (
                Finding(
                    code="manual",
                    where=check.title,
                    what=f"{check.title}: not as it should be",
                    mend="mend it and repeat the check",
                ),
            )
            if verdict is Verdict.FAULT
            else ()
        )
        return CheckOutcome(
            verdict=verdict,
            rows=(Row(name=check.title, value_text=f"said by {user()}", verdict=verdict),),
            findings=findings,
        )


async def _ask_name(check: Check, sop: str) -> str:
    import asyncio

    text = await asyncio.to_thread(
        click.prompt,
        f"  {check.id} moves power. Type {sop} to go on",
        default="",
        show_default=False,
        err=True,
    )
    return str(text).strip()


def _with_entry(outcome: CheckOutcome, index: int) -> CheckOutcome:
    from dataclasses import replace

    return replace(outcome, ledger_index=index)


def failed_outcome(failed: CommandFailed, check: Check) -> CheckOutcome:
    """Turn a refusal or a mute device into a finding."""
    return CheckOutcome(
        verdict=Verdict.FAULT,
        findings=tuple(
            Finding(
                code=f.code,
                where=f.where or " ".join([check.run, *check.arguments]),
                what=f.message,
                mend=f.help or "mend it and repeat the check",
                punch=Punch.A,
            )
            for f in failed.findings
        ),
    )


def doctor_outcome(field: Field, names: tuple[str, ...]) -> CheckOutcome:
    """Run doctor's checks as a step of acceptance."""
    from gateway.cli.doctor_checks import examine

    lines = [
        line
        for line in examine(field.site, offline=True, simulated=_simulated(field))
        if not names or line.group in names
    ]
    words = {"ok": Verdict.OK, "warn": Verdict.OK, "fail": Verdict.FAULT, "unknown": Verdict.OK}
    return CheckOutcome(
        verdict=Verdict.FAULT if any(x.status == "fail" for x in lines) else Verdict.OK,
        rows=tuple(
            Row(name=x.id, value_text=f"{x.text} ({x.status})", verdict=words[x.status])
            for x in lines
        ),
        findings=tuple(
            Finding(code=x.id, where=x.id, what=x.text, mend=x.fix or "see docs/commissioning.md")
            for x in lines
            if x.status == "fail"
        ),
    )


def _simulated(field: Field) -> bool:
    return not isinstance(field.clock, SystemClock)


def parameters_of(check: Check) -> dict[str, Any]:
    """Parse a check's arguments with the very options of its command."""
    import importlib

    group_name, name = check.run.split()
    module = importlib.import_module(f"gateway.cli.{group_name}")
    group = getattr(module, f"{group_name}_", None) or getattr(module, group_name)
    context = click.Context(group)
    command = group.get_command(context, name)
    arguments = list(check.arguments)
    if check.run == "check wiring" and "--before" not in arguments:
        arguments += ["--before", "20s"]
    try:
        parsed = command.make_context(name, arguments, parent=context)
    except click.UsageError as wrong:
        fail(ExitCode.CONFIG, f"check {check.id}: {wrong.format_message()}", code="S031")
    return dict(parsed.params)


# Reports


def signatures_of(record: RunRecord) -> list[dict[str, Any]]:
    """Return the signatures given so far that are of the present record."""
    import json

    path = record.folder / SIGNED
    if not path.exists():
        return []
    digest = reports.assemble(reports.record_of(record), language="en")["record_sha256"]
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [s["signature"] for s in found if s["record_sha256"] == digest]


def anchors_of(record: RunRecord) -> list[dict[str, Any]]:
    """Return where the present record was anchored."""
    import json

    path = record.folder / "anchors.jsonl"
    if not path.exists():
        return []
    digest = reports.assemble(reports.record_of(record), language="en")["record_sha256"]
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [a for a in found if a["sha256"] == digest]


def add_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one line of canonical JSON."""
    with as_owner(path.parent), path.open("ab") as file:
        file.write(canonical(value) + b"\n")


def report_of(record: RunRecord, language: str) -> dict[str, Any]:
    """Assemble the report of a run as it stands."""
    return reports.assemble(
        reports.record_of(record),
        language=language,
        signatures=signatures_of(record),
        anchors=anchors_of(record),
    )


def write_reports(record: RunRecord, *, language: str, forms: tuple[str, ...]) -> list[Path]:
    """Write the report in the forms asked for into the run's folder."""
    from gateway.commissioning.sat import html, typ

    report = report_of(record, language)
    made: list[Path] = []
    for form in forms:
        path = record.folder / f"report.{form}"
        if form == "json":
            data = reports.json_bytes(report)
        elif form == "html":
            data = html.render(report)
        elif form == "typ":
            data = typ.render(language)
        else:
            data = pdf_of(report)
        with as_owner(record.folder):
            path.write_bytes(data)
        made.append(path)
    return made


def pdf_of(report: Mapping[str, Any]) -> bytes:
    """Draw the PDF, or end with what is missing."""
    try:
        from gateway.commissioning.sat import pdf
    except ImportError:
        fail(
            ExitCode.USAGE,
            "PDF needs fpdf2",
            code="S020",
            help="pip install 'sop-gateway[report]'; the HTML report needs nothing",
        )
    try:
        return pdf.render(report)
    except pdf.PdfError as missing:
        fail(ExitCode.USAGE, str(missing), code="S021")


def public_key_for(given: Path | None, folder: Path) -> Path:
    """Return the public key to sign with: the one given, or the agent's only one."""
    if given is not None:
        return given
    keys = signing.agent_keys(folder)
    if len(keys) == 1:
        return keys[0]
    what = "several keys" if keys else "no key"
    return fail(
        ExitCode.USAGE,
        f"the SSH agent holds {what}",
        code="S022",
        help="name one with --key FILE.pub, or bring your agent along: ssh -A",
    )


@contextlib.contextmanager
def sign_errors_told() -> Any:
    """Give trouble with ssh-keygen its exit code."""
    try:
        yield
    except signing.SignError as wrong:
        fail(ExitCode.FAILED, str(wrong), code="S023", help="ssh-add -l shows what the agent holds")
