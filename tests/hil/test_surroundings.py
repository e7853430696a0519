"""The whole gateway when what is around it goes bad: crash loop, disk, broker, service manager."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess

import pytest
from fakes.certificates import Authority
from fakes.promises import broken
from fakes.rig import Rig

from gateway.cli import demo_bench as bench
from gateway.runtime.control import ask

pytestmark = pytest.mark.timeout(300)  # they wait more than they work: beside others


def reasons(status):
    return [r.partition(":")[0] for r in status["reasons"]]


async def test_a_gateway_that_keeps_dying_only_observes_until_somebody_arms(tmp_path):
    rig = Rig(tmp_path, factor=10)
    rig.restarts = 1
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        await rig.kill()
        await rig.start()
        await rig.until(lambda s: s["scans"] > 3 and s["state"] == "OBSERVE")
        assert reasons(await rig.status()) == ["crash_loop"]
        start_ms = rig.next_minute_ms()
        assert (
            await rig.send(rig.signed(rig.trade("trd-1", "T2", "T3", 90_000, start_ms)))
        ).accepted
        await rig.until_ms(start_ms + 10_000)
        held = await rig.status()
        assert held["state"] == "OBSERVE"
        assert not any(t["p_w_set"] for t in held["terminals"])
        await rig.kill()
        await rig.start()
        await rig.until(lambda s: s["state"] == "OBSERVE")  # a further start changes nothing
        await ask(rig.out / "sopgw.sock", {"verb": "arm"})
        await rig.until(lambda s: s["state"] in ("READY", "ARMED", "EXECUTING"))
        await rig.until(lambda s: s["high_water_ms"] >= start_ms + 60_000, within_s=60)
    assert list(broken(rig.entries())) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 96 MiB of its own: a ledger takes two extents and its reserve."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "sopgw-disk", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip("needs root and mount: " + done.stderr.decode().strip())
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_to(folder, free_share):
    """Write into one file until only this share of the disk is left."""
    disk = os.statvfs(folder)
    count = disk.f_bavail * disk.f_frsize - int(free_share * disk.f_blocks * disk.f_frsize)
    with (folder / "filling").open("ab") as stream:
        stream.write(b"x" * max(0, count))


async def test_a_disk_that_fills_stops_intake_then_the_plant_and_loses_nothing(small_disk):
    rig = Rig(small_disk, factor=10)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        start_ms = rig.next_minute_ms(20_000)
        running = rig.trade("trd-1", "T2", "T3", 120_000, start_ms, count=2)
        assert (await rig.send(rig.signed(running))).accepted
        await rig.until_ms(start_ms + 5_000)
        await rig.until(lambda s: s["state"] == "EXECUTING")

        fill_to(small_disk, 0.08)  # below a tenth: nothing new, what runs goes on
        await asyncio.sleep(1)  # a look at the disk every 5 s of plant time
        late_ms = start_ms + 4 * 60_000
        late = rig.signed(rig.trade("trd-2", "T4", "T2", 60_000, late_ms))
        sending = asyncio.create_task(rig.send(late, wait_s=90.0))
        await asyncio.sleep(1)
        status = await rig.status()
        assert status["state"] == "EXECUTING"
        assert not sending.done()
        assert not any(e.get("kind") == "trade.received" for e in rig.entries()[-3:])

        fill_to(small_disk, 0.03)  # below a twentieth: to zero while that can be written down
        await rig.until(lambda s: s["state"] == "OBSERVE" and "disk" in reasons(s))
        await rig.until(lambda s: not any(t["p_w_set"] for t in s["terminals"]))
        assert rig.process.returncode is None

        (small_disk / "filling").unlink()
        assert (await sending).accepted  # it waited at the broker
        await rig.until(lambda s: s["state"] in ("READY", "ARMED", "EXECUTING"))
        await rig.until(lambda s: s["high_water_ms"] >= late_ms + 60_000, within_s=90)
    entries = rig.entries()
    assert list(broken(entries)) == []
    assert {e["trade_id"] for e in entries if e["kind"] == "trade.accepted"} == {"trd-1", "trd-2"}


async def test_the_service_manager_hears_ready_feedings_and_the_end(tmp_path, monkeypatch):
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    loop, heard = asyncio.get_running_loop(), []
    loop.add_reader(listening, lambda: heard.append(listening.recv(4096).decode()))
    (tmp_path / "rig").mkdir()
    rig = Rig(tmp_path / "rig", factor=5)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        async with asyncio.timeout(60):
            while sum("WATCHDOG=1" in text for text in heard) < 4:
                await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        while not any("STOPPING=1" in text for text in heard):
            await asyncio.sleep(0.05)
    loop.remove_reader(listening)
    listening.close()
    ours = [t for t in heard if "WATCHDOG=1" in t or "STOPPING=1" in t]  # a broker notifies too
    assert [i for i, text in enumerate(ours) if "\nREADY=1" in text] == [0]
    assert "STOPPING=1" in ours[-1]
    assert len(ours) > 3


@contextlib.asynccontextmanager
async def expired_broker(folder):
    """Mosquitto with a certificate that has ended; yields its port and what believes in it."""
    authority = Authority(folder / "pki")
    certificate, key = authority.issue("broker", server=True, expired=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "tls.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n"
        f"certfile {certificate}\nkeyfile {key}\n"
    )
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    async with bench.process(program, "-c", str(config), log=folder / "tls.log"):
        yield port, authority


async def alarms_until(rig, code, *, within_s=90):
    """Wait for an alarm in the ledger; return the codes of all that are active."""
    async with asyncio.timeout(within_s):
        while True:
            active = {}
            for entry in rig.entries():
                if entry["kind"] == "alarm":
                    active[entry["code"]] = entry["active"]
            if active.get(code):
                return {c for c, on in active.items() if on}
            await asyncio.sleep(0.2)


async def test_a_broker_whose_name_is_gone_is_waited_for_and_then_told(tmp_path):
    rig = Rig(tmp_path, factor=20)

    async def lose_the_name():
        here = f"mqtt://127.0.0.1:{rig.broker_port}"
        rig.site.write_text(rig.site.read_text().replace(here, "mqtt://broker.invalid:1883"))

    async with rig.up(lose_the_name):
        await rig.until(lambda s: s["state"] == "OBSERVE" and reasons(s) == ["broker_lost"])
        await rig.until(lambda s: s["state"] == "READY")  # after a minute of plant time
        assert "A-122" in await alarms_until(rig, "A-122")
        assert (await rig.status())["broker_online"] is False
    assert list(broken(rig.entries())) == []


@pytest.mark.skipif(
    shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") is None,
    reason="needs mosquitto",
)
async def test_certificates_that_have_ended_are_told_and_never_believed(tmp_path):
    rig = Rig(tmp_path, factor=20)
    async with expired_broker(tmp_path) as (port, authority):
        certificate, key = authority.issue("gateway", expired=True)

        async def speak_tls():
            text = rig.site.read_text().replace(
                f"broker: mqtt://127.0.0.1:{rig.broker_port}",
                f"broker: mqtts://127.0.0.1:{port}\n  ca: {authority.path}\n"
                f"  certificate: {certificate}\n  key: {{file: {key}}}",
            )
            rig.site.write_text(text)

        async with rig.up(speak_tls):
            await rig.until(lambda s: s["state"] == "OBSERVE" and reasons(s) == ["broker_lost"])
            assert {"A-122", "A-181"} <= await alarms_until(rig, "A-122")
            await rig.until(lambda s: s["state"] == "READY")
            assert (await rig.status())["broker_online"] is False
