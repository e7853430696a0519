"""The same station behind different ways: in memory, and as a process on the wire."""

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.config.profile_file import load_profile
from gateway.devices.connect import Endpoints, open_meter, open_station
from gateway.devices.opcua.own import own_files

ROOT = Path(__file__).resolve().parents[2]


def by_path(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bridges = by_path(ROOT / "tests" / "contract" / "bridges.py", "bridges")
certificates = by_path(ROOT / "tests" / "fakes" / "certificates.py", "certificates")
fakes = by_path(ROOT / "tests" / "fakes" / "station.py", "fakes_station")


class FakeBench:
    def __init__(self, folder):
        self.plant = fakes.FakePlant()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    def station(self, owner=7, terminals=None):
        station = fakes.FakeStation(plant=self.plant, owner=owner)
        if terminals:
            station.guard._terminals = {t.id: t for t in terminals}
        return station

    def meter(self, number):
        return fakes.FakeMeter(plant=self.plant, terminal=f"T{number}", name=f"m{number}")


class SimulatedBench:
    """``sopsim device lv4x250`` as a process of its own."""

    def __init__(self, folder):
        self.folder, self.opened = folder, []
        self.endpoints = Endpoints()

    async def __aenter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        line = await asyncio.to_thread(self.process.stdout.readline)
        self.ports = json.loads(line)["listening"]
        self.way = self.bridge()
        if self.way is not None:
            await self.way.__aenter__()
        return self

    def bridge(self):
        """Something between the driver and the station's Modbus TCP port; None: nothing."""

    async def __aexit__(self, *_):
        for driver in self.opened:
            await driver.close()
        if self.way is not None:
            await self.way.__aexit__(None, None, None)
        self.process.terminate()
        await asyncio.to_thread(self.process.wait)
        self.process.stdout.close()

    def station_url(self):
        if self.way is not None:
            return self.way.url
        return f"modbus+tcp://127.0.0.1:{self.ports['station']}"

    profile, timeout_s = "sop-station-v1", 2.0  # a busy machine is no mute device

    def station(self, owner=7, terminals=None):
        station = open_station(
            name="station",
            profile=load_profile(self.profile),
            url=self.station_url(),
            unit=100,
            terminals=terminals or fakes.four_terminals(),
            clock=fakes.RealClock(),
            owner=owner,
            endpoints=self.endpoints,
            timeout_s=self.timeout_s,
        )
        self.opened.append(station)
        return station

    def meter(self, number):
        meter = open_meter(
            name=f"m{number}",
            profile=load_profile("schneider-iem3255"),
            url=f"modbus+tcp://127.0.0.1:{self.ports['meters'][number - 1]}",
            unit=1,
            clock=fakes.RealClock(),
        )
        self.opened.append(meter)
        return meter


class RtuOverTcpBench(SimulatedBench):
    def bridge(self):
        return bridges.RtuOverTcp(self.ports["station"])


class SerialBench(SimulatedBench):
    def bridge(self):
        return bridges.SerialLine(self.ports["station"])


class TlsBench(SimulatedBench):
    def bridge(self):
        return bridges.Tls(self.ports["station"], certificates.Authority(self.folder))


class OpcuaBench(SimulatedBench):
    """The station's OPC UA face: signed, encrypted, pinned, a named user.

    A station of its own for each case: what a fail-safe leaves behind is nobody else's.
    """

    profile, timeout_s = "sop-station-opcua", 5.0

    def __init__(self, served):
        super().__init__(served.folder)
        self.served = served

    async def __aenter__(self):
        self.ports, self.way = self.served.ports, None
        return self

    async def __aexit__(self, *_):
        for driver in self.opened:
            await driver.close()

    def station_url(self):
        own, folder = self.folder / "own", self.folder
        return (
            f"{self.ports['opcua']}?cert={own}/cert.der&key={own}/key.pem"
            f"&server={folder}/station/opcua-server.der&trusted={folder}/trusted"
            f"&user=operator&password_file={own}/password"
        )


class OpcuaServed(SimulatedBench):
    """The process behind it, and the certificates of both sides."""

    def start(self):
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0"),
                *("--opcua", "0", "--certs", str(self.folder / "station")),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        self.ports = json.loads(self.process.stdout.readline())["listening"]
        (self.folder / "trusted").mkdir(exist_ok=True)
        shutil.copy(self.folder / "station" / "opcua-server.der", self.folder / "trusted")
        own = self.folder / "own"
        own_files(own, name="contract", now_utc_us=time.time_ns() // 1000)
        (own / "password").write_text("operator-bench\n")
        (own / "password").chmod(0o600)
        return self

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def opcua_folder(tmp_path_factory):
    """Certificates and keys of both sides: each station is another process, not another device."""
    return tmp_path_factory.mktemp("opcua")


@pytest.fixture
def opcua_served(opcua_folder):
    served = OpcuaServed(opcua_folder).start()
    yield served
    served.stop()


WAYS = {
    "fake": FakeBench,
    "modbus-tcp": SimulatedBench,
    "modbus-rtu-over-tcp": RtuOverTcpBench,
    "modbus-rtu": SerialBench,
    "modbus-tls": TlsBench,
    "opcua": OpcuaBench,
}


# Framing and transport differ, the driver does not: by default the other ways run what would show
# a difference. SOPGW_ALL_WAYS=1 runs every case over every way (80 s, OPC UA a minute more).
EVERY_WAY = {
    "test_select_read_back_operate_effect",
    "test_a_second_controller_is_kept_out_while_the_lease_lives",
    "test_the_watchdog_is_armed_and_read_back",
}


def pytest_generate_tests(metafunc):
    if "bench" in metafunc.fixturenames:
        every = os.environ.get("SOPGW_ALL_WAYS") or metafunc.function.__name__ in EVERY_WAY
        metafunc.parametrize(
            "bench", list(WAYS) if every else ["fake", "modbus-tcp"], indirect=True
        )


@pytest.fixture
async def bench(request, tmp_path):
    way = WAYS[request.param]
    given = request.getfixturevalue("opcua_served") if way is OpcuaBench else tmp_path
    async with way(given) as found:
        yield found


@pytest.fixture
def four_terminals():
    return fakes.four_terminals
