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
