"""Every shipped Modbus profile walks over its simulated device, on the wire."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.profile_file import load_profile, profile_paths
from gateway.config.profile_match import match_profiles
from gateway.devices.codec import PointCodec
from gateway.devices.connect import open_device, open_meter
from gateway.devices.profile import Kind, Protocol
from gateway.model.telemetry import Quality

ROOT = Path(__file__).resolve().parents[2]
# profile: (simulated device, unit)
DEVICES = {
    "sop-station-v1": ("lv4x250", 100),
    "sunspec-vsc": ("lv4x250", 2),
    "schneider-iem3255": ("iem3255", 1),
    "janitza-umg604": ("umg604", 1),
    "eastron-sdm630": ("sdm630", 1),
    "abb-b23": ("b23", 1),
    "carlo-gavazzi-em24": ("em24", 1),
    "sunspec-meter": ("sunspec203", 1),
}
SHIPPED = sorted(p.stem for p in profile_paths() if load_profile(p).protocol is Protocol.MODBUS)


class Clock:
    def utc_us(self):
        return asyncio.get_running_loop().time() * 1e6 // 1

    mono_us = utc_us


@pytest.fixture(scope="module")
def simulated():
    """Start each kind of device once, when first asked for."""
    processes, ports = [], {}

    def port_of(kind):
        if kind not in ports:
            meter = (
                ["--load", "12kW", "--pv", "3kW", "--start-energy", "50kWh"]
                if kind != "lv4x250"
                else []
            )
            process = subprocess.Popen(
                [sys.executable, "-m", "firmware_sim", "device", kind, "--port", "0", *meter],
                stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip
            processes.append(process)
            found = json.loads(process.stdout.readline())["listening"]
            ports[kind] = found.get("station", found.get("meter"))
        return ports[kind]

    yield port_of
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
        process.stdout.close()


def test_every_shipped_profile_has_a_simulated_device():
    assert sorted(DEVICES) == SHIPPED


@pytest.mark.parametrize("name", DEVICES)
def test_vectors_and_round_trips(name):
    profile = load_profile(name)
    assert len(profile.tests) >= 4
    for vector in profile.tests:
        codec = PointCodec(profile.point(vector.point), profile.modbus)
        value, quality = codec.decode(vector.registers)
        if vector.value is None:
            assert (value, quality) == (None, Quality.BAD), vector
            continue
        shown = codec.label(value) if isinstance(vector.value, str) else value
        if isinstance(vector.value, str):
            assert shown == vector.value, vector
        else:
            assert shown == pytest.approx(float(vector.value), rel=1e-6), vector
        assert codec.encode(value) == tuple(vector.registers)


@pytest.mark.parametrize("name", DEVICES)
async def test_walk_over_the_wire(name, simulated):
    kind, unit = DEVICES[name]
    profile = load_profile(name)
    device = open_device(
        name=name, profile=profile, url=f"modbus+tcp://127.0.0.1:{simulated(kind)}",
        unit=unit, clock=Clock(), timeout_s=2,
    )  # fmt: skip
    got = await device.get()
    assert device.refused == {}
    assert set(got) == {p.name for p in profile.all_points()}
    missing = [n for n, v in got.items() if v.value is None]
    assert missing == [], "points without a value"
    for vector in profile.identities:
        assert vector.expression  # judged in the commissioning tests
    for check in profile.identify.checks:
        low, high = check.between
        inside = [
            v.value for v in got.values() if profile.point(v.name).register == check.point.register
        ]
        assert all(low <= v <= high for v in inside)
    await device.close()


@pytest.mark.parametrize("name", [n for n in DEVICES if load_profile(n).kind is Kind.METER])
async def test_meters_read_energy_and_power_with_the_right_sign(name, simulated):
    kind, unit = DEVICES[name]
    meter = open_meter(
        name=name, profile=load_profile(name), url=f"modbus+tcp://127.0.0.1:{simulated(kind)}",
        unit=unit, clock=Clock(), timeout_s=2,
    )  # fmt: skip
    reading = await meter.read()
    # 12 kW of load and 3 kW of sun: the feeder delivers, so the terminal's power is negative.
    assert -13_500 < reading.p_w < -8_000
    assert reading.import_wh >= 50_000 - 100
    assert reading.registers
    await meter.close()


@pytest.mark.parametrize("name", [n for n in DEVICES if load_profile(n).kind is Kind.METER])
async def test_the_profile_recognises_its_own_meter(name, simulated):
    kind, unit = DEVICES[name]
    profiles = [load_profile(n) for n in DEVICES if load_profile(n).identify.checks]
    if not load_profile(name).identify.checks:
        return
    matches = await match_profiles(
        f"modbus+tcp://127.0.0.1:{simulated(kind)}", profiles, unit_id=unit, timeout_s=2
    )
    assert matches[0].profile == name
    assert matches[0].fits
