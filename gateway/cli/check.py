"""``sopgw check``: signs, scale, wiring, clock, network."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.names import DEVICE, devices
from gateway.cli.output import group, site_option
from gateway.cli.perform import perform, power_options, sop_option, typed
from gateway.cli.quantities import DURATION_MS, POWER, Reference


@group(
    "check",
    examples=(
        ("sopgw check scale m1 -c site.yaml", "do the meter's points fit each other?"),
        ("sopgw check wiring m2 --inject 10kW -c site.yaml", "a plan of the active wiring check"),
    ),
)
def check() -> None:
    """Find out whether devices are wired, scaled and signed as the site file says."""


@check.command(
    "signs",
    schema="check.signs",
    impact="ro",
    examples=(
        ("sopgw check signs -c site.yaml", "every meter against its converter, half a minute each"),
        ("sopgw check signs m2 --for 2min -c site.yaml", "one meter, longer"),
    ),
)
@click.argument("device", required=False, shell_complete=devices)
@click.option("--for", "span", type=DURATION_MS, default="30s", show_default=True)
@site_option
@sop_option
def signs(*, device: str | None, span: int, **common: Any) -> None:
    """Hold meters' signs against the converter's with whatever flows; never writes."""
    given = {"device": device, "span": span}
    perform("check signs", given, **common)


@check.command(
    "scale",
    schema="check.scale",
    impact="ro",
    examples=(
        ("sopgw check scale m1 -c site.yaml", "identities that need no reference"),
        ("sopgw check scale m1 --ref v1=231.2V±0.1V -c site.yaml", "and the meter's display"),
    ),
)
@DEVICE
@click.option("--ref", type=Reference(), multiple=True, metavar="POINT=VALUE±TOL")
@site_option
@sop_option
def scale(*, device: str, ref: tuple[Any, ...], **common: Any) -> None:
    """Check scale, unit and word order of a device's points; never writes."""
    given = {"device": device, "ref": ref}
    perform("check scale", given, **common, extra={"device": device})


@check.command(
    "clock",
    schema="check.clock",
    impact="ro",
    examples=(
        ("sopgw check clock -c site.yaml", "this machine's clock and the station's"),
        ("sopgw check clock --for 10min -c site.yaml", "the station's rate, more sharply"),
    ),
)
@click.option("--for", "span", type=DURATION_MS, default="5s", show_default=True)
@site_option
@sop_option
def clock(*, span: int, **common: Any) -> None:
    """Check that this machine's clock is synchronised and the station's runs with it."""
    perform("check clock", {"span": span}, **common)


@check.command(
    "network",
    schema="check.network",
    impact="ro",
    examples=(
        ("sopgw check network -c site.yaml", "every device, ten polls"),
        ("sopgw check network --count 100 --json -c site.yaml", "more of them, for a script"),
    ),
)
@click.option("--count", type=click.IntRange(1, 10_000), default=10, show_default=True)
@site_option
@sop_option
def network(*, count: int, **common: Any) -> None:
    """Ask every device a few times and show how long it takes; never writes."""
    perform("check network", {"count": count}, **common)


@check.command(
    "wiring",
    schema="check.wiring",
    impact="hw",
    examples=(
        ("sopgw check wiring m2 --inject 10kW -c site.yaml", "a plan; nothing is written"),
        ("sopgw check wiring m2 --inject 10kW --yes -c site.yaml", "inject and decide"),
    ),
)
@DEVICE
@click.option("--inject", type=POWER, default="10kW", show_default=True, help="Amplitude, ±.")
@click.option("--via", help="Terminal that injects; the meter's own by default.")
@click.option("--half", type=DURATION_MS, default="10s", show_default=True)
@click.option("--max", "max_span", type=DURATION_MS, default="4min", show_default=True)
@click.option("--before", type=DURATION_MS, default="1min", show_default=True, help="Watch loads.")
@site_option
@sop_option
@power_options
def wiring(
    *,
    device: str,
    inject: int,
    via: str | None,
    half: int,
    max_span: int,
    before: int,
    **common: Any,
) -> None:
    """Inject a small ±P and tell which CT sits on which phase, and which way round."""
    given = {
        "device": device,
        "inject": inject,
        "via": via,
        "half": half,
        "max_span": max_span,
        "before": before,
    }
    command = typed(
        "check wiring",
        device,
        ("--inject", f"{inject}W"),
        ("--via", via),
        ("--half", f"{half}ms"),
        ("--max", f"{max_span}ms"),
        ("--before", f"{before}ms"),
    )
    perform(
        "check wiring",
        given,
        command=command,
        **common,
        extra={"device": device, "inject_w": inject},
    )
