"""Devices beside their rivals in the same run; prints JSON, asserts nothing.

    python tests/bench/bench_devices.py [--seconds 1.5] [--rounds 3] [--only decode,…]

Needs gcc and libmodbus for the C server, which counts and answers with no think time unless told.
Clients run as processes of their own on one core, the server on the other; rows are interleaved,
each figure is the median of the rounds. CPU per transaction travels better than rates.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLIENTS = ("ours", "ours+uvloop", "streams", "pymodbus", "pymodbus+uvloop", "libmodbus")


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# Clients, each in a process of its own


def unit_to(port, **fields):
    from gateway.devices.connect import client_of
    from gateway.devices.modbus.client import ModbusUnit
    from gateway.devices.profile import ModbusSettings

    client = client_of(f"modbus+tcp://127.0.0.1:{port}", ModbusSettings(), timeout_s=5)
    return ModbusUnit(client, name="d", timeout_s=5, **fields)


async def ours(port, end_s, count):
    from gateway.devices.modbus import frame
    from gateway.devices.profile import Table

    unit, done = unit_to(port), 0
    request = frame.read(1, Table.HOLDING, 0, count)
    while time.monotonic() < end_s:
        await unit.read(request)
        done += 1
    await unit.client.close()
    return done


async def streams(port, end_s, count):
    """The least a careful person would write: streams, a deadline, the length checked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    tid = done = 0
    while time.monotonic() < end_s:
        tid = tid % 65535 + 1
        writer.write(struct.pack(">HHHBBHH", tid, 0, 6, 1, 3, 0, count))
        async with asyncio.timeout(5):
            head = await reader.readexactly(6)
            got, _, length = struct.unpack(">HHH", head)
            body = await reader.readexactly(length)
        assert got == tid
        assert len(body) == 3 + 2 * count
        done += 1
    writer.transport.abort()
    return done


async def pymodbus(port, end_s, count):
    from pymodbus.client import AsyncModbusTcpClient

    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5, retries=0)
    await client.connect()
    done = 0
    while time.monotonic() < end_s:
        answer = await client.read_holding_registers(0, count=count, device_id=1)
        assert len(answer.registers) == count
        done += 1
    client.close()
    return done


def run_client(name, port, connections, seconds, count):
    kind, _, loop_name = name.partition("+")
    client = {"ours": ours, "streams": streams, "pymodbus": pymodbus}[kind]

    async def all_of_them():
        await client(port, time.monotonic() - 1, count)  # imports are not what is measured
        start_s, start_cpu_s = time.monotonic(), cpu_s()
        done = await asyncio.gather(
            *(client(port, start_s + seconds, count) for _ in range(connections))
        )
        return {
            "transactions": sum(done),
            "wall_s": time.monotonic() - start_s,
            "cpu_s": cpu_s() - start_cpu_s,
        }

    print(json.dumps(run(all_of_them(), loop_name)))


def run(what, loop_name=""):
    if loop_name == "uvloop":
        import uvloop

        return uvloop.run(what)
    return asyncio.run(what)


# Decoding: 1000 points of a device, contiguous and at stride 3


def points_profile(stride):
    from gateway.devices.profile import (
        Kind,
        ModbusSettings,
        Point,
        Profile,
        Protocol,
        Register,
        Table,
    )

    return Profile(
        id="bench", kind=Kind.METER, protocol=Protocol.MODBUS, modbus=ModbusSettings(gap_size=8),
        points=tuple(
            Point(name=f"p{n}", register=Register(table=Table.HOLDING, address=stride * n))
            for n in range(1000)
        ),
    )  # fmt: skip


async def poll_ours(port, stride, seconds):
    from gateway.devices.codec import codecs_of
    from gateway.devices.planner import plan
    from gateway.devices.reader import read_blocks

    profile, unit = points_profile(stride), unit_to(port)
    blocks = plan(codecs_of(profile).values(), profile.modbus, unit=1)
    got = await read_blocks(unit, blocks)
    assert [got.value(f"p{n}") for n in range(1000)] == [stride * n for n in range(1000)]
    return await _polls(lambda: read_blocks(unit, blocks), seconds, unit.client.close, len(blocks))


async def poll_ours_device(port, stride, seconds):
    from gateway.devices.device import ModbusDevice
    from gateway.runtime.clock import SystemClock

    unit = unit_to(port)
    device = ModbusDevice(unit=unit, unit_id=1, profile=points_profile(stride), clock=SystemClock())
    await device.get()
    return await _polls(device.get, seconds, device.close, len(device.blocks()))


