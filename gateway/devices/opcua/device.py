"""A device on OPC UA by its profile: batch reads, units checked against the server's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.devices.opcua.client import OpcuaClient, Reading
from gateway.devices.profile import Node, OpcuaSettings, Point, PointType, Profile
from gateway.model.errors import ConfigError
from gateway.model.telemetry import Quality
from gateway.ports import Clock

STALL_REAL_US = 500_000
READ_COUNT_MAX = 500  # nodes a request: beyond that a call costs more than it saves
_INTEGERS = frozenset(PointType) - {PointType.FLOAT32, PointType.FLOAT64, PointType.STRING}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeValue:
    """One point as a poll saw it; the value in base units, None unless it is usable.

    ``utc_us`` and ``mono_us`` are the middle of the request by our clock.
    """

    name: str
    value: int | float | str | None
    quality: Quality
    status: str
    source_utc_us: int | None
    utc_us: int
    mono_us: int

    @property
    def registers(self) -> tuple[int, ...]:
        """None: OPC UA has values, not registers."""
        return ()


class OpcuaDevice:
    """Reads the points of an OPC UA profile."""

    def __init__(self, *, client: OpcuaClient, profile: Profile, clock: Clock) -> None:
        self.name = client.name
        self.profile = profile
        self.points = {p.name: p for p in profile.all_points() if p.node and not p.node.method}
        self._client = client
        self._clock = clock
        self._nodes = {
            name: node_text(point.node, profile.namespaces)
            for name, point in self.points.items()
            if point.node is not None
        }
        settings = profile.opcua or OpcuaSettings()
        self._stale_us = settings.stale_after_ms * 1000
        self._checked_count = 0  # connection whose units were found right

    async def get(self, names: Iterable[str] | None = None) -> dict[str, NodeValue]:
        """Read the named points, all by default, in as few requests as the batch size allows.

        Units marked ``unit_check: server`` are compared after every connection; a difference is a
        ConfigError, because a factor of a thousand would go unnoticed.
        """
        # On a clock that runs fast a stall of the host must not look like an old value.
        stale_us = max(self._stale_us, self._clock.at_least(STALL_REAL_US))
        found: dict[str, NodeValue] = {}
        for part in self.batches(names):
            connected_count = self._client.counts["connected"]
            readings, mono_us = await self._timed(part, stale_us)
            if self._client.counts["connected"] != connected_count:
                readings, mono_us = await self._timed(part, stale_us)  # its time was connecting's
            utc_us = self._clock.utc_us() - (self._clock.mono_us() - mono_us)
            for name, seen in zip(part, readings, strict=True):
                found[name] = NodeValue(
                    name=name,
                    value=_in_base_units(self.points[name], seen.value),
                    quality=seen.quality,
                    status=seen.status,
                    source_utc_us=seen.source_utc_us,
                    utc_us=utc_us,
                    mono_us=mono_us,
                )
        while self._client.counts["connected"] != self._checked_count:
            connected_count = self._client.counts["connected"]
            await self.check_units()
            self._checked_count = connected_count
        return found

    async def _timed(self, names: Iterable[str], stale_us: int) -> tuple[list[Reading], int]:
        """Read once; the readings and the middle of the time it took."""
        nodes = [self._nodes[n] for n in names]
        started_us = self._clock.mono_us()
        found = await self._client.read(nodes, utc_us=self._clock.utc_us, stale_us=stale_us)
        return found, (started_us + self._clock.mono_us()) // 2

    def batches(self, names: Iterable[str] | None = None) -> list[list[str]]:
        """The requests that reading these points takes."""
        wanted = list(self.points if names is None else dict.fromkeys(names))
        return [wanted[n : n + READ_COUNT_MAX] for n in range(0, len(wanted), READ_COUNT_MAX)]

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of the child and its connections so far."""
        return self._client.counts

    @property
    def refused(self) -> Mapping[str, int]:
        """None: what the server refuses comes back without a value, with its status."""
        return {}

    async def check_units(self) -> None:
        """Compare EngineeringUnits with the profile; raise ConfigError where they differ."""
        checked = [n for n, p in self.points.items() if p.unit_check == "server"]
        nodes = [f"property=EngineeringUnits|{self._nodes[n]}" for n in checked]
        if not nodes:
            return
        readings = await self._client.read(nodes, utc_us=self._clock.utc_us)
        wrong = []
        for name, seen in zip(checked, readings, strict=True):
            value = seen.value
            shown = value.get("unit") if isinstance(value, Mapping) else None
            if shown != self.points[name].unit:
                wrong.append(f"{name}: {self.points[name].unit} here, {shown} there")
        if wrong:
            raise ConfigError(f"{self.name}: units differ: {'; '.join(wrong)}")

    async def close(self) -> None:
        """End the connection and its child."""
        await self._client.close()


def node_text(node: Node, namespaces: Mapping[str, str]) -> str:
    """A profile's node with its namespace names written out, as the client takes it."""
    path = node.path
    if node.method.startswith("path="):
        path = node.method.removeprefix("path=")
    if path:
        parts = []
        for part in path.split("/"):
            alias, _, name = part.rpartition(":")
            parts.append(f"{namespaces[alias]}:{name}" if alias else name)
        return "path=" + "|".join(parts)
    alias, _, rest = (node.node or node.method).removeprefix("nsu=").partition(";")
    return f"nsu={namespaces.get(alias, alias)};{rest}"


def _in_base_units(point: Point, value: object) -> int | float | str | None:
    if value is None or isinstance(value, str) or not isinstance(value, int | float):
        return value if isinstance(value, str) else None
    factor = point.to_base
    if factor == 1:
        return int(value) if point.type in _INTEGERS else value
    scaled = float(value) * float(factor)
    return round(scaled) if point.type in _INTEGERS and factor == int(factor) else scaled
