"""What people ask a running gateway never holds up its scan."""

import asyncio
import threading
from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import app
from gateway.cli import demo_bench
from gateway.config.site_file import load_site
from gateway.model.interval import utc_text
from gateway.operating import certificates_of, entries_of
from gateway.runtime.clock import SystemClock

ENTRY = {"kind": "boot", "utc_us": 5, "version": "1", "boot": 1}


class SlowDisk:
    """A ledger whose files answer when they are told to."""

    def __init__(self):
        self.asked, self.answers = threading.Event(), threading.Event()

    def status(self):
        return SimpleNamespace(size=70)

    def entries(self, start):
        self.asked.set()
        assert self.answers.wait(20)
        return [(start, ENTRY)]


async def test_entries_are_read_beside_the_loop():
    disk = SlowDisk()
    asking = asyncio.create_task(entries_of(disk)({"count": 10}))
    while not disk.asked.is_set():
        await asyncio.sleep(0.001)  # the loop goes on while the disk does not
    disk.answers.set()
    (row,) = (await asking)["entries"]
    assert (row["index"], row["kind"]) == (60, "boot")


def site_file(folder, doors=""):
    """Write a demo's site whose devices nobody serves."""
    signer = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    ports = demo_bench.Ports(station_port=9, meter_ports=(1, 2, 3, 4), broker_port=5)
    path = folder / "site.yaml"
    path.write_text(demo_bench.site_text(ports, signer).rstrip("\n") + "\n" + doors)
    return path


def test_the_end_of_every_doors_certificate_is_watched(tmp_path):
    door = "broker: 'mqtts://b.example', certificate: mq.pem, key: {file: mq.key}, ca: mq-ca.pem"
    path = site_file(
        tmp_path,
        f"northbound: {{mqtt: {{{door}}}}}\n"
        "log: {syslog: logs.example, certificate: log.pem, key: {file: log.key}, ca: log-ca.pem}\n",
    )
    names = {p.name for p in certificates_of(load_site(path))}
    assert names == {"mq.pem", "mq-ca.pem", "log.pem", "log-ca.pem"}


async def test_after_a_restart_energy_so_far_counts_from_the_intervals_start(tmp_path):
    start_us = SystemClock().utc_us() // 60_000_000 * 60_000_000
    path = site_file(tmp_path)

    def started():
        site = load_site(path)
        return app.assemble(site, site.sops[0], SystemClock())

    def read(second, moved_wh):
        row = {"import_wh": 500_000, "p_w": 0, "quality": "good", "age_ms": 0, "registers": [],
               "utc_us": start_us + second * 1_000_000}  # fmt: skip
        return [
            {"meter": "m2", "terminal": "T2", "export_wh": 500_000 - moved_wh, **row},
            {"meter": "m3", "terminal": "T3", "export_wh": 500_000 + moved_wh, **row},
        ]

    parts = started()
    trade = {"trade_id": "A", "revision": 1, "out_terminal": "T2", "in_terminal": "T3",
             "contracted_wh": 10_000, "planned_wh": 10_000, "reasons": []}  # fmt: skip
    interval = {"start": utc_text(start_us // 1000), "end": utc_text(start_us // 1000 + 900_000)}
    await parts.recorder.record(
        "plan", sop=parts.recorder.state.site.sop.id, interval=interval, setpoints={},
        planned_wh={"T1": 0, "T2": -10_000, "T3": 10_000, "T4": 0}, trades=[trade],
    )  # fmt: skip
    await parts.recorder.record("reading", meters=read(0, 0))
    await parts.journal.close()

    parts = started()
    await parts.recorder.record("reading", meters=read(1, 4_000))
    (told,) = parts.people.control._questions["status"]({})["status"]["trades"]
    assert (told["status"], told["delivered_wh"]) == ("running", 4_000)
    await parts.journal.close()
