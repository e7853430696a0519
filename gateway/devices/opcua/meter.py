"""An energy meter on OPC UA: both counters and the power of one request, all of them good."""

from __future__ import annotations

from gateway.devices.meter import EXPORT, IMPORT, POWER
from gateway.devices.opcua.device import OpcuaDevice
from gateway.devices.opcua.station import SecurityOff
from gateway.devices.profile import Profile, Sign
from gateway.model.errors import BadAnswer, ConfigError
from gateway.model.telemetry import MeterReading, Quality
from gateway.ports import Clock


class OpcuaMeter:
    """Implements ``gateway.ports.Meter``."""

    def __init__(self, *, device: OpcuaDevice, profile: Profile, clock: Clock) -> None:
        self.name = device.name
        self._device = device
        self._clock = clock
        positive = profile.sign.get("p", Sign.IMPORT_POSITIVE)
        self._sign_factor = 1 if positive is Sign.INJECT_POSITIVE else -1

    async def read(self) -> MeterReading:
        """Read the counters and the power; a value that is bad or old is no reading."""
        try:
            found = await self._device.get((IMPORT, EXPORT, POWER))
        except ConfigError as error:  # one meter's certificate or units must not end the gateway
            raise SecurityOff(self.name, str(error)) from None
        amounts: dict[str, int] = {}
        for name, seen in found.items():
            if seen.quality is not Quality.GOOD or not isinstance(seen.value, int | float):
                raise BadAnswer(self.name, f"{name} has no good value ({seen.status})")
            amounts[name] = round(seen.value)
        import_wh, export_wh = amounts[IMPORT], amounts[EXPORT]
        if import_wh < 0 or export_wh < 0:
            raise BadAnswer(self.name, f"a counter below zero: {import_wh}, {export_wh} Wh")
        return MeterReading(
            meter=self.name,
            utc_us=found[POWER].utc_us,
            mono_us=found[POWER].mono_us,
            import_wh=import_wh,
            export_wh=export_wh,
            p_w=self._sign_factor * amounts[POWER],
            registers=(),
        )

    async def close(self) -> None:
        """End the connection and its child."""
        await self._device.close()
