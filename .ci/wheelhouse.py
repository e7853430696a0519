"""Collects every wheel an installation needs into one folder, for machines without a network.

    python .ci/wheelhouse.py dist/wheelhouse --arch arm64 --python 3.13

The folder holds our own wheel, the locked wheels for one CPython and one machine, and a
``requirements.txt`` with the hash of each file in it. Over there:

    pip install --no-index --find-links wheelhouse --require-hashes -r wheelhouse/requirements.txt
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lockfile

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC_MINOR_MAX = 36  # Debian 12
EARLIEST_EPOCH = 1577836800  # 2020: archives of a tree without history


def source_epoch() -> int:
    """Return the instant that stands in built files: the last commit's, or SOURCE_DATE_EPOCH."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    said = subprocess.run(
        ["git", "log", "-1", "--format=%ct"],
        cwd=lockfile.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return int(said.stdout) if said.returncode == 0 and said.stdout.strip() else EARLIEST_EPOCH


def build_own(folder: Path, *, epoch: int, targets: tuple[str, ...] = ("wheel",)) -> list[Path]:
    """Build our own wheel (and source archive) into a folder; same tree, same bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "hatchling", "build", "-d", scratch]
        for target in targets:
            command += ["-t", target]
        subprocess.run(
            command,
            cwd=lockfile.ROOT,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        folder.mkdir(parents=True, exist_ok=True)
        built = sorted(Path(scratch).iterdir())
        return [Path(shutil.copy(path, folder / path.name)) for path in built]


def download(folder: Path, pins: list[lockfile.Pin], *, python: str, arch: str) -> None:
    """Fetch the locked wheels of a machine through pip, which refuses a wrong hash."""
    machine = MACHINES[arch]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR_MAX, 4, -1)]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"linux_{machine}"]
    tag = "cp" + python.replace(".", "")
    abis = [tag, "abi3", "none"]
    listed = folder / "wanted.txt"
    listed.write_text("".join(f"{pin.lines()}\n" for pin in pins), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(listed)]
    command += ["--implementation", "cp", "--python-version", python, "-d", str(folder)]
    for abi in abis:
        command += ["--abi", abi]
    for platform in platforms:
        command += ["--platform", platform]
    subprocess.run(command, check=True)
    listed.unlink()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def requirements(folder: Path) -> str:
    """Write what pip must find in a wheelhouse: every wheel in it, by its own hash."""
    rows = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        rows.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{sha256(wheel)}\n")
    return "".join(rows)


def collect(folder: Path, *, python: str, arch: str, extras: tuple[str, ...]) -> None:
    """Fill a wheelhouse; it is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build_own(folder, epoch=source_epoch())
    pins = lockfile.closure(extras, lockfile.environment(python, MACHINES[arch]))
    download(folder, pins, python=python, arch=arch)
    (folder / "requirements.txt").write_text(requirements(folder), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", choices=sorted(MACHINES), default="amd64")
    parser.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}")
    parser.add_argument("--extras", default=",".join(lockfile.SITE_EXTRAS))
    given = parser.parse_args()
    extras = tuple(filter(None, given.extras.split(",")))
    collect(given.folder, python=given.python, arch=given.arch, extras=extras)
    wheels = list(given.folder.glob("*.whl"))
    size_mb = sum(w.stat().st_size for w in wheels) / 1e6
    what = f"CPython {given.python} {given.arch}"
    print(f"{given.folder}: {len(wheels)} wheels, {size_mb:.1f} MB, {what}")


if __name__ == "__main__":
    main()
