"""The units: understood by systemd, and closed enough by its own measure."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).resolve().parents[2] / "configs/systemd").glob("*.service"))
EXPOSURE_MAX = 2.0
REQUIRED = os.environ.get("SOPGW_REQUIRE_SERVERS") == "1"  # then a missing one is a failure
pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not REQUIRED, reason="needs systemd-analyze"
)


def by_name(paths):
    return pytest.mark.parametrize("unit", paths, ids=lambda p: p.name)


@by_name(UNITS)
def test_exposure(unit, tmp_path):
    shutil.copy(unit, tmp_path)  # alone in its folder: what the machine has installed is not judged
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / unit.name)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    level = re.search(r"exposure level for \S+ ([\d.]+)", said.stdout)
    assert float(level[1]) <= EXPOSURE_MAX, said.stdout


@by_name(UNITS)
def test_systemd_understands_it(unit, tmp_path):
    # The programs are not installed here: stand-ins take their places.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sopgw", "sopledger", "sopsim"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    copy = tmp_path / unit.name.replace("@.", "@one.")
    copy.write_text(unit.read_text().replace("/opt/sopgw/bin", str(programs)))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True
    )
    own = [line for line in said.stderr.splitlines() if "sop" in line]
    assert own == []
    assert said.returncode == 0, said.stderr


def test_the_service_is_watched_and_never_given_up():
    text = (UNITS[0].parent / "sopgw.service").read_text()
    for line in ("Type=notify", "WatchdogSec=10", "Restart=always", "StartLimitIntervalSec=0",
                 "LoadCredential=secrets:/etc/sopgw/secrets"):  # fmt: skip
        assert f"\n{line}\n" in text, line
    assert "ProtectClock=yes" not in text, "that would also forbid to ask how good the clock is"


def calls_of(name):
    """The system calls of a group as this systemd has them, groups in it opened."""
    said = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = {line.strip() for line in said.stdout.splitlines()[1:] if line.strip()}
    names = {row for row in rows if not row.startswith(("#", "@"))}
    return names.union(*(calls_of(row) for row in rows if row.startswith("@")))


def allowed_calls(text):
    """Fold the filter's lines as systemd.exec(5) says: each against those before it."""
    allowed = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", text, re.M):
        named = [calls_of(w) if w[0] == "@" else {w} for w in line.lstrip("~").split()]
        allowed = allowed.difference(*named) if line[0] == "~" else allowed.union(*named)
    return allowed


def test_the_gateway_may_ask_how_good_the_clock_is_and_what_else_it_needs():
    allowed = allowed_calls((UNITS[0].parent / "sopgw.service").read_text())
    assert {"adjtimex", "clock_adjtime"} <= allowed, "without them it would only observe, for ever"
    assert {"setrlimit", "prlimit64", "setpriority"} <= allowed
    assert not {"clock_settime", "settimeofday", "setuid", "sched_setaffinity"} & allowed


def test_a_mistake_in_the_site_file_ends_the_service_and_is_not_tried_again_for_ever():
    text = (UNITS[0].parent / "sopgw.service").read_text()
    assert "RestartPreventExitStatus=3\n" in text
    assert "\nExecStartPre=" not in text, "systemd holds its exit status against nothing"


def test_serial_lines_of_adapters_and_of_boards_are_open_to_the_gateway():
    text = (UNITS[0].parent / "sopgw.service").read_text()
    for name in ("ttyS", "ttyUSB", "ttyACM", "ttyAMA", "ttymxc", "ttySC"):
        assert f"\nDeviceAllow=char-{name} rw\n" in text, name
