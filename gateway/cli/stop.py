"""``sopgw stop``: bring a SOP to zero; never asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.output import (
    CommandFailed,
    ExitCode,
    Finding,
    command,
    emit,
    site_option,
)

if TYPE_CHECKING:
    from gateway.config.site_file import Site as SiteFile
    from gateway.ports import Clock, Station

DONE = ("executed", "accepted")


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
    station is told directly, and the stop waits in the state folder for the service to take it.
    Where that may not be written the exit code is 7: the next start, or a service that runs and
    may not be asked, would command again.
    """
    from gateway.cli.door import ask_at, door_of
    from gateway.cli.running import refused

    door = door_of(config_path)
    try:
        answer = ask_at(door, {"verb": "stop"})
    except (OSError, ValueError) as error:
        denied = isinstance(error, PermissionError)
        try:
            way, outcome = "station directly", _directly(config_path)
        finally:  # after the station, which must not wait for a disk, and whatever it said
            kept = _left(door)
    else:
        if not answer.get("ok"):
            refused(answer, door)
        way, outcome, kept, denied = "gateway", str(answer.get("outcome")), True, False
    data = {"way": way, "outcome": outcome}
    findings = []
    if outcome not in DONE:
        findings.append(
            Finding(
                code="G003",
                message=f"the station did not confirm: {outcome}",
                help="its own watchdog brings it to zero; use the local stop if in doubt",
            )
        )
    if not kept:
        which = "may be running that was not told" if denied else "that starts does not know of it"
        findings.append(
            Finding(
                code="G012",
                message=f"stopped, but a gateway {which} and may command again",
                where=str(door),
                help="as root: systemctl stop sopgw, then sopgw stop, which waits for its start",
            )
        )
    if findings:
        raise CommandFailed(ExitCode.UNVERIFIED, findings, data=data)
    emit(data, text=f"stopped by the {way}: {outcome}; arm again with `sopgw arm`")


def _left(door: Path) -> bool:
    """Leave the stop for the gateway to take; tell whether that could be written."""
    import os

    from gateway.journal.owner import as_owner
    from gateway.runtime.latch import FILE, leave

    try:
        with as_owner(door.parent):
            leave(door.with_name(FILE), user=f"uid:{os.getuid()}")
    except OSError:
        return False
    return True


def _directly(config_path: Path) -> str:
    """Tell the station itself; only now everything is needed that speaks to devices."""
    import asyncio

    from gateway.config.site_file import load_site

    return asyncio.run(stop_directly(load_site(config_path)))


async def stop_directly(site: SiteFile) -> str:
    """Bring every SOP of a site to zero without a running gateway; the word of each station.

    Nothing is written to the ledger here; what keeps it stopped is the latch that is left then
    (``runtime.latch``): the gateway that takes it records the stop.
    """
    from gateway.app import station_of
    from gateway.config.core_site import core_site
    from gateway.devices.connect import Endpoints
    from gateway.runtime.clock import SystemClock

    words, clock = [], SystemClock()
    for config in site.sops:
        core = core_site(site, config)
        station = station_of(site, config, core, clock, Endpoints())
        try:
            words.append(await to_zero(station, clock, separate=config.separate))
        finally:
            await station.close()
    refused = [w for w in words if w not in DONE]
    return "; ".join(refused) or words[0]


async def to_zero(station: Station, clock: Clock, *, separate: bool) -> str:
    """Tell one station; its word, or why nobody knows.

    What is read first may fail: the stop leaves all the same.
    """
    from contextlib import suppress

    from gateway.model.errors import DeviceError
    from gateway.runtime.dispatch import tell_to_stop

    with suppress(DeviceError):
        await station.read()  # what it holds, who has it: good to know, not needed
    return await tell_to_stop(station, clock, separate=separate)
