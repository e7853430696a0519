"""``sopgw apply``: carry out a plan if the plant is still as it was when the plan was made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.names import PLAN
from gateway.cli.output import ExitCode, command, current, fail, say, site_option

if TYPE_CHECKING:
    from gateway.commissioning.plan import HardwarePlan


@command(
    "apply",
    schema="apply",
    impact="hw",
    examples=(
        ("sopgw apply p-7K3A -c site.yaml", "carry a plan out"),
        ("sopgw apply p-7K3A --confirm SOP-1 -c site.yaml", "a severe one, in a script"),
    ),
)
@PLAN
@click.option("--confirm", default="", metavar="SOP", help="Name of the SOP, for severe plans.")
@site_option
def apply(*, plan_id: str, confirm: str, config_path: Path) -> None:
    """Check the state again and carry out a plan; it can be applied once."""
    import asyncio

    from gateway.cli import field as fields
    from gateway.cli.plan import store_of
    from gateway.cli.refusals import refusals_told
    from gateway.cli.root import cli
    from gateway.commissioning.plan import Level, PlanGone

    async def check() -> HardwarePlan:
        fields.refuse_when_read_only()
        try:
            found = store_of(config_path).load(plan_id)
        except PlanGone as gone:
            fail(ExitCode.REFUSED, str(gone), code="H003", help="sopgw plan ls")
        async with fields.opened(config_path, found.sop) as field:
            reasons = await fields.recheck(field, found)
            if reasons:
                fail(
                    ExitCode.REFUSED,
                    f"plan is stale: {'; '.join(reasons)}",
                    code="H012",
                    help=f"make it again: sopgw {' '.join(found.command)}",
                    data={"plan": found.data(), "reasons": reasons},
                )
            if found.level is Level.SEVERE:
                _confirm(found, confirm)
            try:
                return field.plans.take(plan_id)
            except PlanGone as gone:
                fail(ExitCode.REFUSED, str(gone), code="H003")

    with refusals_told():
        taken = asyncio.run(check())
    say(f"apply {taken.id}: sopgw {' '.join(taken.command)}")
    arguments = [*taken.command, "--applied", taken.id, "-c", str(config_path)]
    if current().json:
        arguments.append("--json")
    code = cli.main(arguments, prog_name="sopgw", obj=current(), standalone_mode=False)
    if isinstance(code, int) and code:
        raise click.exceptions.Exit(code)


def _confirm(found: HardwarePlan, confirm: str) -> None:
    """Ask for the SOP's name where the plan is severe; exit 6 without it."""
    if not confirm and sys.stdin.isatty() and not current().json:
        confirm = click.prompt(f"apply {found.id}? type {found.sop} to go on", err=True)
    if confirm != found.sop:
        fail(
            ExitCode.UNCONFIRMED,
            f"{found.id} moves more than a fifth of the rating and was not confirmed",
            code="H002",
            help=f"sopgw apply {found.id} --confirm {found.sop}",
        )
