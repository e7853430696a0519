"""Power cuts: what the disk holds at a random moment, without anything the cache only promised.

A ledger grows on an ext4 of its own behind a loop device. At a random moment the writer is
stopped, the block image copied, the writer killed; the copy is then mounted as a machine would
mount its disk after the power came back. Needs root and loop devices.

python tests/fault/ledger_power.py --cuts 25
python tests/fault/ledger_power.py --cuts 5 --no-sync     # the control, which must lose entries
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger_check import Promises, broken_promises

from ledger.log.segment import LedgerCorrupt

WRITER = Path(__file__).with_name("ledger_writer.py")
ROOT = WRITER.parent.parent.parent
IMAGE_BYTES = 48 << 20


def impossible(folder: Path) -> str | None:
    """Why the rig cannot run here, or None when it can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("mkfs.ext4") is None:
        return "needs mkfs.ext4"
    try:
        make_disk(folder / "probe.img")
        with mounted(folder / "probe.img", folder / "probe"):
            return None
    except subprocess.CalledProcessError as error:
        return f"cannot mount a loop device: {error.stderr.decode().strip()}"


def make_disk(image: Path) -> None:
    """An empty ext4 in a file."""
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    """Mount an image; its journal is replayed as after a power cut."""
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True, capture_output=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True, capture_output=True)


def drain(descriptor: int) -> bytes:
    """Everything that is in a pipe now."""
    os.set_blocking(descriptor, False)
    data = b""
    try:
        while more := os.read(descriptor, 1 << 16):
            data += more
    except BlockingIOError:
        pass
    return data


def cut(folder: Path, rng: random.Random, run: int, *, sync: bool) -> tuple[int, list[str]]:
    """One ledger, one power cut; returns acknowledged entries and broken promises."""
    image, copy = folder / "disk.img", folder / "cut.img"
    make_disk(image)
    command = [
        sys.executable, str(WRITER), "", "--run", str(run), "--count", "100000", "--producers",
        str(rng.choice((1, 4, 16))), "--size", str(rng.choice((50, 300))),
        "--segment-bytes", "60000", *([] if sync else ["--no-sync"]),
    ]  # fmt: skip
    with mounted(image, folder / "disk") as disk:
        command[2] = str(disk / "ledger")
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)})
        assert writer.stdout is not None
        pipe = writer.stdout.fileno()
        data, lines = b"", rng.randrange(1, 1500)
        while data.count(b"\n") < lines:
            data += os.read(pipe, 1 << 16)
        time.sleep(rng.random() * 0.01)
        writer.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, writer.pid, os.WSTOPPED | os.WNOWAIT)
        data += drain(pipe)
        subprocess.run(["cp", str(image), str(copy)], check=True)
        writer.kill()
        writer.wait()
        writer.stdout.close()
    promises = Promises()
    count = promises.hear(data.splitlines(keepends=True))
    with mounted(copy, folder / "cut") as disk:
        try:
            return count, broken_promises(disk / "ledger", promises)
        except (LedgerCorrupt, OSError) as error:
            return count, [f"does not open: {error}"]


def campaign(folder: Path, *, cuts: int, seed: int, sync: bool) -> tuple[int, list[str]]:
    """So many power cuts; returns acknowledged entries and every broken promise."""
    rng = random.Random(seed)
    acknowledged, broken = 0, []
    for run in range(cuts):
        count, found = cut(folder, rng, run, sync=sync)
        acknowledged += count
        broken += [f"seed {seed} cut {run}: {b}" for b in found]
    return acknowledged, broken


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-sync", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reason = impossible(Path(folder))
        if reason is not None:
            print(f"skipped: {reason}")
            return
        count, broken = campaign(
            Path(folder), cuts=given.cuts, seed=given.seed, sync=not given.no_sync
        )
    print(f"{given.cuts} power cuts, {count} acknowledged entries, {len(broken)} broken promises")
    print(*broken[:10], sep="\n")
    sys.exit(bool(broken) is not given.no_sync)


if __name__ == "__main__":
    main()
