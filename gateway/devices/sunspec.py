"""SunSpec: finds the model chain of a device and makes a profile of it from the published models.

The definitions are the alliance's own JSON files (``model_701.json`` …), read from a folder; the
package pysunspec2 carries them and is found when it is installed. Only its data are used.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.profile import (
    Access,
    Identify,
    Kind,
    ModbusSettings,
    NotAvailable,
    Numbering,
    Point,
    PointType,
    Profile,
    Protocol,
    Register,
    Sign,
    Table,
)
from gateway.model.errors import BadAnswer, ConfigError, DeviceRefused

BASES = (40000, 0, 50000)
MARK = b"SunS"
END_MODEL = 0xFFFF
MODEL_COUNT_MAX = 64  # a chain that is longer is no chain
METERS = frozenset({*range(201, 205), *range(211, 215)})

_TYPES = {
    "int16": PointType.INT16, "uint16": PointType.UINT16, "count": PointType.UINT16,
    "raw16": PointType.UINT16, "acc16": PointType.ACC16, "enum16": PointType.ENUM16,
    "bitfield16": PointType.BITS16, "int32": PointType.INT32, "uint32": PointType.UINT32,
    "acc32": PointType.ACC32, "enum32": PointType.ENUM32, "bitfield32": PointType.BITS32,
    "ipaddr": PointType.UINT32, "int64": PointType.INT64, "uint64": PointType.UINT64,
    "acc64": PointType.ACC64, "bitfield64": PointType.BITS64, "float32": PointType.FLOAT32,
    "float64": PointType.FLOAT64, "string": PointType.STRING, "sunssf": PointType.SUNSSF,
}  # fmt: skip
_UNITS = {
    "W": "W", "Var": "var", "var": "var", "VA": "VA", "Wh": "Wh", "Varh": "varh", "varh": "varh",
    "V": "V", "A": "A", "Hz": "Hz", "C": "°C", "Secs": "s", "Pct": "%", "%Max/Sec": "%/s",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model in the chain; ``address`` is that of its id register."""

    id: int
    address: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Where the models of a device lie."""

    base_address: int
    models: tuple[Model, ...]


async def discover(unit: ModbusUnit, unit_id: int) -> Chain | None:
    """Look for the mark at 40000, 0 and 50000 and walk the chain; None when there is none.

    Raises BadAnswer for a chain without an end, and what the line raises.
    """
    for base in BASES:
        try:
            mark = await unit.read(frame.read(unit_id, Table.HOLDING, base, 2))
        except DeviceRefused:
            continue
        if mark == MARK:
            return Chain(base_address=base, models=await _walk(unit, unit_id, base + 2))
    return None


async def _walk(unit: ModbusUnit, unit_id: int, address: int) -> tuple[Model, ...]:
    models: list[Model] = []
    while len(models) < MODEL_COUNT_MAX and address + 2 <= 65536:
        data = await unit.read(frame.read(unit_id, Table.HOLDING, address, 2))
        model_id, length = struct.unpack(">HH", data)
        if model_id == END_MODEL:
            return tuple(models)
        if length == 0:
            break
        models.append(Model(id=model_id, address=address, length=length))
        address += 2 + length
    raise BadAnswer(unit.name, "the chain of SunSpec models has no end")


def definitions_folder() -> Path | None:
    """Where pysunspec2 keeps the published models, when it is installed."""
    found = importlib.util.find_spec("sunspec2")
    for place in (found.submodule_search_locations or []) if found is not None else []:
        folder = Path(place) / "models" / "json"
        if folder.is_dir():
            return folder
    return None


def profile_of(chain: Chain, folder: Path | None = None, *, unit: int = 1) -> Profile:
    """Make a profile from the chain; points are named ``m701.W``.

    Models without a published definition are left out. Raises ConfigError without definitions.
    """
    folder = folder or definitions_folder()
    if folder is None:
        raise ConfigError("no SunSpec model definitions: pip install pysunspec2, or name a folder")
    points: list[Point] = []
    for model in chain.models:
        path = folder / f"model_{model.id}.json"
        if path.is_file():
            points += _points(json.loads(path.read_text())["group"], model)
    ids = tuple(m.id for m in chain.models)
    is_meter = any(i in METERS for i in ids)
    sign = Sign.IMPORT_POSITIVE if is_meter else Sign.INJECT_POSITIVE
    return Profile(
        id=f"sunspec-{'-'.join(map(str, ids))}",
        kind=Kind.METER if is_meter else Kind.CONVERTER,
        protocol=Protocol.MODBUS,
        vendor="SunSpec",
        manual="SunSpec information models",
        identify=Identify(sunspec_models=ids),
        modbus=ModbusSettings(
            unit=unit,
            gap_size=30,
            numbering=Numbering.ONE_BASED,
            not_available=NotAvailable.SUNSPEC,
        ),
        sign={"p": sign},
        points=tuple(points),
    )


def _points(group: Mapping[str, Any], model: Model) -> Iterator[Point]:
    """Points of a model's fixed part and of its last repeating group."""
    fixed = group.get("points", [])
    factors = {p["name"]: f"m{model.id}.{p['name']}" for p in fixed if p["type"] == "sunssf"}
    offset = 0
    for found in fixed:
        point = _point(found, f"m{model.id}.", model.address + offset, factors)
        if point is not None and found["name"] not in ("ID", "L"):
            yield point
        offset += found["size"]
    for inner in group.get("groups", []):
        size = sum(p["size"] for p in inner.get("points", []))
        left = model.length + 2 - offset
        repeats = inner.get("count", 1) != 1
        if not size or inner.get("groups"):
            return  # nested groups need counts that only the device knows
        for number in range(left // size if repeats else min(1, left // size)):
            tail = f"{inner['name']}{number + 1}." if repeats else f"{inner['name']}."
            for found in inner["points"]:
                prefix = f"m{model.id}.{tail}"
                point = _point(found, prefix, model.address + offset, factors)
                if point is not None:
                    yield point
                offset += found["size"]


def _point(
    found: Mapping[str, Any], prefix: str, address: int, factors: Mapping[str, str]
) -> Point | None:
    kind = _TYPES.get(found["type"])
    if kind is None:
        return None
    scale = found.get("sf")
    symbols: Sequence[Mapping[str, Any]] = found.get("symbols", [])
    words = {int(s["value"]): str(s["name"]).lower().replace("_", "-") for s in symbols}
    labelled = kind in (PointType.ENUM16, PointType.ENUM32)
    return Point(
        name=prefix + found["name"],
        type=kind,
        register=Register(table=Table.HOLDING, address=address),
        length=found["size"] if kind is PointType.STRING else 0,
        scale=Decimal(10) ** scale if isinstance(scale, int) else Decimal(1),
        scale_point=factors.get(scale) if isinstance(scale, str) else None,
        unit=_UNITS.get(str(found.get("units", "")), ""),
        label_by_code=words if labelled else {},
        bits=words if kind in (PointType.BITS16, PointType.BITS32, PointType.BITS64) else {},
        access=Access.READ_WRITE if found.get("access") == "RW" else Access.READ,
        poll_ms=0 if kind is PointType.STRING else 1000,
        doc_number=address + 1,
    )
