"""Exported trees before a verifier in another language, on libraries we had no hand in.

Needs Debian's golang and golang-golang-x-mod-dev; left out by name where they are missing.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from ledger.log import tiles
from ledger.log.keys import Signer
from ledger.log.writer import LedgerWriter

SOURCE = Path(__file__).parent / "go" / "verify.go"
LIBRARY = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")
BATCH = 4_000


@pytest.fixture(scope="session")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [
        n for n, there in (("go", shutil.which("go")), ("x/mod", LIBRARY.is_dir())) if not there
    ]
    if missing:
        if os.environ.get("SOPGW_REQUIRE_SERVERS"):
            pytest.fail(f"not installed: {', '.join(missing)}")
        pytest.skip(f"Go verifier: not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "",
        "GOCACHE": str(folder / "cache"),
    }  # fmt: skip
    program = folder / "verify"
    subprocess.run(["go", "build", "-o", str(program), str(SOURCE)], check=True, env=environment)
    return program


def exported(tmp_path: Path, signer: Signer, size: int) -> Path:
    directory, out = tmp_path / "ledger", tmp_path / "out"

    async def write() -> None:
        writer = LedgerWriter.open(directory, signer=signer, origin=signer.name)
        for start in range(0, size, BATCH):
            await writer.append_many(
                [b'{"n":%d}' % n for n in range(start, min(size, start + BATCH))]
            )
        await writer.close()

    asyncio.run(write())
    assert tiles.materialise(directory, out) == size
    return out


def run(verifier: Path, out: Path, signer: Signer) -> subprocess.CompletedProcess[str]:
    command = [str(verifier), str(out), signer.vkey]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "size", [1, 2, 255, 256, 257, 70_000, pytest.param(1_000_000, marks=pytest.mark.slow)]
)
def test_accepts_what_we_export_and_refuses_one_flipped_byte(
    verifier: Path, tmp_path: Path, signer: Signer, size: int
) -> None:
    out = exported(tmp_path, signer, size)
    done = run(verifier, out, signer)
    assert (done.stdout, done.returncode) == (f"{size} entries verified\n", 0), done.stderr
    rng = random.Random(size)
    names = sorted(p for p in out.rglob("*") if p.is_file())
    for path in [
        out / "checkpoint",
        *rng.sample(names, 1 if size > 100_000 else min(3, len(names))),
    ]:
        clean = path.read_bytes()
        data = bytearray(clean)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        done = run(verifier, out, signer)
        assert done.returncode == 1, path
        assert done.stderr.startswith("refused:")
        path.write_bytes(clean)


def test_refuses_another_key(verifier: Path, tmp_path: Path, signer: Signer) -> None:
    out = exported(tmp_path, signer, 3)
    vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    done = subprocess.run([str(verifier), str(out), vkey], capture_output=True, check=False)
    assert done.returncode == 1
