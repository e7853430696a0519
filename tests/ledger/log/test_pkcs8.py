"""Encrypted key files are what others' tools read."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ledger.log import pkcs8


def test_the_library_and_openssl_read_it(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    pem = pkcs8.encrypt(
        private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), b"secret"
    )
    loaded = load_pem_private_key(pem, b"secret")
    assert isinstance(loaded, Ed25519PrivateKey)
    assert loaded.private_bytes_raw() == private.private_bytes_raw()
    with pytest.raises(ValueError):  # noqa: PT011 - the library gives no stable text
        load_pem_private_key(pem, b"other")
    if shutil.which("openssl"):
        (tmp_path / "key").write_bytes(pem)
        command = ["openssl", "pkey", "-in", str(tmp_path / "key"), "-passin", "pass:secret"]
        out = subprocess.run([*command, "-pubout"], capture_output=True, check=True)
        assert b"PUBLIC KEY" in out.stdout


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "020100"), (127, "02017f"), (128, "02020080"), (16384, "02024000")]
)
def test_integers_are_der(value: int, encoded: str) -> None:
    assert pkcs8.integer(value).hex() == encoded


def test_long_elements_state_their_length() -> None:
    assert pkcs8.der(0x04, bytes(200))[:3] == bytes.fromhex("0481c8")
    assert pkcs8.der(0x04, bytes(300))[:4] == bytes.fromhex("0482012c")
