"""A log key in a token: the same notes as a key file, where a software token is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from ledger.cli import sopledger
from ledger.log import checkpoint, note
from ledger.log.keys import KeyFileError, load_key
from ledger.log.note import Note, NoteError
from ledger.log.token import open_token, parse_uri

LIBRARY = next(
    (p for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
     if Path(p).exists()), "",
)  # fmt: skip


PIN = "rain on the roof"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A software token with an Ed25519 key in it; gives the path of its library."""
    parts = {
        "softhsm2-util": shutil.which("softhsm2-util"),
        "libsofthsm2": LIBRARY,
        "python-pkcs11": find_spec("pkcs11"),
    }
    missing = ", ".join(name for name, found in parts.items() if not found)
    if missing and os.environ.get("SOPGW_REQUIRE_SERVERS"):
        pytest.fail(f"software token: not installed: {missing}")
    if missing:
        pytest.skip(f"software token: not installed: {missing}")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(config))
        init = ["softhsm2-util", "--init-token", "--free", "--label", "t", "--so-pin", "1234"]
        subprocess.run([*init, "--pin", PIN], check=True, capture_output=True)
        make_key()
        yield LIBRARY


def make_key() -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    token = pkcs11.lib(LIBRARY).get_token(token_label="t")
    with token.open(user_pin=PIN, rw=True) as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC_EDWARDS,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("1.3.101.112")},
            local=True,
        )
        parameters.generate_keypair(
            mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, label="log", store=True
        )


def test_a_token_signs_as_a_file_would(library: str) -> None:
    signer = open_token(module=library, token="t", label="log", pin=PIN, name="a.example/log")
    text = checkpoint.Checkpoint(origin="a.example/log", size=0, root=bytes(32)).text()
    signed = Note(text=text, signatures=(signer.signature(text),))
    assert checkpoint.verified_keys(signed, [note.parse_vkey(signer.vkey)]) == [signer.key]
    with pytest.raises(KeyFileError):
        open_token(module=library, token="t", label="none", pin=PIN, name="a.example/log")


def pin_in(folder: Path) -> Path:
    path = folder / "pin"
    path.write_text(PIN + "\n")
    path.chmod(0o600)
    return path


def test_a_ledger_lives_with_a_key_that_never_leaves_its_token(
    library: str, tmp_path: Path
) -> None:
    """Every command takes the token where it takes a key file: the file names the token."""
    key, pin = tmp_path / "log.key", pin_in(tmp_path)
    key.write_text(f"pkcs11:token=t;object=log;type=private?module-path={library}\n")
    runner, ledger = CliRunner(), str(tmp_path / "ledger")
    made = runner.invoke(
        sopledger, ["init", ledger, "--origin", "a.example/log", "--key-file", str(key),
              "--passphrase-file", str(pin)],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "NOT PROTECTED" not in made.output
    key.write_text(f"pkcs11:token=t;object=log?module-path={library}&pin-source=file:{pin}\n")
    lines = tmp_path / "lines"
    lines.write_text('{"n":1}\n{"n":2}\n')
    done = runner.invoke(
        sopledger, ["append", ledger, "--jsonl", str(lines), "--key-file", str(key)]
    )
    assert done.exit_code == 0, done.output
    vkey = tmp_path / "vkey"
    vkey.write_text(load_key(key, "a.example/log").vkey + "\n")
    assert runner.invoke(sopledger, ["verify", ledger, "--key", str(vkey)]).exit_code == 0


@pytest.mark.parametrize(
    ("pin", "mode", "words"),
    [("sun", 0o600, "PinIncorrect"), (PIN, 0o644, "others can read"), (None, 0, "No such file")],
)
def test_a_pin_that_does_not_do_is_explained(
    library: str, tmp_path: Path, pin: str | None, mode: int, words: str
) -> None:
    path = tmp_path / "pin"
    if pin is not None:
        path.write_text(pin)
        path.chmod(mode)
    key = tmp_path / "log.key"
    key.write_text(f"pkcs11:token=t;object=log?module-path={library}&pin-source={path}")
    command = [sys.executable, "-m", "ledger", "init", str(tmp_path / "ledger")]
    command += ["--origin", "a.example/log", "--key-file", str(key)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert words in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=t;object=log", "pkcs11:object=log?module-path=/m", "pkcs11:",
        "pkcs11:token=t;token=u;object=log?module-path=/m",
        "pkcs11:token=t;object=log;serial=7?module-path=/m",
        "pkcs11:token=t;object=log;type=public?module-path=/m", "file:/etc/passwd",
    ],
)  # fmt: skip
def test_uris_that_name_no_key_are_refused(text: str) -> None:
    with pytest.raises(KeyFileError):
        parse_uri(text)


def test_a_token_needs_its_pin(tmp_path: Path) -> None:
    key = tmp_path / "log.key"
    key.write_text("pkcs11:token=my%20token;object=log?module-path=/m")
    assert parse_uri(key.read_text())["token"] == "my token"
    with pytest.raises(KeyFileError, match="passphrase is needed"):
        load_key(key, "a.example/log")


def test_without_the_package_or_with_a_bad_name_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoteError):
        open_token(module="", token="", label="", pin="", name="two words")
    monkeypatch.setitem(__import__("sys").modules, "pkcs11", None)
    with pytest.raises(KeyFileError, match="python-pkcs11"):
        open_token(module="", token="", label="", pin="", name="a.example")
