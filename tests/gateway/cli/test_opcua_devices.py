"""``scan opcua``, ``device trust``, ``device add``, ``point`` and ``check`` on an OPC UA station."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.cli.device_trust import _Files
from gateway.cli.field import equipment_of
from gateway.commissioning.equipment import Rack
from gateway.commissioning.runs.silence import as_found_s
from gateway.config.site_file import load_site, site_from_text
from gateway.devices.connect import open_meter
from gateway.devices.opcua.own import own_files
from gateway.runtime.clock import SystemClock

ROOT = Path(__file__).resolve().parents[3]
SITE = ROOT / "configs" / "sites" / "bench4.yaml"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The URL of the station's server and the folder of its certificate."""
    certificates = tmp_path_factory.mktemp("certs")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0"),
            *("--opcua", "0", "--certs", str(certificates)),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    listening = json.loads(process.stdout.readline())["listening"]
    yield listening["opcua"], certificates, listening["meters"]
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def fingerprint(server):
    from gateway.devices.opcua.discovery import certificate_of

    return certificate_of((server[1] / "opcua-server.der").read_bytes()).fingerprint


def test_trust_needs_the_whole_fingerprint_and_then_gives_the_url(
    sopgw, server, fingerprint, tmp_path, unused_tcp_port
):
    url = server[0]
    pki = tmp_path / "pki"
    trust = ("device", "trust", url, "--pki", pki, "--timeout", "10s")
    assert sopgw(*trust, "--fingerprint", fingerprint[-5:], "--json").json["exit_code"] == 6
    assert not pki.exists()
    done = sopgw(*trust, "--fingerprint", fingerprint, "--json").json
    assert done["exit_code"] == 0
    data = done["data"]
    assert data["taken"]
    pinned = Path(data["pinned"])
    assert pinned.read_bytes() == (server[1] / "opcua-server.der").read_bytes()
    assert (pki / "own" / "key.pem").stat().st_mode & 0o777 == 0o600
    # With the files the scan reads the profile's nodes; without them the endpoints; nobody: nothing.
    (tmp_path / "password").write_text("operator-bench\n")
    (tmp_path / "password").chmod(0o600)
    whole = f"{data['device_url']}&user=operator&password_file={tmp_path}/password"
    saved = tmp_path / "scan.json"
    nobody = f"opc.tcp://127.0.0.1:{unused_tcp_port}"
    scan = ("scan", "opcua", whole, url, nobody, "--timeout", "10s", "--save", saved)
    row, plain = sopgw(*scan, "--json").json["data"]["found"]
    assert row["profile"] == plain["profile"] == "sop-station-opcua"
    read, _, total = row["confidence"].partition(" of ")
    assert total == f"{read} nodes"
    assert int(read) > 80
    assert plain["confidence"] == "by application URI"
    assert [e["mode"] for e in plain["endpoints"]] == ["SignAndEncrypt"]
    added_from_a_scan(sopgw, saved, tmp_path)
    # Another certificate at the same place is refused, whatever is confirmed.
    own = (pki / "own" / "cert.der").read_bytes()
    pinned.write_bytes(own)
    changed = sopgw(*trust, "--fingerprint", fingerprint, "--json").json
    assert (changed["exit_code"], changed["errors"][0]["code"]) == (5, "D112")
    assert pinned.read_bytes() == own


def test_the_url_for_the_site_file_names_its_files_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = _Files(Path("pki"), "opc.tcp://192.168.10.21").device_url("opc.tcp://192.168.10.21")
    assert f"cert={tmp_path}/pki/own/cert.der" in shown
    text = SITE.read_text().replace("modbus+tcp://127.0.0.1:5020", shown, 1)
    assert not [p for p in site_from_text(text, path=SITE)[0].problems if p.code == "C032"]


