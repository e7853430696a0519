"""Decoding beside the VOLTTRON engine: 1,000 points, contiguous and at stride 3, quick and slow.

    python -m venv DIR && DIR/bin/pip install protocol-proxy-modbus==2.0.0rc0
    python tests/bench/bench_devices_volttron.py --rival DIR/bin/python [--seconds 1] [--rounds 3]

The engine is the register planner and decoder of VOLTTRON's Modbus proxy, used as a library in an
environment of its own; both speak to the same libmodbus server in C, which counts the requests.
Prints JSON, asserts nothing but that the values are right.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def engine(port, stride, seconds):
    """Runs in the rival's environment."""
    from protocol_proxy.protocol.modbus.client import ModbusClient

    client = await ModbusClient.create("127.0.0.1", "tcp", port=port, max_gap=8, retries=0)
    client.add_registers([(stride * n, "uint16") for n in range(1000)])
    blocks = client.describe_registers()["blocks"]
    values, errors = (await client.read(decode=True)).values()
    assert not errors
    assert sorted(values.values()) == [stride * n for n in range(1000)]
    times, start_cpu_s, start_s = [], cpu_s(), time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        begun_s = time.perf_counter()
        await client.read(decode=True)
        times.append(time.perf_counter() - begun_s)
    wall_s, used_s = time.perf_counter() - start_s, cpu_s() - start_cpu_s
    client.close()
    return {
        "requests_a_poll": len(blocks),
        "points_per_s": 1000 * len(times) / wall_s,
        "points_per_cpu_s": 1000 * len(times) / used_s,
        "cpu_us_a_point": 1000 * used_s / len(times),
        "poll_ms": statistics.median(times) * 1000,
    }


def side_by_side(rival, seconds, rounds):
    sys.path.insert(0, str(HERE))
    from bench_devices import Bench, medians

    bench, rows = Bench(seconds, rounds), {}
    try:
        for think_us in (0, 5000):
            for stride in (1, 3):
                found = {"ours": [], "volttron": []}
                for _ in range(rounds):
                    common = ("--stride", stride, "--seconds", seconds)
                    port, server = bench.server(think_us=think_us)
                    found["ours"].append(
                        bench.part("poll_ours", "asyncio", "--port", port, *common)
                    )
                    bench.close(server)
                    port, server = bench.server(think_us=think_us)
                    row = bench.child(rival, __file__, "--part", "--port", port, *common)
                    found["volttron"].append(row)
                    bench.close(server)
                what = f"stride {stride}, think {think_us // 1000} ms"
                rows[what] = {name: medians(results) for name, results in found.items()}
    finally:
        bench.end()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rival", help="Python of the environment with the engine.")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--stride", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(asyncio.run(engine(args.port, args.stride, args.seconds))))
        return
    if not args.rival:
        sys.exit("name the engine's environment with --rival DIR/bin/python")
    rows = side_by_side(args.rival, args.seconds, args.rounds)
    print(json.dumps({"load": os.getloadavg()[0], "polls": rows}, indent=1))


if __name__ == "__main__":
    main()
