"""``sopgw scan``, ``device`` and ``point`` over the simulated station and its meters."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.scan_answer import last_scan

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def ports():
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    yield json.loads(process.stdout.readline())["listening"]
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture
def station(ports):
    return (f"127.0.0.1:{ports['station']}", "--profile", "sop-station-v1")


def test_scan_finds_the_units_and_their_profiles(sopgw, ports, tmp_path):
    both = f"{ports['station']},{ports['meters'][0]}"
    saved = tmp_path / "scan.json"
    options = ("--units", "1-2,100", "--timeout", "300ms", "--rate", "200/s", "--save", saved)
    answer = sopgw("scan", "modbus-tcp", "127.0.0.1", "--port", both, *options, "--json").json
    found = {(r["url"].rpartition(":")[2], r["unit"]): r for r in answer["data"]["found"]}
    profiles = {place: r["profile"] for place, r in found.items()}
    assert profiles == {
        (str(ports["station"]), 1): "sunspec-vsc",
        (str(ports["station"]), 2): "sunspec-vsc",
        (str(ports["station"]), 100): "sop-station-v1",
        (str(ports["meters"][0]), 1): "schneider-iem3255",
    }
    assert json.loads(saved.read_text())["found"] == answer["data"]["found"]
    assert last_scan().read_text() == saved.read_text()
    text = sopgw(
        "scan", "all", "--subnet", "127.0.0.1", "--serial", "none", "--port", both, "--units", "1"
    ).out
    assert "[read-only]" in text
    whole = ("scan", "all", "--subnet", "127.0.0.1", "--serial", "none", "--units", "1,100")
    found = sopgw(*whole, "--port", ports["station"], "--json").json["data"]["found"]
    assert [r["profile"] for r in found] == ["sunspec-vsc", "sop-station-v1"]
    assert "schneider-iem3255 (fits" in text


def test_scan_of_nobody_and_of_too_many(sopgw, unused_tcp_port):
    nobody = sopgw(
        "scan", "modbus-tcp", "127.0.0.1", "--port", unused_tcp_port, "--units", "1", "--json"
    )
    assert nobody.json["exit_code"] == 4
    assert sopgw("scan", "modbus-tcp", "10.0.0.0/16").exit_code == 2
    for wrong in (("--units", "1-300"), ("--rate", "fast"), ("--port", "x")):
        assert sopgw("scan", "modbus-tcp", "127.0.0.1", *wrong).exit_code == 2


def test_scan_of_a_silent_line(sopgw):
    ours, theirs = pty.openpty()
    line = os.ttyname(theirs)
    answer = sopgw(
        "scan", "modbus-rtu", line, "--baud", "9600", "--format", "8N1", "--units", "1-2",
        "--timeout", "50ms", "--json",
    )  # fmt: skip
    assert answer.json["exit_code"] == 4
    os.close(ours)
    os.close(theirs)


def test_scan_of_a_line_says_at_which_speed_it_answers(sopgw, tmp_path):
    line = tmp_path / "line"
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_sim", "device", "lv4x250", "--port", "0", "--rtu", line],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        process.stdout.readline()
        answer = sopgw(
            "scan", "modbus-rtu", line, "--baud", "9600", "--format", "8N1", "--units", "99-100",
            "--timeout", "1s", "--fast", "--json",
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
    (found,) = answer.json["data"]["found"]
    assert (found["unit"], found["profile"]) == (100, "sop-station-v1")
    assert "9600" in found["url"]


def test_identify(sopgw, ports, station):
    said = sopgw("device", "identify", station[0], "--unit", 2, "--json").json["data"]
    assert said["objects"]["product"] == "lv4x250"
    assert [m["id"] for m in said["sunspec"]] == [1, 701, 702, 703, 704, 714, 715]
    assert "iEM3255" in sopgw("device", "identify", f"127.0.0.1:{ports['meters'][0]}").out


def test_stats(sopgw, station):
    data = sopgw(
        "device", "stats", *station, "--for", "500ms", "--interval", "100ms", "--json"
    ).json["data"]
    assert data["failed_count"] == 0
    assert data["polls_count"] == 5
    assert data["counts"]["answers"] == 5 * data["requests_a_poll_count"]


def test_point_ls_get_and_watch(sopgw, ports, station):
    blocks = sopgw("point", "ls", *station, "--json").json["data"]["blocks"]
    assert sum(len(b["points"]) for b in blocks) == 127
    meter = (f"127.0.0.1:{ports['meters'][0]}", "--profile", "schneider-iem3255")
    rows = sopgw("point", "get", *meter, "f", "e.import", "--json").json["data"]["points"]
    assert rows[0]["text"] == "50 Hz"
    assert rows[1]["quality"] == "good"
    assert len(rows[1]["registers"]) == 4
    assert "holding/3109    4248 0000" in sopgw("point", "get", *meter, "f", "--raw").out
    changes = sopgw(
        "point", "watch", *station, "event.count", "--interval", "10ms", "--count", 3, "--json"
    ).json["data"]["changes"]
    assert len(changes) == 1


def test_a_misspelt_point_and_a_missing_profile(sopgw, station):
    answer = sopgw("point", "get", *station, "state.cod", "--json").json
    assert answer["exit_code"] == 2
    assert answer["errors"][0]["help"] == "did you mean state.code?"
    assert sopgw("point", "get", station[0]).exit_code == 2


def test_set_shows_writes_reads_back_and_refuses(sopgw, station):
    def timeout():
        return sopgw("point", "get", *station, "wdg.timeout", "--json").json["data"]["points"][0][
            "value"
        ]

    before = timeout()
    plan = sopgw("point", "set", *station, "wdg.timeout=7s", "--json").json
    assert (plan["exit_code"], plan["data"]["written"]) == (6, False)
    assert timeout() == before
    done = sopgw("point", "set", *station, "wdg.timeout=7s", "--yes", "--json").json
    assert done["ok"]
    assert timeout() == 7
    held = sopgw(
        "point", "set", *station, "wdg.timeout=8s", "--yes", "--for", "20ms", "--json"
    ).json
    assert held["ok"]
    assert timeout() == 7
    for wrong, code in (
        ("wdg.timeout=600s", 5),  # the profile's range
        ("wdg.timeout=7.05s", 5),  # finer than the register
        ("state.code=run", 5),  # read only
        ("wdg.timeout=7", 2),  # no unit
        ("wdg.failsafe=fly", 2),  # no such word
    ):
        assert sopgw("point", "set", *station, wrong, "--yes").exit_code == code
    assert timeout() == 7
    sopgw("point", "set", *station, "wdg.timeout=5s", "--yes")


def changed_profile(tmp_path, rule):
    text = (ROOT / "configs" / "profiles" / "sop-station-v1.yaml").read_text()
    old = "expect: 5 s, storage: volatile}"
    assert text.count(old) == 1
    file = tmp_path / "sop-station-v1.yaml"
    file.write_text(text.replace(old, f"expect: 5 s, {rule}}}"))
    return file


def test_a_hold_that_could_not_be_ended_is_not_begun(sopgw, station, tmp_path):
    profile = changed_profile(tmp_path, "storage: volatile, write: {min_interval: 10 s}")
    words = ("point", "set", station[0], "--profile", profile, "wdg.timeout=8s", "--yes", "--json")
    answer = sopgw(*words, "--for", "20ms")
    assert answer.exit_code == 5
    assert "every 10 s" in answer.json["errors"][0]["message"]
    read = sopgw("point", "get", *station, "wdg.timeout", "--json").json
    assert read["data"]["points"][0]["value"] == 5


def test_a_held_value_that_is_not_written_back_is_told_with_the_value_it_had(
    sopgw, station, tmp_path
):
    profile = changed_profile(tmp_path, "storage: nonvolatile, max_writes: 1")
    words = ("point", "set", station[0], "--profile", profile, "wdg.timeout=8s", "--yes", "--json")
    answer = sopgw(*words, "--for", "20ms")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (7, "D108")
    assert "wdg.timeout=5" in answer.json["errors"][0]["help"]
    assert sopgw("point", "set", *station, "wdg.timeout=5s", "--yes").exit_code == 0


def test_a_write_whose_readback_differs_ends_with_7(sopgw, station):
    # The acknowledgement does not follow a command of "none": the station refuses that code.
    answer = sopgw("point", "set", *station, "cmd.code=start", "--yes", "--json").json
    assert answer["exit_code"] == 7
    assert answer["errors"][0]["code"] == "D108"


def test_decode_shows_every_survivor_and_decides_nothing(sopgw, ports):
    meter = f"127.0.0.1:{ports['meters'][0]}"
    answer = sopgw(
        "point", "decode", meter, "holding/3027", "--expect", "230V±13%", "--count", 3, "--json"
    ).json
    assert answer["exit_code"] == 9
    assert answer["data"]["tried_count"] == 320
    assert [s["order"] for s in answer["data"]["survivors"]] == ["ABCD", "CDAB"]
    assert {s["point"] for s in answer["data"]["survivors"]} == {""}, "no profile was named"
    named = ("holding/3027", "--expect", "230V±13%", "--profile", "schneider-iem3255")
    assert (
        sopgw("point", "decode", meter, *named, "--json").json["data"]["survivors"][0]["point"]
        == "v1"
    )
    text = sopgw("point", "decode", meter, *named).out
    assert "← profile schneider-iem3255: v1" in text
    assert "sopgw check scale DEVICE --ref v1=" in text
    frequency = ("holding/3109", "--expect", "50Hz±1%", "--count", 1, "--json")
    assert len(sopgw("point", "decode", meter, *frequency).json["data"]["survivors"]) >= 1
    for wrong in (("holding", "230V±13%"), ("holding/1", "230±13%"), ("holding/1", "230V")):
        assert sopgw("point", "decode", meter, wrong[0], "--expect", wrong[1]).exit_code == 2


def test_map_shows_what_exists(sopgw, station):
    options = ("--table", "input", "--from", 990, "--to", 1010)
    runs = sopgw("point", "map", *station, *options, "--json").json["data"]["runs"]
    assert [(r["from"], len(r["words"])) for r in runs] == [(1000, 11)]
    assert sopgw("point", "map", *station, "--from", 9, "--to", 1).exit_code == 2


def test_nobody_there(sopgw, unused_tcp_port):
    where = (f"127.0.0.1:{unused_tcp_port}", "--profile", "sop-station-v1")
    assert sopgw("point", "get", *where, "dc.v", "--json").json["exit_code"] == 4
    assert sopgw("device", "identify", where[0], "--json").json["exit_code"] == 4
    assert sopgw("device", "stats", *where, "--for", "100ms", "--json").json["exit_code"] == 1
