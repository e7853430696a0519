"""Faults at every system call, injected by strace: kill, EIO, ENOSPC, short writes.

python tests/fault/ledger_syscalls.py
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ledger_check import Promises, broken_promises

WRITER = Path(__file__).with_name("ledger_writer.py")
ROOT = WRITER.parent.parent.parent
CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "fallocate", "rename", "write")
"""Whatever touches the disk, and ``write``, which is how callers hear and are heard."""
FAULTS = {
    "kill": [(f"{call}:signal=KILL", call) for call in CALLS],
    "eio": [(f"{call}:error=EIO", call) for call in ("fdatasync", "fsync", "pwrite64")],
    "enospc": [(f"{call}:error=ENOSPC", call) for call in ("pwrite64", "fallocate")],
    "short": [("pwrite64:retval=10", "pwrite64")],
}


def run_with(
    directory: Path, fault: str | None, *, run: int, count: int
) -> tuple[list[bytes], int]:
    """Run the writer under one injected fault; returns its lines and the number of faults."""
    command = [
        sys.executable, str(WRITER), str(directory), "--run", str(run), "--count", str(count),
        "--producers", "2", "--size", "300", "--segment-bytes", "2500",
    ]  # fmt: skip
    if fault is not None:
        trace = [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=" + fault.split(":")[0],
            "-e",
            f"inject={fault}",
        ]
        command = [*trace, *command]
    done = subprocess.run(
        command, capture_output=True, check=False, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
    )
    return done.stdout.splitlines(keepends=True), done.stderr.count(b"INJECTED") + (
        b"killed by SIGKILL" in done.stderr or done.returncode < 0
    )


def campaign(
    folder: Path, *, kinds: list[str], step: int, count: int = 6
) -> tuple[int, int, list[str]]:
    """Each fault at its first, second, … call until a run meets none; every promise is checked."""
    runs, acknowledged, broken = 0, 0, []
    for kind in kinds:
        for spec, call in FAULTS[kind]:
            number, met = 1, True
            while met:
                directory, promises = folder / f"{kind}-{call}-{number}", Promises()
                promises.hear(run_with(directory, None, run=1, count=2)[0])
                lines, hits = run_with(directory, f"{spec}:when={number}", run=2, count=count)
                acknowledged += promises.hear(lines)
                found = broken_promises(directory, promises)
                broken += [f"{kind} at {call} {number}: {b}" for b in found]
                met = hits > 0
                runs += met
                number += step
                shutil.rmtree(directory)
    return runs, acknowledged, broken


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="take every so many-th call")
    parser.add_argument("--kinds", nargs="*", default=list(FAULTS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, count, broken = campaign(Path(folder), kinds=given.kinds, step=given.step)
    print(f"{runs} faults, {count} acknowledged entries, {len(broken)} broken promises")
    print(*broken[:20], sep="\n")
    sys.exit(bool(broken) or not runs)


if __name__ == "__main__":
    main()
