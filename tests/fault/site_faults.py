"""Six things around a running gateway go bad, one at a time, against real processes on loopback.

python tests/fault/site_faults.py [--only NAME …]

Each run trades, breaks one thing in the middle of an interval, waits for the stated mode and the
stated alarm, mends it, trades again and holds the ledger and the market to everything that was
promised. Prints one row a fault. Needs root (a small disk, name files and system calls of its
own), strace, Mosquitto and Debian's ``faketime``; what cannot run here is said and fails.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes.certificates import Authority
from fakes.killing import TOPICS, Market, Outcome, judge
from fakes.rig import Rig, report

from gateway.cli import demo_bench as bench

PATIENCE_S = 120  # a busy machine is no fault
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
LIVES_S = 75  # of a certificate: long enough for a trade to begin under it
MINUTE_MS = 60_000


@dataclass(kw_only=True)
class Row:
    """One line of the table."""

    fault: str
    modes: list = field(default_factory=list)
    alarms: str = ""
    lost: list = field(default_factory=list)
    mended: str = ""

    def text(self):
        lost = "0" if not self.lost else f"{len(self.lost)}: " + "; ".join(self.lost)
        return (
            f"| {self.fault} | {', '.join(self.modes)} | {self.alarms} | {lost} | {self.mended} |"
        )


class Broker:
    """Mosquitto on ports that stay the same when it is killed and started again."""

    def __init__(self, folder):
        self.folder = folder
        self.port, self.tls_port = bench._free_port(), bench._free_port()
        self.tls = ""
        self._process = None

    async def start(self):
        config = self.folder / "broker.conf"
        config.write_text(
            f"per_listener_settings true\npersistence false\nuser root\n"
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{self.tls}"
        )
        log = (self.folder / "broker.log").open("ab")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                MOSQUITTO, "-c", str(config), stdout=log, stderr=log
            )
        async with asyncio.timeout(PATIENCE_S):
            while not bench._listens(self.port):
                assert self._process.returncode is None, (self.folder / "broker.log").read_text()
                await asyncio.sleep(0.05)

    async def kill(self):
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


class Ear(Market):
    """The market's ear on the broker; it comes back when the broker does."""

    def __init__(self, rig, outcome):
        super().__init__(rig, random.Random(0), outcome)
        self.availability = None

    async def keep_listening(self):
        """Hear delivery reports for ever, whatever happens to the broker."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError, FileNotFoundError):
                await self.listen(asyncio.Event())
            await asyncio.sleep(0.1)

    async def keep_watching(self):
        """Keep the last word of the gateway's availability."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", self._rig.broker_port) as client:
                    await client.subscribe(TOPICS.availability, qos=1)
                    async for message in client.messages:
                        self.availability = bytes(message.payload).decode()
            await asyncio.sleep(0.1)


