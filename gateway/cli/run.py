"""``sopgw run``: the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import ExitCode, command, emit, fail, note, site_option

if TYPE_CHECKING:
    from gateway.config.site_file import Site

ERROR_US_FINISH = 1_000_000  # beyond it not even what runs is finished by this clock
MODES = ("off", "blocked", "test", "test-blocked", "on")
WRITING = ("on", "test")  # modes in which setpoints leave


@command(
    "run",
    impact="hw",
    schema="run",
    examples=(
        ("sopgw run -c site.yaml", "run the site's gateway until it is told to stop"),
        ("sopgw run -c site.yaml --mode blocked", "compute everything, write nothing"),
    ),
)
@site_option
@click.option("--sop", "sop_id", help="Which SOP, where the site has several.")
@click.option("--mode", type=click.Choice(MODES), help="Operator's mode instead of the file's.")
@click.option(
    "--timebase",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Simulated time of a bench; never on a plant.",
)
@click.option(
    "--web-port", type=click.IntRange(0, 65535), help="Page on this loopback port; 0: any."
)
@click.option("-v", "--verbose", count=True, help="More of what happens, on stderr.")
def run(
    config_path: Path,
    sop_id: str | None,
    mode: str | None,
    timebase: Path | None,
    web_port: int | None,
    verbose: int,
) -> None:
    """Run the gateway: trades in, instructions out, everything in the ledger."""
    import asyncio
    import sys

    from gateway import app
    from gateway.cli import logs
    from gateway.config.site_file import load_site
    from gateway.model.errors import ConfigError
    from gateway.runtime.clock import BenchClock, SystemClock

    if sys.flags.optimize:
        raise ConfigError("assertions are part of the gateway: run it without -O")
    site = load_site(config_path)
    refuse_for_another(site)
    logs.set_up(
        verbose=verbose,
        json_lines=site.log.json_lines,
        syslog=site.log.syslog,
        ca_file=site.log.ca_file,
        certificate=site.log.certificate,
        key_file=site.log.key_file,
    )
    clock: BenchClock | SystemClock
    if timebase:
        clock = BenchClock.load(timebase)
    else:
        clock = SystemClock(discipline if site.runtime.clock == "kernel" else None)
        if site.runtime.clock == "kernel" and (why := only_observing()):
            note(why)
    proven = proven_mode(mode or site.mode, site)
    if proven != (mode or site.mode):
        mode = proven
    note(f"gateway of {site.id}, mode {proven}; Ctrl-C leaves the SOP at zero")
    page = None
    if web_port is not None:
        page = ("127.0.0.1", web_port)
    elif site.web is not None:
        page = (site.web.host, site.web.port)
    beside = None
    if page is not None or site.northbound.opcua or site.northbound.mqtt:
        from gateway.cli.web import doors_beside

        config = site.sop(sop_id) if sop_id else site.sops[0]
        beside = doors_beside(site, config, page=page, simulated=bool(timebase))
    asyncio.run(app.run(site, sop_id=sop_id, clock=clock, mode=mode, beside=beside))
    served = sop_id or site.sops[0].sop.id
    emit({"site": site.id, "sop": served, "mode": proven})


def refuse_for_another(site: Site) -> None:
    """End the command where root would leave files that the service could not write later."""
    from gateway.journal.owner import owner_of

    owner = owner_of(site.ledger.dir)
    if owner is not None:
        fail(
            ExitCode.REFUSED,
            f"{site.ledger.dir} belongs to user {owner[0]}: root's files there would stop it later",
            code="R001",
            help=f"systemctl start sopgw, or setpriv --reuid {owner[0]} --regid {owner[1]} "
            "--init-groups sopgw run",
        )


def discipline() -> str:
    """Return the quality of UTC as the kernel vouches for it: chrony or ntpd tell it."""
    from gateway.commissioning.clock import ERROR_MS_MAX, UNSYNC_BITS
    from gateway.commissioning.runs.passive import kernel_clock

    said = kernel_clock()
    if said is None or said.status_bits & UNSYNC_BITS or said.error_us_max > ERROR_US_FINISH:
        return "invalid"
    return "good" if said.error_us_max <= ERROR_MS_MAX * 1000 else "degraded"


def only_observing() -> str | None:
    """Say what to do where the kernel does not vouch for UTC; None where it does."""
    from gateway.commissioning.clock import host
    from gateway.commissioning.runs.passive import kernel_clock

    said = kernel_clock()
    finding = host(said)[1] if said is not None else None
    if said is not None and finding is None:
        return None
    what = finding.what if finding else "the kernel does not say how good the clock is"
    mend = finding.mend if finding else "run it where adjtimex may be asked"
    return (
        f"only observing: {what}. {mend[0].upper()}{mend[1:]}; control begins by itself then. "
        "Where UTC is good and the kernel cannot know: runtime: {clock: assumed} in the site file"
    )


def proven_mode(mode: str, site: Site) -> str:
    """Return the mode to start in: one that writes nothing where the self-test does not hold."""
    import logging

    from gateway.cli.self_test import prove
    from gateway.market.mqtt import broker_from

    market = site.market
    tls = broker_from(
        market.broker,
        ca_file=market.ca_file,
        certificate=market.certificate,
        key_file=market.client_key_file,
    ).tls
    failed = [proof for proof in prove(tls) if proof.holds is False]
    for proof in failed:
        logging.getLogger(__name__).error("self-test %s: %s", proof.id, proof.text)
    if failed and mode in WRITING:
        note(f"self-test failed ({failed[0].text}): mode blocked instead of {mode}")
        return "blocked"
    return mode
