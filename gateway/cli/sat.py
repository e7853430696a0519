"""``sopgw sat``: site acceptance from an empty run to a signed report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import ExitCode, Finding, emit, fail, group, note, say, site_option
from gateway.cli.perform import sop_option
from gateway.cli.sat_papers import compare, report, sign, verify

if TYPE_CHECKING:
    from gateway.commissioning.sat.record import RunRecord
    from gateway.commissioning.sat.walk import Stopped

SIGNS = {"ok": "✓", "fault": "!", "undecided": "?", "running": "▶", "skipped": "–", "open": "·"}


@group(
    "sat",
    examples=(
        ("sopgw sat new --plan sop-lv -c site.yaml", "begin a run"),
        ("sopgw sat run --confirm SOP-1 -c site.yaml", "walk its checks; resumes where it stopped"),
    ),
)
def sat() -> None:
    """Site acceptance: plan, run, sign, report, verify."""


@sat.command(
    "new",
    schema="sat.new",
    impact="rw",
    examples=(
        ("sopgw sat new --plan sop-lv -c site.yaml", "a run on site"),
        (
            "sopgw sat new --plan sop-lv --phase fat --witness 'DSO witness'",
            "the same on the bench",
        ),
    ),
)
@click.option("--plan", "plan_name", required=True, help="Name or file of the plan.")
@click.option("--phase", type=click.Choice(["fat", "sat"]), default="sat", show_default=True)
@click.option("--witness", default="", help="Who will witness hold and witness points.")
@site_option
@sop_option
def new(*, plan_name: str, phase: str, witness: str, config_path: Path, sop_id: str | None) -> None:
    """Begin a run; nothing is asked of any device yet."""
    import asyncio

    from gateway.cli import field as fields
    from gateway.cli import sat_store as store

    async def go() -> RunRecord:
        async with fields.opened(config_path, sop_id) as field:
            return store.new_run(
                field,
                store.load_plan(plan_name),
                phase=phase,
                witness=witness,
                people={"commissioning": fields.user()},
            )

    record = asyncio.run(go())
    checks = len(record.state().plan.checks())
    emit(
        {"run": record.id, "folder": str(record.folder), "checks": checks, "phase": phase},
        text=f"Run {record.id} begun: {checks} checks.  Next: sopgw sat run",
    )


@sat.command(
    "ls",
    schema="sat.ls",
    examples=(
        ("sopgw sat ls -c site.yaml", "all runs of this site"),
        ("sopgw sat ls --json -c site.yaml", "for a script"),
    ),
)
@site_option
def ls(*, config_path: Path) -> None:
    """List the runs of a site with their verdicts."""
    from gateway.cli import sat_store as store
    from gateway.cli.field import sat_folder
    from gateway.commissioning.sat.record import runs_in
    from gateway.config.site_file import load_site

    site = load_site(config_path)
    rows = []
    for folder in runs_in(sat_folder(site)):
        state = store.open_run(site, folder.name).state()
        rows.append(
            {
                "run": folder.name,
                "phase": state.header["phase"],
                "plan": state.plan.id,
                "verdict": state.verdict,
            }
        )
    lines = [f"{r['run']}  {r['phase'].upper()}  {r['plan']}  {r['verdict']}" for r in rows]
    emit({"runs": rows}, text="\n".join(lines) or "no run yet")


@sat.command(
    "status",
    schema="sat.status",
    examples=(
        ("sopgw sat status -c site.yaml", "the newest run, step by step"),
        ("sopgw sat status 2026-11-21-a -c site.yaml", "a run by name"),
    ),
)
@click.argument("run_id", required=False)
@site_option
def status(*, run_id: str | None, config_path: Path) -> None:
    """Show where a run stands."""
    from gateway.cli import sat_store as store
    from gateway.config.site_file import load_site

    record = store.open_run(load_site(config_path), run_id)
    state = record.state()
    emit(
        {
            "run": record.id,
            "verdict": state.verdict,
            "steps": [
                {"id": s.id, "title": s.title, "status": state.step_status(s), "hold": s.hold.value}
                for s in state.plan.steps
            ],
            "checks": [{"id": c.id, "status": c.status} for c in state.checks.values()],
            "punch": [p.data() for p in state.punch],
        },
        text=status_text(record),
    )


def status_text(record: RunRecord) -> str:
    """Write a run for people."""
    state = record.state()
    header = state.header
    lines = [
        f"Run {record.id}   {header['phase'].upper()}   {header['sop']} {header['site']}   "
        f"plan {state.plan.id} r{state.plan.revision_number}   {state.verdict}"
    ]
    for step in state.plan.steps:
        word = state.step_status(step)
        hold = "" if step.hold == "-" else f"  [{step.hold}]"
        items = [
            f"{p.number}: {p.where}"
            for p in state.open_punch()
            if any(c.id == p.check for c in step.checks)
        ]
        lines.append(
            f" {step.id:>2}  {step.title + hold:<34} {len(step.checks):2d} checks  "
            f"{SIGNS[word]} {word:<10} {state.witnessed.get(step.id, '')}"
            + (f"  punch {'; '.join(items)}" if items else "")
        )
    return "\n".join(line.rstrip() for line in lines)


@sat.command(
    "run",
    schema="sat.run",
    impact="hw",
    examples=(
        ("sopgw sat run --confirm SOP-1 -c site.yaml", "go on until a hold point or the end"),
        ("sopgw sat run --confirm SOP-1 --witness 'DSO witness'", "pass the hold points too"),
    ),
)
@click.argument("run_id", required=False)
@click.option("--witness", default="", help="Who is there for hold and witness points.")
@click.option("--from", "start_at", default="", metavar="CHECK", help="Repeat from this check on.")
@click.option("--confirm", default="", metavar="SOP", help="Name of the SOP: power may move.")
@site_option
@sop_option
def run(
    *,
    run_id: str | None,
    witness: str,
    start_at: str,
    confirm: str,
    config_path: Path,
    sop_id: str | None,
) -> None:
    """Walk the checks of a run; stops at hold points, resumes where it stopped."""
    _walk(
        run_id,
        witness=witness,
        start_at=start_at,
        only_step="",
        confirm=confirm,
        config_path=config_path,
        sop_id=sop_id,
    )


@sat.command(
    "step",
    schema="sat.step",
    impact="hw",
    examples=(
        ("sopgw sat step 4 --confirm SOP-1 -c site.yaml", "one step, whole, once more"),
        ("sopgw sat step 1 -c site.yaml", "a step that only reads"),
    ),
)
@click.argument("step_id")
@click.option("--run", "run_id", help="A run by name; the newest by default.")
@click.option("--witness", default="", help="Who is there.")
@click.option("--confirm", default="", metavar="SOP", help="Name of the SOP: power may move.")
@site_option
@sop_option
def step(
    *,
    step_id: str,
    run_id: str | None,
    witness: str,
    confirm: str,
    config_path: Path,
    sop_id: str | None,
) -> None:
    """Run one step of a run, whether it passed before or not."""
    _walk(
        run_id,
        witness=witness,
        start_at="",
        only_step=step_id,
        confirm=confirm,
        config_path=config_path,
        sop_id=sop_id,
    )


def _walk(
    run_id: str | None,
    *,
    witness: str,
    start_at: str,
    only_step: str,
    confirm: str,
    config_path: Path,
    sop_id: str | None,
) -> None:
    import asyncio

    from gateway.cli import field as fields
    from gateway.cli import sat_store as store
    from gateway.commissioning.sat.record import RecordError
    from gateway.commissioning.sat.walk import resume_text, walk

    async def go() -> tuple[RunRecord, Stopped]:
        async with fields.opened(config_path, sop_id) as field:
            if confirm and confirm != field.equipment.sop.id:
                fail(ExitCode.UNCONFIRMED, "--confirm is not the name of the SOP", code="H002")
            record = store.open_run(field.site, run_id)
            resumed = resume_text(record)
            if resumed and not start_at and not only_step:
                say(resumed)
            execute = store.Executor(field, allowed=confirm, person=field.person)
            try:
                stopped = await walk(
                    record,
                    execute,
                    by=fields.user(),
                    witness=witness,
                    summon=field.person.witness if field.person.there else None,
                    start_at=start_at,
                    only_step=only_step,
                    announce=announce,
                )
            except RecordError as wrong:
                fail(ExitCode.USAGE, str(wrong), code="S011")
            return record, stopped

    def announce(_step: Any, check: Any, outcome: Any) -> None:
        if outcome is None:
            note(f"▶ {check.id}  {check.title}")
            return
        say(f"{SIGNS[outcome.verdict.value]} {check.id}  {check.title}")
        for finding in outcome.findings:
            say(f"    {finding.where}: {finding.what}. {finding.mend}.")
        if outcome.note and outcome.verdict.value == "undecided":
            say(f"    {outcome.note}")

    record, stopped = asyncio.run(go())
    _stopped(record, stopped)


def _stopped(record: RunRecord, stopped: Stopped) -> None:
    """Answer with where a walk stopped and why."""
    state = record.state()
    punch = [p.data() for p in state.open_punch()]
    codes = {
        "finished": ExitCode.OK,
        "hold": ExitCode.UNCONFIRMED,
        "gate": ExitCode.REFUSED,
        "open": ExitCode.FAILED,
    }
    exit_code = codes[stopped.why]
    undecided = {c.id for c in state.checks.values() if c.status == "undecided"}
    if stopped.why == "open" and not state.open_punch() and undecided:
        exit_code = ExitCode.UNDECIDED
    emit(
        {
            "run": record.id,
            "stopped": stopped.why,
            "step": stopped.step,
            "verdict": state.verdict,
            "punch": punch,
        },
        text=f"{stopped.text}\n\n{status_text(record)}",
        exit_code=exit_code,
        findings=[Finding(code="S040", message=stopped.text)] if exit_code else (),
    )


@sat.command(
    "skip",
    schema="sat.skip",
    impact="rw",
    examples=(
        ("sopgw sat skip 8.1 --why 'no panel on this bench' -c site.yaml", "leave a check out"),
        ("sopgw sat skip 8 --why 'no panel on this bench' -c site.yaml", "or a whole step"),
    ),
)
@click.argument("check_id")
@click.option("--why", required=True, help="The reason; it stands in the report.")
@click.option("--run", "run_id", help="A run by name; the newest by default.")
@site_option
def skip(*, check_id: str, why: str, run_id: str | None, config_path: Path) -> None:
    """Leave a check or a step out, with a reason."""
    from gateway.cli import field as fields
    from gateway.cli import sat_store as store
    from gateway.commissioning.sat.record import RecordError
    from gateway.config.site_file import load_site

    record = store.open_run(load_site(config_path), run_id)
    plan = record.state().plan
    ids = [c.id for s in plan.steps if check_id == s.id for c in s.checks]
    ids = ids or [c.id for c in plan.checks() if c.id == check_id]
    if not ids:
        fail(ExitCode.USAGE, f"no check or step {check_id}", code="S011", help="sopgw sat status")
    try:
        for found in ids:
            record.skip(found, reason=why, by=fields.user())
    except RecordError as wrong:
        fail(ExitCode.USAGE, str(wrong), code="S011")
    emit({"run": record.id, "skipped": ids}, text=f"skipped {', '.join(ids)}: {why}")


@sat.command(
    "close",
    schema="sat.close",
    impact="rw",
    examples=(
        ("sopgw sat close B-01 --how 'label replaced' -c site.yaml", "a punch item by hand"),
        ("sopgw sat close C-02 --how 'manual handed over' -c site.yaml", "another"),
    ),
)
@click.argument("number")
@click.option("--how", required=True, help="How it was mended; it stands in the report.")
@click.option("--run", "run_id", help="A run by name; the newest by default.")
@site_option
def close(*, number: str, how: str, run_id: str | None, config_path: Path) -> None:
    """Close a punch item B or C by hand; an A closes only when its check passes."""
    from gateway.cli import field as fields
    from gateway.cli import sat_store as store
    from gateway.commissioning.sat.record import RecordError
    from gateway.config.site_file import load_site

    record = store.open_run(load_site(config_path), run_id)
    try:
        record.close_punch(number, how=how, by=fields.user())
    except RecordError as wrong:
        fail(ExitCode.REFUSED, str(wrong), code="S012")
    emit({"run": record.id, "number": number}, text=f"{number} closed: {how}")


for _paper in (sign, report, verify, compare):
    sat.add_command(_paper)
