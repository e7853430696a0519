"""The same station behind different ways: in memory, and as a process on the wire."""

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.profile_file import load_profile
from gateway.devices.connect import Endpoints, open_meter, open_station

ROOT = Path(__file__).resolve().parents[2]


def by_path(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fakes = by_path(ROOT / "tests" / "fakes" / "station.py", "fakes_station")


class FakeBench:
    def __init__(self, **_):
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

    def __init__(self, *, way="tcp"):
        self.way, self.opened, self.endpoints = way, [], Endpoints()

    async def __aenter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        line = await asyncio.to_thread(self.process.stdout.readline)
        self.ports = json.loads(line)["listening"]
        return self

    async def __aexit__(self, *_):
        for driver in self.opened:
            await driver.close()
        self.process.terminate()
        await asyncio.to_thread(self.process.wait)
        self.process.stdout.close()

    def url(self, port):
        return f"modbus+tcp://127.0.0.1:{port}"

    def station(self, owner=7, terminals=None):
        station = open_station(
            name="station",
            profile=load_profile("sop-station-v1"),
            url=self.url(self.ports["station"]),
            unit=100,
            terminals=terminals or fakes.four_terminals(),
            clock=fakes.RealClock(),
            owner=owner,
        )
        self.opened.append(station)
        return station

    def meter(self, number):
        meter = open_meter(
            name=f"m{number}",
            profile=load_profile("schneider-iem3255"),
            url=self.url(self.ports["meters"][number - 1]),
            unit=1,
            clock=fakes.RealClock(),
        )
        self.opened.append(meter)
        return meter


WAYS = {"fake": FakeBench, "modbus-tcp": SimulatedBench}


@pytest.fixture(params=WAYS)
async def bench(request):
    async with WAYS[request.param]() as found:
        yield found


@pytest.fixture
def four_terminals():
    return fakes.four_terminals
