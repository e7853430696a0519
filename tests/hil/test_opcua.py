"""One trade through a gateway that speaks to its station over OPC UA, and is paid for."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import time

import pytest
from fakes.rig import Rig, report

from gateway.cli import demo_bench as bench
from gateway.devices.opcua.own import own_files

pytestmark = pytest.mark.timeout(280)
FACTOR = 4
P_W = 120_000


class OpcuaRig(Rig):
    """The usual site; the station is reached through its OPC UA server only."""

    @contextlib.asynccontextmanager
    async def machines(self):
        utc_us = -(-time.time_ns() // 60_000_000_000) * 60_000_000 - self.to_minute_ms * 1000
        self.clock = bench.BenchClock.start(utc_epoch_us=utc_us, factor=self.factor)
        self.clock.save(self.folder / "timebase.json")
        async with contextlib.AsyncExitStack() as machines:
            self.broker_port, _ = await machines.enter_async_context(bench.broker(self.folder))
            listening = await machines.enter_async_context(self.device())
            ports = bench.Ports(
                station_port=1, meter_ports=listening["meters"], broker_port=self.broker_port
            )
            text = bench.site_text(ports, self.key.public_key().public_bytes_raw())
            for before, after in (
                ("gate: 2 min", f"gate: {self.gate}"),
                ("rearm: manual", f"rearm: {self.rearm}"),
                ("profile: sop-station-v1", "profile: sop-station-opcua"),
                ('url: "modbus+tcp://127.0.0.1:1", unit: 100', f'url: "{self.url(listening)}"'),
            ):
                assert before in text
                text = text.replace(before, after)
            self.site = self.out / "site.yaml"
            self.site.write_text(text)
            machines.push_async_callback(self.stop)
            yield

    @contextlib.asynccontextmanager
    async def device(self):
        arguments = (
            *(sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0"),
            *("--seed", "3", "--timebase", str(self.folder / "timebase.json"), "--with-stdin"),
            *("--control", str(self.folder / "sim.sock")),
            *("--opcua", "0", "--certs", str(self.folder / "station")),
        )
        pipe = asyncio.subprocess.PIPE
        async with bench.process(
            *arguments, log=self.folder / "sopsim.log", stdin=pipe, stdout=pipe
        ) as simulator:
            yield json.loads(await simulator.stdout.readline())["listening"]

    def url(self, listening):
        own, trusted = self.folder / "own", self.folder / "trusted"
        certificate, key = own_files(own, name="gateway", now_utc_us=time.time_ns() // 1000)
        trusted.mkdir()
        pinned = shutil.copy(self.folder / "station" / "opcua-server.der", trusted)
        (own / "password").write_text("operator-bench\n")
        (own / "password").chmod(0o600)
        return (
            f"{listening['opcua']}?cert={certificate}&key={key}&server={pinned}"
            f"&trusted={trusted}&user=operator&password_file={own}/password"
        )


def sopledger(command, rig):
    arguments = (command, str(rig.out / "ledger"), "--key", str(rig.vkey()))
    done = subprocess.run(
        [sys.executable, "-m", "ledger", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_trade_is_delivered_over_opcua(tmp_path):
    rig = OpcuaRig(tmp_path, factor=FACTOR, to_minute_ms=52_000)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms()
        trade = rig.trade("trd-ua", "T2", "T3", P_W, start_ms)
        assert (await rig.send(rig.signed(trade), wait_s=20)).accepted
        await rig.until_ms(start_ms + 30_000)
        truth = await rig.truth()
        assert truth["heartbeats"] > 0
        await rig.until(lambda s: s["high_water_ms"] >= start_ms + 60_000)
        await rig.until(lambda s: s["state"] == "READY")
    entries = rig.entries()
    (delivery,) = report(entries).values()
    assert delivery["status"] == "delivered", delivery
    assert abs(delivery["delivered_wh"] - 2_000) <= 10
    outcomes = [e["outcome"] for e in entries if e["kind"] == "outcome"]
    assert set(outcomes) <= {"executed", "accepted", "confirmed"}, outcomes
    sopledger("verify", rig)
    sopledger("audit", rig)
