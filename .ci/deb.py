"""Builds the Debian package from a wheelhouse: an environment of its own under /opt/sopgw.

    python .ci/deb.py dist --wheels dist/wheelhouse --arch arm64 --python 3.11

Nothing of the target runs here, so any machine builds for any other. The staged tree holds the
files of the wheels as they are and all times are the commit's: the same wheels and the same commit
give the same bytes. Packed with gzip: what wheels hold is mostly code, and edge machines are slow.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import lockfile
import sbom
import wheelhouse

PREFIX = Path("opt/sopgw")
RELEASES = {"3.11": "deb12", "3.13": "deb13"}
"""Debian's own interpreter: compiled wheels fit one minor version of Python only."""
PROGRAMS = {"sopgw": "gateway", "sopledger": "ledger", "sopsim": "firmware_sim"}
PROGRAM = """\
#!/opt/sopgw/bin/python -sP
import sys

from {package}.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
"""
CONTROL = """\
Package: sopgw
Version: {version}
Architecture: {arch}
Maintainer: The sop-gateway authors <sop-gateway@localhost>
Installed-Size: {size_kib}
Pre-Depends: python3 (>= {python}), python3 (<< {python_next})
Depends: systemd | systemd-standalone-sysusers,
 systemd | systemd-standalone-tmpfiles, passwd
Recommends: chrony | time-daemon
Suggests: mosquitto, prometheus
Section: net
Priority: optional
Description: gateway between a local electricity market and a soft open point
 Takes settled trades, commands the converters of a soft open point within
 their limits, meters what was delivered and keeps all of it in a signed,
 append-only ledger. Brings its own Python environment in /opt/sopgw;
 configuration in /etc/sopgw, state in /var/lib/sopgw.
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: sop-gateway
Comment: The packages in /opt/sopgw/lib keep their licences in their own
 *.dist-info folders; licences.txt beside this file lists them, and
 sop-gateway.cdx.json names every wheel with its hashes.

Files: *
Copyright: The sop-gateway authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
"""


def unpack(wheel: Path, root: Path, *, site_packages: Path) -> None:
    """Lay the files of a wheel where an installation has them; scripts of others are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            parts = Path(info.filename).parts
            if info.is_dir():
                continue
            if ".." in parts or Path(info.filename).is_absolute():
                raise SystemExit(f"{wheel.name}: {info.filename} leads out of the package")
            if parts[0].endswith(".data"):
                kind, rest = parts[1], Path(*parts[2:])
                if kind in ("purelib", "platlib"):
                    to = site_packages / rest
                elif kind == "data" and wheel.name.startswith("sop_gateway-"):
                    to = root / PREFIX / rest
                else:
                    continue
            else:
                to = site_packages / Path(*parts)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(archive.read(info))


def place(text: str, path: Path, *, mode: int = 0o644) -> None:
    """Write one file of the staged tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def stage(root: Path, wheels: Path, *, python: str, epoch: int) -> None:
    """Fill the tree that becomes the package."""
    site_packages = root / PREFIX / f"lib/python{python}/site-packages"
    for wheel in sorted(wheels.glob("*.whl")):
        unpack(wheel, root, site_packages=site_packages)
    place(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n",
        root / PREFIX / "pyvenv.cfg",
    )
    programs = root / PREFIX / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(f"/usr/bin/python{python}")
    (root / "usr/bin").mkdir(parents=True)
    for name, package in PROGRAMS.items():
        place(PROGRAM.format(package=package), programs / name, mode=0o755)
        (root / "usr/bin" / name).symlink_to(f"/{PREFIX}/bin/{name}")
    configs = lockfile.ROOT / "configs"
    for unit in sorted((configs / "systemd").iterdir()):
        place(unit.read_text("utf-8"), root / "usr/lib/systemd/system" / unit.name)
    debian = configs / "debian"
    for name, to in (
        ("sopgw.sysusers", "usr/lib/sysusers.d/sopgw.conf"),
        ("sopgw.tmpfiles", "usr/lib/tmpfiles.d/sopgw.conf"),
        ("60-sopgw-serial.rules", "usr/lib/udev/rules.d/60-sopgw-serial.rules"),
    ):
        place((debian / name).read_text("utf-8"), root / to)
    rollback = (debian / "rollback").read_text("utf-8")
    place(rollback, root / "usr/lib/sopgw/rollback", mode=0o755)
    (root / "usr/share").mkdir(exist_ok=True)
    (root / "usr/share/sopgw").symlink_to(f"/{PREFIX}/share/sopgw")
    document(root / "usr/share/doc/sopgw", wheels, epoch=epoch)