class Site:
    """One site with a broker that can be broken, and what was promised on it."""

    def __init__(self, row, folder, *, factor=10, launch=None, text=None, ledger_on=None):
        """``text`` changes the site file; ``ledger_on`` is another disk for all of the site."""
        self.row, self.folder = row, folder
        self.rig = Rig(ledger_on or folder, factor=factor, launch=launch)
        self.broker = Broker(folder)
        self.text = text or (lambda text: text)
        self.outcome = Outcome(seed=0)
        self.ear = Ear(self.rig, self.outcome)
        self.ahead_ms = 0  # of the gateway's clock before the plant's
        self.before = []

    @contextlib.asynccontextmanager
    async def up(self):
        """Run it; judge it in the end."""

        async def prepare():
            old = f"mqtt://127.0.0.1:{self.rig.broker_port}"
            self.rig.broker_port = self.broker.port
            text = self.rig.site.read_text().replace(old, f"mqtt://127.0.0.1:{self.broker.port}")
            self.rig.site.write_text(self.text(text))
            await self.broker.start()

        try:
            async with self.rig.up(prepare), asyncio.TaskGroup() as group:
                hearing = [
                    group.create_task(self.ear.keep_listening()),
                    group.create_task(self.ear.keep_watching()),
                ]
                yield self
                await self.all_told()
                truth = await self.rig.truth()
                await self.rig.stop()
                judge(self.rig, self.ear, truth["operated_instr_ids"], self.outcome)
                for task in hearing:
                    task.cancel()
        finally:
            await self.broker.kill()
        self.row.lost = self.outcome.broken

    async def until(self, condition):
        await self.rig.until(condition, within_s=PATIENCE_S)

    async def trading(self, name, out="T2", into="T3", *, minutes=1):
        """Send a trade of the next minutes and wait until power flows for it; return its end."""
        now_ms = (await self.rig.status())["utc_ms"]
        ahead_ms = 4_000 * self.rig.factor if self.rig.factor > 1 else 15_000
        start_ms = -(-(now_ms + ahead_ms) // MINUTE_MS) * MINUTE_MS
        await self.ear._send(self.rig.trade(name, out, into, 120_000, start_ms, count=minutes))
        await self.until(lambda s: s["state"] == "EXECUTING")
        await self.until(lambda s: any(t["p_w_set"] for t in s["terminals"]))
        self.before = self.rig.entries()
        return start_ms + minutes * MINUTE_MS

    async def mode(self, state, *reasons):
        """Wait for a state and its reasons; write it into the row."""

        def there(status):
            found = {r.partition(":")[0] for r in status["reasons"]}
            return status["state"] == state and set(reasons) <= found

        await self.until(there)
        self.row.modes.append(" ".join([state, *(f"`{r}`" for r in reasons)]))

    async def alarmed(self, *codes):
        """Wait until these alarms stand in the ledger as raised since the fault began."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = {
                    e["code"]
                    for e in self.rig.entries()[len(self.before) :]
                    if e["kind"] == "alarm" and e["active"]
                }
                if set(codes) <= found:
                    break
                await asyncio.sleep(0.2)
        self.row.alarms = ", ".join([*filter(None, [self.row.alarms]), *codes])

    async def at_zero(self):
        """Wait until no setpoint holds power at any terminal, as the device itself says."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                truth = await self.rig.truth()
                if all(abs(t["p_w"]) < 5_000 for t in truth["terminals"]):
                    break
                await asyncio.sleep(0.1)
        self.row.modes.append("converter at zero")

    async def mended(self, name="trd-after"):
        """It must trade again by itself, and what stood in the ledger must still stand there."""
        await self.until(
            lambda s: s["state"] in ("READY", "ARMED", "EXECUTING") and s["broker_online"]
        )
        until_ms = await self.trading(name, "T4", "T2")
        await self.until(lambda s: s["high_water_ms"] >= until_ms)
        self.row.mended = "trades again" + (f", {self.row.mended}" if self.row.mended else "")

    def remembered(self):
        """Everything the ledger held before the fault must be there, in its place."""
        now = self.rig.entries()
        gone = [i for i, entry in enumerate(self.before) if now[i : i + 1] != [entry]]
        self.outcome.broken += [f"entry {i} is gone" for i in gone]

    async def all_told(self):
        """Wait until every interval is reported and the market has heard of it."""
        self.remembered()
        await self.until(lambda s: s["open_intervals"] == s["scheduled_intervals"] == 0)
        async with asyncio.timeout(PATIENCE_S):
            while set(report(self.rig.entries())) - set(self.ear.reports):
                await asyncio.sleep(0.2)
        reported = report(self.rig.entries())
        states = [reported[key]["status"] for key in sorted(reported, key=lambda key: key[1])]
        self.row.mended += f"; reports: {', '.join(states)}"


def fill_to(folder, free_share):
    """Write into one file until only this share of the disk is left."""
    disk = os.statvfs(folder)
    count = disk.f_bavail * disk.f_frsize - int(free_share * disk.f_blocks * disk.f_frsize)
    with (folder / "filling").open("ab") as stream, contextlib.suppress(OSError):
        stream.write(b"x" * max(0, count))


async def disk_full(folder):
    """Below a tenth, below a twentieth, nothing left at all."""
    row = Row(fault="disk full")
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "sopgw-fault", disk], check=True)
    try:
        site = Site(row, folder, ledger_on=disk)
        async with site.up():
            await site.until(lambda s: s["state"] == "READY")
            await site.trading("trd-1", minutes=3)
            fill_to(disk, 0.08)
            await site.alarmed("A-180")
            await site.mode("EXECUTING")
            fill_to(disk, 0.03)
            await site.mode("OBSERVE", "disk")
            fill_to(disk, 0.0)
            await site.at_zero()
            scans = (await site.rig.status())["scans"]
            await site.until(lambda s: s["scans"] > scans + 20)  # it lives on with no byte free
            assert site.rig.process.returncode is None
            (disk / "filling").unlink()
            await site.mended()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    return row


