"""What stands behind ``sopgw point decode`` and ``point map``: raw registers, read only."""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from typing import Any

import click

from gateway.cli.where import Target, register_of
from gateway.commissioning.decode import Decodings, plausible
from gateway.devices.connect import client_of
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.profile import ModbusSettings, Profile, Register, Table
from gateway.model.errors import DeviceRefused
from gateway.model.units import DIMENSION_OF, UnitError, parse_quantity

_EXPECT = re.compile(r"^(?P<value>[^±]+)±(?P<share>[\d.]+)\s*%$")
ADDRESS_CODES = frozenset({2, 3})


def expectation(text: str) -> tuple[float, float, str]:
    """Read ``230V±13%``: low, high and the unit."""
    found = _EXPECT.match(text.replace("+-", "±"))
    unit = re.sub(r"^[\s\d.+-]+", "", found["value"]).strip() if found else ""
    if found is None or unit not in DIMENSION_OF:
        raise click.UsageError(f"{text!r} is not like 230V±13%")
    try:
        value = float(parse_quantity(found["value"], DIMENSION_OF[unit]))
    except UnitError as error:
        raise click.UsageError(f"{error}; {error.help}") from None
    share = float(Decimal(found["share"])) / 100
    low, high = sorted((value * (1 - share), value * (1 + share)))
    return low, high, unit


async def read_words(unit: ModbusUnit, unit_id: int, at: Register, count: int) -> dict[int, int]:
    """Registers that exist from ``at`` on, by halving what is refused."""
    try:
        data = await unit.read(frame.read(unit_id, at.table, at.address, count))
    except DeviceRefused as refused:
        if refused.code not in ADDRESS_CODES:
            raise
        if count == 1:
            return {}
        half = count // 2
        later = Register(table=at.table, address=at.address + half)
        return await read_words(unit, unit_id, at, half) | await read_words(
            unit, unit_id, later, count - half
        )
    words = struct.unpack(f">{count}H", data)
    return dict(zip(range(at.address, at.address + count), words, strict=True))


def unit_of(target: Target, timeout_s: float) -> ModbusUnit:
    """A line to the device without its profile's decoding."""
    settings = target.profile.modbus if target.profile is not None else ModbusSettings()
    client = client_of(target.url, settings, timeout_s=timeout_s)
    return ModbusUnit(client, name=target.name, timeout_s=timeout_s)


async def decoded(
    target: Target, register: str, expect: str, *, count: int, timeout_s: float
) -> tuple[dict[str, Any], str, bool]:
    """The answer, its text, and whether exactly one decoding is left."""
    at = register_of(register)
    low, high, unit_name = expectation(expect)
    first = max(0, at.address - 2)
    size = min(65536 - first, at.address - first + 4 * count + 2)
    unit = unit_of(target, timeout_s)
    try:
        start = Register(table=at.table, address=first)
        words = await read_words(unit, target.unit, start, min(size, frame.READ_COUNT_MAX))
    finally:
        await unit.client.close()
    found = plausible(words, at.address, low=low, high=high, count=count)
    rows = [
        {
            "register": f"{at.table}/{at.address + s.encoding.offset}",
            "type": str(s.encoding.kind),
            "order": s.encoding.order,
            "scale": s.encoding.scale,
            "values": list(s.values),
            "guessed": s.guessed_offset,
            "point": _point_at(target.profile, at.table, at.address + s.encoding.offset),
        }
        for s in found.survivors
    ]
    data = {"tried_count": found.tried_count, "unit": unit_name, "survivors": rows}
    return data, _text(found, rows, unit_name, target), len(rows) == 1


def _point_at(profile: Profile | None, table: Table, address: int) -> str:
    """Return the name of the profile's point that begins at a register; "" for none."""
    points = profile.points if profile is not None else ()
    wanted = Register(table=table, address=address)
    return next((p.name for p in points if p.register == wanted), "")


def _text(found: Decodings, rows: list[dict[str, Any]], unit_name: str, target: Target) -> str:
    lines = [f"{found.tried_count} decodings tried, {len(rows)} plausible:"]
    for row in rows:
        values = "  ".join(f"{v:9.6g}" for v in row["values"])
        note = "   guessed: a register is missing" if row["guessed"] else ""
        if row["point"] and target.profile is not None:
            note = f"   ← profile {target.profile.id}: {row['point']}"
        lines.append(
            f"   {row['register']:<14} {row['type']:<8} {row['order']:<9} ×{row['scale']:<5g}"
            f" {values}  {unit_name}{note}"
        )
    if len(rows) > 1:
        lines.append(f"They differ by up to {found.spread_ratio():.1%}. Only one is right:")
        lines.append(
            "read the device's display and give it here, the device being in the site file:"
        )
        point = next((row["point"] for row in rows if row["point"]), "POINT")
        example = f"{rows[0]['values'][0]:.6g}{unit_name}"
        device = "DEVICE" if ":" in target.name else target.name  # an address is not in the file
        lines.append(f"  sopgw check scale {device} --ref {point}={example}±0.1{unit_name}")
    return "\n".join(lines)


async def mapped(
    target: Target, table: str, first: int, last: int, *, timeout_s: float
) -> list[dict[str, Any]]:
    """Runs of registers that exist, read twice to see which change."""
    unit = unit_of(target, timeout_s)
    try:
        rounds = [await _all(unit, target.unit, Table(table), first, last) for _ in range(2)]
    finally:
        await unit.client.close()
    runs: list[dict[str, Any]] = []
    for address, word in rounds[1].items():
        if not runs or runs[-1]["from"] + len(runs[-1]["words"]) != address:
            runs.append({"from": address, "words": [], "changing": []})
        runs[-1]["words"].append(word)
        if rounds[0].get(address) != word:
            runs[-1]["changing"].append(address)
    return runs


async def _all(
    unit: ModbusUnit, unit_id: int, table: Table, first: int, last: int
) -> dict[int, int]:
    words: dict[int, int] = {}
    for start in range(first, last + 1, frame.READ_COUNT_MAX):
        count = min(frame.READ_COUNT_MAX, last + 1 - start)
        words |= await read_words(unit, unit_id, Register(table=table, address=start), count)
    return words