async def poll_pymodbus(port, stride, seconds):
    from pymodbus.client import AsyncModbusTcpClient

    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5, retries=0)
    await client.connect()
    step = 125 // stride * stride
    starts = range(0, 1000 * stride, step)

    async def poll():
        values = {}
        for start in starts:
            count = min(125, 999 * stride + 1 - start)
            answer = await client.read_holding_registers(start, count=count, device_id=1)
            for offset in range(0, min(step, count), stride):
                values[(start + offset) // stride] = client.convert_from_registers(
                    answer.registers[offset : offset + 1], client.DATATYPE.UINT16
                )
        assert len(values) == 1000

    async def close():
        client.close()

    return await _polls(poll, seconds, close, len(starts))


async def _polls(poll, seconds, close, requests):
    await poll()
    times, start_cpu_s, start_s = [], cpu_s(), time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        begun_s = time.perf_counter()
        await poll()
        times.append(time.perf_counter() - begun_s)
    wall_s = time.perf_counter() - start_s
    used_s = cpu_s() - start_cpu_s
    await close()
    return {
        "requests_a_poll": requests,
        "points_per_s": 1000 * len(times) / wall_s,
        "points_per_cpu_s": 1000 * len(times) / used_s,
        "cpu_us_a_point": 1000 * used_s / len(times),
        "poll_ms": statistics.median(times) * 1000,
    }


# A command among polls


async def command_latency(port, seconds):
    """FC16 and its read-back on the line that polls 5000 points a second."""
    from gateway.devices.codec import codecs_of
    from gateway.devices.modbus import frame
    from gateway.devices.planner import plan
    from gateway.devices.profile import Table
    from gateway.devices.reader import read_blocks

    profile, unit = points_profile(1), unit_to(port)
    blocks = plan(codecs_of(profile).values(), profile.modbus, unit=1)
    back = frame.read(1, Table.HOLDING, 5000, 2)
    ending, times, polls = asyncio.Event(), [], 0

    async def polling():
        nonlocal polls
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not ending.is_set():
            await read_blocks(unit, blocks)
            polls += 1
            due_s += 0.2
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def commanding():
        end_s = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end_s:
            number += 1
            begun_s = time.perf_counter()
            await unit.write(frame.write_registers(1, 5000, [number >> 16, number & 0xFFFF]))
            assert await unit.read(back) == number.to_bytes(4)
            times.append(time.perf_counter() - begun_s)
            await asyncio.sleep(0.013)
        ending.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(polling())
        group.create_task(commanding())
    await unit.client.close()
    ordered = sorted(times)
    return {
        "commands": len(times),
        "points_per_s": polls * 1000 / seconds,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
    }


async def many_devices(port, seconds, count=500):
    """So many devices at 1 Hz, 100 registers each, every one on a connection of its own."""
    from gateway.devices.modbus import frame
    from gateway.devices.poller import PollClass, Poller
    from gateway.devices.profile import Table
    from gateway.runtime.clock import SystemClock

    clock, units = SystemClock(), [unit_to(port) for _ in range(count)]
    request = frame.read(1, Table.HOLDING, 0, 100)
    pollers = []
    for n, unit in enumerate(units):
        await unit.read(request)

        def poll_of(unit=unit):
            async def poll(_names):
                await unit.read(request)
                return {}

            return poll

        offset_ms = 1000 * n // count
        pollers.append(
            Poller(
                classes=[PollClass(period_ms=1000, offset_ms=offset_ms, names=("all",))],
                poll=poll_of(),
                on_values=lambda _: None,
                clock=clock,
            )
        )
    start_cpu_s, start_s = cpu_s(), time.monotonic()
    tasks = [asyncio.create_task(p.run()) for p in pollers]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    wall_s, used_s = time.monotonic() - start_s, cpu_s() - start_cpu_s
    for unit in units:
        await unit.client.close()
    late = sorted(p.late_us_max for p in pollers)
    return {
        "devices": count,
        "polls": sum(p.counts["polls"] for p in pollers),
        "missed": sum(p.counts["missed"] + p.counts["failed"] for p in pollers),
        "cpu_percent_of_a_core": 100 * used_s / wall_s,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worst_lateness_of_a_device_p99_ms": late[int(len(late) * 0.99)] / 1000,
    }


PARTS = {
    "poll_ours": poll_ours,
    "poll_ours_device": poll_ours_device,
    "poll_pymodbus": poll_pymodbus,
    "command": command_latency,
    "many": many_devices,
}


# The bench itself


