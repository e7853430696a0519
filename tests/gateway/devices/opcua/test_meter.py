"""A meter on OPC UA whose certificate or units are wrong is a meter without a reading, no more."""

from types import SimpleNamespace

import pytest

from gateway.config.profile_file import load_profile
from gateway.devices.opcua.meter import OpcuaMeter
from gateway.model.errors import ConfigError, DeviceNotSent


async def test_wrong_trust_or_units_are_a_reading_that_failed_and_end_nothing_else():
    async def get(_names):
        raise ConfigError("the certificate ended; OPC UA stays off")

    device = SimpleNamespace(name="m2", get=get)
    meter = OpcuaMeter(device=device, profile=load_profile("schneider-iem3255"), clock=None)
    with pytest.raises(DeviceNotSent, match="m2: the certificate ended") as refused:
        await meter.read()
    assert not refused.value.retryable