async def disk_dead(folder):
    """Every write and every sync of the running process fails from one moment on."""
    row = Row(fault="disk dead (EIO at write and sync)")
    site = Site(row, folder, factor=5)
    async with site.up():
        await site.until(lambda s: s["state"] == "READY")
        await site.trading("trd-1")
        dying = await asyncio.create_subprocess_exec(
            "strace", "-f", "-qq", "-p", str(site.rig.process.pid), "-o", str(folder / "strace"),
            "-e", "trace=fdatasync,fsync,pwrite64,ftruncate,fallocate",
            "-e", "inject=fdatasync,fsync,pwrite64,ftruncate,fallocate:error=EIO",
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            code = await site.rig.process.wait()
            await dying.wait()
        assert code not in (0, None)
        assert "INJECTED" in (folder / "strace").read_text()
        row.modes.append(f"process ended ({code})")
        await site.at_zero()
        async with asyncio.timeout(PATIENCE_S):
            while site.ear.availability != "offline":
                await asyncio.sleep(0.1)
        row.alarms = "unit failed, availability `offline`"
        await site.rig.start()  # as the service manager would, on a disk that works
        await site.mended()
    return row


async def clock_stepped(folder):
    """UTC of the gateway alone is set 90 s ahead, across a boundary, and later set right again."""
    row = Row(fault="clock stepped by +90 s, later by -90 s")
    offset = folder / "offset"
    offset.write_text("+0\n")

    def set_to(text):
        (folder / "offset.new").write_text(text + "\n")
        (folder / "offset.new").replace(offset)

    async def launch(arguments, log):
        arguments = [a for a in arguments if a != "--timebase" and not a.endswith("timebase.json")]
        faked = {
            "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        with log.open("wb") as errors:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", *arguments, stderr=errors, env=os.environ | faked
            )

    def assumed(text):
        return text.replace("runtime: {", "runtime: {clock: assumed, ")

    site = Site(row, folder, factor=1, launch=launch, text=assumed)
    async with site.up():
        await site.until(lambda s: s["state"] == "READY")
        await site.trading("trd-1")
        set_to("+90")
        await site.mode("OBSERVE", "time_quality")
        await site.alarmed("A-151")
        await site.at_zero()
        await site.until(lambda s: s["state"] == "READY")
        set_to("+0")
        await site.mode("OBSERVE", "time_quality")
        await site.mended()
        steps = [e["step_us"] for e in site.rig.entries() if e["kind"] == "time_step"]
        assert [round(s / 1e6) for s in steps] == [90, -90], steps
    return row


async def broker_gone(folder):
    """Mosquitto is killed in mid-interval and comes back, empty, after the interval's end."""
    row = Row(fault="broker gone")
    site = Site(row, folder)
    async with site.up():
        await site.until(lambda s: s["state"] == "READY")
        until_ms = await site.trading("trd-1", minutes=3)
        await site.broker.kill()
        await site.alarmed("A-122")
        await site.mode("EXECUTING")
        await site.until(lambda s: s["high_water_ms"] >= until_ms)
        await site.mode("READY")
        await site.broker.start()
        await site.mended()
    return row


async def name_gone(folder):
    """The broker's name no longer resolves, and then the connection is lost."""
    row = Row(fault="DNS gone")
    hosts, servers = folder / "hosts", folder / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost broker.test\n")
    servers.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")

    async def launch(arguments, log):
        inside = (
            f"mount --bind {hosts} /etc/hosts && mount --bind {servers} /etc/resolv.conf"
            ' && exec "$0" "$@"'
        )
        with log.open("wb") as errors:
            return await asyncio.create_subprocess_exec(
                "unshare", "--mount", "sh", "-c", inside, sys.executable, "-m", "gateway",
                *arguments, stderr=errors,
            )  # fmt: skip

    def named(text):
        return text.replace("mqtt://127.0.0.1:", "mqtt://broker.test:")

    site = Site(row, folder, launch=launch, text=named)
    async with site.up():
        await site.until(lambda s: s["state"] == "READY")
        until_ms = await site.trading("trd-1", minutes=3)
        hosts.write_text("127.0.0.1 localhost\n")
        await site.broker.kill()
        await site.broker.start()  # it is there, but nobody knows where
        await site.alarmed("A-122")
        await site.mode("EXECUTING")
        await site.until(lambda s: s["high_water_ms"] >= until_ms)
        await site.mode("READY")
        assert not (await site.rig.status())["broker_online"]
        hosts.write_text("127.0.0.1 localhost broker.test\n")
        await site.mended()
    return row


async def certificate_ended(folder):
    """The broker's certificate and our own end while both run; new ones are put in their place."""
    row = Row(fault="certificate expired")
    authority = Authority(folder / "pki")

    def issue(lives_s):
        authority.issue("broker", server=True, lives_s=lives_s)
        authority.issue("gateway", lives_s=lives_s)

    pki = folder / "pki"
    issue(LIVES_S)

    def secured(text):
        before, _, rest = text.partition("  broker: mqtt://127.0.0.1:")
        _, _, rest = rest.partition("\n")
        return (
            f"{before}  broker: mqtts://127.0.0.1:{site.broker.tls_port}\n  ca: {pki}/ca.pem\n"
            f"  certificate: {pki}/gateway.pem\n  key: {{file: {pki}/gateway.key}}\n{rest}"
        )

    site = Site(row, folder, text=secured)
    site.broker.tls = (
        f"listener {site.broker.tls_port} 127.0.0.1\nallow_anonymous true\n"
        f"cafile {pki}/ca.pem\ncertfile {pki}/broker.pem\nkeyfile {pki}/broker.key\n"
        "require_certificate true\n"
    )
    ended_s = asyncio.get_running_loop().time() + LIVES_S + 1
    async with site.up():
        await site.until(lambda s: s["state"] == "READY")
        await site.alarmed("A-181")
        until_ms = await site.trading("trd-1")
        assert (await site.rig.status())["broker_online"], "the machine was too slow for this run"
        await asyncio.sleep(max(0.0, ended_s - asyncio.get_running_loop().time()))
        await site.broker.kill()
        await site.broker.start()  # the next handshake is between two certificates that have ended
        await site.alarmed("A-122")
        await site.until(lambda s: s["high_water_ms"] >= until_ms)
        await site.mode("READY")
        assert not (await site.rig.status())["broker_online"]
        issue(3600)
        await site.broker.kill()
        await site.broker.start()
        row.mended = "no restart of the gateway"
        await site.mended()
    return row


FAULTS = {
    "disk-full": disk_full,
    "disk-dead": disk_dead,
    "clock-stepped": clock_stepped,
    "broker-gone": broker_gone,
    "dns-gone": name_gone,
    "certificate": certificate_ended,
}


def main():
    """Run the faults named, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=FAULTS, default=list(FAULTS))
    given = parser.parse_args()
    missing = [name for name in ("strace", "unshare", "mount") if shutil.which(name) is None]
    missing += ["mosquitto"] * (MOSQUITTO is None) + ["faketime"] * (FAKETIME is None)
    missing += ["root"] * (os.geteuid() != 0)
    if missing:
        sys.exit(f"needs {', '.join(missing)}")
    print("| fault | mode reached | alarm raised | entries lost | after mending |")
    print("|---|---|---|---|---|", flush=True)
    lost = 0
    for name in given.only:
        folder = Path(tempfile.mkdtemp(prefix=f"fault-{name}-"))
        row = asyncio.run(FAULTS[name](folder))
        print(row.text(), flush=True)
        lost += len(row.lost)
        if not row.lost:
            shutil.rmtree(folder)
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
