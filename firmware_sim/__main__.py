"""``sopsim``: simulated soft open points, meters and faults on loopback."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from firmware_sim.overriding import override
from firmware_sim.quantity import DURATION, ENERGY, POWER, RATIO, SPEED
from firmware_sim.timebase import SimClock, TimeBase

if TYPE_CHECKING:
    from firmware_sim.bench import SopDevice
    from firmware_sim.device import SimulatedDevice
    from firmware_sim.plant.ratings import DeviceSpec
    from firmware_sim.scenario.model import Outcome

EXIT_BAD, EXIT_USAGE, EXIT_CONFIG, EXIT_NO_ANSWER, EXIT_REFUSED = 1, 2, 3, 4, 5
EXIT_BUG = 11


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _fail(code: int, message: str, *, as_json: bool) -> NoReturn:
    if as_json:
        _say({"ok": False, "exit": code, "error": message})
    else:
        click.echo(f"sopsim: {message}", err=True)
    raise SystemExit(code)


class Program(click.Group):
    """The outermost frame: what nobody caught is a bug, says so and ends with its exit code."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a bug ends the program with 11 and one line that names it."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as bug:
            click.echo(f"sopsim: bug in the program: {type(bug).__name__}: {bug}", err=True)
            raise SystemExit(EXIT_BUG) from bug


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Simulated soft open points, energy meters and faults, on loopback only.

    \b
    Examples:
      sopsim device lv4x250 --port 5020
      sopsim inject link_cut --control /tmp/sop.ctl --for 30s
    """  # noqa: D301 (click wants the control character)


@main.command()
@click.argument("kind")
@click.option("--port", type=click.IntRange(0, 65500), required=True, help="First port; 0: free.")
@click.option("--speed", type=SPEED, default="1x", help="Simulated time over real time.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of noise and bias.")
@click.option("--state", type=click.Choice(["off", "stopped", "standby", "run"]), default="standby")
@click.option("--master", type=int, default=1, show_default=True, help="Terminal number.")
@click.option("--bias", type=RATIO, default="1%", help="Largest bias of a converter.")
@click.option("--meter", "meter_kind", default="iem3255", help="Make of the terminal meters.")
@click.option("--meter-error", type=RATIO, default="0%", help="Largest gain error of a meter.")
@click.option("--load", "load_w", type=POWER, default="3kW", help="A meter's load.")
@click.option("--pv", "pv_w", type=POWER, default="0W", help="Photovoltaics behind a meter.")
@click.option("--start-energy", type=ENERGY, help="Import counter at the start.")
@click.option("--grid", type=str, help="Feeders: ieee33-4t, four-feeders, cigre-lv.")
@click.option("--profile", type=click.Path(exists=True, path_type=Path), help="hour,load,sun.")
@click.option("--rtu", type=click.Path(path_type=Path), help="Serial line at this path.")
@click.option("--rtu-tcp", type=click.IntRange(0, 65535), help="RTU frames in TCP on this port.")
@click.option("--tls", type=click.IntRange(0, 65535), help="Modbus over TLS on this port.")
@click.option("--opcua", type=click.IntRange(0, 65535), help="OPC UA on this port.")
@click.option(
    "--opcua-security",
    type=click.Choice(["encrypt", "sign", "none"]),
    default="encrypt",
    help="What the OPC UA face offers; sign and none are lies to be refused.",
)
@click.option("--certs", type=click.Path(path_type=Path), help="Directory of the certificates.")
@click.option("--timebase", type=click.Path(exists=True, path_type=Path), help="Shared time base.")
@click.option("--control", type=click.Path(path_type=Path), help="Unix socket for testers.")
@click.option("--trace", type=click.Path(path_type=Path), help="CSV of true values.")
@click.option("--with-stdin", is_flag=True, help="End when standard input is closed.")
@click.option("--json", "as_json", is_flag=True, help="Errors as one JSON object.")
def device(**options: Any) -> None:
    """Start one simulated device and say on stdout, in one JSON line, where it listens.

    KIND is a soft open point (``sopsim ls``), a file that describes one, or a make of meter.

    \b
    Examples:
      sopsim device lv4x250 --port 0 --seed 7
      sopsim device sdm630 --port 5030 --load 4kW --pv 6kW --speed 60x
    """  # noqa: D301 (click wants the control character)
    import asyncio

    from firmware_sim.bench import REAL_LIMIT_MIN_S
    from firmware_sim.faces.extra import ExtraFaces
    from firmware_sim.serve import Service, serve
    from firmware_sim.yamlfile import FileMistakesError

    as_json = options["as_json"]
    try:
        simulated = _device(options)
    except FileMistakesError as wrong:
        _fail(EXIT_CONFIG, str(wrong), as_json=as_json)
    except ValueError as wrong:
        _fail(EXIT_USAGE, str(wrong), as_json=as_json)
    factor = simulated.clock.base.factor
    if factor > 1.0:
        click.echo(
            f"sopsim: at {factor:g}x watchdog and selection are widened to at least "
            f"{REAL_LIMIT_MIN_S:g} s of real time ({REAL_LIMIT_MIN_S * factor:g} s simulated)",
            err=True,
        )
    if options["tls"] is not None and options["certs"] is None:
        _fail(EXIT_USAGE, "--tls needs --certs DIR (sopsim certs DIR makes them)", as_json=as_json)
    service = Service(
        port=options["port"],
        control=options["control"],
        trace=options["trace"],
        with_stdin=options["with_stdin"],
        faces=ExtraFaces(
            rtu_link=options["rtu"],
            rtu_tcp_port=options["rtu_tcp"],
            tls_port=options["tls"],
            tls_directory=options["certs"],
        ),
        opcua_port=options["opcua"],
        opcua_directory=options["certs"],
        opcua_security=options["opcua_security"],
    )
    try:
        asyncio.run(serve(simulated, service, wait=asyncio.sleep, announce=_say))
    except OSError as wrong:
        _fail(EXIT_NO_ANSWER, str(wrong), as_json=as_json)


def _device(options: dict[str, Any]) -> SimulatedDevice:
    from firmware_sim.bench import Options, SopDevice
    from firmware_sim.meter_device import METER_KINDS, MeterDevice

    clock = SimClock(_time_base(options["timebase"], options["speed"]), time.monotonic_ns)
    kind, seed = options["kind"], options["seed"]
    if options["meter_kind"] not in METER_KINDS:
        raise ValueError(f"no meter {options['meter_kind']!r}; one of {', '.join(METER_KINDS)}")
    if kind in METER_KINDS:
        return MeterDevice(
            kind,
            clock,
            seed=seed,
            load_w=options["load_w"],
            pv_w=options["pv_w"],
            start_import_wh=options["start_energy"],
        )
    spec = _spec(kind)
    if not 1 <= options["master"] <= len(spec.terminals):
        raise ValueError(f"{kind} has terminals 1 to {len(spec.terminals)}")
    start_wh = options["start_energy"]
    made = SopDevice(
        spec,
        clock,
        Options(
            seed=seed,
            state=options["state"],
            master_index=options["master"] - 1,
            bias_ratio_max=options["bias"],
            meter_kind=options["meter_kind"],
            meter_error_ratio_max=options["meter_error"],
            start_energy_wh=1_000_000.0 if start_wh is None else start_wh,
        ),
    )
    if options["grid"] is not None:
        _couple(made, options["grid"], options["profile"])
    return made


def _couple(device: SopDevice, name: str, profile: Path | None) -> None:
    from firmware_sim.grid.coupling import Coupling
    from firmware_sim.grid.flow import Grid
    from firmware_sim.grid.networks import NETWORKS
    from firmware_sim.grid.profile import built_in, from_file

    if name not in NETWORKS:
        raise ValueError(f"no grid {name!r}; one of {', '.join(NETWORKS)}")
    course = built_in() if profile is None else from_file(profile)
    coupling = Coupling(Grid(NETWORKS[name]()), device.sop, course)
    device.couple, device.switch_branch = coupling.step, coupling.switch
    device.feeders = coupling.truth


def _spec(kind: str) -> DeviceSpec:
    from firmware_sim.device_file import read_device
    from firmware_sim.meter_device import METER_KINDS
    from firmware_sim.plant.ratings import SPECS

    if kind in SPECS:
        return SPECS[kind]
    if kind.endswith((".yaml", ".yml")) and Path(kind).is_file():
        return read_device(Path(kind))
    known = ", ".join((*SPECS, *METER_KINDS))
    raise ValueError(f"no device {kind!r}; one of {known}, or a YAML file that exists")


def _time_base(path: Path | None, factor: float) -> TimeBase:
    if path is None:
        return TimeBase(
            epoch_ns=time.monotonic_ns(), utc_epoch_us=time.time_ns() // 1000, factor=factor
        )
    try:
        return TimeBase.from_file(path)
    except (ValueError, KeyError, TypeError) as wrong:
        raise ValueError(f"{path}: not a time base: {wrong}") from wrong


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
    """Start a fault on a running device, or end all with ``clear``.

    \b
    Examples:
      sopsim inject link_cut --control /tmp/sop.ctl --for 300s --target station
      sopsim inject exception --control /tmp/sop.ctl --set code=6
    """  # noqa: D301 (click wants the control character)
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
    if not answer.get("ok"):
        _fail(EXIT_USAGE, str(answer.get("error")), as_json=as_json)
    if as_json:
        _say({"ok": True, "data": order})
    else:
        click.echo(f"{fault} injected")


@main.command()
@click.option("--to", "upstream", required=True, help="Device behind it, HOST:PORT.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Own port; 0: a free one.")
@click.option("--lie", "lies", multiple=True, help="Fault in force from the start; repeatable.")
@click.option("--rate", type=RATIO, default="100%", help="Share of the requests it hits.")
@click.option("--times", type=int, help="How many requests it hits at most.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--control", type=click.Path(path_type=Path), help="Unix socket for testers.")
@click.option("--json", "as_json", is_flag=True, help="Errors as one JSON object.")
def proxy(**options: Any) -> None:
    """Stand before a Modbus TCP device, simulated or real, and lie as told.

    \b
    Examples:
      sopsim proxy --to 127.0.0.1:5020 --lie wrong_tid --rate 10%
      sopsim proxy --to 192.0.2.10:502 --control /tmp/proxy.ctl
    """  # noqa: D301 (click wants the control character)
    import asyncio
    import random

    from firmware_sim.proxy import FaultProxy
    from firmware_sim.serve import Service, serve_proxy

    host, _, port = options["upstream"].rpartition(":")
    if not host or not port.isdigit():
        _fail(EXIT_USAGE, "--to: write HOST:PORT", as_json=options["as_json"])
    liar = FaultProxy(
        host,
        int(port),
        rng=random.Random(options["seed"]),  # noqa: S311
        wait=asyncio.sleep,
    )
    try:
        for lie in options["lies"]:
            liar.apply(lie, rate=options["rate"], times=options["times"])
        service = Service(port=options["port"], control=options["control"])
        asyncio.run(serve_proxy(liar, service, announce=_say))
    except ValueError as wrong:
        _fail(EXIT_USAGE, str(wrong), as_json=options["as_json"])
    except OSError as wrong:
        _fail(EXIT_NO_ANSWER, str(wrong), as_json=options["as_json"])


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
def certs(directory: Path) -> None:
    """Make an authority, a server and clients with roles, for the bench only.

    \b
    Examples:
      sopsim certs bench-certs
      sopsim certs bench-certs && sopsim device lv4x250 --port 0 --tls 0 --certs bench-certs
    """  # noqa: D301 (click wants the control character)
    import datetime

    from firmware_sim.faces.tls import make_certificates

    now = datetime.datetime.now(datetime.UTC)
    make_certificates(directory, now)
    click.echo(f"{directory}: ca, server, operator, observer, norole, stranger")


@main.command()
@click.argument("scenarios", nargs=-1, required=True)
@click.option("--seed", type=int, help="Another seed than the file's.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="JUnit XML.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="A page to read.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Trace of the last one.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def run(**options: Any) -> None:
    """Run scenarios; exit 0 when every expectation held, 1 when one did not.

    SCENARIOS are files, or names of shipped ones (``sopsim ls``).

    \b
    Examples:
      sopsim run link-cut
      sopsim run configs/scenarios/*.yaml --junit out.xml --html out.html
    """  # noqa: D301 (click wants the control character)
    from firmware_sim.scenario.report import as_data, junit, page
    from firmware_sim.scenario.run import trace_rows
    from firmware_sim.scenario.shipped import locate
    from firmware_sim.yamlfile import FileMistakesError

    as_json, outcomes = options["as_json"], []
    try:
        for path in options["scenarios"]:
            outcomes.append(_run_one(locate(path), options["seed"]))
            if not as_json:
                _tell(outcomes[-1])
    except FileMistakesError as wrong:
        _fail(EXIT_CONFIG, str(wrong), as_json=as_json)
    except OSError as wrong:
        missing = isinstance(wrong, FileNotFoundError)
        _fail(EXIT_USAGE if missing else EXIT_NO_ANSWER, str(wrong), as_json=as_json)
    except ValueError as wrong:
        _fail(EXIT_CONFIG, str(wrong), as_json=as_json)
    if options["junit_file"] is not None:
        options["junit_file"].write_text(junit(outcomes))
    if options["html_file"] is not None:
        options["html_file"].write_text(page(outcomes))
    if options["csv_file"] is not None:
        options["csv_file"].write_text(trace_rows(outcomes[-1].samples))
    passed = all(outcome.passed for outcome in outcomes)
    if as_json:
        _say({"ok": passed, "data": {"scenarios": [as_data(o) for o in outcomes]}})
    raise SystemExit(0 if passed else EXIT_BAD)


def _run_one(path: Path, seed: int | None) -> Outcome:
    from firmware_sim.scenario.file import read_scenario
    from firmware_sim.scenario.run import Run

    scenario = read_scenario(path)
    if not scenario.real:
        return Run(scenario, seed=seed).run()
    began = time.monotonic()

    def pace(t_s: float) -> None:
        time.sleep(max(0.0, began + t_s - time.monotonic()))

    return Run(scenario, seed=seed, pace=pace).run()


def _tell(outcome: Outcome) -> None:
    click.echo(f"{outcome.scenario.name}: {'passed' if outcome.passed else 'FAILED'}")
    for check in outcome.checks:
        e = check.expectation
        mark = "ok " if check.passed else "BAD"
        click.echo(f"  {mark} {e.title}: {check.detail} (line {e.line_number})")


@main.command("ls")
@click.option("--json", "as_json", is_flag=True)
def list_kinds(as_json: bool) -> None:  # noqa: FBT001
    """List the devices, the faults and the shipped scenarios.

    \b
    Examples:
      sopsim ls
      sopsim ls --json
    """  # noqa: D301 (click wants the control character)
    from firmware_sim.control import INJECTIONS
    from firmware_sim.faults import FAULTS
    from firmware_sim.meter_device import METER_KINDS
    from firmware_sim.plant.ratings import SPECS
    from firmware_sim.scenario.shipped import shipped

    if as_json:
        data = {
            "devices": list(SPECS),
            "meters": list(METER_KINDS),
            "faults": list(INJECTIONS),
            "proxy_faults": list(FAULTS),
            "scenarios": {name: str(path) for name, path in shipped().items()},
        }
        _say({"ok": True, "data": data})
        return
    for spec in SPECS.values():
        rating = spec.terminals[0]
        click.echo(
            f"{spec.kind:10} {len(spec.terminals)} terminals of {rating.s_va / 1000:g} kVA, "
            f"{rating.v_ac_nominal_v:g} V, DC {spec.v_dc_nominal_v:g} V"
        )
    click.echo("meters: " + ", ".join(METER_KINDS))
    click.echo("faults: " + ", ".join(INJECTIONS))
    click.echo("faults of the proxy: " + ", ".join(FAULTS))
    click.echo("scenarios: " + ", ".join(shipped()))


if __name__ == "__main__":
    main()
