"""``sopgw arm``: allow power again after a fail-safe or a stop."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.consent import consented, power_options
from gateway.cli.output import command, emit, site_option
from gateway.cli.running import ask_gateway


@command(
    "arm",
    impact="hw",
    schema="arm",
    examples=(
        ("sopgw arm --confirm SOP-1 -c site.yaml", "power may flow again on SOP-1"),
        ("sopgw arm -c site.yaml", "a plan: shows what arming would do and writes nothing"),
    ),
)
@site_option
@power_options
def arm(*, config_path: Path, yes: bool, confirm: str, applied: str) -> None:
    """Allow power again after a fail-safe or a stop; --yes is not enough."""
    from gateway.commissioning.plan import Level

    found = ask_gateway(config_path, {"verb": "status"})["status"]
    standing = "is armed" if found["armed"] else "is not armed"
    consented(
        ("arm",),
        config_path=config_path,
        level=lambda _: Level.SEVERE,
        lines=lambda _: (
            f"{found['sop']} {standing}, state {found['state']}",
            f"arming lets {found['open_intervals']} planned and "
            f"{found['scheduled_intervals']} scheduled intervals move power, at once where due",
        ),
        yes=yes,
        confirm=confirm,
        applied=applied,
    )
    ask_gateway(config_path, {"verb": "arm"})
    emit({"armed": True, "sop": found["sop"]}, text=f"{found['sop']} is armed")