def added_from_a_scan(sopgw, saved, folder):
    site = folder / "site.yaml"
    site.write_text(SITE.read_text())
    before = site.read_text()
    add = ("device", "add", "sop2", "--from", f"{saved}:1", "-c", site)
    shown = sopgw(*add, "--json").json
    assert shown["exit_code"] == 6
    assert site.read_text() == before
    assert "+  sop2: {profile: sop-station-opcua, url:" in shown["data"]["diff"]
    assert sopgw(*add, "--yes", "--json").json["ok"]
    assert load_site(site).devices["sop2"].profile.id == "sop-station-opcua"
    assert set(before.splitlines()) < set(site.read_text().splitlines())
    assert sopgw(*add, "--yes", "--json").json["exit_code"] == 5  # there is one of that name


def test_what_is_no_opcua_address_is_not_asked(sopgw):
    assert sopgw("scan", "opcua", "http://127.0.0.1").exit_code == 2
    assert sopgw("device", "trust", "modbus+tcp://127.0.0.1").exit_code == 2


async def test_what_is_no_opcua_server_is_not_trusted(sopgw, tmp_path):
    async def close(_reader, writer):
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    url = f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    answer = await asyncio.to_thread(sopgw, "device", "trust", url, "--pki", tmp_path / "pki")
    assert answer.exit_code == 4
    assert not (tmp_path / "pki").exists()
    server.close()
    await server.wait_closed()


