"""``sopgw device``: who a device says it is, and how well it answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.device_add import add
from gateway.cli.device_list import ls, rm
from gateway.cli.device_trust import trust
from gateway.cli.output import ExitCode, Finding, emit, group
from gateway.cli.where import (
    Target,
    device_options,
    readable,
    requests_of,
    seconds,
    target_of,
)

if TYPE_CHECKING:
    from gateway.devices.device import ModbusDevice
    from gateway.devices.identity import Identification
    from gateway.devices.opcua.device import OpcuaDevice


@group(
    "device",
    examples=(
        ("sopgw device identify modbus+tcp://192.168.10.30", "what it says about itself"),
        ("sopgw device stats m1 --for 10s", "how well it answers"),
    ),
)
def device() -> None:
    """Devices: list, add, remove, identify and trust them, measure how they answer."""


device.add_command(add)
device.add_command(ls)
device.add_command(rm)
device.add_command(trust)


@device.command(
    "identify",
    schema="device.identify",
    examples=(
        ("sopgw device identify 192.168.10.30 --unit 2", "functions 43/14, 17 and SunSpec"),
        ("sopgw device identify m1 --json", "a device of the site file"),
    ),
)
@click.argument("where")
@device_options
def identify(
    where: str, config_path: Path, profile_name: str, unit: int | None, timeout: str
) -> None:
    """Ask a device who it is; only reads."""
    import asyncio

    named = where if "://" in where or ":" in where or "." not in where else f"{where}:502"
    target = target_of(named, config_path=config_path, profile_name=profile_name, unit=unit)
    if target.url.startswith("opc.tcp:"):
        raise click.UsageError(f"it speaks OPC UA: sopgw scan opcua {target.url!r} asks who it is")
    said = asyncio.run(_identify(target, seconds(timeout)))
    models = said.chain.models if said.chain is not None else ()
    lines = [f"{target.url} unit {target.unit}: {said.text()}"]
    lines += [f"  {name:<14} {value}" for name, value in said.objects.items()]
    lines += [f"  model {m.id:<6} at {m.address}, length {m.length}" for m in models]
    finding = Finding(
        code="D111",
        message="it answers, but says nothing about itself",
        help=f"sopgw profile match {target.url}",
    )
    emit(
        {
            "url": target.url,
            "unit": target.unit,
            "objects": dict(said.objects),
            "server_id": said.server_id.hex(),
            "sunspec": [{"id": m.id, "address": m.address, "length": m.length} for m in models],
        },
        text="\n".join(lines),
        exit_code=ExitCode.OK if said.answered else ExitCode.UNDECIDED,
        findings=() if said.answered else (finding,),
    )


async def _identify(target: Target, timeout_s: float) -> Identification:
    from gateway.devices import identity
    from gateway.devices.connect import client_of
    from gateway.devices.modbus.client import ModbusUnit
    from gateway.devices.profile import ModbusSettings

    client = client_of(target.url, ModbusSettings(), timeout_s=timeout_s)
    try:
        return await identity.identify(
            ModbusUnit(client, name=target.name, timeout_s=timeout_s), target.unit
        )
    finally:
        await client.close()


@device.command(
    "stats",
    schema="device.stats",
    examples=(
        ("sopgw device stats m1 --for 10s", "polls, failures, answer times"),
        ("sopgw device stats station --for 1min --json", "for a script"),
    ),
)
@click.argument("where")
@click.option("--for", "duration", default="10s", show_default=True, help="How long to poll.")
@click.option("--interval", default="1s", show_default=True, help="Between two polls.")
@device_options
def stats(
    where: str,
    duration: str,
    interval: str,
    config_path: Path,
    profile_name: str,
    unit: int | None,
    timeout: str,
) -> None:
    """Poll every point for a while and count answers, failures and times; only reads."""
    import asyncio

    target = target_of(where, config_path=config_path, profile_name=profile_name, unit=unit)
    found = readable(target, timeout=timeout)
    data = asyncio.run(_measure(found, seconds(duration), seconds(interval)))
    times = data["answer_ms"]
    lines = [
        f"{target.url} unit {target.unit}: {data['polls_count']} polls of "
        f"{data['requests_a_poll_count']} requests, {data['failed_count']} failed",
        f"  a poll takes {times['min']} / {times['median']} / {times['max']} ms"
        " (least, middle, most)",
    ]
    lines += [f"  {name:<20} {count}" for name, count in sorted(data["counts"].items())]
    lines += [f"  {name}: exception {code}" for name, code in data["refused"].items()]
    failed = bool(data["failed_count"])
    finding = Finding(code="D100", message="some polls failed", help="see the counts")
    emit(
        data,
        text="\n".join(lines),
        exit_code=ExitCode.FAILED if failed else ExitCode.OK,
        findings=(finding,) if failed else (),
    )


async def _measure(
    device: ModbusDevice | OpcuaDevice, duration_s: float, interval_s: float
) -> dict[str, Any]:
    from gateway.model.errors import DeviceError
    from gateway.runtime.clock import SystemClock

    clock, took_us, failed = SystemClock(), [], 0
    start_us = due_us = clock.mono_us()
    try:
        while due_us < start_us + duration_s * 1e6:
            await clock.sleep_until(due_us)
            began_us = clock.mono_us()
            try:
                await device.get()
                took_us.append(clock.mono_us() - began_us)
            except DeviceError:
                failed += 1
            due_us += int(interval_s * 1e6)
    finally:
        await device.close()
    ordered = sorted(took_us) or [0]
    return {
        "polls_count": len(took_us),
        "failed_count": failed,
        "requests_a_poll_count": len(requests_of(device)),
        "answer_ms": {
            "min": round(ordered[0] / 1000, 2),
            "median": round(ordered[len(ordered) // 2] / 1000, 2),
            "max": round(ordered[-1] / 1000, 2),
        },
        "counts": dict(device.counts),
        "refused": dict(device.refused),
    }
