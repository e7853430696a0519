"""RFC 3161 tokens from a real authority of OpenSSL's on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log import reader, timestamp
from ledger.log.keys import Signer
from ledger.log.segment import LedgerCorrupt
from ledger.log.timestamp import TimestampError
from ledger.log.writer import LedgerWriter

CONFIG = """
[req]
distinguished_name = dn
x509_extensions = ext
prompt = no
[dn]
CN = Test authority
[ext]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
basicConstraints = CA:true
[tsa]
default_tsa = one
[one]
serial = {0}/serial
signer_cert = {0}/tsa.pem
signer_key = {0}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
accuracy = secs:1
"""


@pytest.fixture
def authority(tmp_path: Path) -> Callable[[Path, Path], None]:
    if shutil.which("openssl") is None:
        if os.environ.get("SOPGW_REQUIRE_SERVERS"):
            pytest.fail("openssl is not installed")
        pytest.skip("openssl is not installed")
    config = tmp_path / "openssl.cnf"
    config.write_text(CONFIG.format(tmp_path))
    (tmp_path / "serial").write_text("01\n")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-config", str(config), "-days", "2",
           "-keyout", str(tmp_path / "tsa.key"), "-out", str(tmp_path / "tsa.pem")]  # fmt: skip
    subprocess.run(new, check=True, capture_output=True)

    def answer(query: Path, out: Path) -> None:
        reply = ["openssl", "ts", "-reply", "-queryfile", str(query), "-config", str(config), "-section", "one",
                 "-out", str(out)]  # fmt: skip
        subprocess.run(reply, check=True, capture_output=True)

    return answer


def test_stamped_kept_and_checked(
    make: Callable[..., Path], tmp_path: Path, authority: Callable[[Path, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    directory, ca = make([b"a", b"b"]), tmp_path / "tsa.pem"
    ledger = str(directory)
    assert run(sopledger, ["timestamp", "verify", ledger, "--ca", str(ca)]) == 9
    assert run(sopledger, ["timestamp", "query", ledger, "-o", str(tmp_path / "c.tsq")]) == 0
    assert (tmp_path / "c.stamped").read_bytes() == reader.last_checkpoint(directory)
    authority(tmp_path / "c.tsq", tmp_path / "c.tsr")
    keep = ["timestamp", "keep", ledger, "--token", str(tmp_path / "c.tsr"), "--ca", str(ca)]
    assert run(sopledger, [*keep, "--checkpoint", str(tmp_path / "c.stamped")]) == 0
    assert run(sopledger, ["timestamp", "verify", ledger, "--ca", str(ca)]) == 0
    assert "GMT" in capsys.readouterr().out
    kept = directory / "evidence" / f"{2:020d}.stamped"
    kept.write_bytes(kept.read_bytes().replace(b"\n2\n", b"\n3\n"))
    assert run(sopledger, ["timestamp", "verify", ledger, "--ca", str(ca)]) == 8


def test_a_kept_stamp_is_not_lost_to_another_attempt(
    make: Callable[..., Path], tmp_path: Path, authority: Callable[[Path, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Neither to a wrong --ca, nor to a second stamp of the same size."""
    directory, ca = make([b"a", b"b"]), str(tmp_path / "tsa.pem")
    (tmp_path / "c.stamped").write_bytes(reader.last_checkpoint(directory))
    (tmp_path / "q").write_bytes(timestamp.query(reader.last_checkpoint(directory), 7))
    for name in ("one", "two"):
        authority(tmp_path / "q", tmp_path / name)

    def keep(token: str, trusted: str) -> int:
        words = ["timestamp", "keep", str(directory), "--checkpoint", str(tmp_path / "c.stamped")]
        return run(sopledger, [*words, "--token", str(tmp_path / token), "--ca", trusted])

    assert keep("one", str(tmp_path / "c.stamped")) == 8
    assert not (directory / "evidence").exists()
    assert keep("one", ca) == 0
    kept = {path: path.read_bytes() for path in (directory / "evidence").iterdir()}
    assert len(kept) == 2
    assert keep("one", str(tmp_path / "c.stamped")) == 8
    assert keep("two", ca) == 5
    assert "another time stamp" in capsys.readouterr().err
    assert keep("one", ca) == 0
    assert {path: path.read_bytes() for path in (directory / "evidence").iterdir()} == kept
    assert run(sopledger, ["timestamp", "verify", str(directory), "--ca", ca]) == 0


def test_a_token_for_something_else_is_not_kept(
    make: Callable[..., Path], tmp_path: Path, authority: Callable[[Path, Path], None]
) -> None:
    directory = make([b"a"], [b"b"])
    first, last = [b.checkpoint for b in reader.batches(directory)]
    (tmp_path / "q").write_bytes(timestamp.query(first, 7))
    authority(tmp_path / "q", tmp_path / "r")
    path = timestamp.keep(directory, last, (tmp_path / "r").read_bytes())
    with pytest.raises(TimestampError):
        timestamp.verify(directory, path, tmp_path / "tsa.pem")
    with pytest.raises(TimestampError, match="too large"):
        timestamp.keep(directory, last, bytes(1 << 20))


def test_a_stamp_binds_this_ledger_and_no_other(
    make: Callable[..., Path], tmp_path: Path, authority: Callable[[Path, Path], None],
    signer: Signer,
) -> None:  # fmt: skip
    directory = make([b"a"], [b"b"])
    last = reader.last_checkpoint(directory)
    (tmp_path / "q").write_bytes(timestamp.query(last, 7))
    authority(tmp_path / "q", tmp_path / "r")
    path = timestamp.keep(directory, last, (tmp_path / "r").read_bytes())
    assert "GMT" in timestamp.verify(directory, path, tmp_path / "tsa.pem")
    older, forked = make([b"a"], name="older"), make([b"a"], [b"x"], name="forked")
    for other, words in ((older, "is of size 2"), (forked, "another ledger")):
        shutil.copytree(directory / "evidence", other / "evidence")
        with pytest.raises(TimestampError, match=words):
            timestamp.verify(other, other / "evidence" / path.name, tmp_path / "tsa.pem")
        with pytest.raises(LedgerCorrupt):
            LedgerWriter.open(other, signer=signer, origin=signer.name)
    with pytest.raises(TimestampError, match="no checkpoint"):
        timestamp.keep(directory, b"junk", b"t")
