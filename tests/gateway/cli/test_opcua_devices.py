"""``sopgw scan opcua``, ``device trust`` and ``device add`` against the simulated station."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.site_file import load_site

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
    yield json.loads(process.stdout.readline())["listening"]["opcua"], certificates
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
    url, _ = server
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


def added_from_a_scan(sopgw, saved, folder):
    site = folder / "site.yaml"
    site.write_text(SITE.read_text())
    before = site.read_text()
    add = ("device", "add", "sop2", "--from", f"{saved}:1", "-c", site)
    shown = sopgw(*add, "--json").json
    assert shown["exit_code"] == 6
    assert site.read_text() == before
    assert "+  sop2: {profile: sop-station-opcua, url:" in shown["data"]["diff"]
    assert sopgw(*add, "--yes").exit_code == 0
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


def test_a_device_is_added_by_its_url(sopgw, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(SITE.read_text())
    add = ("device", "add", "m5", "-c", site)
    meter = ("--url", "modbus+tcp://192.168.10.34:502", "--profile", "abb-b23")
    assert sopgw(*add, *meter, "--yes").exit_code == 0
    added = load_site(site).devices["m5"]
    assert (added.profile.id, added.unit) == ("abb-b23", 1)
    for wrong in (
        (),
        ("--url", "modbus+tcp://h"),
        ("--from", "nothing.json:1"),
        ("--from", "nothing"),
        (*meter, "--from", "a:1"),
    ):
        assert sopgw("device", "add", "m6", *wrong, "-c", site).exit_code == 2
    text = site.read_text()
    nonsense = ("--url", "telnet://h", "--profile", "abb-b23", "--yes")
    assert sopgw("device", "add", "m6", *nonsense, "-c", site).exit_code == 3
    assert sopgw("device", "add", "m6", *meter, "--yes", "-c", site).exit_code == 3  # used twice
    assert site.read_text() == text
