"""``sopgw plan``: the plans that commands kept instead of moving power."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.names import PLAN
from gateway.cli.output import ExitCode, emit, fail, group, site_option, warn

if TYPE_CHECKING:
    from gateway.commissioning.plan import PlanStore


@group(
    "plan",
    examples=(
        ("sopgw plan ls -c site.yaml", "which plans wait and how long they live"),
        ("sopgw plan show p-7K3A -c site.yaml", "what it would do, with the exact frame"),
    ),
)
def plan() -> None:
    """List, show and cancel plans; each lives two minutes."""


def store_of(config_path: Path) -> PlanStore:
    """Return the plans of a site."""
    from gateway.cli.field import state_folder
    from gateway.commissioning.plan import PlanStore
    from gateway.config.site_file import load_site
    from gateway.runtime.clock import SystemClock

    clock = SystemClock()
    folder = state_folder(load_site(config_path)) / "plans"
    return PlanStore(folder, mono_us=clock.mono_us, utc_us=clock.utc_us)


@plan.command(
    "ls",
    schema="plan.ls",
    examples=(
        ("sopgw plan ls -c site.yaml", "the plans that wait"),
        ("sopgw plan ls --json -c site.yaml", "for a script"),
    ),
)
@site_option
def ls(*, config_path: Path) -> None:
    """List the plans that wait."""
    store = store_of(config_path)
    rows = [{**p.data(), "left_s": store.left_s(p)} for p in store.waiting()]
    lines = [
        f"{row['id']}  {row['left_s']:4d} s  [{row['level']}]  sopgw {' '.join(row['command'])}"
        for row in rows
    ]
    for text in store.damaged():
        warn("H003", text)
    emit({"plans": rows}, text="\n".join(lines) or "no plan waits")


@plan.command(
    "show",
    schema="plan.show",
    examples=(
        ("sopgw plan show p-7K3A -c site.yaml", "one plan"),
        ("sopgw plan show p-7K3A --json -c site.yaml", "with the state it was made in"),
    ),
)
@PLAN
@site_option
def show(*, plan_id: str, config_path: Path) -> None:
    """Show what a plan would do."""
    from gateway.cli.field import plan_text
    from gateway.commissioning.plan import PlanGone

    store = store_of(config_path)
    try:
        found = store.load(plan_id)
    except PlanGone as gone:
        fail(ExitCode.REFUSED, str(gone), code="H003", help="sopgw plan ls")
    text = "\n".join(plan_text(found, how=f"sopgw apply {found.id}"))
    emit({"plan": found.data(), "left_s": store.left_s(found)}, text=text)


@plan.command(
    "cancel",
    schema="plan.cancel",
    impact="rw",
    examples=(
        ("sopgw plan cancel p-7K3A -c site.yaml", "it cannot be applied any more"),
        ("sopgw plan cancel p-7K3A --json -c site.yaml", "for a script"),
    ),
)
@PLAN
@site_option
def cancel(*, plan_id: str, config_path: Path) -> None:
    """Take a plan away."""
    from gateway.commissioning.plan import PlanGone

    try:
        store_of(config_path).cancel(plan_id)
    except PlanGone as gone:
        fail(ExitCode.REFUSED, str(gone), code="H003", help="sopgw plan ls")
    emit({"id": plan_id}, text=f"{plan_id} cancelled")
