"""The devices of one SOP as commissioning sees them: every point by name, each poll with its time.

Drivers for control read what control needs; here any point of a profile can be read, with the
registers it came from, because a fault in a profile is what is being looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Port

from gateway.devices.codec import codecs_of
from gateway.devices.connect import (
    Endpoints,
    open_converters,
    open_opcua_device,
    open_station,
)
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.opcua.device import OpcuaDevice
from gateway.devices.planner import BIT_TABLES, Block, PlanError, plan
from gateway.devices.profile import Point, PointType, Profile, Protocol, Sign, Table
from gateway.devices.reader import read_blocks
from gateway.model.errors import DeviceError, DeviceRefused
from gateway.model.telemetry import Quality
from gateway.model.terminal import Sop, Terminal
from gateway.ports import Clock, Station

Points = Mapping[str, float]  # by name, in base units
Words = Mapping[int, int]  # by address
TIMEOUT_S = 0.5
OWNER = 0x5A7  # lease owner of the command line; the service has another
_TEXTS = (PointType.STRING,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """One device: where it answers and what is known of its model."""

    name: str
    profile: Profile
    url: str
    unit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """One SOP, its station and its meters.

    Where the terminals have ``converters`` (by terminal), ``station`` stands for all of them
    together: its name is the SOP's, the rest the master's converter's.
    """

    site: str
    sop: Sop
    station: DeviceSpec
    meters: Mapping[str, DeviceSpec]
    heartbeat_ms: int
    device_timeout_ms: int
    on_loss: str = "ramp_zero"  # what the station does then: ``ramp_zero`` or ``block``
    v_nominal_v: float = 400.0  # line to line; phase voltage is that over root 3
    converters: Mapping[str, DeviceSpec] = field(default_factory=dict)

    def device(self, name: str) -> DeviceSpec:
        """Return a device by name; KeyError when there is none."""
        for spec in (self.station, *self.converters.values()):
            if name == spec.name:
                return spec
        return self.meters[name]

    def terminal_of(self, meter: str) -> Terminal:
        """Return the terminal a meter settles; KeyError when there is none."""
        for terminal in self.sop.terminals:
            if terminal.meter == meter:
                return terminal
        raise KeyError(meter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """Points of one poll in base units, the middle of its round trip and half its length."""

    t_s: float
    width_s: float
    points: Points
    registers: Words  # address -> word, of the table the points are in
    missing: tuple[str, ...] = ()  # points the device says it has no value for


def import_positive(profile: Profile) -> bool:
    """Tell whether a meter counts what is taken from the grid as positive power."""
    return profile.sign.get("p", Sign.IMPORT_POSITIVE) is Sign.IMPORT_POSITIVE


def numeric_points(profile: Profile) -> tuple[Point, ...]:
    """Return the points of a profile that can be read as numbers."""
    return tuple(
        p
        for p in profile.points
        if (p.register is not None or (p.node is not None and not p.node.method))
        and p.type not in _TEXTS
        and p.count == 1
    )


class Reader(Port):
    """Reads chosen points of one device, whatever it speaks."""

    name: str
    profile: Profile

    def has(self, *names: str) -> bool:
        """Tell whether the profile has these points."""
        ...

    async def read(self, names: Iterable[str]) -> Poll:
        """Read the points together; all of them or nothing."""
        ...


class OpcuaReader:
    """Reads chosen points of one device on OPC UA."""

    def __init__(self, device: OpcuaDevice, clock: Clock) -> None:
        self.name = device.name
        self.profile = device.profile
        self._device = device
        self._clock = clock

    def has(self, *names: str) -> bool:
        """Tell whether the profile has these points."""
        return all(name in self._device.points for name in names)

    async def read(self, names: Iterable[str]) -> Poll:
        """Read the points in one request; what is bad or old counts as missing.

        Raises ConfigError when the server's units are not the profile's.
        """
        wanted = tuple(names)
        connected_count = self._device.counts["connected"]
        start_us = self._clock.mono_us()
        found = await self._device.get(wanted)
        if self._device.counts["connected"] != connected_count:
            start_us = self._clock.mono_us()  # the time before was that of connecting
            found = await self._device.get(wanted)
        end_us = self._clock.mono_us()
        numbers = {
            name: float(seen.value)
            for name, seen in found.items()
            if seen.quality is Quality.GOOD and isinstance(seen.value, int | float)
        }
        return Poll(
            t_s=(start_us + end_us) / 2e6,
            width_s=(end_us - start_us) / 1e6,
            points=numbers,
            registers={},
            missing=tuple(name for name in wanted if name not in numbers),
        )


class PointReader:
    """Reads chosen points of one device on Modbus."""

    def __init__(self, unit: ModbusUnit, spec: DeviceSpec, clock: Clock) -> None:
        self.name = spec.name
        self.profile = spec.profile
        self._unit = unit
        self._unit_id = spec.unit
        self._clock = clock
        self._codecs = codecs_of(spec.profile)
        self._planned: dict[tuple[str, ...], tuple[Block, ...]] = {}

    def has(self, *names: str) -> bool:
        """Tell whether the profile has these points."""
        return all(name in self._codecs for name in names)

    async def read(self, names: Iterable[str]) -> Poll:
        """Read the points in as few requests as the map allows; all of them or nothing.

        What flows is read in one request where that is possible: an identity between values of
        two instants fails for no fault of the meter. Scale factors are read along and applied.
        """
        wanted = tuple(names)
        blocks = self._blocks(wanted)
        in_registers = [block for block in blocks if block.table not in BIT_TABLES]
        start_us = self._clock.mono_us()
        seen = await read_blocks(self._unit, in_registers)
        values = {name: seen.value(name) for block in in_registers for name in block.names}
        for block in blocks:
            if block.table in BIT_TABLES:
                bits = block.decode(await self._unit.read(block.request))
                values |= {name: bit for name, (bit, _) in zip(block.names, bits, strict=True)}
        end_us = self._clock.mono_us()
        addresses = (at for b in in_registers for at in range(b.address, b.address + b.count))
        points = {
            name: float(value) for name in wanted if isinstance(value := values[name], int | float)
        }
        return Poll(
            t_s=(start_us + end_us) / 2e6,
            width_s=(end_us - start_us) / 1e6,
            points=points,
            registers=dict(zip(addresses, seen.registers, strict=True)),
            missing=tuple(name for name in wanted if name not in points),
        )

    def _blocks(self, names: tuple[str, ...]) -> tuple[Block, ...]:
        if names not in self._planned:
            scales = (self._codecs[name].point.scale_point for name in names)
            with_scales = dict.fromkeys([*names, *(s for s in scales if s is not None)])
            codecs = [self._codecs[name] for name in with_scales]
            flowing = [n for n in names if self._codecs[n].point.role != "counter"]
            try:
                found = plan(codecs, self.profile.modbus, unit=self._unit_id, together=[flowing])
            except PlanError:
                found = plan(codecs, self.profile.modbus, unit=self._unit_id)
            self._planned[names] = found
        return self._planned[names]

    async def registers(self, table: Table, address: int, count: int) -> dict[int, int]:
        """Read raw registers; those the device refuses are left out, one by one."""
        try:
            data = await self._unit.read(frame.read(self._unit_id, table, address, count))
        except DeviceError as refused:
            if not isinstance(refused, DeviceRefused):
                raise
            if count == 1:
                return {}
            # Split a refused block: one bad register must not take its neighbours with it.
            half = count // 2
        else:
            return _words(address, data)
        first = await self.registers(table, address, half)
        return first | await self.registers(table, address + half, count - half)


def _words(address: int, data: bytes) -> dict[int, int]:
    return {
        address + i // 2: int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)
    }


class Rack:
    """Open lines to the devices of one SOP; closes them all."""

    def __init__(self, equipment: Equipment, clock: Clock, *, owner: int = OWNER) -> None:
        self.equipment = equipment
        self.clock = clock
        self.owner = owner
        self.timeout_sought = False  # once: later it is what this program wrote
        self.timeout_found_s: float | None = None  # of the station's watchdog; None: not known
        self.stopped: Callable[[], str] = lambda: ""  # why nothing may move; empty where it may
        self._endpoints = Endpoints()
        self._units: dict[str, ModbusUnit] = {}
        self._nodes: dict[str, OpcuaDevice] = {}
        self._station: Station | None = None

    def reader(self, name: str) -> Reader:
        """Return a reader of one device; KeyError when there is no such device."""
        spec = self.equipment.device(name)
        if spec.profile.protocol is Protocol.OPCUA:
            return OpcuaReader(self._opcua_device(spec), self.clock)
        return PointReader(self._unit(spec), spec, self.clock)

    async def setting(self, name: str, point: str) -> float | None:
        """Read one setting of a device; None where it has no value.

        The line is closed again, because a serial port is opened by one at a time. A setting's age
        is that of its last change on servers that stamp so: only a bad one is no value.
        """
        spec = self.equipment.device(name)
        if spec.profile.protocol is Protocol.OPCUA:
            device = open_opcua_device(
                name=name,
                profile=spec.profile,
                url=spec.url,
                clock=self.clock,
                timeout_s=TIMEOUT_S,
            )
            try:
                seen = (await device.get([point]))[point]
            finally:
                await device.close()
            if seen.quality is Quality.BAD or not isinstance(seen.value, int | float):
                return None
            return float(seen.value)
        unit = Endpoints().unit(name=name, profile=spec.profile, url=spec.url, timeout_s=TIMEOUT_S)
        try:
            poll = await PointReader(unit, spec, self.clock).read([point])
        finally:
            await unit.client.close()
        return poll.points.get(point)

    def _unit(self, spec: DeviceSpec) -> ModbusUnit:
        if spec.name not in self._units:
            self._units[spec.name] = self._endpoints.unit(
                name=spec.name, profile=spec.profile, url=spec.url, timeout_s=TIMEOUT_S
            )
        return self._units[spec.name]

    def _opcua_device(self, spec: DeviceSpec) -> OpcuaDevice:
        if spec.name not in self._nodes:
            self._nodes[spec.name] = open_opcua_device(
                name=spec.name,
                profile=spec.profile,
                url=spec.url,
                clock=self.clock,
                timeout_s=TIMEOUT_S,
            )
        return self._nodes[spec.name]

    def station(self) -> Station:
        """Return the station's driver."""
        if self._station is None:
            self._station = self.second_station(endpoints=self._endpoints)
        return self._station

    def second_station(self, *, endpoints: Endpoints | None = None) -> Station:
        """Return another driver of the station on a connection of its own."""
        spec = self.equipment.station
        if self.equipment.converters:
            return open_converters(
                name=spec.name,
                devices={
                    terminal: (d.name, d.profile, d.url, d.unit)
                    for terminal, d in self.equipment.converters.items()
                },
                terminals=self.equipment.sop.terminals,
                master=self.equipment.sop.master,
                clock=self.clock,
                owner=self.owner,
                timeout_s=TIMEOUT_S,
                endpoints=endpoints,
            )
        return open_station(
            name=spec.name,
            profile=spec.profile,
            url=spec.url,
            unit=spec.unit,
            terminals=self.equipment.sop.terminals,
            clock=self.clock,
            owner=self.owner,
            timeout_s=TIMEOUT_S,
            endpoints=endpoints,
        )

    async def close(self) -> None:
        """Close every line."""
        for unit in self._units.values():
            await unit.client.close()
        for device in self._nodes.values():
            await device.close()
        if self._station is not None:
            await self._station.close()

    async def pause(self, pause_s: float) -> None:
        """Wait on the clock the devices live on."""
        await self.clock.sleep_until(self.clock.mono_us() + round(pause_s * 1e6))

    def now_s(self) -> float:
        """Monotonic seconds."""
        return self.clock.mono_us() / 1e6


Say = Callable[[str], None]


def silent(_text: str) -> None:
    """Say nothing: what a run reports to when nobody watches."""


def device_names(equipment: Equipment) -> Sequence[str]:
    """Return the station, or the converters, and the meters in terminal order."""
    converters = [spec.name for spec in equipment.converters.values()]
    return [*(converters or [equipment.station.name]), *(t.meter for t in equipment.sop.terminals)]
