"""Key files: made once, protected, never overwritten, and wrong ones refused with the reason."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ledger.log.keys import KeyFileError, create_key, load_credential, load_key
from ledger.log.note import NoteError


@pytest.mark.parametrize("passphrase", [None, b"long and odd"])
def test_a_made_key_loads_again(tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "key"
    made = create_key(path, "a.example/log", passphrase)
    loaded = load_key(path, "a.example/log", passphrase)
    assert loaded.vkey == made.vkey
    assert loaded.sign(b"x") == made.sign(b"x")
    assert loaded.protected is (passphrase is not None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_key(path, "a.example/log")
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_key(path, "a.example/log")
    assert path.read_bytes() == before


def test_wrong_files_and_passphrases_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_key(path, "a.example/log", b"right")
    with pytest.raises(KeyFileError, match="passphrase is wrong"):
        load_key(path, "a.example/log", b"wrong")
    with pytest.raises(KeyFileError, match="a passphrase is needed"):
        load_key(path, "a.example/log")
    with pytest.raises(KeyFileError, match="No such file"):
        load_key(tmp_path / "none", "a.example/log")
    with pytest.raises(KeyFileError, match="No such file"):
        create_key(tmp_path / "none" / "key", "a.example/log")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(KeyFileError, match="not a PEM key"):
        load_key(tmp_path / "text", "a.example/log")
    rsa = generate_private_key(65537, 2048)
    (tmp_path / "rsa").write_bytes(
        rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(KeyFileError, match="not an Ed25519"):
        load_key(tmp_path / "rsa", "a.example/log")


def test_a_bad_name_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(NoteError):
        create_key(tmp_path / "key", "two words")
    assert not (tmp_path / "key").exists()


def test_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = create_key(tmp_path / "ledger_key", "a.example/log")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(KeyFileError, match="no systemd credentials"):
        load_credential("ledger_key", "a.example/log")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    loaded = load_credential("ledger_key", "a.example/log")
    assert (loaded.vkey, loaded.protected) == (made.vkey, True)
    for bad in ("../ledger_key", "", "..", "missing"):
        with pytest.raises(KeyFileError):
            load_credential(bad, "a.example/log")
