"""``sopgw point``: single values of a device, read and written by its profile."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.names import DEVICE
from gateway.cli.output import ExitCode, Finding, emit, fail, group, say
from gateway.cli.where import (
    device_options,
    opened,
    readable,
    requests_of,
    row_of,
    seconds,
    target_of,
    value_text,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from gateway.devices.codec import Value
    from gateway.devices.device import ModbusDevice, PointValue
    from gateway.devices.opcua.device import NodeValue, OpcuaDevice
    from gateway.devices.profile import Point

T = TypeVar("T")
MAP_SIZE_MAX = 2000  # registers asked one by one at most


def _run(what: Awaitable[T]) -> T:
    import asyncio

    async def wrapped() -> T:
        return await what

    return asyncio.run(wrapped())


@group(
    "point",
    examples=(
        ("sopgw point get m1", "every value of a device of the site file"),
        ("sopgw point set station wdg.timeout=5s --yes", "write one value and read it back"),
    ),
)
def point() -> None:
    """Single values: list, read, watch, decode, map and set."""


@point.command(
    "ls",
    schema="point.ls",
    examples=(
        ("sopgw point ls m1", "points of a device of the site file"),
        ("sopgw point ls 127.0.0.1:5020 --profile sunspec-vsc", "points of a profile"),
    ),
)
@DEVICE
@device_options
def ls(device: str, config_path: Path, profile_name: str, unit: int | None, timeout: str) -> None:
    """List the points and the requests that read them."""
    found = readable(
        target_of(device, config_path=config_path, profile_name=profile_name, unit=unit),
        timeout=timeout,
    )
    blocks = requests_of(found)
    lines = []
    for block in blocks:
        first, count = block["from"], block["count"]
        lines.append(f"{block['table']}/{first}+{count}  {len(block['points'])} points")
        lines += [f"    {name}" for name in block["points"]]
    emit({"device": device, "blocks": blocks}, text="\n".join(lines))


@point.command(
    "get",
    schema="point.get",
    examples=(
        ("sopgw point get m1 p e.import --raw", "two values with their registers"),
        ("sopgw point get 127.0.0.1:5020 --unit 2 --profile sunspec-vsc --json", "by URL"),
    ),
)
@DEVICE
@click.argument("points", nargs=-1)
@click.option("--raw", is_flag=True, help="Show the registers too.")
@click.option("--repeat", type=click.IntRange(1), default=1, help="How often.")
@click.option("--interval", default="1s", show_default=True, help="Between two readings.")
@device_options
def get(
    device: str,
    points: tuple[str, ...],
    raw: bool,  # noqa: FBT001 - a flag
    repeat: int,
    interval: str,
    config_path: Path,
    profile_name: str,
    unit: int | None,
    timeout: str,
) -> None:
    """Read points and print them as the profile means them."""
    found = readable(
        target_of(device, config_path=config_path, profile_name=profile_name, unit=unit),
        timeout=timeout,
    )
    _known(found, points)
    rounds = _run(_rounds(found, points, repeat, seconds(interval), raw=raw))
    last = rounds[-1]
    emit(
        {
            "device": device,
            "points": [row_of(found.points[n], v) for n, v in last.items()],
            "refused": dict(found.refused),
        }
    )


async def _rounds(
    device: ModbusDevice | OpcuaDevice,
    points: Sequence[str],
    repeat: int,
    interval_s: float,
    *,
    raw: bool,
) -> list[Mapping[str, PointValue | NodeValue]]:
    import asyncio

    rounds: list[Mapping[str, PointValue | NodeValue]] = []
    try:
        for number in range(repeat):
            if number:
                await asyncio.sleep(interval_s)
            seen: Mapping[str, PointValue | NodeValue] = await device.get(points or None)
            for name, value in seen.items():
                say(_line(device.points[name], value, raw=raw))
            rounds = [seen]
    finally:
        await device.close()
    return rounds


def _line(found: Point, seen: PointValue | NodeValue, *, raw: bool) -> str:
    place = found.register.text if found.register is not None else ""
    words = " ".join(f"{w:04X}" for w in seen.registers) if raw else ""
    return f"{found.name:<24} {value_text(found, seen.value):>20}  {place:<15} {words}".rstrip()


def _known(device: ModbusDevice | OpcuaDevice, names: Sequence[str]) -> None:
    import difflib

    for name in names:
        if name not in device.points:
            near = difflib.get_close_matches(name, device.points, n=1)
            help_text = f"did you mean {near[0]}?" if near else "`sopgw point ls` lists them"
            fail(ExitCode.USAGE, f"no point {name!r}", code="E002", help=help_text)


@point.command(
    "watch",
    schema="point.watch",
    examples=(
        ("sopgw point watch m1 p", "a line for each change"),
        ("sopgw point watch station t1.p t2.p --interval 200ms --count 50", "for ten seconds"),
    ),
)
@DEVICE
@click.argument("points", nargs=-1, required=True)
@click.option("--interval", default="1s", show_default=True, help="Between two readings.")
@click.option("--count", "count", type=click.IntRange(1), help="Readings; for ever by default.")
@device_options
def watch(
    device: str,
    points: tuple[str, ...],
    interval: str,
    count: int | None,
    config_path: Path,
    profile_name: str,
    unit: int | None,
    timeout: str,
) -> None:
    """Print a line whenever a value changes."""
    found = readable(
        target_of(device, config_path=config_path, profile_name=profile_name, unit=unit),
        timeout=timeout,
    )
    _known(found, points)
    changes = _run(_changes(found, points, count, seconds(interval)))
    emit({"device": device, "changes": changes})


async def _changes(
    device: ModbusDevice | OpcuaDevice,
    points: Sequence[str],
    count: int | None,
    interval_s: float,
) -> list[dict[str, Any]]:
    import asyncio
    import datetime as dt

    last: dict[str, Any] = {}
    changes: list[dict[str, Any]] = []
    number = 0
    try:
        while count is None or number < count:
            if number:
                await asyncio.sleep(interval_s)
            number += 1
            read: Mapping[str, PointValue | NodeValue] = await device.get(points)
            for name, seen in read.items():
                if name in last and last[name] == seen.value:
                    continue
                last[name] = seen.value
                changes.append(row_of(device.points[name], seen))
                moment = dt.datetime.fromtimestamp(seen.utc_us / 1e6, tz=dt.UTC)
                text = value_text(device.points[name], seen.value)
                say(f"{moment:%H:%M:%S.%f}"[:-3] + f"  {name:<24} {text}")
    finally:
        await device.close()
    return changes


@point.command(
    "decode",
    schema="point.decode",
    examples=(
        ("sopgw point decode m1 input/0 --expect 230V±13% --count 3", "what could this be?"),
        ("sopgw point decode 127.0.0.1:502 holding/3027 --expect 400V±10%", "by URL"),
    ),
)
@DEVICE
@click.argument("register")
@click.option("--expect", required=True, help="What it should be, like 230V±13%.")
@click.option("--count", type=click.IntRange(1, 8), default=1, help="Values in a row.")
@device_options
def decode(
    device: str,
    register: str,
    expect: str,
    count: int,
    config_path: Path,
    profile_name: str,
    unit: int | None,
    timeout: str,
) -> None:
    """Show every plausible decoding of a register; never one where two survive."""
    from gateway.cli.point_decode import decoded

    target = target_of(device, config_path=config_path, profile_name=profile_name, unit=unit)
    data, text, certain = _run(
        decoded(target, register, expect, count=count, timeout_s=seconds(timeout))
    )
    finding = Finding(
        code="D109",
        message="more than one decoding, or none, is plausible",
        help="sopgw check scale DEVICE --ref POINT=VALUE±TOLERANCE, read from its display",
    )
    emit(
        data,
        text=text,
        exit_code=ExitCode.OK if certain else ExitCode.UNDECIDED,
        findings=() if certain else (finding,),
    )


@point.command(
    "map",
    schema="point.map",
    examples=(
        ("sopgw point map m1 --from 3000 --to 3120", "which registers exist"),
        ("sopgw point map 127.0.0.1:502 --table input --from 0 --to 100", "of the input table"),
    ),
)
@DEVICE
@click.option("--from", "first", type=click.IntRange(0, 65535), default=0, show_default=True)
@click.option("--to", "last", type=click.IntRange(0, 65535), default=200, show_default=True)
@click.option("--table", type=click.Choice(["holding", "input"]), default="holding")
@device_options
def map_(
    device: str,
    first: int,
    last: int,
    table: str,
    config_path: Path,
    profile_name: str,
    unit: int | None,
    timeout: str,
) -> None:
    """Show which registers a device has, and which of them change."""
    from gateway.cli.point_decode import mapped

    if not first <= last < first + MAP_SIZE_MAX:
        raise click.UsageError(f"from --from to --to there must be 1 to {MAP_SIZE_MAX} registers")
    target = target_of(device, config_path=config_path, profile_name=profile_name, unit=unit)
    runs = _run(mapped(target, table, first, last, timeout_s=seconds(timeout)))
    lines = [
        f"{table}/{r['from']}+{len(r['words'])}  "
        + " ".join(f"{w:04X}" for w in r["words"])
        + (f"   changing: {', '.join(map(str, r['changing']))}" if r["changing"] else "")
        for r in runs
    ]
    emit({"device": device, "table": table, "runs": runs}, text="\n".join(lines) or "nothing")


@point.command(
    "set",
    schema="point.set",
    impact="hw",
    examples=(
        ("sopgw point set station wdg.timeout=5s", "show what would be written"),
        ("sopgw point set station wdg.timeout=5s --yes", "write once and read back"),
        ("sopgw point set T2 p=10kW --for 30s --yes", "a terminal by hand, through the service"),
    ),
)
@DEVICE
@click.argument("assignment", metavar="POINT=VALUE")
@click.option("--yes", is_flag=True, help="Write; without it only the plan is shown.")
@click.option("--for", "hold", default="", help="Hold so long, then write the old value back.")
@click.option("--confirm", default="", metavar="SOP", help="For a terminal's severe power.")
@click.option("--applied", hidden=True, default="", help="Plan taken by `sopgw apply`.")
@device_options
def set_(
    device: str,
    assignment: str,
    yes: bool,  # noqa: FBT001 - a flag
    hold: str,
    confirm: str,
    applied: str,
    config_path: Path,
    profile_name: str,
    unit: int | None,
    timeout: str,
) -> None:
    """Write one point once and read it back; without --yes only say what would be written.

    Where DEVICE is a terminal, p=POWER is a setpoint by hand: the running service holds it for
    --for (60s without it) and takes it back by itself.
    """
    from gateway.cli import by_hand

    if by_hand.is_terminal(device, assignment, config_path):
        by_hand.hold(
            device, assignment, hold or "60s", config_path=config_path,
            yes=yes, confirm=confirm, applied=applied,
        )  # fmt: skip
        return
    if yes:
        by_hand.refuse_while_served(device, config_path)
    target = target_of(device, config_path=config_path, profile_name=profile_name, unit=unit)
    found = opened(target, timeout=timeout, read_only=not yes)
    name, _, text = assignment.partition("=")
    _known(found, [name])
    value = _amount(found.codecs[name].point, text)
    words = _words(found, name, value)
    plan = {
        "device": device,
        "point": name,
        "value": str(value),
        "registers": list(words),
        "written": False,
    }
    if not yes:
        shown = " ".join(f"{w:04X}" for w in words)
        emit(
            plan,
            text=f"would write {name} = {text} ({shown}) to {target.url} unit {target.unit}",
            exit_code=ExitCode.UNCONFIRMED,
            findings=[Finding(code="D110", message="nothing was written", help="add --yes")],
        )
    shown_value, agrees = _run(_write(found, name, value, seconds(hold) if hold else 0.0))
    answer = plan | {"written": True, "read_back": row_of(_shown_point(found, name), shown_value)}
    back = value_text(_shown_point(found, name), shown_value.value)
    finding = Finding(
        code="D108",
        message=f"{name} was written as {text}, {shown_value.name} reads {back}",
        help="the device limits it, or its read-back point lags",
    )
    emit(
        answer,
        text=f"{name} = {text}, {shown_value.name} reads {back}",
        exit_code=ExitCode.OK if agrees else ExitCode.UNVERIFIED,
        findings=() if agrees else (finding,),
    )


def _refuse_unheld(device: ModbusDevice, name: str, before: Value, hold_s: float) -> None:
    """Refuse to hold what could not be put back."""
    if not hold_s:
        return
    wait_ms = device.codecs[name].point.write.interval_ms_min
    wrong = ""
    if before is None:
        wrong = f"{name} has no value to go back to"
    elif hold_s * 1000 < wait_ms:
        wrong = f"{name} may be written every {wait_ms / 1000:g} s: hold it so long at least"
    if wrong:
        fail(ExitCode.REFUSED, wrong, code="D106", help="nothing was written")


async def _put_back(device: ModbusDevice, name: str, before: float | str) -> None:
    """Write what was there before it was held otherwise; say so where that cannot be."""
    from gateway.devices.codec import EncodeError
    from gateway.devices.guard import GuardRefused
    from gateway.model.errors import DeviceError

    try:
        await device.set(name, before)
    except (GuardRefused, EncodeError, DeviceError) as error:
        fail(
            ExitCode.UNVERIFIED,
            f"{name} keeps the new value, {before} was not written back: {error}",
            code="D108",
            help=f"write it: sopgw point set … {name}={before}",
        )


def _words(device: ModbusDevice, name: str, value: Decimal | str) -> tuple[int, ...]:
    """The registers that would be written; unknown before the scale factor is read."""
    from gateway.devices.codec import EncodeError

    codec = device.codecs[name]
    if codec.point.scale_point is not None:
        return ()
    try:
        return codec.encode(value)
    except EncodeError as error:
        fail(ExitCode.REFUSED, str(error), code="D106", help="nothing was written")


def _shown_point(device: ModbusDevice, name: str) -> Point:
    return device.codecs[device.codecs[name].point.readback or name].point


def _amount(found: Point, text: str) -> Decimal | str:
    from decimal import Decimal, InvalidOperation

    from gateway.model.units import UnitError, parse_quantity

    if text in found.label_by_code.values():
        return text
    try:
        return parse_quantity(text, found.dimension) if found.dimension else Decimal(text)
    except UnitError as error:
        raise click.UsageError(f"{error}; {error.help}") from None
    except InvalidOperation:
        words = ", ".join(found.label_by_code.values())
        raise click.UsageError(f"{text!r} is no value; write {words or 'a number'}") from None


async def _write(
    device: ModbusDevice, name: str, value: Decimal | str, hold_s: float
) -> tuple[PointValue, bool]:
    import asyncio

    from gateway.devices.codec import EncodeError
    from gateway.devices.guard import GuardRefused
    from gateway.model.errors import OutcomeUnknown

    try:
        before = (await device.get([name]))[name].value if hold_s else None
        _refuse_unheld(device, name, before, hold_s)
        try:
            shown = await device.set(name, value)
        except (GuardRefused, EncodeError) as refused:
            fail(ExitCode.REFUSED, str(refused), code="D106", help="nothing was written")
        except OutcomeUnknown:
            if before is not None:
                await _put_back(device, name, before)
            raise
        if before is not None:
            try:
                await asyncio.sleep(hold_s)
            finally:  # also when somebody does not want to wait for it
                await _put_back(device, name, before)
    finally:
        await device.close()
    if isinstance(value, str):
        words = _shown_point(device, name).label_by_code
        return shown, isinstance(shown.value, int) and words.get(shown.value) == value
    return shown, isinstance(shown.value, int | float) and abs(
        float(value) - shown.value
    ) <= 1e-6 * max(1.0, abs(float(value)))
