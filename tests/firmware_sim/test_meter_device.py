"""A meter as its own process: counts on, loses its memory, is exchanged."""

import struct

import pytest
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from firmware_sim.meter_device import Household


def test_an_sdm630_counts_and_can_be_reset(start):
    device = start("--speed", "600", "--load", "36kW", kind="sdm630")
    wire = device.wire(device.listening["meter"], unit=1)

    def kwh():
        return struct.unpack(">f", struct.pack(">2H", *wire.read(4, 0x48, 2)))[0]

    first = kwh()
    while kwh() < first + 1:
        pass
    assert device.ask({"inject": "meter_reset"})["ok"]
    assert kwh() < first + 1
    assert not device.ask({"inject": "estop"})["ok"]


@pytest.mark.parametrize("kind", ["sunspec203", "sunspec213"])
def test_pysunspec2_reads_the_meter(start, kind):
    device = start("--load", "5kW", "--start-energy", "1000kWh", kind=kind)
    client = SunSpecModbusClientDeviceTCP(
        slave_id=1, ipaddr="127.0.0.1", ipport=device.listening["meter"], timeout=5
    )
    client.scan()
    model = client.models[203 if kind == "sunspec203" else 213][0]
    assert model.W.cvalue == pytest.approx(5000, rel=0.05)
    assert model.TotWhImp.cvalue == pytest.approx(1_000_000, rel=1e-4)
    client.close()


def test_sun_shines_at_noon_and_not_at_night():
    house = Household(load_w=1000.0, pv_w=5000.0)
    house.at(12 * 3600.0, 0.0)
    assert house.p_w == pytest.approx(4000)
    house.at(0.0, 0.0)
    assert house.p_w == -1000
