"""The build scripts as modules, and a copy of the tree that nobody changes meanwhile."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_OURS = {".git", ".venv", "dist", "build", "out", "demo-out"}


@pytest.fixture(scope="session")
def scripts():
    """The modules of .ci, imported as they import each other."""
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        names = ("lockfile", "wheelhouse", "sbom", "deb")
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(ROOT / ".ci"))


def tracked():
    """Files of the tree as git knows them; all but caches where there is no git."""
    said = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, check=False
    )
    if said.returncode == 0:
        names = [Path(n) for n in said.stdout.decode().split("\0") if n]
        return [n for n in names if (ROOT / n).is_file()]
    return [
        p.relative_to(ROOT)
        for p in ROOT.rglob("*")
        if p.is_file() and not NOT_OURS & set(p.parts) and "__pycache__" not in p.parts
    ]


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A snapshot of the tracked files."""
    folder = tmp_path_factory.mktemp("tree") / "sop-gateway"
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def built(tree, scripts, tmp_path_factory):
    """Our wheel, built once for whoever only needs one."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    scripts["lockfile"].ROOT = tree
    scripts["wheelhouse"].build_own(folder, epoch=EPOCH)
    return folder


EPOCH = 1_790_000_000
