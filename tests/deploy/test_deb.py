"""The package: what is in it, who owns it, the same bytes twice. Its life is in system_test.sh."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EPOCH = 1_790_000_000
pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


@pytest.fixture(scope="module")
def package(scripts, built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deb")
    return scripts["deb"].build(folder, built, arch="arm64", python="3.11", epoch=EPOCH)


def said(*arguments):
    return subprocess.run(
        ["dpkg-deb", *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout


def test_the_same_wheels_give_the_same_bytes_whoever_builds(scripts, built, package, tmp_path):
    before = os.umask(0o077)
    try:
        again = scripts["deb"].build(tmp_path, built, arch="arm64", python="3.11", epoch=EPOCH)
    finally:
        os.umask(before)
    assert again.name == package.name
    assert again.read_bytes() == package.read_bytes()


def test_it_says_for_which_machine_and_which_python(package):
    assert said("-f", package, "Architecture").strip() == "arm64"
    assert said("-f", package, "Pre-Depends").strip() == "python3 (>= 3.11), python3 (<< 3.12)"
    assert said("-f", package, "Version").strip().endswith("+deb12")


def test_everything_belongs_to_root_and_nobody_else_may_write(package, tmp_path):
    rows = [line.split(None, 5) for line in said("-c", package).splitlines()]
    assert {row[1] for row in rows} == {"root/root"}
    subprocess.run(["dpkg-deb", "-x", package, tmp_path / "x"], check=True)
    for folder, names, files in os.walk(tmp_path / "x"):
        for name in (*names, *files):
            path = Path(folder, name)
            if not path.is_symlink():
                assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID), path
    python = tmp_path / "x/opt/sopgw/bin/python"
    assert os.readlink(python) == "/usr/bin/python3.11"
    for program in ("sopgw", "sopledger", "sopsim"):
        assert os.readlink(tmp_path / "x/usr/bin" / program) == f"/opt/sopgw/bin/{program}"
        assert (tmp_path / "x/opt/sopgw/bin" / program).stat().st_mode & 0o111
    assert (tmp_path / "x/opt/sopgw/share/sopgw/profiles/sop-station-v1.yaml").exists()
    assert not (tmp_path / "x/etc").exists(), "configuration is made by init, never by an upgrade"
    bill = (tmp_path / "x/usr/share/doc/sopgw/sop-gateway.cdx.json").read_text()
    assert '"specVersion": "1.6"' in bill


def test_the_maintainer_scripts_are_plain_shell(package, tmp_path):
    subprocess.run(["dpkg-deb", "-e", package, tmp_path / "control"], check=True)
    for name in ("preinst", "postinst", "prerm", "postrm"):
        script = tmp_path / "control" / name
        assert script.stat().st_mode & 0o111
        subprocess.run(["sh", "-n", script], check=True)


def test_a_wheel_that_leads_out_of_the_package_is_refused(scripts, tmp_path):
    import zipfile

    wheel = tmp_path / "evil-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    with pytest.raises(SystemExit, match="leads out"):
        scripts["deb"].unpack(wheel, tmp_path / "root", site_packages=tmp_path / "root/lib")


@pytest.mark.skipif(
    os.environ.get("SOPGW_SYSTEM_TEST") != "1",
    reason="asked for by SOPGW_SYSTEM_TEST=1: needs root, debootstrap, minutes (make system-test)",
)
@pytest.mark.alone
@pytest.mark.timeout(1800)
def test_the_whole_life_of_an_installation():
    done = subprocess.run(["make", "system-test"], cwd=ROOT, capture_output=True, text=True)
    assert "steps passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
