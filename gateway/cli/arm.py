"""``sopgw arm``: allow power again after a fail-safe or a stop."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.output import ExitCode, command, emit, fail, site_option
from gateway.cli.running import ask_gateway


@command(
    "arm",
    impact="hw",
    schema="arm",
    examples=(
        ("sopgw arm --confirm SOP-1 -c site.yaml", "power may flow again on SOP-1"),
        ("sopgw arm -c site.yaml", "shows what arming would do and writes nothing"),
    ),
)
@site_option
@click.option("--confirm", metavar="SOP", help="The SOP's name, typed by whoever allows power.")
def arm(config_path: Path, confirm: str | None) -> None:
    """Allow power again after a fail-safe or a stop."""
    found = ask_gateway(config_path, {"verb": "status"})["status"]
    if confirm is None:
        text = (
            f"{found['sop']} is {'' if found['armed'] else 'not '}armed; state {found['state']}.\n"
            f"Arming lets open trades move power at once. Write: sopgw arm --confirm {found['sop']}"
        )
        emit({"armed": found["armed"], "state": found["state"]}, text=text,
             exit_code=ExitCode.UNCONFIRMED)  # fmt: skip
    if confirm != found["sop"]:
        message = f"this gateway serves {found['sop']}, not {confirm}"
        fail(ExitCode.REFUSED, message, code="G004", help=f"sopgw arm --confirm {found['sop']}")
    ask_gateway(config_path, {"verb": "arm"})
    emit({"armed": True, "sop": found["sop"]}, text=f"{found['sop']} is armed")
