"""``sopgw test``: signals, interlock, step, watchdog, estop, sweep, hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.names import DEVICE, TERMINAL
from gateway.cli.output import group, site_option
from gateway.cli.perform import perform, power_options, sop_option, typed
from gateway.cli.quantities import DURATION_MS, POWER, RATIOS

HOLD_MS_MAX = 15 * 60_000  # to read a meter; longer is a setpoint by hand's business
HOW = ("stop-heartbeat", "drop-link", "kill-service", "unplug")


@group(
    "test",
    examples=(
        ("sopgw test step T2 --to 25kW -c site.yaml", "a plan of a setpoint step"),
        ("sopgw test signals station -c site.yaml", "walk the signals with a person at the panel"),
    ),
)
def test_() -> None:
    """Prove the safe behaviour: signals, interlocks, steps, watchdog, emergency stop."""


test_.__test__ = False  # type: ignore[attr-defined]  # a command, not a test


@test_.command(
    "signals",
    schema="test.signals",
    impact="ro",
    examples=(
        ("sopgw test signals station -c site.yaml", "local/remote and the door contact"),
        ("sopgw test signals station --only local -c site.yaml", "one of them"),
    ),
)
@DEVICE
@click.option("--only", multiple=True, metavar="NAME", help="local, interlock or estop.")
@site_option
@sop_option
def signals(*, device: str, only: tuple[str, ...], **common: Any) -> None:
    """Ask a person to change each signal and look whether it follows; never writes."""
    given = {"device": device, "only": only}
    perform("test signals", given, **common)


@test_.command(
    "interlock",
    schema="test.interlock",
    impact="hw",
    examples=(
        ("sopgw test interlock -c site.yaml", "a plan; nothing is written"),
        ("sopgw test interlock local --yes -c site.yaml", "see the station refuse while local"),
    ),
)
@click.argument("names", nargs=-1)
@site_option
@sop_option
@power_options
def interlock(
    *,
    names: tuple[str, ...],
    **common: Any,
) -> None:
    """Provoke each interlock and see the station itself refuse a selection of zero power."""
    perform(
        "test interlock",
        {"names": names},
        command=typed("test interlock", *names),
        **common,
    )


@test_.command(
    "step",
    schema="test.step",
    impact="hw",
    examples=(
        ("sopgw test step T2 --to 25kW -c site.yaml", "a plan with the exact frame"),
        ("sopgw test step T2 --to 25kW --return --repeat 3 --yes -c site.yaml", "measured"),
    ),
)
@TERMINAL
@click.option("--to", type=POWER, required=True, help="Positive injects into the feeder.")
@click.option("--from", "from_", type=POWER, default="0kW", show_default=True)
@click.option("--hold", type=DURATION_MS, default="10s", show_default=True)
@click.option("--return", "return_", is_flag=True, help="Measure the way back too.")
@click.option("--repeat", type=click.IntRange(1, 20), default=1, show_default=True)
@click.option("--plot", is_flag=True, help="Draw the curves in the terminal.")
@click.option("--csv", type=click.Path(path_type=Path, dir_okay=False), help="Samples to a file.")
@site_option
@sop_option
@power_options
def step(
    *,
    terminal: str,
    to: int,
    from_: int,
    hold: int,
    return_: bool,
    repeat: int,
    plot: bool,
    csv: Path | None,
    **common: Any,
) -> None:
    """Step a terminal's power and measure dead time, response, settling, overshoot, error."""
    given = {
        "terminal": terminal,
        "to": to,
        "from_": from_,
        "hold": hold,
        "return_": return_,
        "repeat": repeat,
        "plot": plot,
        "csv": csv,
    }
    command = typed(
        "test step",
        terminal,
        ("--to", f"{to}W"),
        ("--from", f"{from_}W"),
        ("--hold", f"{hold}ms"),
        ("--return", return_),
        ("--repeat", repeat),
        ("--plot", plot),
        ("--csv", csv),
    )
    perform(
        "test step",
        given,
        command=command,
        **common,
        extra={"terminal": terminal, "to_w": to, "from_w": from_},
    )


@test_.command(
    "watchdog",
    schema="test.watchdog",
    impact="hw",
    examples=(
        ("sopgw test watchdog station -c site.yaml", "a plan; nothing is written"),
        ("sopgw test watchdog station --how drop-link --yes -c site.yaml", "close the connection"),
    ),
)
@DEVICE
@click.option("--how", type=click.Choice(HOW), default="stop-heartbeat", show_default=True)
@click.option("--power", type=POWER, default="10kW", show_default=True)
@click.option("--terminal", help="Which terminal carries it; the first slave by default.")
@site_option
@sop_option
@power_options
def watchdog(
    *,
    device: str,
    how: str,
    power: int,
    terminal: str | None,
    **common: Any,
) -> None:
    """Fall silent under a little power: the station must go to zero by itself and stay there."""
    command = typed(
        "test watchdog",
        device,
        ("--how", how),
        ("--power", f"{power}W"),
        ("--terminal", terminal),
    )
    perform(
        "test watchdog",
        {"device": device, "how": how, "power": power, "terminal": terminal},
        command=command,
        **common,
        extra={"how": how},
    )


