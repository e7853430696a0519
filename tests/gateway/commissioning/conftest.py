import asyncio
import contextlib
import importlib.util
import sys
from pathlib import Path

import pytest

from gateway.commissioning.equipment import DeviceSpec, Equipment, Rack
from gateway.commissioning.runs.person import Answer
from gateway.config.profile_file import check_profile
from gateway.model.terminal import LossCurve, Sop, Terminal
from gateway.runtime.clock import BenchClock

ROOT = Path(__file__).resolve().parents[3]


def by_path(path):
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


planted_site = by_path(ROOT / "tests" / "fakes" / "planted_site.py")


def profile(name):
    return check_profile(ROOT / "configs" / "profiles" / f"{name}.yaml")[1]


def terminal(number):
    return Terminal(
        id=f"T{number}", index=number - 1, domain=f"region-{number}", meter=f"m{number}",
        s_va=250_000, p_w_min=-230_000, p_w_max=230_000, ramp_w_per_s=50_000,
        v_dv_min=3600, v_dv_max=4400,
    )  # fmt: skip


def equipment(listening):
    station, meter = profile("sop-station-v1"), profile("schneider-iem3255")
    return Equipment(
        site="elm",
        sop=Sop(
            id="SOP-1",
            master="T1",
            terminals=tuple(terminal(n) for n in range(1, 5)),
            throughput_w=500_000,
            losses=LossCurve(a_ppm=4000, b_ppm=6000, c_ppm=6000),
            v_dc_dv_min=7200,
            v_dc_dv_max=8800,
        ),
        station=DeviceSpec(
            name="station", profile=station, unit=100,
            url=f"modbus+tcp://127.0.0.1:{listening['station']}",
        ),
        meters={
            f"m{k}": DeviceSpec(
                name=f"m{k}", profile=meter, unit=1, url=f"modbus+tcp://127.0.0.1:{port}"
            )
            for k, port in enumerate(listening["meters"], 1)
        },
        heartbeat_ms=1000,
        device_timeout_ms=5000,
    )  # fmt: skip


WORDS = {
    "LOCAL": "local", "REMOTE": "remote", "Open the cabinet": "open-door",
    "Pull the network": "unplug", "Plug the cable": "plug", "Close the cabinet": "close-door", "Press the": "press", "Release": "release",
}  # fmt: skip


class Panel:
    """A person who does what is asked, on the simulated device."""

    def __init__(self, site):
        self.site, self.asked, self.told = site, [], []
        self.answer = Answer.DONE

    async def ask(self, what):
        self.asked.append(what)
        if self.answer is Answer.DONE:
            word = next((w for text, w in WORDS.items() if text in what), None)
            if word:
                self.site.panel(word)
        return self.answer

    def tell(self, what):
        self.told.append(what)


class Bench:
    """A planted site in this loop and a rack on it."""

    def __init__(self, site, rack):
        self.site, self.rack, self.person = site, rack, Panel(site)

    @property
    def powers_w(self):
        self.site.device.advance()
        return [round(c.p_w) for c in self.site.device.sop.converters]


@pytest.fixture
def bench():
    """Open a bench with planted faults; ten times as fast as real unless told otherwise."""

    @contextlib.asynccontextmanager
    async def opened(*plants, factor=10):
        clock = BenchClock.start(utc_epoch_us=1_795_000_000_000_000, factor=factor)
        site = planted_site.PlantedSite(
            factor=float(factor), plants=plants, epoch_ns=clock.epoch_ns, utc_us=clock.utc_epoch_us
        )
        rack = Rack(equipment(await site.start()), clock)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(site.run())
            try:
                yield Bench(site, rack)
            finally:
                running.cancel()
                await rack.close()
                await site.close()

    return opened
