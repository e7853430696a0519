"""A log key in a token: the same notes as a key file, where a software token is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from ledger.log import checkpoint, note
from ledger.log.keys import KeyFileError
from ledger.log.note import Note, NoteError
from ledger.log.token import open_token

LIBRARY = next(
    (p for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
     if Path(p).exists()), "",
)  # fmt: skip


def missing() -> str:
    parts = {
        "softhsm2-util": shutil.which("softhsm2-util"),
        "libsofthsm2": LIBRARY,
        "python-pkcs11": find_spec("pkcs11"),
    }
    return ", ".join(name for name, found in parts.items() if not found)


@pytest.mark.skipif(bool(missing()), reason=f"software token: not installed: {missing()}")
def test_a_token_signs_as_a_file_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    init = [
        "softhsm2-util",
        "--init-token",
        "--free",
        "--label",
        "t",
        "--pin",
        "1234",
        "--so-pin",
        "1234",
    ]
    subprocess.run(init, check=True, capture_output=True, env=os.environ)
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    token = pkcs11.lib(LIBRARY).get_token(token_label="t")
    with token.open(user_pin="1234", rw=True) as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC_EDWARDS,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("1.3.101.112")},
            local=True,
        )
        parameters.generate_keypair(
            mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, label="log", store=True
        )
    signer = open_token(module=LIBRARY, token="t", label="log", pin="1234", name="a.example/log")
    text = checkpoint.Checkpoint(origin="a.example/log", size=0, root=bytes(32)).text()
    signed = Note(text=text, signatures=(signer.signature(text),))
    assert checkpoint.verified_keys(signed, [note.parse_vkey(signer.vkey)]) == [signer.key]
    with pytest.raises(KeyFileError):
        open_token(module=LIBRARY, token="t", label="none", pin="1234", name="a.example/log")


def test_without_the_package_or_with_a_bad_name_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoteError):
        open_token(module="", token="", label="", pin="", name="two words")
    monkeypatch.setitem(__import__("sys").modules, "pkcs11", None)
    with pytest.raises(KeyFileError, match="python-pkcs11"):
        open_token(module="", token="", label="", pin="", name="a.example")
