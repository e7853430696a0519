"""The demo's machines: simulated devices, a broker and the gateway, each a process on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.model.errors import GatewayError
from gateway.runtime.clock import BenchClock
from gateway.runtime.control import ask

READY_S = 30.0
STOP_S = 15.0
SITE = """\
# The demo's site: four regions on one soft open point, all of it simulated.
version: 1
site: {{id: demo, name: Demo bench, timezone: UTC}}
mode: on
devices:
  station: {{profile: sop-station-v1, url: "modbus+tcp://127.0.0.1:{station}", unit: 100}}
{meters}
sops:
  SOP-1:
    station: station
    master: T1
    dc: {{v_nominal: 800 V, v: [720 V, 880 V], throughput: 500 kW}}
    losses: {{a: 0.4 %, b: 0.6 %, c: 0.6 %}}
    heartbeat: {{period: 1 s, device_timeout: 5 s, on_loss: ramp_zero}}
    rearm: manual
    terminals:
{terminals}
market:
  broker: mqtt://127.0.0.1:{broker}
  signers: [{{name: market-1, key: "{signer}"}}]
  required: 1
  gate: 2 min
  horizon: 48 h
  over_limit: curtail
ledger: {{dir: ledger, origin: demo.example/SOP-1, key: {{file: ledger.key}}, checkpoint: {{every: 10 s}}, witnesses: []}}
runtime: {{scan: 1 s, meter_poll: 5 s}}
limits: {{dso_mask: none}}
"""  # noqa: E501 - a file for people, written as they would
REGIONS = {"T1": "region-a", "T2": "region-b", "T3": "region-c", "T4": "region-d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where everything listens."""

    station_port: int
    meter_ports: tuple[int, ...]
    broker_port: int


def site_text(ports: Ports, signer: bytes) -> str:
    """Write the demo's site file."""
    meters = "\n".join(
        f'  m{k}: {{profile: schneider-iem3255, url: "modbus+tcp://127.0.0.1:{port}", unit: 1}}'
        for k, port in enumerate(ports.meter_ports, 1)
    )
    guard = "guard: {p: [-230 kW, 230 kW], ramp: 20 %/s, v: [360 V, 440 V]}"
    terminals = "\n".join(
        f"      {terminal}: {{index: {k}, meter: m{k + 1}, domain: {region}, s: 250 kVA, {guard}}}"
        for k, (terminal, region) in enumerate(REGIONS.items())
    )
    return SITE.format(
        station=ports.station_port,
        meters=meters,
        terminals=terminals,
        broker=ports.broker_port,
        signer=base64.b64encode(signer).decode(),
    )


@contextlib.asynccontextmanager
async def process(*arguments: str, log: Path, **options: Any) -> AsyncIterator[Any]:
    """Run a program of ours; end it in order, and by force where that takes too long."""
    with log.open("wb") as errors:
        started = await asyncio.create_subprocess_exec(
            *arguments, stderr=errors, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **options
        )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await started.wait()
            except TimeoutError:
                started.kill()
                await started.wait()


@contextlib.asynccontextmanager
async def simulated_devices(
    folder: Path, *, seed: int, grid: str | None = None, kind: str = "lv4x250", master: int = 1
) -> AsyncIterator[tuple[int, tuple[int, ...]]]:
    """Start the simulated station and meters, on feeders if named; yield their ports."""
    arguments = (
        sys.executable, "-m", "firmware_sim", "device", kind, "--port", "0",
        "--master", str(master), "--seed", str(seed), "--timebase", str(folder / "timebase.json"),
        "--control", str(folder / "sim.sock"), "--trace", str(folder / "truth.csv"), "--with-stdin",
        *(("--grid", grid) if grid else ()),
    )  # fmt: skip
    pipe = asyncio.subprocess.PIPE
    async with process(*arguments, log=folder / "sopsim.log", stdin=pipe, stdout=pipe) as simulator:
        async with asyncio.timeout(READY_S):
            line = await simulator.stdout.readline()
        if not line:
            raise GatewayError(f"the simulator did not start: see {folder / 'sopsim.log'}")
        listening = json.loads(line)["listening"]
        yield listening["station"], tuple(listening["meters"])


@contextlib.asynccontextmanager
async def broker(folder: Path, *, embedded: bool = False) -> AsyncIterator[tuple[int, str]]:
    """Start Mosquitto where it is installed, else the embedded broker; yield port and name."""
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    program = None if embedded else program
    if program is None:
        from gateway.market.embedded_broker import EmbeddedBroker

        inside = EmbeddedBroker()
        try:
            yield await inside.start(), "amqtt"
        finally:
            await inside.stop()
        return
    port = _free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n",
        encoding="utf-8",
    )
    async with process(program, "-c", str(config), log=folder / "mosquitto.log") as started:
        async with asyncio.timeout(READY_S):
            while not _listens(port):
                if started.returncode is not None:
                    raise GatewayError(f"Mosquitto ended: see {folder / 'mosquitto.log'}")
                await asyncio.sleep(0.02)
        yield port, "Mosquitto"


@contextlib.asynccontextmanager
async def gateway(site: Path, folder: Path) -> AsyncIterator[Any]:
    """Start the gateway on a site file; yield the process once it answers."""
    arguments = (
        sys.executable, "-m", "gateway", "run", "-q", "-v", "-c", str(site),
        "--timebase", str(folder / "timebase.json"),
    )  # fmt: skip
    async with process(*arguments, log=folder / "gateway.log") as started:
        await until_answering(started, site.parent / "sopgw.sock", folder / "gateway.log")
        yield started
    if started.returncode != 0:
        log = folder / "gateway.log"
        raise GatewayError(f"the gateway ended with {started.returncode}{tail_of(log)}")


async def until_answering(started: Any, path: Path, log: Path) -> None:
    """Return once the gateway answers on its socket; GatewayError when it ends instead."""
    async with asyncio.timeout(READY_S):
        while True:
            if started.returncode is not None:
                raise GatewayError(f"the gateway ended with {started.returncode}{tail_of(log)}")
            with contextlib.suppress(OSError, TimeoutError):
                await ask(path, {"verb": "status"}, timeout_s=1.0)
                return
            await asyncio.sleep(0.02)


def tail_of(log: Path) -> str:
    """The end of a log, for an error message."""
    return ":\n" + log.read_text(encoding="utf-8", errors="replace")[-2000:]


async def inject(folder: Path, order: Mapping[str, Any]) -> None:
    """Give the simulator an order on its control socket."""
    answer = await ask(folder / "sim.sock", order)
    if not answer.get("ok", True):
        raise GatewayError(f"the simulator refused {order}: {answer}")


async def started_in(clock: BenchClock, utc_ms: int) -> None:
    """Wait for an instant of simulated time."""
    ahead_us = utc_ms * 1000 - clock.utc_us()
    await clock.sleep_until(clock.mono_us() + ahead_us)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
