"""``sopgw scan``: find devices; reads only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import group, note, say
from gateway.cli.scan_answer import answer_rows
from gateway.cli.scan_mqtt import mqtt
from gateway.cli.scan_opcua import opcua
from gateway.cli.where import seconds

if TYPE_CHECKING:
    from gateway.devices.scan import Found

HOSTS_MAX = 256  # a /24; more only with --large
SERVER_S = 2.0

COMMON = (
    click.option("--timeout", default="500ms", show_default=True, help="For each answer."),
    click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Write as JSON."),
    click.option("--match/--no-match", default=True, help="Ask which profile fits."),
)


def _common(function: Any) -> Any:
    for option in reversed(COMMON):
        function = option(function)
    return function


@group(
    "scan",
    examples=(
        ("sopgw scan modbus-tcp 192.168.10.0/24", "a subnet"),
        ("sopgw scan modbus-rtu /dev/ttyUSB0 --fast", "a serial line"),
    ),
)
def scan() -> None:
    """Find devices; never writes."""


scan.add_command(mqtt)
scan.add_command(opcua)


@scan.command(
    "modbus-tcp",
    schema="scan.modbus-tcp",
    examples=(
        ("sopgw scan modbus-tcp 192.168.10.20 --units 1-10,100", "units behind one address"),
        ("sopgw scan modbus-tcp 192.168.10.0/24 --port 502,1502 --save scan.json", "a subnet"),
    ),
)
@click.argument("hosts", nargs=-1, required=True)
@click.option("--port", "ports", default="502", show_default=True, help="Ports, like 502,1502.")
@click.option("--units", default="1-10,100,247,255", show_default=True, help="Unit ids.")
@click.option("--rate", default="20/s", show_default=True, help="New connections.")
@click.option("--large", is_flag=True, help="Allow more than 256 addresses.")
@_common
def modbus_tcp(
    hosts: tuple[str, ...],
    ports: str,
    units: str,
    rate: str,
    large: bool,  # noqa: FBT001 - a flag
    timeout: str,
    save: Path | None,
    match: bool,  # noqa: FBT001 - a flag
) -> None:
    """Scan addresses or subnets for Modbus TCP."""
    import asyncio

    addresses = _addresses(hosts, large=large)
    numbers = _numbers(ports, 65535)
    say(f"Scanning {len(addresses)} hosts, ports {ports}, units {units}   [read-only]")
    found = asyncio.run(
        _tcp(addresses, numbers, _numbers(units, 255), seconds(timeout), _rate(rate))
    )
    _answer(found, save=save, match=match, timeout_s=seconds(timeout))


@scan.command(
    "modbus-rtu",
    schema="scan.modbus-rtu",
    examples=(
        ("sopgw scan modbus-rtu /dev/ttyUSB0", "every usual speed and parity"),
        ("sopgw scan modbus-rtu /dev/ttyUSB0 --baud 9600 --format 8N1 --units 1-20", "a short one"),
    ),
)
@click.argument("device")
@click.option("--baud", default="9600,19200,38400,115200", show_default=True)
@click.option("--format", "formats", default="8N1,8E1,8O1", show_default=True)
@click.option("--units", default="1-247", show_default=True, help="Unit ids.")
@click.option("--fast", is_flag=True, help="Stop at the first speed that answers.")
@_common
def modbus_rtu(
    device: str,
    baud: str,
    formats: str,
    units: str,
    fast: bool,  # noqa: FBT001 - a flag
    timeout: str,
    save: Path | None,
    match: bool,  # noqa: FBT001 - a flag
) -> None:
    """Scan a serial line; says at which speed and parity something answered."""
    import asyncio

    from gateway.devices.scan import scan_line

    speeds, unit_ids = _numbers(baud, 4_000_000), _numbers(units, 247)

    async def collect() -> list[Found]:
        found = scan_line(
            device, speeds, formats.split(","), unit_ids, timeout_s=seconds(timeout), fast=fast
        )
        return [one async for one in found]

    say(f"Scanning {device}: {baud} baud, {formats}, units {units}   [read-only]")
    _answer(asyncio.run(collect()), save=save, match=match, timeout_s=seconds(timeout))


@scan.command(
    "all",
    schema="scan.all",
    examples=(
        ("sopgw scan all --subnet 192.168.10.0/24", "network and serial lines, OPC UA too"),
        ("sopgw scan all --subnet 127.0.0.1 --serial none --json", "the network only"),
    ),
)
@click.option("--subnet", "subnets", multiple=True, required=True, help="Subnet or address.")
@click.option("--serial", default="auto", show_default=True, help="auto, none, or a device.")
@click.option("--port", "ports", default="502,1502", show_default=True)
@click.option("--opcua-port", "doors", default="4840", show_default=True, help="Ports, or none.")
@click.option("--units", default="1-10,100,247,255", show_default=True)
@_common
def scan_all(
    subnets: tuple[str, ...],
    serial: str,
    ports: str,
    doors: str,
    units: str,
    timeout: str,
    save: Path | None,
    match: bool,  # noqa: FBT001 - a flag
) -> None:
    """Scan Modbus TCP, OPC UA servers and the serial lines that are there.

    Brokers are no devices and want credentials: `sopgw scan mqtt` listens to one.
    """
    import asyncio

    from gateway.cli.scan_opcua import rows_of
    from gateway.devices.scan import scan_line

    lines = _serial_lines() if serial == "auto" else [] if serial == "none" else [serial]
    numbers, unit_ids, timeout_s = _numbers(ports, 65535), _numbers(units, 255), seconds(timeout)
    addresses = _addresses(subnets, large=False)
    opcua_ports = [] if doors == "none" else _numbers(doors, 65535)

    async def servers() -> list[dict[str, Any]]:
        urls = await _open_doors(addresses, opcua_ports, timeout_s, 20.0)
        # A server that has to make its answer takes longer than a register that is there.
        return await rows_of(urls, max(timeout_s, SERVER_S), match=match) if urls else []

    async def collect() -> list[Found]:
        found = await _tcp(addresses, numbers, unit_ids, timeout_s, 20.0)
        for line in lines:
            rtu = [u for u in unit_ids if 1 <= u <= 247]
            speeds, formats = (9600, 19200), ("8N1", "8E1")
            async for one in scan_line(line, speeds, formats, rtu, timeout_s=timeout_s, fast=True):
                found.append(one)
        return found

    say(f"Scanning {len(addresses)} hosts and {', '.join(lines) or 'no serial line'}   [read-only]")
    rows = _rows(asyncio.run(collect()), match=match, timeout_s=timeout_s)
    for row in asyncio.run(servers()):
        rows.append(row | {"number": len(rows) + 1})
    answer_rows(rows, save=save)


async def _open_doors(
    addresses: Sequence[str], ports: Sequence[int], timeout_s: float, rate: float
) -> list[str]:
    """The OPC UA addresses that take a connection; nothing is said to them yet."""
    import asyncio

    from gateway.devices.scan import open_doors

    async def pace() -> None:
        await asyncio.sleep(1 / rate)

    found = await open_doors(addresses, ports, timeout_s=timeout_s, pace=pace)
    hosts = [(f"[{host}]" if ":" in host else host, port) for host, port in found]
    return [f"opc.tcp://{host}:{port}" for host, port in hosts]


async def _tcp(
    addresses: Sequence[str],
    ports: Sequence[int],
    unit_ids: Sequence[int],
    timeout_s: float,
    rate: float,
) -> list[Found]:
    import asyncio

    from gateway.devices.scan import scan_tcp

    done = 0

    def on_host(count: int) -> None:
        nonlocal done
        done += count
        if done % 32 == 0:
            note(f"{done} of {len(addresses) * len(ports)}")

    async def pace() -> None:
        await asyncio.sleep(1 / rate)

    found = scan_tcp(addresses, ports, unit_ids, timeout_s=timeout_s, pace=pace, on_host=on_host)
    return [one async for one in found]


def _answer(found: Sequence[Found], *, save: Path | None, match: bool, timeout_s: float) -> None:
    answer_rows(_rows(found, match=match, timeout_s=timeout_s), save=save)


def _rows(found: Sequence[Found], *, match: bool, timeout_s: float) -> list[dict[str, Any]]:
    import asyncio

    rows: list[dict[str, Any]] = []
    for number, one in enumerate(found, 1):
        profile, fits = "", ""
        if match:
            profile, fits = asyncio.run(_profile(one, timeout_s))
        rows.append(
            {
                "number": number,
                "url": one.url,
                "unit": one.unit,
                "said": one.text(),
                "profile": profile,
                "confidence": fits,
            }
        )
    return rows


async def _profile(one: Found, timeout_s: float) -> tuple[str, str]:
    """The profile that fits: by SunSpec models, then by the value tests of each profile."""
    from gateway.config.profile_file import check_profile, profile_paths
    from gateway.config.profile_match import match_profiles
    from gateway.model.errors import DeviceError

    profiles = [p for path in profile_paths() if (p := check_profile(path)[1]) is not None]
    chain = one.identification.chain
    if chain is not None:
        ids = tuple(m.id for m in chain.models)
        for profile in profiles:
            wanted = profile.identify.sunspec_models
            if wanted and ids[: len(wanted)] == wanted:
                return profile.id, "exact"
    try:
        matches = await match_profiles(one.url, profiles, unit_id=one.unit, timeout_s=timeout_s)
    except (DeviceError, TimeoutError):
        return "", ""
    if matches and matches[0].fits:
        best = matches[0]
        return best.profile, f"fits {best.fitting_count} of {len(best.seen)} checks"
    return "", ""


def _addresses(hosts: Sequence[str], *, large: bool) -> list[str]:
    import ipaddress

    found: list[str] = []
    for host in hosts:
        try:
            network = ipaddress.ip_network(host, strict=False)
        except ValueError:
            found.append(host)
            continue
        if network.num_addresses > HOSTS_MAX and not large:
            raise click.UsageError(f"{host} has {network.num_addresses} addresses; add --large")
        found += [str(a) for a in network.hosts()]
    return found


def _numbers(text: str, most: int) -> list[int]:
    """Read ``1-10,247``."""
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        if not low.isdigit() or (high and not high.isdigit()) or int(high or low) > most:
            raise click.UsageError(f"{part!r} is not a number or range up to {most}")
        found += range(int(low), int(high or low) + 1)
    return found


def _rate(text: str) -> float:
    number = text.removesuffix("/s")
    if not number.isdigit() or number == text or int(number) < 1:
        raise click.UsageError(f"{text!r} is not a rate like 20/s")
    return float(number)


def _serial_lines() -> list[str]:
    from serial.tools import list_ports

    return [port.device for port in list_ports.comports()]
