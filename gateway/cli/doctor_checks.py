"""What ``sopgw doctor`` looks at, group by group; every function returns its lines.

Imported inside commands only.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import socket
import stat
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from gateway.cli.doctor_converters import converter_lines
from gateway.cli.doctor_ledger import anchored_line, key_lines, out_of_reach
from gateway.cli.doctor_line import Line
from gateway.cli.field import sat_folder
from gateway.commissioning import clock
from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs.passive import kernel_clock
from gateway.commissioning.sat.record import RecordError, RunRecord, runs_in
from gateway.config.site_file import Site

DISK_BYTES_MIN = 2_000_000_000  # a year of entries at one a second, and room to work
DISK_BYTES_FAIL = 200_000_000
CONNECT_S = 1.0
TEST_AGE_DAYS_MAX = 365  # safety tests are repeated every year
BACKUP_AGE_DAYS_MAX = 7
SERIAL = Path("/dev/serial/by-id")


def host_lines(folder: Path) -> list[Line]:
    """Python, disk, memory, serial adapters."""
    version = platform.python_version()
    lines = [
        Line(
            id="host.python",
            status="ok" if (3, 11) <= sys.version_info[:2] <= (3, 14) else "warn",
            text=f"Python {version}, {platform.system()} {platform.release()} {platform.machine()}",
            fix="use Python 3.11 to 3.14",
        )
    ]
    at = folder
    while not at.exists() and at != at.parent:
        at = at.parent
    free = shutil.disk_usage(at).free
    status = "fail" if free < DISK_BYTES_FAIL else "warn" if free < DISK_BYTES_MIN else "ok"
    lines.append(
        Line(
            id="host.disk",
            status=status,
            text=f"{free / 1e9:.1f} GB free at {at}",
            fix="make room: a full disk stops trading",
        )
    )
    with_memory = Path("/proc/meminfo")
    if with_memory.exists():
        fields = dict(
            row.split(":", 1) for row in with_memory.read_text(encoding="ascii").splitlines()
        )
        free_mb = int(fields["MemAvailable"].split()[0]) // 1024
        lines.append(
            Line(
                id="host.memory",
                status="ok" if free_mb > 256 else "warn",
                text=f"{free_mb} MB available",
                fix="the gateway wants 256 MB",
            )
        )
    lines += _serial_lines()
    return lines


def _serial_lines() -> list[Line]:
    if not SERIAL.is_dir():
        return []
    lines = []
    for path in sorted(SERIAL.iterdir()):
        name = path.resolve().name
        timer = Path(f"/sys/bus/usb-serial/devices/{name}/latency_timer")
        slow = timer.exists() and int(timer.read_text(encoding="ascii")) > 1
        lines.append(
            Line(
                id=f"serial.{name}",
                status="warn" if slow else "ok",
                text=f"{path.name}" + (": latency timer above 1 ms" if slow else ""),
                fix=f"echo 1 > {timer}",
            )
        )
    return lines


def clock_lines(*, simulated: bool) -> list[Line]:
    """The kernel's word on the clock."""
    if simulated:
        return [Line(id="clock.sync", status="ok", text="simulated time of a bench")]
    kernel = kernel_clock()
    if kernel is None:
        return [Line(id="clock.sync", status="unknown", text="the kernel does not say")]
    verdict, finding = clock.host(kernel)
    if verdict is Verdict.OK:
        worst_ms = kernel.error_us_max / 1000
        return [
            Line(id="clock.sync", status="ok", text=f"synchronised, ±{worst_ms:.0f} ms at most")
        ]
    assert finding is not None
    return [Line(id="clock.sync", status="fail", text=finding.what, fix=finding.mend)]


def config_lines(site: Site) -> list[Line]:
    """The site file, its secrets and who may write them."""
    lines = [
        Line(
            id="config.valid",
            status="warn" if site.warnings else "ok",
            text=f"{site.path}, sha256 {site.sha256[:12]}"
            + (f", {len(site.warnings)} warnings" if site.warnings else ""),
            fix=f"sopgw config check {site.path}",
        ),
        _writable("config.permissions", site.path, forbidden=stat.S_IWOTH),
    ]
    if line := out_of_reach("config.ledger-key", site.ledger.key_file):
        lines.append(line)
    elif site.ledger.key_file.exists():
        forbidden = stat.S_IRWXG | stat.S_IRWXO
        lines.append(_writable("config.ledger-key", site.ledger.key_file, forbidden=forbidden))
    return lines


def _writable(id_: str, path: Path, *, forbidden: int) -> Line:
    mode = path.stat().st_mode
    if not mode & forbidden:
        return Line(id=id_, status="ok", text=f"{path.name} {stat.filemode(mode)}")
    good = stat.S_IMODE(mode) & ~forbidden
    return Line(
        id=id_,
        status="warn" if forbidden == stat.S_IWOTH else "fail",
        text=f"{path.name} is open to others: {stat.filemode(mode)}",
        fix=f"chmod {good:o} {path}  (sopgw doctor --fix)",
        mend=lambda: path.chmod(good),
    )


def ledger_lines(site: Site) -> list[Line]:
    """Is there a ledger, and does its last entry read?"""
    from ledger.log import reader
    from ledger.log.segment import LedgerCorrupt

    folder = site.ledger.dir
    if not folder.is_dir():
        return [
            Line(
                id="ledger.present",
                status="warn",
                text=f"no ledger in {folder} yet",
                fix=f"sopledger init {folder} --origin {site.ledger.origin}",
            )
        ]
    try:
        count = sum(1 for _ in reader.entries(folder))
    except (LedgerCorrupt, OSError) as error:
        return [
            Line(
                id="ledger.reads",
                status="fail",
                text=f"{folder}: {error}",
                fix=f"sopledger verify {folder} --key FILE",
            )
        ]
    return [
        Line(id="ledger.reads", status="ok", text=f"{count} entries in {folder}"),
        anchored_line(site, count),
    ]