@pytest.fixture(scope="module")
def address(server, tmp_path_factory):
    """The whole URL, with our own files and the user's name."""
    folder = tmp_path_factory.mktemp("pki")
    own, trusted = folder / "own", folder / "trusted"
    certificate, key = own_files(own, name="cli", now_utc_us=time.time_ns() // 1000)
    trusted.mkdir()
    pinned = shutil.copy(server[1] / "opcua-server.der", trusted)
    (own / "password").write_text("operator-bench\n")
    (own / "password").chmod(0o600)
    return (
        f"{server[0]}?cert={certificate}&key={key}&server={pinned}&trusted={trusted}"
        f"&user=operator&password_file={own}/password"
    )


METER = """\
profile: terminal-meter
version: 1
kind: meter
protocol: opcua
vendor: bench
models: [lv4x250]
manual: the terminals of the simulated station as meters
namespaces: {s: "urn:sop-gateway:bench:sop-station"}
sign: {p: inject_positive}
points:
  p:        {path: "Objects/s:SOPStation/s:Terminals/s:T2/s:P", type: float64, unit: W, unit_check: server}
  e.import: {path: "Objects/s:SOPStation/s:Terminals/s:T2/s:EnergyAbsWh", type: uint64, unit: Wh}
  e.export: {path: "Objects/s:SOPStation/s:Terminals/s:T2/s:EnergyInjWh", type: uint64, unit: Wh}
  f:        {path: "Objects/s:SOPStation/s:Terminals/s:T2/s:F", type: float64, unit: Hz, unit_check: server}
"""


@pytest.fixture(scope="module")
def site(server, address, tmp_path_factory):
    """A site whose station and second meter speak OPC UA; the other meters Modbus."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "terminal-meter.yaml").write_text(METER)
    text = SITE.read_text()
    found = re.findall(
        r"^  (\w+): +\{profile: ([\w-]+), url: \"([^\"]+)\", unit: \d+\}", text, re.M
    )
    assert [name for name, _, _ in found] == ["station", "m1", "m2", "m3", "m4"]
    for (name, profile, url), port in zip(found, [0, *server[2]], strict=True):
        new = {"station": ("sop-station-opcua", address), "m2": ("terminal-meter", address + "#m2")}
        now = new.get(name, (profile, f"modbus+tcp://127.0.0.1:{port}"))
        text = text.replace(
            f'profile: {profile}, url: "{url}"', f'profile: {now[0]}, url: "{now[1]}"'
        )
    path = folder / "site.yaml"
    path.write_text(text)
    return path


def test_points_of_a_server_are_listed_read_and_watched(sopgw, address):
    station = (address, "--profile", "sop-station-opcua", "--timeout", "10s")
    (block,) = sopgw("point", "ls", *station, "--json").json["data"]["blocks"]
    assert (block["table"], block["count"]) == ("node", len(block["points"]))
    rows = sopgw("point", "get", *station, "t2.f", "state.code", "--json").json["data"]["points"]
    assert abs(rows[0]["value"] - 50) < 1
    assert [r["text"] for r in rows] == ["50 Hz", "standby"]
    assert {r["quality"] for r in rows} == {"good"}
    watch = ("point", "watch", *station, "master.number", "--interval", "10ms", "--count", 2)
    assert len(sopgw(*watch, "--json").json["data"]["changes"]) == 1
    stats = ("device", "stats", *station, "--for", "300ms", "--interval", "100ms", "--json")
    data = sopgw(*stats).json["data"]
    assert (data["failed_count"], data["requests_a_poll_count"]) == (0, 1)
    near = sopgw("point", "get", *station, "state.cod", "--json").json["errors"][0]
    assert near["help"] == "did you mean state.code?"
    assert sopgw("point", "set", *station, "hb.ctrl=5", "--yes").exit_code == 5
    assert sopgw("device", "identify", address).exit_code == 2


def test_a_site_of_opcua_devices_is_checked_like_any_other(sopgw, site):
    network = sopgw("check", "network", "-c", site, "--count", 3, "--json").json["data"]
    assert [r["name"] for r in network["rows"]] == ["station", "m1", "m2", "m3", "m4"]
    assert all(" ms" in r["value"] for r in network["rows"])
    scale = sopgw("check", "scale", "station", "-c", site, "--json").json
    assert (scale["exit_code"], scale["data"]["findings"]) == (0, [])
    wrong = sopgw("check", "scale", "m2", "--ref", "f=60Hz±0.1Hz", "-c", site, "--json").json
    assert [f["where"] for f in wrong["data"]["findings"]] == ["m2 f"]
    signs = sopgw("check", "signs", "m2", "--for", "1s", "-c", site, "--json").json
    assert signs["exit_code"] == 9  # nothing flows
    clock = sopgw("check", "clock", "--for", "2s", "-c", site, "--json").json
    assert {r["name"] for r in clock["data"]["rows"]} >= {"host"}


async def test_the_watchdogs_timeout_is_found_before_it_is_tested(site):
    rack = Rack(equipment_of(load_site(site), None), SystemClock())
    try:
        assert await as_found_s(rack) == 5.0
    finally:
        await rack.close()


class HourAhead(SystemClock):
    """To it every value of a server is an hour old."""

    def utc_us(self):
        return super().utc_us() + 3_600_000_000


async def test_a_timeout_that_was_set_long_ago_is_found_too(site):
    rack = Rack(equipment_of(load_site(site), None), HourAhead())
    assert await as_found_s(rack) == 5.0
    await rack.close()


async def test_a_meter_on_opcua_is_one_file(address, site):
    profile = load_site(site).devices["m2"].profile
    meter = open_meter(name="m2", profile=profile, url=address, unit=1, clock=SystemClock())
    try:
        first, second = await meter.read(), await meter.read()
    finally:
        await meter.close()
    assert first.import_wh >= 0
    assert (second.import_wh, second.export_wh) >= (first.import_wh, first.export_wh)
    assert first.mono_us < second.mono_us
    assert first.registers == ()


def test_scan_all_finds_modbus_and_opcua(sopgw, server):
    port = server[0].rpartition(":")[2].partition("/")[0]
    scan = ("scan", "all", "--subnet", "127.0.0.1", "--serial", "none", "--units", "1")
    both = sopgw(*scan, "--port", server[2][0], "--opcua-port", port, "--json").json["data"][
        "found"
    ]
    assert [(r["number"], r["profile"]) for r in both] == [
        (1, "schneider-iem3255"),
        (2, "sop-station-opcua"),
    ]
    assert both[1]["url"] == f"opc.tcp://127.0.0.1:{port}"
    assert len(both[1]["sha256"]) == 64
    only = sopgw(*scan, "--port", server[2][0], "--opcua-port", "none", "--json").json["data"]
    assert [r["profile"] for r in only["found"]] == ["schneider-iem3255"]
    # What listens there and is no OPC UA server is not in the answer.
    modbus = server[2][0]
    none = sopgw(*scan, "--port", modbus, "--opcua-port", modbus, "--json").json["data"]["found"]
    assert [r["profile"] for r in none] == ["schneider-iem3255"]
