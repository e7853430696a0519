"""Modbus transactions per second of the bench, beside pymodbus's stock server in the same run.

A client in C reads 28 input registers at 1000 of unit 100 from N devices at once, one connection
each. Run: ``python tests/bench/bench_sim_modbus.py [--seconds 3]``. Needs a C compiler.
Figures are printed, never asserted.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent


async def serve_bench(n, physics):
    from firmware_sim.bench import Options, SopDevice
    from firmware_sim.plant.ratings import SPECS
    from firmware_sim.timebase import SimClock, TimeBase

    base = TimeBase(epoch_ns=time.monotonic_ns(), utc_epoch_us=time.time_ns() // 1000, factor=1.0)
    devices = [
        SopDevice(SPECS["lv4x250"], SimClock(base, time.monotonic_ns), Options(seed=k))
        for k in range(n)
    ]
    ports = [await device.station.start(0) for device in devices]
    print(json.dumps(ports), flush=True)
    if not physics:
        # Far enough away that no step ever comes due: what is left is the wire.
        for device in devices:
            device.step_us = 3600 * 10**6
        await asyncio.Event().wait()
    async with asyncio.TaskGroup() as group:
        for device in devices:
            group.create_task(device.run(asyncio.sleep))


async def serve_pymodbus(n):
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    ports = []
    for _ in range(n):
        registers = [SimData(1000, datatype=DataType.REGISTERS, values=list(range(40)))]
        server = ModbusTcpServer(SimDevice(100, simdata=registers), address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        ports.append(server.transport.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


def measure(client, kind, n, seconds):
    command = [sys.executable, __file__, "--serve", kind, "--devices", str(n)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        ports = json.loads(process.stdout.readline())
        watch = psutil.Process(process.pid)
        watch.cpu_percent()
        time.sleep(1.0)
        idle = watch.cpu_percent()
        before = watch.cpu_times()
        arguments = [str(client), str(seconds), "100", "4", "1000", "28", *map(str, ports)]
        out = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        after = watch.cpu_times()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
    done, took, errors = out.split()
    cpu_s = after.user + after.system - before.user - before.system
    rate = int(done) / float(took)
    return rate, cpu_s / int(done) * 1e6, int(errors), idle


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", choices=["bench", "bench-idle", "pymodbus"])
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    if options.serve == "pymodbus":
        asyncio.run(serve_pymodbus(options.devices))
        return
    if options.serve:
        asyncio.run(serve_bench(options.devices, options.serve == "bench"))
        return
    with tempfile.TemporaryDirectory() as directory:
        client = Path(directory) / "client"
        source = HERE / "bench_sim_client.c"
        subprocess.run(["cc", "-O2", "-o", str(client), str(source)], check=True)
        print(
            f"{'server':24}{'devices':>8}{'trans/s':>10}{'CPU us each':>13}{'idle CPU %':>12}{'errors':>8}"
        )
        for n in (1, 50, 200):
            for kind, name in (
                ("bench-idle", "bench, wire alone"),
                ("bench", "bench with physics"),
                ("pymodbus", "pymodbus stock server"),
            ):
                rate, cpu_us, errors, idle = measure(client, kind, n, options.seconds)
                row = f"{name:24}{n:8}{rate:10.0f}{cpu_us:13.1f}{idle:12.1f}{errors:8}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