def document(folder: Path, wheels: Path, *, epoch: int) -> None:
    """Write what Debian wants to know, what is inside, and how it is installed."""
    bill = sbom.of_wheels(wheels, epoch=epoch)
    place(COPYRIGHT, folder / "copyright")
    place(sbom.encoded(bill), folder / "sop-gateway.cdx.json")
    place(sbom.licences(bill), folder / "licences.txt")
    install = lockfile.ROOT / "docs/install.md"
    place(install.read_text("utf-8"), folder / "install.md")
    changes = (lockfile.ROOT / "CHANGELOG.md").read_bytes()
    (folder / "changelog.gz").write_bytes(gzip.compress(changes, mtime=0))


def normalise(root: Path, *, epoch: int) -> None:
    """Set modes and times, so that no umask and no clock of the builder shows."""
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if runs else 0o644)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    root.chmod(0o755)
    os.utime(root, (epoch, epoch))


def control(root: Path, *, version: str, arch: str, python: str) -> None:
    """Write the DEBIAN folder: description, maintainer scripts, sums of all files."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    sums = "".join(
        f"{hashlib.md5(p.read_bytes(), usedforsecurity=False).hexdigest()}  {p.relative_to(root)}\n"
        for p in files
    )
    major, minor = python.split(".")
    text = CONTROL.format(
        version=version,
        arch=arch,
        size_kib=sum(-(-p.stat().st_size // 1024) for p in files),
        python=python,
        python_next=f"{major}.{int(minor) + 1}",
    )
    place(text, root / "DEBIAN/control")
    place(sums, root / "DEBIAN/md5sums")
    for name in ("preinst", "postinst", "prerm", "postrm"):
        script = lockfile.ROOT / "configs/debian" / name
        place(script.read_text("utf-8"), root / "DEBIAN" / name, mode=0o755)


def version_of(wheels: Path) -> str:
    """Return the version of our own wheel in a wheelhouse."""
    (own,) = wheels.glob("sop_gateway-*.whl")
    return own.name.split("-")[1]


def build(
    folder: Path, wheels: Path, *, arch: str, python: str, epoch: int, revision: str = "1"
) -> Path:
    """Build one package; return where it lies."""
    version = f"{version_of(wheels)}-{revision}+{RELEASES[python]}"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"sopgw_{version}_{arch}.deb"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        stage(root, wheels, python=python, epoch=epoch)
        place(f"{version}\n", root / PREFIX / "version")
        control(root, version=version, arch=arch, python=python)
        normalise(root, epoch=epoch)
        subprocess.run(
            ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z6", root, target],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return target


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", choices=sorted(wheelhouse.MACHINES), default="amd64")
    parser.add_argument("--python", choices=sorted(RELEASES), default="3.11")
    parser.add_argument("--wheels", type=Path, help="a wheelhouse; downloaded when left out")
    parser.add_argument("--revision", default="1", help="of the package, not of the program")
    given = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        raise SystemExit("dpkg-deb is missing: this builds on Debian and its relatives")
    epoch = wheelhouse.source_epoch()
    wheels = given.wheels
    if wheels is None:
        wheels = given.folder / f"wheelhouse-{given.python}-{given.arch}"
        extras = lockfile.SITE_EXTRAS
        wheelhouse.collect(wheels, python=given.python, arch=given.arch, extras=extras)
    built = build(
        given.folder,
        wheels,
        arch=given.arch,
        python=given.python,
        epoch=epoch,
        revision=given.revision,
    )
    digest = wheelhouse.sha256(built)
    print(f"{built}: {built.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
