"""``sopgw mode``: show or set the operator's mode."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.consent import consented, power_options
from gateway.cli.output import emit, group, site_option
from gateway.cli.running import ask_gateway

EFFECTS = {
    "off": "trades are refused, the converter goes to zero",
    "blocked": "everything is computed, nothing written; the converter goes to zero",
    "test": "trades move nothing; setpoints by hand and tests may",
    "test-blocked": "as test, and nothing is written",
    "on": "trades move power",
}
MODES = tuple(EFFECTS)


@group(
    "mode",
    examples=(
        ("sopgw mode show -c site.yaml", "the mode and why the state is what it is"),
        ("sopgw mode set blocked --yes -c site.yaml", "compute everything, write nothing"),
    ),
)
def mode() -> None:
    """Show or set the operator's mode: off, blocked, test, test-blocked, on."""


@mode.command(
    "show",
    schema="mode.show",
    examples=(
        ("sopgw mode show -c site.yaml", "mode and state"),
        ("sopgw mode show -c site.yaml --json", "the same for a program"),
    ),
)
@site_option
def show(config_path: Path) -> None:
    """Show the operator's mode and the gateway's state."""
    found = ask_gateway(config_path, {"verb": "status"})["status"]
    data = {key: found[key] for key in ("mode", "state", "armed", "reasons")}
    emit(data, text=f"mode {found['mode']}   state {found['state']}")


@mode.command(
    "set",
    impact="hw",
    schema="mode.set",
    examples=(
        ("sopgw mode set blocked --yes -c site.yaml", "no writes from now on"),
        ("sopgw mode set on --confirm SOP-1 -c site.yaml", "trades move power again"),
    ),
)
@click.argument("wanted", metavar="MODE", type=click.Choice(MODES))
@site_option
@power_options
def set_(*, wanted: str, config_path: Path, yes: bool, confirm: str, applied: str) -> None:
    """Set the operator's mode; on needs the SOP's name, every other one --yes."""
    from gateway.commissioning.plan import Level

    if wanted in ("off", "blocked") and _sleeps_in(wanted, config_path):
        emit(
            {"mode": wanted},
            text=f"no gateway runs, and the site file lets it start in mode {wanted}",
        )
        return
    found = ask_gateway(config_path, {"verb": "status"})["status"]
    consented(
        ("mode", "set", wanted),
        config_path=config_path,
        level=lambda _: Level.SEVERE if wanted == "on" else Level.MODERATE,
        lines=lambda _: (f"mode {found['mode']} → {wanted}: {EFFECTS[wanted]}",),
        yes=yes,
        confirm=confirm,
        applied=applied,
    )
    ask_gateway(config_path, {"verb": "mode", "mode": wanted})
    emit({"mode": wanted}, text=f"mode {wanted}")


def _sleeps_in(wanted: str, config_path: Path) -> bool:
    """Tell whether no gateway runs and the site file already says this mode: then it holds."""
    from gateway.cli.door import door_of
    from gateway.config.site_file import load_site

    site = load_site(config_path)
    return site.mode == wanted and not door_of(config_path, site).exists()
