"""Who is there? Device identification by functions 43/14 and 17, and the SunSpec chain.

Only reads: this is what ``sopgw scan`` and ``sopgw device identify`` ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.devices import sunspec
from gateway.devices.modbus import frame
from gateway.devices.modbus.client import ModbusUnit
from gateway.model.errors import BadAnswer, DeviceRefused

# Application protocol §6.21: names of the identification objects.
OBJECTS = {
    0: "vendor",
    1: "product",
    2: "revision",
    3: "url",
    4: "product_name",
    5: "model",
    6: "application",
}
ROUNDS_MAX = 8  # answers that say "more follows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """What a unit said about itself; empty where it refused."""

    objects: Mapping[str, str] = field(default_factory=dict)
    server_id: bytes = b""
    chain: sunspec.Chain | None = None

    @property
    def answered(self) -> bool:
        """Tell whether it said anything."""
        return bool(self.objects or self.server_id or self.chain)

    def text(self) -> str:
        """One line for people."""
        parts = []
        if self.objects:
            parts.append("FC43: " + " / ".join(self.objects.values()))
        if self.chain is not None:
            parts.append("SunSpec " + ",".join(str(m.id) for m in self.chain.models))
        if self.server_id and not parts:
            parts.append(f"FC17: {self.server_id.hex(' ')}")
        return "; ".join(parts) or "answers, says nothing about itself"


def parse_objects(answer: bytes) -> tuple[dict[str, str], int | None]:
    """Objects of a 43/14 answer (without its function code), and where to go on."""
    more, next_object, count = answer[3], answer[4], answer[5]
    objects: dict[str, str] = {}
    place = 6
    for _ in range(count):
        number, size = answer[place], answer[place + 1]
        text = answer[place + 2 : place + 2 + size].decode("utf-8", "replace").strip("\0 ")
        objects[OBJECTS.get(number, f"object_{number}")] = text
        place += 2 + size
    return objects, next_object if more == 0xFF else None


async def identify(unit: ModbusUnit, unit_id: int) -> Identification:
    """Ask all three ways; a refusal is an answer too. Raises what the line raises."""
    return Identification(
        objects=await device_objects(unit, unit_id),
        server_id=await _server_id(unit, unit_id),
        chain=await _chain(unit, unit_id),
    )


async def device_objects(unit: ModbusUnit, unit_id: int) -> dict[str, str]:
    """Objects of function 43/14 by name; empty where the device refuses."""
    objects: dict[str, str] = {}
    at: int | None = 0
    for _ in range(ROUNDS_MAX):
        try:
            answer = await unit.read(frame.device_id(unit_id, object_id=at or 0))
        except (DeviceRefused, BadAnswer):
            break
        found, at = parse_objects(answer)
        objects |= found
        if at is None:
            break
    return objects


async def _server_id(unit: ModbusUnit, unit_id: int) -> bytes:
    try:
        return (await unit.read(frame.report_id(unit_id)))[1:]
    except (DeviceRefused, BadAnswer):
        return b""


async def _chain(unit: ModbusUnit, unit_id: int) -> sunspec.Chain | None:
    try:
        return await sunspec.discover(unit, unit_id)
    except BadAnswer:
        return None
