"""What people ask a running gateway never holds up its scan."""

import asyncio
import threading
from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli import demo_bench
from gateway.config.site_file import load_site
from gateway.operating import certificates_of, entries_of

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


def test_the_end_of_every_doors_certificate_is_watched(tmp_path):
    site_path = tmp_path / "site.yaml"
    signer = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    ports = demo_bench.Ports(station_port=9, meter_ports=(1, 2, 3, 4), broker_port=5)
    text = demo_bench.site_text(ports, signer).rstrip("\n")
    door = "broker: 'mqtts://b.example', certificate: mq.pem, key: {file: mq.key}, ca: mq-ca.pem"
    site_path.write_text(
        f"{text}\nnorthbound: {{mqtt: {{{door}}}}}\n"
        "log: {syslog: logs.example, certificate: log.pem, key: {file: log.key}, ca: log-ca.pem}\n"
    )
    names = {p.name for p in certificates_of(load_site(site_path))}
    assert names == {"mq.pem", "mq-ca.pem", "log.pem", "log-ca.pem"}
