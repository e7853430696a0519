"""OPC UA values a second through the limited child, beside bare asyncua, in the same run.

    python tests/bench/bench_devices_opcua.py [--seconds 2]
    python tests/bench/bench_devices_opcua.py --deaths 5

Both speak SignAndEncrypt to one simulated station; a batch reads the same twelve nodes again and
again until it is full. CPU is that of the process and its children; prints JSON, asserts nothing.
``--deaths`` kills the child that often instead, with a spare behind it and without one, in turns,
and tells the wall time and the CPU seconds, ours and the new child's, until a good value is back.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.devices.opcua.client import OpcuaClient, Trust
from gateway.devices.opcua.process import Spare
from gateway.model.errors import DeviceError

NS = "urn:sop-gateway:bench:sop-station"
NAMES = [f"{NS}:Terminals|{NS}:T{t}|{NS}:{q}" for t in range(1, 5) for q in ("P", "Q", "V")]
NODES = [f"path=Objects|{NS}:SOPStation|{n}" for n in NAMES]


def cpu_s(pid):
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(read, size, seconds, pids):
    await read(size)
    start_s, before, calls = time.perf_counter(), sum(cpu_s(p) for p in pids), 0
    while time.perf_counter() - start_s < seconds:
        await read(size)
        calls += 1
    wall_s, used_s = time.perf_counter() - start_s, sum(cpu_s(p) for p in pids) - before
    return {
        "values_per_s": round(calls * size / wall_s),
        "call_ms": round(1000 * wall_s / calls, 2),
        "cpu_us_a_value": round(1e6 * used_s / (calls * size), 1),
    }


async def bench(url, trust, seconds):
    ours = OpcuaClient(
        name="ua", url=url, trust=trust, user="operator", password="operator-bench", timeout_s=5
    )
    bare = Client(url, timeout=5)
    bare.application_uri = "urn:sop-gateway:client"
    bare.set_user("operator")
    bare.set_password("operator-bench")
    await bare.set_security(
        SecurityPolicyBasic256Sha256, str(trust.certificate), str(trust.key),
        server_certificate=str(trust.pinned), mode=ua.MessageSecurityMode.SignAndEncrypt,
    )  # fmt: skip
    await bare.connect()
    index = await bare.get_namespace_index(NS)
    paths = [
        ["0:Objects", f"{index}:SOPStation", *n.replace(NS, str(index)).split("|")] for n in NAMES
    ]
    nodes = [await bare.nodes.root.get_child(p) for p in paths]

    async def read_ours(size):
        many = (NODES * (size // len(NODES) + 1))[:size]
        await ours.read(many, utc_us=lambda: time.time_ns() // 1000)

    async def read_bare(size):
        await bare.read_attributes((nodes * (size // len(nodes) + 1))[:size])

    rows = {}
    await read_ours(1)
    for size in (1, 50, 1000):
        mine = [os.getpid(), ours._child.process.pid]
        rows[f"{size} ours"] = await measure(read_ours, size, seconds, mine)
        rows[f"{size} asyncua"] = await measure(read_bare, size, seconds, [os.getpid()])
    child = Path(f"/proc/{ours._child.process.pid}/status").read_text()
    rows["child_rss_mib"] = int(child.partition("VmRSS:")[2].split()[0]) // 1024
    await ours.close()
    await bare.disconnect()
    return rows


async def death(client, pids):
    """Kill the child; return what it took until a value is good again."""
    before = {pid: cpu_s(pid) for pid in (os.getpid(), *pids)}
    client._child.process.kill()
    start_s = time.perf_counter()
    while True:
        with contextlib.suppress(DeviceError):
            await client.read(NODES, utc_us=lambda: time.time_ns() // 1000)
            break
        await asyncio.sleep(0)
    wall_s = time.perf_counter() - start_s
    after = {pid: cpu_s(pid) for pid in (os.getpid(), client._child.process.pid)}
    used_s = sum(after.values()) - sum(before.get(pid, 0.0) for pid in after)
    return wall_s, used_s


async def deaths(url, trust, count):
    """Data back after the child's death: seconds of wall and of CPU, sorted."""
    found = {"with a spare": [], "without": []}
    more = {"user": "operator", "password": "operator-bench", "timeout_s": 5}
    ways = {
        "with a spare": OpcuaClient(name="ua", url=url, trust=trust, spare=Spare(), **more),
        "without": OpcuaClient(name="ua", url=url, trust=trust, **more),
    }
    for client in ways.values():
        await client.read(NODES, utc_us=lambda: time.time_ns() // 1000)
    for _ in range(count):
        for name, client in ways.items():
            await client.read(NODES, utc_us=lambda: time.time_ns() // 1000)
            spare, pids = client._spare, []
            while spare is not None and not spare.ready:
                await asyncio.sleep(0.05)
            if spare is not None:
                pids = [spare._coming.result().process.pid]
                status = Path(f"/proc/{pids[0]}/smaps_rollup").read_text()
                memory = {
                    key: int(status.partition(f"{key}:")[2].split()[0]) // 1024
                    for key in ("Rss", "Pss")
                }
            found[name].append(await death(client, pids))
    for client in ways.values():
        await client.close()
    rows = {
        name: {
            "wall_s": sorted(round(w, 3) for w, _ in rows),
            "cpu_s": sorted(round(c, 2) for _, c in rows),
        }
        for name, rows in found.items()
    }
    return rows | {"spare_mib": memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--deaths", type=int, default=0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0", "--opcua", "0", "--certs", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        url = json.loads(process.stdout.readline())["listening"]["opcua"]
        (folder / "trusted").mkdir()
        shutil.copy(folder / "opcua-server.der", folder / "trusted")
        asyncio.run(
            setup_self_signed_certificate(
                folder / "key.pem", folder / "cert.der", "urn:sop-gateway:client", "localhost",
                [ExtendedKeyUsageOID.CLIENT_AUTH], {"commonName": "gateway"},
            )
        )  # fmt: skip
        trust = Trust(
            certificate=folder / "cert.der", key=folder / "key.pem",
            pinned=folder / "opcua-server.der", trusted=folder / "trusted",
        )  # fmt: skip
        load = os.getloadavg()[0]
        if args.deaths:
            rows = asyncio.run(deaths(url, trust, args.deaths))
        else:
            rows = asyncio.run(bench(url, trust, args.seconds))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps({"load_before": load, "parent_rss_mib": peak} | rows, indent=1))
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
