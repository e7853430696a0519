"""``sopsim``: simulated soft open points, meters and faults on loopback."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from firmware_sim.quantity import DURATION, RATIO, SPEED

EXIT_BAD, EXIT_USAGE, EXIT_CONFIG, EXIT_NO_ANSWER, EXIT_REFUSED = 1, 2, 3, 4, 5


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _fail(code: int, message: str, *, as_json: bool) -> None:
    if as_json:
        _say({"ok": False, "exit": code, "error": message})
    else:
        click.echo(f"sopsim: {message}", err=True)
    raise SystemExit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    r"""Simulated soft open points, energy meters and faults, on loopback only.

    \b
    Examples:
      sopsim device lv4x250 --port 5020
      sopsim inject link_cut --control /tmp/sop.ctl --for 30s
    """


@main.command()
@click.argument("kind")
@click.option("--port", type=click.IntRange(0, 65500), required=True, help="First port; 0: free.")
@click.option("--speed", type=SPEED, default="1x", help="Simulated time over real time.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of noise and bias.")
@click.option("--state", type=click.Choice(["off", "stopped", "standby", "run"]), default="standby")
@click.option("--master", type=int, default=1, show_default=True, help="Terminal number.")
@click.option("--bias", type=RATIO, default="1%", help="Largest bias of a converter.")
@click.option("--timebase", type=click.Path(exists=True, path_type=Path), help="Shared time base.")
@click.option("--control", type=click.Path(path_type=Path), help="Unix socket for testers.")
@click.option("--trace", type=click.Path(path_type=Path), help="CSV of true values.")
@click.option("--with-stdin", is_flag=True, help="End when standard input is closed.")
@click.option("--json", "as_json", is_flag=True, help="Errors as one JSON object.")
def device(
    kind: str,
    port: int,
    speed: float,
    seed: int,
    state: str,
    master: int,
    bias: float,
    timebase: Path | None,
    control: Path | None,
    trace: Path | None,
    with_stdin: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    r"""Start one simulated device and say on stdout, in one JSON line, where it listens.

    \b
    Examples:
      sopsim device lv4x250 --port 0 --seed 7
      sopsim device lv4x250 --port 5020 --speed 60x --control /tmp/sop.ctl --trace true.csv
    """
    from firmware_sim.bench import Options, SopDevice
    from firmware_sim.plant.ratings import SPECS
    from firmware_sim.serve import Service, serve
    from firmware_sim.timebase import SimClock, TimeBase

    spec = SPECS.get(kind)
    if spec is None:
        _fail(EXIT_USAGE, f"no device {kind!r}; one of {', '.join(SPECS)}", as_json=as_json)
        return
    if not 1 <= master <= len(spec.terminals):
        _fail(EXIT_USAGE, f"{kind} has terminals 1 to {len(spec.terminals)}", as_json=as_json)
    if timebase is not None:
        try:
            base = TimeBase.from_file(timebase)
        except (ValueError, KeyError) as wrong:
            _fail(EXIT_CONFIG, f"{timebase}: {wrong}", as_json=as_json)
            return
    else:
        base = TimeBase(
            epoch_ns=time.monotonic_ns(), utc_epoch_us=time.time_ns() // 1000, factor=speed
        )
    if base.factor > 1.0:
        click.echo(
            f"sopsim: at {base.factor:g}x watchdog and selection are widened to at least 0.5 s "
            f"of real time ({0.5 * base.factor:g} s simulated)",
            err=True,
        )
    options = Options(seed=seed, state=state, master_index=master - 1, bias_ratio_max=bias)
    simulated = SopDevice(spec, SimClock(base, time.monotonic_ns), options)
    service = Service(port=port, control=control, trace=trace, with_stdin=with_stdin)
    try:
        asyncio.run(serve(simulated, service, wait=asyncio.sleep, announce=_say))
    except OSError as wrong:
        _fail(EXIT_NO_ANSWER, str(wrong), as_json=as_json)


@main.command()
@click.argument("fault")
@click.option("--control", type=click.Path(path_type=Path), required=True, help="Its socket.")
@click.option("--for", "for_s", type=DURATION, help="Simulated time after which it ends.")
@click.option("--target", help="station, meters, m1 …, all.")
@click.option("--set", "settings", multiple=True, help="Further key=value, such as style=silent.")
@click.option("--json", "as_json", is_flag=True)
def inject(
    fault: str,
    control: Path,
    for_s: float | None,
    target: str | None,
    settings: tuple[str, ...],
    as_json: bool,  # noqa: FBT001
) -> None:
    r"""Start a fault on a running device, or end all with ``clear``.

    \b
    Examples:
      sopsim inject link_cut --control /tmp/sop.ctl --for 300s --target station
      sopsim inject exception --control /tmp/sop.ctl --set code=6
    """
    from firmware_sim.serve import ask

    order: dict[str, Any] = {"inject": fault}
    if for_s is not None:
        order["for_s"] = for_s
    if target is not None:
        order["target"] = target
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            _fail(EXIT_USAGE, f"--set {setting}: write key=value", as_json=as_json)
        order[key] = value
    try:
        answer = ask(control, order)
    except (OSError, TimeoutError) as wrong:
        _fail(EXIT_NO_ANSWER, f"{control}: {wrong}", as_json=as_json)
        return
    if not answer.get("ok"):
        _fail(EXIT_USAGE, str(answer.get("error")), as_json=as_json)
    if as_json:
        _say({"ok": True, "data": order})
    else:
        click.echo(f"{fault} injected")


@main.command("ls")
@click.option("--json", "as_json", is_flag=True)
def list_kinds(as_json: bool) -> None:  # noqa: FBT001
    r"""List the devices and the faults.

    \b
    Examples:
      sopsim ls
      sopsim ls --json
    """
    from firmware_sim.control import INJECTIONS
    from firmware_sim.plant.ratings import SPECS

    if as_json:
        _say({"ok": True, "data": {"devices": list(SPECS), "faults": list(INJECTIONS)}})
        return
    for spec in SPECS.values():
        rating = spec.terminals[0]
        click.echo(
            f"{spec.kind:10} {len(spec.terminals)} terminals of {rating.s_va / 1000:g} kVA, "
            f"{rating.v_ac_nominal_v:g} V, DC {spec.v_dc_nominal_v:g} V"
        )
    click.echo("faults: " + ", ".join(INJECTIONS))


if __name__ == "__main__":
    main()
