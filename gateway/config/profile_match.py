"""Asks a device which profile fits it: the value tests of each profile, read only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase

from gateway.devices.codec import PointCodec
from gateway.devices.connect import client_of
from gateway.devices.identity import device_objects
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.modbus.frame import read
from gateway.devices.profile import IdentifyCheck, Point, Profile, Protocol
from gateway.model.errors import BadAnswer, DeviceError, DeviceNotSent, DeviceRefused
from gateway.model.units import UNITS

FC43_NAMES = {"name": "product_name"}  # what profiles call otherwise than the drivers


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One check of one profile: what was read, and whether it fits."""

    register: str
    values: tuple[str, ...]
    wanted: str
    ok: bool
    answered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How well a profile fits the device; ``unit`` is the Modbus unit that was asked."""

    profile: str
    unit: int
    seen: tuple[Seen, ...]

    @property
    def fitting_count(self) -> int:
        """How many checks fit."""
        return sum(s.ok for s in self.seen)

    @property
    def fits(self) -> bool:
        """Tell whether every check fits."""
        return bool(self.seen) and self.fitting_count == len(self.seen)


async def match_profiles(
    url: str, profiles: Iterable[Profile], *, unit_id: int | None, timeout_s: float
) -> list[Match]:
    """Try every Modbus profile that says how it is recognised; best fit first.

    Raises DeviceError or TimeoutError when nothing answers at all.
    """
    matches = []
    for profile in profiles:
        wanted = profile.identify
        if profile.protocol is not Protocol.MODBUS or not (wanted.checks or wanted.fc43):
            continue
        asked = profile.modbus.unit if unit_id is None else unit_id
        client = client_of(url, profile.modbus, timeout_s=timeout_s)
        unit = ModbusUnit(client, name=profile.id, timeout_s=timeout_s)
        try:
            # Function 43 last: some devices stay silent for good where they do not know it.
            seen = [await _seen(unit, asked, profile, c) for c in wanted.checks]
            seen += await _said(unit, asked, profile) if wanted.fc43 else []
        finally:
            await client.close()
        matches.append(Match(profile=profile.id, unit=asked, seen=tuple(seen)))
    if matches and not any(s.answered for m in matches for s in m.seen):
        raise TimeoutError(f"{url}: no unit answered")
    return sorted(matches, key=lambda m: (-m.fits, -m.fitting_count, -len(m.seen), m.profile))


async def _said(unit: ModbusUnit, unit_id: int, profile: Profile) -> list[Seen]:
    """What the device says of itself by function 43, against the texts of the profile."""
    try:
        objects = await device_objects(unit, unit_id)
    except DeviceError:
        objects = {}
    return [
        Seen(
            register=f"FC43 {name}",
            values=(objects.get(FC43_NAMES.get(name, name), "says nothing"),),
            wanted=wanted,
            ok=fnmatchcase(objects.get(FC43_NAMES.get(name, name), ""), wanted),
            answered=bool(objects),
        )
        for name, wanted in profile.identify.fc43.items()
    ]


async def _seen(unit: ModbusUnit, unit_id: int, profile: Profile, check: IdentifyCheck) -> Seen:
    point = check.point
    assert point.register is not None, "a Modbus check has a register"
    low, high = check.between
    wanted = f"{_amount(low, point.unit)} … {_amount(high, point.unit)}"
    request = read(unit_id, point.register.table, point.register.address, point.register_count)
    try:
        data = await unit.read(request)
    except DeviceNotSent:
        raise
    except DeviceError as error:
        answered = isinstance(error, DeviceRefused | BadAnswer)
        return Seen(
            register=point.register.text,
            values=(error.what,),
            wanted=wanted,
            ok=False,
            answered=answered,
        )
    size_bytes = len(data) // point.count
    codec = PointCodec(_single(check), profile.modbus)
    values = [
        codec.decode_bytes(data[i * size_bytes : (i + 1) * size_bytes])[0]
        for i in range(point.count)
    ]
    ok = all(isinstance(v, int | float) and low <= Decimal(v) <= high for v in values)
    texts = tuple(
        _amount(Decimal(repr(v)), point.unit) if isinstance(v, int | float) else "no value"
        for v in values
    )
    return Seen(register=point.register.text, values=texts, wanted=wanted, ok=ok)


def _single(check: IdentifyCheck) -> Point:
    return dataclasses.replace(check.point, count=1)


def _amount(value: Decimal, unit: str) -> str:
    """Write a value in the unit the profile uses, to what people can compare."""
    if not unit:
        return f"{value.normalize():f}"
    factor = next(units[unit] for units in UNITS.values() if unit in units)
    return f"{(value / factor).quantize(Decimal('0.01')).normalize():f} {unit}"