def safety_lines(site: Site) -> list[Line]:
    """When the safe behaviour was last proved, by the records of acceptance runs."""
    wanted = {
        "test watchdog": "safety.watchdog",
        "test estop": "safety.estop",
        "test sweep": "safety.sweep",
    }
    if all(config.separate for config in site.sops):
        del wanted["test estop"]  # refused there: it is tried by hand
    passed_us: dict[str, int] = {}
    for folder in runs_in(sat_folder(site)):
        try:
            state = RunRecord.open(folder, now_us=lambda: 0).state()
        except RecordError:
            continue
        for check in state.plan.checks():
            found = state.checks[check.id]
            if check.run in wanted and found.status == "ok":
                passed_us[check.run] = max(passed_us.get(check.run, 0), found.done_us)
    lines = []
    for run, id_ in wanted.items():
        if run not in passed_us:
            lines.append(
                Line(id=id_, status="warn", text=f"{run[5:]} never tested", fix=f"sopgw {run}")
            )
            continue
        moment = dt.datetime.fromtimestamp(passed_us[run] / 1e6, tz=dt.UTC)
        age_days = int((time.time() * 1e6 - passed_us[run]) / 86_400e6)
        lines.append(
            Line(
                id=id_,
                status="warn" if age_days > TEST_AGE_DAYS_MAX else "ok",
                text=f"{run[5:]} tested {moment:%Y-%m-%d}, {age_days} days ago",
                fix=f"sopgw {run}",
            )
        )
    return lines


def service_lines(site: Site) -> list[Line]:
    """Does the service answer at its socket?"""
    from gateway.app import control_path

    path = control_path(site)
    if not path.exists():
        return [
            Line(
                id="service.running",
                status="warn",
                text="not running",
                fix="systemctl start sopgw (not during commissioning)",
            )
        ]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(os.fspath(path))
        except OSError as error:
            return [
                Line(
                    id="service.running",
                    status="fail",
                    text=f"{path} does not answer: {error}",
                    fix="systemctl restart sopgw",
                )
            ]
    return [Line(id="service.running", status="ok", text=f"answers at {path}")]


def backup_lines(site: Site) -> list[Line]:
    """When the site was last backed up, and whether that file is still where it was put."""
    from gateway.cli.backup_store import RECORD, made_here

    rows = made_here(site.ledger.dir.parent / RECORD)
    if not rows:
        fix = "sopgw backup create FOLDER"
        return [Line(id="ledger.backup", status="warn", text="no backup was ever made", fix=fix)]
    last = rows[-1]
    made = dt.datetime.fromisoformat(last["made"].replace("Z", "+00:00").replace(" ", "T"))
    age_days = int((time.time() - made.timestamp()) / 86_400)
    old = age_days > BACKUP_AGE_DAYS_MAX
    return [
        Line(
            id="ledger.backup",
            status="warn" if old else "ok",
            text=f"backup {age_days} days old, verified when it was made, {last['entries']} entries"
            + ("" if last["present"] else "; not mounted here"),
            fix="sopgw backup create FOLDER",
        )
    ]


def device_lines(site: Site) -> list[Line]:
    """Does something listen where each device should be?"""
    return [
        _reach(f"devices.{d.name}", d.url, fix=f"sopgw device identify {d.name}")
        for d in site.devices.values()
    ]


def broker_lines(site: Site) -> list[Line]:
    """Do the broker and the gateway's own market node listen?"""
    fix = "check market.broker and the network"
    lines = [_reach("broker.listens", site.market.broker, fix=fix)]
    if site.market.node is not None:
        fix = "sopledger node run -c node.yaml starts it; check market.node"
        lines.append(_reach("node.listens", site.market.node.url, fix=fix))
    return lines


def _reach(id_: str, url: str, *, fix: str) -> Line:
    parts = urlsplit(url)
    if not parts.hostname:
        there = Path(parts.path).exists()
        return Line(id=id_, status="ok" if there else "fail", text=f"{parts.path}", fix=fix)
    default = {
        "mqtt": 1883,
        "mqtts": 8883,
        "http": 80,
        "https": 443,
        "modbus+tls": 802,
        "opc.tcp": 4840,
    }
    port = parts.port or default.get(parts.scheme, 502)
    began_s = time.monotonic()
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
    except OSError as error:
        return Line(
            id=id_,
            status="fail",
            text=f"{parts.hostname}:{port} {error.strerror or error}",
            fix=fix,
        )
    took_ms = 1000 * (time.monotonic() - began_s)
    return Line(id=id_, status="ok", text=f"{parts.hostname}:{port} {took_ms:.0f} ms")


def self_lines() -> list[Line]:
    """What the program proves of itself; what cannot be tried here is left out."""
    from gateway.cli.self_test import prove

    return [
        Line(
            id=proof.id,
            status="ok" if proof.holds else "fail",
            text=proof.text,
            fix="install the program anew from a release; until then it starts blocked",
        )
        for proof in prove()
        if proof.holds is not None
    ]


def examine(site: Site, *, offline: bool = False, simulated: bool = False) -> list[Line]:
    """Look at everything a site needs; ``offline`` leaves devices and broker out."""
    lines = [
        *host_lines(site.ledger.dir.parent),
        *clock_lines(simulated=simulated),
        *config_lines(site),
        *key_lines(site),
        *ledger_lines(site),
        *backup_lines(site),
        *safety_lines(site),
        *self_lines(),
    ]
    if not offline:
        lines += service_lines(site)
        lines += device_lines(site)
        lines += converter_lines(site)
        lines += broker_lines(site)
    return lines
