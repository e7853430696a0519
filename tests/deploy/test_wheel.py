"""Wheel and source archive: the same tree gives the same bytes, and the wheel works where it is put."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

EPOCH = 1_790_000_000


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def build(tree, out, umask):
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out), "-t", "wheel", "-t", "sdist"],
        cwd=tree, env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}, capture_output=True,
        text=True, check=False, umask=umask,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_builds_in_two_folders_give_the_same_bytes(tree, tmp_path):
    other = tmp_path / "elsewhere" / "another-name"
    shutil.copytree(tree, other, copy_function=shutil.copy)  # other times
    for path in other.rglob("*"):  # as a careful umask would have left them
        path.chmod(path.stat().st_mode & 0o700)
    build(tree, tmp_path / "first", 0o022)
    build(other, tmp_path / "second", 0o077)
    first, second = digests(tmp_path / "first"), digests(tmp_path / "second")
    assert len(first) == 2
    assert first == second


def test_the_wheel_holds_programs_and_profiles_and_nothing_of_the_tests(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {Path(n).parts[0] for n in names}
    assert {t.split("-")[0] for t in tops} == {"gateway", "ledger", "firmware_sim", "sop_gateway"}
    shared = [n for n in names if ".data/data/share/sopgw/" in n]
    for wanted in (
        "profiles/sop-station-v1.yaml",
        "schema/config.schema.json",
        "grafana/site.json",
    ):
        assert any(n.endswith(wanted) for n in shared), wanted
    entry = next(n for n in names if n.endswith("entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(entry).decode()
    assert all(f"{program} = " in text for program in ("sopgw", "sopledger", "sopsim"))


def test_it_installs_without_a_network_by_its_hash_and_runs(built, scripts, tmp_path):
    listed = tmp_path / "requirements.txt"
    listed.write_text(scripts["wheelhouse"].requirements(built))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    pip += ["--disable-pip-version-check", "--require-hashes", "--find-links", str(built)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    command = [*pip, "--target", str(tmp_path / "there"), "-r", str(listed)]
    subprocess.run(command, check=True, env=environment | {"PIP_CONFIG_FILE": os.devnull})
    said = subprocess.run(
        [sys.executable, "-c", "import gateway; print(gateway.__file__); from gateway.__main__ "
         "import main; raise SystemExit(main(['version', '--json']))"],
        cwd=tmp_path, env=environment | {"PYTHONPATH": str(tmp_path / "there")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.startswith(str(tmp_path / "there"))
    assert '"ok": true' in said.stdout
    listed.write_text(listed.read_text().replace("sha256:", "sha256:0")[:-2] + "\n")
    refused = subprocess.run(command, check=False, env=environment, capture_output=True)
    assert refused.returncode != 0
