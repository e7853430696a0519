"""``sopgw limits``: what terminals may carry; a change takes two engineers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.output import ExitCode, Finding, emit, group, site_option
from gateway.cli.quantities import POWER
from gateway.cli.running import ask_gateway


@group(
    "limits",
    examples=(
        ("sopgw limits show -c site.yaml", "limits of each terminal, in force and of the file"),
        ("sopgw limits set T2 --p-max 100kW --why 'cable works' -c site.yaml", "a proposal"),
    ),
)
def limits() -> None:
    """Show limits; change them within the site file, by two engineers."""


@limits.command(
    "show",
    schema="limits.show",
    examples=(
        ("sopgw limits show -c site.yaml", "what is in force and what waits"),
        ("sopgw limits show --json -c site.yaml", "for a program"),
    ),
)
@site_option
def show(*, config_path: Path) -> None:
    """Show the limits in force, those of the site file, and proposals that wait."""
    found = ask_gateway(config_path, {"verb": "limits"})
    data = {k: found[k] for k in ("limits", "proposals")}
    emit(data, text=lambda: _text(data))


@limits.command(
    "set",
    schema="limits.set",
    impact="hw",
    examples=(
        ("sopgw limits set T2 --p-max 100kW --why 'cable works' -c site.yaml", "less injection"),
        ("sopgw limits set T2 --p-min -50kW --p-max 50kW --why test -c site.yaml", "both ways"),
    ),
)
@click.argument("terminal")
@click.option("--p-min", type=POWER, help="Lowest power; negative takes from the feeder.")
@click.option("--p-max", type=POWER, help="Highest power; positive injects into the feeder.")
@click.option("--why", required=True, help="The reason; it stands in the ledger.")
@site_option
def set_(
    *, terminal: str, p_min: int | None, p_max: int | None, why: str, config_path: Path
) -> None:
    """Propose limits; they count when a second engineer confirms them within ten minutes."""
    if p_min is None and p_max is None:
        raise click.UsageError("give --p-min, --p-max or both")
    rows = ask_gateway(config_path, {"verb": "limits"})["limits"]
    now = next((r for r in rows if r["terminal"] == terminal), None)
    if now is None:
        known = ", ".join(r["terminal"] for r in rows)
        raise click.UsageError(f"no terminal “{terminal}”; one of {known}")
    request = {
        "verb": "limits.propose",
        "terminal": terminal,
        "p_w_min": now["p_w_min"] if p_min is None else p_min,
        "p_w_max": now["p_w_max"] if p_max is None else p_max,
        "reason": why,
    }
    found = ask_gateway(config_path, request)
    how = f"sopgw limits confirm {found['id']}"
    data = {k: found[k] for k in ("id", "terminal", "p_w_min", "p_w_max")}
    emit(
        data,
        text=f"{found['id']}  {_row_text(found)}\nNothing is changed yet. A second engineer within "
        f"{found['minutes']} min:  {how}",
        exit_code=ExitCode.UNCONFIRMED,
        findings=[Finding(code="H013", message="a second engineer has to confirm this", help=how)],
    )


@limits.command(
    "confirm",
    schema="limits.confirm",
    impact="hw",
    examples=(
        ("sopgw limits confirm l-3fa9 -c site.yaml", "by another engineer than who proposed it"),
        ("sopgw limits confirm l-3fa9 --json -c site.yaml", "for a program"),
    ),
)
@click.argument("proposal")
@site_option
def confirm(*, proposal: str, config_path: Path) -> None:
    """Confirm what another engineer proposed; it counts for every plan from now on."""
    found = ask_gateway(config_path, {"verb": "limits.confirm", "id": proposal})
    data = {k: found[k] for k in ("terminal", "p_w_min", "p_w_max", "proposed_by")}
    emit(data, text=f"{_row_text(found)}   proposed by {found['proposed_by']}")


def _text(data: dict[str, Any]) -> str:
    lines = [
        f"  {_row_text(r)}   site file {r['file_p_w_min'] / 1000:.0f} … "
        f"{r['file_p_w_max'] / 1000:.0f} kW"
        for r in data["limits"]
    ]
    lines += [f"waits: {p['id']}  {_row_text(p)}   by {p['by']}" for p in data["proposals"]]
    return "\n".join(lines)


def _row_text(row: dict[str, Any]) -> str:
    return f"{row['terminal']}  {row['p_w_min'] / 1000:.0f} … {row['p_w_max'] / 1000:.0f} kW"
