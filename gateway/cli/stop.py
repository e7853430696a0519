"""``sopgw stop``: bring a SOP to zero; never asks."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.output import ExitCode, command, emit, fail, site_option


@command(
    "stop",
    impact="hw",
    schema="stop",
    examples=(
        ("sopgw stop -c site.yaml", "to zero now; power again only after `sopgw arm`"),
        ("sopgw stop -c site.yaml --json", "the same from a script"),
    ),
)
@site_option
def stop(config_path: Path) -> None:
    """Bring the SOP to zero and keep it there until it is armed again.

    Not an emergency stop: that is a hard-wired switch. Works with the service dead, too: then the
    station is told directly.
    """
    from gateway.cli.door import ask_at, door_of
    from gateway.cli.running import refused

    door = door_of(config_path)
    try:
        answer = ask_at(door, {"verb": "stop"})
    except (OSError, ValueError):
        way, outcome = "station directly", _directly(config_path)
    else:
        if not answer.get("ok"):
            refused(answer, door)
        way, outcome = "gateway", str(answer.get("outcome"))
    data = {"way": way, "outcome": outcome}
    if outcome not in ("executed", "accepted"):
        fail(
            ExitCode.UNVERIFIED,
            f"the station did not confirm: {outcome}",
            code="G003",
            help="its own watchdog brings it to zero; use the local stop if in doubt",
            data=data,
        )
    emit(data, text=f"stopped by the {way}: {outcome}; arm again with `sopgw arm`")


def _directly(config_path: Path) -> str:
    """Tell the station itself; only now everything is needed that speaks to devices."""
    import asyncio

    from gateway.app import stop_directly
    from gateway.config.site_file import load_site

    return asyncio.run(stop_directly(load_site(config_path)))
