"""Which device a command means: a name of the site file, or a URL with a profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.output import ExitCode, fail, site_option

if TYPE_CHECKING:
    from gateway.devices.codec import Value
    from gateway.devices.device import ModbusDevice, PointValue
    from gateway.devices.opcua.device import NodeValue, OpcuaDevice
    from gateway.devices.profile import Point, Profile, Register

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A device to speak to."""

    name: str
    url: str
    unit: int
    profile: Profile | None


def device_options(function: F) -> F:
    """Add -c, --profile, --unit and --timeout."""
    for option in (
        click.option("--timeout", default="500ms", show_default=True, help="For each answer."),
        click.option("--unit", type=click.IntRange(0, 255), help="Modbus unit."),
        click.option("--profile", "profile_name", default="", help="Name or file of a profile."),
    ):
        function = option(function)
    return site_option(function)


def target_of(where: str, *, config_path: Path, profile_name: str, unit: int | None) -> Target:
    """Find the device; ends the command when there is none of that name."""
    from gateway.config.profile_file import load_profile

    profile = load_profile(profile_name) if profile_name else None
    if "://" in where or ":" in where:
        url = where if "://" in where else f"modbus+tcp://{where}"
        asked = unit if unit is not None else profile.modbus.unit if profile else 1
        return Target(name=url, url=url, unit=asked, profile=profile)
    from gateway.config.site_file import load_site

    devices = load_site(config_path).devices
    if where not in devices:
        names = ", ".join(devices)
        fail(
            ExitCode.USAGE,
            f"no device {where!r} in {config_path}",
            code="E002",
            help=f"one of {names}, or a URL like modbus+tcp://192.168.10.30",
        )
    found = devices[where]
    return Target(
        name=where,
        url=found.url,
        unit=found.unit if unit is None else unit,
        profile=profile or found.profile,
    )


def readable(target: Target, *, timeout: str) -> ModbusDevice | OpcuaDevice:
    """Make the driver for reading, whatever the device speaks; a profile is needed."""
    from gateway.devices.connect import open_opcua_device
    from gateway.devices.profile import Protocol
    from gateway.runtime.clock import SystemClock

    profile = _profile_of(target)
    if profile.protocol is not Protocol.OPCUA:
        return opened(target, timeout=timeout)
    return open_opcua_device(
        name=target.name,
        profile=profile,
        url=target.url,
        clock=SystemClock(),
        timeout_s=seconds(timeout),
    )


def requests_of(device: ModbusDevice | OpcuaDevice) -> list[dict[str, Any]]:
    """The requests that read every point of a device."""
    from gateway.devices.opcua.device import OpcuaDevice

    if isinstance(device, OpcuaDevice):
        return [
            {"from": 0, "count": len(names), "table": "node", "points": names}
            for names in device.batches()
        ]
    return [
        {"from": b.address, "count": b.count, "table": str(b.table), "points": list(b.names)}
        for b in device.blocks()
    ]


def opened(target: Target, *, timeout: str, read_only: bool = True) -> ModbusDevice:
    """Make the driver of a Modbus device; ends the command where it is none."""
    from gateway.devices.connect import open_device
    from gateway.devices.profile import Protocol
    from gateway.runtime.clock import SystemClock

    profile = _profile_of(target)
    if profile.protocol is Protocol.OPCUA:
        fail(
            ExitCode.REFUSED,
            f"{target.name} speaks OPC UA: it has no registers to write",
            code="D106",
            help="`sopgw test` and trades move a station; `sopgw point get` reads its points",
        )
    return open_device(
        name=target.name,
        profile=profile,
        url=target.url,
        unit=target.unit,
        clock=SystemClock(),
        timeout_s=seconds(timeout),
        read_only=read_only,
    )


def _profile_of(target: Target) -> Profile:
    if target.profile is None:
        fail(
            ExitCode.USAGE,
            f"which profile does {target.url} follow?",
            code="E002",
            help=f"add --profile NAME; `sopgw profile match {target.url}` asks the device",
        )
    return target.profile


def seconds(text: str) -> float:
    """Read a duration with its unit."""
    from gateway.model.units import UnitError, parse_quantity

    try:
        return float(parse_quantity(text, "time"))
    except UnitError as error:
        raise click.UsageError(f"{error}; {error.help}") from None


def unit_factor(point: Point) -> Decimal:
    """Base units in one unit of the point."""
    from gateway.model.units import UNITS

    return UNITS[point.dimension][point.unit] if point.unit else Decimal(1)


def value_text(point: Point, value: Value) -> str:
    """Write a value the way the profile speaks of it."""
    if value is None:
        return "no value"
    if isinstance(value, str):
        return value
    if point.label_by_code and isinstance(value, int):
        return point.label_by_code.get(value, str(value))
    if point.bits and isinstance(value, int):
        names = [name for bit, name in point.bits.items() if value >> bit & 1]
        return ", ".join(names) or "none"
    number = Decimal(repr(value)) / unit_factor(point)
    places = max(0, -point.scale.normalize().as_tuple().exponent)  # type: ignore[operator]
    if isinstance(value, float) and places == 0:
        text = f"{float(number):.6g}"
    else:
        text = f"{number:.{places}f}"
    return f"{text} {point.unit}".strip()


def row_of(point: Point, seen: PointValue | NodeValue) -> dict[str, Any]:
    """The JSON form of a read point; numbers in base units as text keep their digits."""
    return {
        "point": seen.name,
        "value": seen.value,
        "text": value_text(point, seen.value),
        "quality": str(seen.quality),
        "unit": point.unit,
        "registers": list(seen.registers),
        "utc_us": seen.utc_us,
    }


def register_of(text: str) -> Register:
    """Read ``input/0``; ends the command when it is none."""
    from gateway.devices.profile import Register, Table

    table, _, address = text.partition("/")
    try:
        return Register(table=Table(table), address=int(address, 0))
    except ValueError:
        raise click.UsageError(f"{text!r} is not a register like input/0") from None
