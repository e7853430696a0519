"""``sopgw device ls | add | rm``: the devices of a site file; asks no device."""

import os
from pathlib import Path

import pytest

from gateway.config.site_file import load_site

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "configs" / "sites" / "bench4.yaml"
SEPARATE = ROOT / "configs" / "sites" / "separate4.yaml"


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(BENCH.read_text())
    return path


def test_a_device_is_added_by_its_url(sopgw, site):
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
        ("--from", "scan:1"),  # nothing was scanned yet
        (*meter, "--from", "a:1"),
    ):
        assert sopgw("device", "add", "m6", *wrong, "-c", site).exit_code == 2
    text = site.read_text()
    nonsense = ("--url", "telnet://h", "--profile", "abb-b23", "--yes")
    assert sopgw("device", "add", "m6", *nonsense, "-c", site).exit_code == 3
    assert sopgw("device", "add", "m6", *meter, "--yes", "-c", site).exit_code == 3  # used twice
    assert site.read_text() == text


def test_devices_are_listed_with_what_they_are_for(sopgw, site):
    add = ("device", "add", "m5", "--url", "modbus+tcp://192.168.10.34", "--profile", "abb-b23")
    assert sopgw(*add, "-c", site, "--yes").exit_code == 0
    rows = sopgw("device", "ls", "-c", site, "--json").json["data"]["devices"]
    assert {row["name"]: row["used_as"] for row in rows} == {
        "m5": [],
        "station": ["SOP-1 station"],
        **{f"m{k}": [f"SOP-1 T{k} meter"] for k in (1, 2, 3, 4)},
    }
    assert rows[1] == {
        "name": "station",
        "profile": "sop-station-v1",
        "url": "modbus+tcp://127.0.0.1:5020",
        "unit": 100,
        "used_as": ["SOP-1 station"],
    }
    text = sopgw("device", "ls", "-c", site).out
    assert "not used" in text.splitlines()[0]
    assert "SOP-1 T3 converter" in sopgw("device", "ls", "-c", SEPARATE).out


def test_a_site_without_devices_lists_none(sopgw, site):
    site.write_text("version: 1\ndevices:\n")
    assert sopgw("device", "ls", "-c", site, "--json").json["data"] == {"devices": []}
    assert "no devices yet" in sopgw("device", "ls", "-c", site).out
    site.write_text("")
    assert sopgw("device", "ls", "-c", site).exit_code == 3


def test_a_device_in_use_stays(sopgw, site):
    before = site.read_text()
    for name, use in (("m3", "SOP-1 T3 meter"), ("station", "SOP-1 station")):
        refused = sopgw("device", "rm", name, "--yes", "-c", site, "--json").json
        assert (refused["exit_code"], refused["errors"][0]["code"]) == (5, "D115")
        assert use in refused["errors"][0]["message"]
    assert sopgw("device", "rm", "m9", "--yes", "-c", site).exit_code == 2
    assert site.read_text() == before


@pytest.mark.parametrize(
    "written",
    [
        '  m9: {profile: abb-b23, url: "modbus+tcp://h", unit: 2}\n',
        "  m9:\n    profile: abb-b23\n\n    # by the door\n    url: modbus+tcp://h\n",
        '  "m9":\n    {profile: abb-b23,\n     url: modbus+tcp://h}   # spare\n',
    ],
)
@pytest.mark.parametrize("before", ["  station: {", "  m2:", "\nsops:"])
def test_a_removed_device_leaves_every_other_byte(sopgw, site, written, before):
    text = BENCH.read_text()
    assert text.count(before) == 1
    site.write_text(text.replace(before, written + before))
    remove = ("device", "rm", "m9", "-c", site)
    shown = sopgw(*remove, "--json").json
    assert (shown["exit_code"], shown["errors"][0]["code"]) == (6, "D110")
    assert "m9" in load_site(site).devices
    listed = sopgw("device", "ls", "-c", site, "--json").json["data"]["devices"]
    assert [row["used_as"] for row in listed if row["name"] == "m9"] == [[]]
    assert sopgw(*remove, "--yes", "--json").json["exit_code"] == 0
    assert site.read_text() == text


def test_devices_in_one_line_are_left_to_the_editor(sopgw, site):
    text = 'version: 1\ndevices: {m8: {profile: abb-b23, url: "modbus+tcp://h"}}\n'
    site.write_text(text)
    refused = sopgw("device", "rm", "m8", "--yes", "-c", site)
    assert refused.exit_code == 3
    assert "lines of its own" in refused.err
    assert site.read_text() == text


def test_a_changed_file_keeps_its_rights_and_its_owner(sopgw, site):
    site.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(site, 0, 12345)  # as the package leaves it: the service reads by its group
    before = site.stat()
    mask = os.umask(0o077)
    try:
        add = ("device", "add", "m5", "--url", "modbus+tcp://h", "--profile", "abb-b23", "--yes")
        assert sopgw(*add, "-c", site).exit_code == 0
        added = site.stat()
        assert sopgw("config", "fmt", site, "--write").exit_code == 0
    finally:
        os.umask(mask)
    for after in (added, site.stat()):
        assert (after.st_mode, after.st_uid, after.st_gid) == (
            before.st_mode, before.st_uid, before.st_gid,
        )  # fmt: skip