@test_.command(
    "estop",
    schema="test.estop",
    impact="hw",
    examples=(
        ("sopgw test estop station -c site.yaml", "a plan; nothing is written"),
        ("sopgw test estop station --power 10kW --yes -c site.yaml", "with a person at the panel"),
    ),
)
@DEVICE
@click.option("--power", type=POWER, default="10kW", show_default=True)
@click.option("--terminal", help="Which terminal carries it; the first slave by default.")
@click.option("--limit", type=DURATION_MS, default="1s", show_default=True)
@site_option
@sop_option
@power_options
def estop(
    *,
    device: str,
    power: int,
    terminal: str | None,
    limit: int,
    **common: Any,
) -> None:
    """Watch the emergency stop that a person presses; this program never is one."""
    command = typed(
        "test estop",
        device,
        ("--power", f"{power}W"),
        ("--terminal", terminal),
        ("--limit", f"{limit}ms"),
    )
    perform(
        "test estop",
        {"device": device, "power": power, "terminal": terminal, "limit": limit},
        command=command,
        **common,
    )


@test_.command(
    "sweep",
    schema="test.sweep",
    impact="hw",
    examples=(
        ("sopgw test sweep T2 -c site.yaml", "a plan; nothing is written"),
        ("sopgw test sweep T2 --confirm SOP-1 --save capability.yaml -c site.yaml", "36 points"),
    ),
)
@TERMINAL
@click.option("--angles", type=click.IntRange(4, 72), default=12, show_default=True)
@click.option("--radius", type=RATIOS, default="30%,60%,90%", show_default=True)
@click.option("--hold", type=DURATION_MS, default="4s", show_default=True)
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Polygon as YAML.")
@site_option
@sop_option
@power_options
def sweep(
    *,
    terminal: str,
    angles: int,
    radius: tuple[float, ...],
    hold: int,
    save: Path | None,
    **common: Any,
) -> None:
    """Visit points of the PQ plane and save the polygon that is truly delivered."""
    command = typed(
        "test sweep",
        terminal,
        ("--angles", angles),
        ("--radius", ",".join(f"{100 * r:g}%" for r in radius)),
        ("--hold", f"{hold}ms"),
        ("--save", save),
    )
    perform(
        "test sweep",
        {"terminal": terminal, "angles": angles, "radius": radius, "hold": hold, "save": save},
        command=command,
        **common,
        extra={"terminal": terminal},
    )


@test_.command(
    "hold",
    schema="test.hold",
    impact="hw",
    examples=(
        ("sopgw test hold T2 --power 10kW -c site.yaml", "a plan; nothing is written"),
        ("sopgw test hold T2 --power 10kW --for 5min --yes -c site.yaml", "to read a clamp meter"),
    ),
)
@TERMINAL
@click.option("--power", type=POWER, required=True, help="Positive injects into the feeder.")
@click.option(
    "--for", "span", type=DURATION_MS, default="60s", show_default=True, help="At most 15min."
)
@click.option("--under", type=int, hidden=True, help="Socket to who holds control.")
@site_option
@sop_option
@power_options
def hold(
    *,
    terminal: str,
    power: int,
    span: int,
    under: int | None,
    **common: Any,
) -> None:
    """Hold a power at a terminal, then zero; for reading a meter or a display meanwhile."""
    if under is not None:
        _hold_under(under, terminal, power, **common)
        return
    if not 0 < span <= HOLD_MS_MAX:
        raise click.UsageError(f"--for: more than nothing, at most {HOLD_MS_MAX // 60_000}min")
    command = typed("test hold", terminal, ("--power", f"{power}W"), ("--for", f"{span}ms"))
    perform(
        "test hold",
        {"terminal": terminal, "power": power, "span": span},
        command=command,
        **common,
        extra={"terminal": terminal, "p_w": power},
    )


def _hold_under(
    descriptor: int,
    terminal: str,
    power: int,
    *,
    config_path: Path,
    sop_id: str | None,
    confirm: str,
    **_consent: Any,
) -> None:
    """Hold until killed, under the control of the watchdog test that started this process."""
    import asyncio

    from gateway.cli import field as fields
    from gateway.cli.hold_elsewhere import HOLDING
    from gateway.cli.hold_elsewhere import under as lent_by
    from gateway.cli.output import ExitCode, fail
    from gateway.cli.refusals import refusals_told
    from gateway.commissioning.runs.holding import HoldOrder, run_hold

    async def go() -> None:
        async with fields.opened(config_path, sop_id) as field:
            fields.refuse_when_read_only()
            if confirm != field.equipment.sop.id:
                fail(ExitCode.UNCONFIRMED, "--confirm is not the name of the SOP", code="H002")
            order = HoldOrder(terminal=fields.known_terminal(field, terminal), p_w=power)
            field.journal = lent = await lent_by(descriptor)
            field.rack.owner = lent.owner_id
            await run_hold(field.rack, order, journal=lent, holding=lambda: lent.tell(HOLDING))

    with refusals_told():
        asyncio.run(go())