class Bench:
    def __init__(self, seconds, rounds):
        self.seconds, self.rounds = seconds, rounds
        self.folder = tempfile.TemporaryDirectory()
        self.rival, self.servers = self._build(), []

    def end(self):
        for process in self.servers:
            if process.poll() is None:
                process.kill()

    def _build(self):
        if shutil.which("gcc") is None:
            sys.exit("this bench needs gcc and libmodbus-dev")
        out = Path(self.folder.name) / "modbus_rival"
        subprocess.run(
            [
                "gcc",
                "-O2",
                "-o",
                out,
                HERE / "modbus_rival.c",
                "-I/usr/include/modbus",
                "-lmodbus",
                "-lpthread",
            ],
            check=True,
        )
        return out

    def server(self, think_us=0):
        port = free_port()
        process = subprocess.Popen(
            [self.rival, "server", str(port), str(think_us)],
            stdout=subprocess.PIPE, text=True, preexec_fn=on_core(1),
        )  # fmt: skip
        self.servers.append(process)
        assert process.stdout.readline() == "ready\n"
        return port, process

    def close(self, process):
        process.send_signal(signal.SIGTERM)
        out = process.communicate(timeout=10)[0]
        return json.loads(out)

    def child(self, *arguments):
        done = subprocess.run(
            [str(a) for a in arguments],
            stdout=subprocess.PIPE, text=True, check=True, preexec_fn=on_core(0),
        )  # fmt: skip
        return json.loads(done.stdout)

    def part(self, name, loop_name, *arguments):
        return self.child(sys.executable, __file__, "--part", name, "--loop", loop_name, *arguments)

    def transactions(self):
        rows = {}
        for connections in (1, 50, 200):
            found = {name: [] for name in CLIENTS}
            for _ in range(self.rounds):
                for name in CLIENTS:
                    port, server = self.server()
                    if name == "libmodbus":
                        row = self.child(self.rival, "client", port, connections, self.seconds, 100)
                    else:
                        row = self.child(
                            sys.executable, __file__, "--client", name, "--port", port,
                            "--connections", connections, "--seconds", self.seconds,
                        )  # fmt: skip
                    counted = self.close(server)["requests"]
                    assert counted >= row["transactions"], "the server counts them all"
                    found[name].append(row)
            rows[connections] = {name: middle(found[name]) for name in CLIENTS}
        return rows

    def decode(self):
        rows = {}
        for stride in (1, 3):
            for name in ("poll_ours", "poll_ours_device", "poll_pymodbus"):
                for loop_name in ("asyncio", "uvloop"):
                    results = []
                    for _ in range(self.rounds):
                        port, server = self.server()
                        results.append(
                            self.part(
                                name,
                                loop_name,
                                "--port",
                                port,
                                "--stride",
                                stride,
                                "--seconds",
                                self.seconds,
                            )
                        )
                        self.close(server)
                    rows[f"stride {stride} {name} {loop_name}"] = medians(results)
        return rows

    def slow_device(self):
        rows = {}
        for name in ("poll_ours", "poll_pymodbus"):
            port, server = self.server(think_us=5000)
            rows[name] = self.part(
                name, "uvloop", "--port", port, "--stride", 3, "--seconds", 2 * self.seconds
            )
            self.close(server)
        return rows

    def one(self, name, seconds):
        port, server = self.server()
        row = self.part(name, "uvloop", "--port", port, "--seconds", seconds)
        self.close(server)
        return row


def on_core(number):
    cores = sorted(os.sched_getaffinity(0))
    return lambda: os.sched_setaffinity(0, {cores[number % len(cores)]})


def middle(rows):
    return {
        "tx_per_s": round(statistics.median(r["transactions"] / r["wall_s"] for r in rows)),
        "cpu_us_a_tx": round(
            statistics.median(1e6 * r["cpu_s"] / max(1, r["transactions"]) for r in rows), 1
        ),
    }


def medians(rows):
    return {key: round(statistics.median(r[key] for r in rows), 2) for key in rows[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="decode,transactions,slow,command,many")
    for hidden in ("--client", "--part", "--loop"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    for hidden in ("--port", "--connections", "--stride"):
        parser.add_argument(hidden, type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client:
        run_client(args.client, args.port, args.connections, args.seconds, 100)
        return
    if args.part:
        more = [args.stride] if args.stride else []
        print(json.dumps(run(PARTS[args.part](args.port, *more, args.seconds), args.loop)))
        return
    bench, only = Bench(args.seconds, args.rounds), args.only.split(",")
    try:
        report(bench, only, args.seconds)
    finally:
        bench.end()


def report(bench, only, seconds):
    parts = {
        "decode": bench.decode,
        "transactions": bench.transactions,
        "slow": bench.slow_device,
        "command": lambda: bench.one("command", 4 * seconds),
        "many": lambda: bench.one("many", 6 * seconds),
    }
    load = os.getloadavg()[0]
    print(json.dumps({"load_before": load} | {k: parts[k]() for k in only}, indent=1))


if __name__ == "__main__":
    main()
