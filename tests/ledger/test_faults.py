"""Short samples of the fault campaigns; ``make fault`` runs them at full length.

Each campaign is a program of its own under ``tests/fault``, so that nothing of pytest is in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "fault"
ROOT = FOLDER.parent.parent


def campaign(program: str, *arguments: str) -> str:
    """Run a campaign; it must end well and say what it did."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figures(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text.splitlines()[0])]


@pytest.fixture(scope="module")
def rig() -> None:
    """Skip by name where the kernel does not lend us a disk to cut the power of."""
    sys.path.insert(0, str(FOLDER))
    try:
        from ledger_power import impossible
    finally:
        sys.path.remove(str(FOLDER))
    with tempfile.TemporaryDirectory() as folder:
        reason = impossible(Path(folder))
    if reason is not None:
        pytest.skip(f"power-cut rig: {reason}")


def test_nothing_acknowledged_is_lost_by_kills() -> None:
    kills, acknowledged, broken = figures(campaign("ledger_kill.py", "--kills", "30"))
    assert (kills, broken) == (30, 0)
    assert acknowledged > 30


@pytest.mark.parametrize("kind", ["kill", "eio", "enospc", "short"])
def test_nothing_acknowledged_is_lost_by_faults_at_system_calls(kind: str) -> None:
    if shutil.which("strace") is None:
        if os.environ.get("SOPGW_REQUIRE_SERVERS"):
            pytest.fail("strace is not installed")
        pytest.skip("strace is not installed")
    faults, _, broken = figures(campaign("ledger_syscalls.py", "--kinds", kind, "--step", "9"))
    assert faults > 0
    assert broken == 0


def test_nothing_acknowledged_is_lost_by_power_cuts(rig: None) -> None:
    cuts, acknowledged, broken = figures(campaign("ledger_power.py", "--cuts", "3"))
    assert (cuts, broken) == (3, 0)
    assert acknowledged > 0


def test_the_power_cut_rig_has_teeth(rig: None) -> None:
    """Without syncs the same cuts must lose entries."""
    cuts, _, broken = figures(campaign("ledger_power.py", "--cuts", "1", "--no-sync"))
    assert cuts == 1
    assert broken > 0


def test_changed_bytes_are_found_and_placed() -> None:
    tried, missed = figures(campaign("ledger_flip.py", "--entries", "600", "--step", "41"))
    assert tried > 1000
    assert missed == 0


def test_no_parser_crashes_or_accepts_what_it_should_not() -> None:
    runs, faults, *_ = figures(campaign("ledger_fuzz.py", "--runs", "20000"))
    assert runs == 20_000
    assert faults == 0
