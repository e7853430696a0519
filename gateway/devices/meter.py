"""An energy meter on Modbus: the same code for every profile of kind ``meter``."""

from __future__ import annotations

from gateway.devices.codec import codecs_of
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.planner import plan
from gateway.devices.profile import Profile, Sign
from gateway.devices.reader import read_blocks
from gateway.model.errors import BadAnswer
from gateway.model.telemetry import MeterReading
from gateway.ports import Clock

IMPORT, EXPORT, POWER = "e.import", "e.export", "p"


class ModbusMeter:
    """Implements ``gateway.ports.Meter``."""

    def __init__(self, *, unit: ModbusUnit, unit_id: int, profile: Profile, clock: Clock) -> None:
        codecs = codecs_of(profile)
        wanted = [codecs[name] for name in (IMPORT, EXPORT, POWER)]
        wanted += [
            codecs[c.point.scale_point]
            for c in wanted
            if c.point.scale_point is not None and codecs[c.point.scale_point] not in wanted
        ]
        self.name = unit.name
        self._unit = unit
        self._clock = clock
        self._codecs = codecs
        # Both counters of one moment, unless the meter cannot give that many registers at once.
        starts = [c.point.register.address for c in wanted[:2] if c.point.register is not None]
        span_size = max(starts) - min(starts) + wanted[0].point.register_count
        together = [(IMPORT, EXPORT)] if span_size <= profile.modbus.register_count_max else []
        self._blocks = plan(dict.fromkeys(wanted), profile.modbus, unit=unit_id, together=together)
        positive = profile.sign.get("p", Sign.IMPORT_POSITIVE)
        self._sign_factor = 1 if positive is Sign.INJECT_POSITIVE else -1

    @property
    def requests_count(self) -> int:
        """How many requests one poll takes."""
        return len(self._blocks)

    async def read(self) -> MeterReading:
        """Read both counters in one request and the power with them where the map allows it."""
        utc_us, mono_us = self._clock.utc_us(), self._clock.mono_us()
        got = await read_blocks(self._unit, self._blocks)
        import_wh, export_wh = got.integer(IMPORT), got.integer(EXPORT)
        if import_wh < 0 or export_wh < 0:
            raise BadAnswer(self.name, f"a counter below zero: {import_wh}, {export_wh} Wh")
        return MeterReading(
            meter=self.name,
            utc_us=(utc_us + self._clock.utc_us()) // 2,
            mono_us=(mono_us + self._clock.mono_us()) // 2,
            import_wh=import_wh,
            export_wh=export_wh,
            p_w=self._sign_factor * got.integer(POWER),
            registers=got.registers,
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._unit.client.close()
