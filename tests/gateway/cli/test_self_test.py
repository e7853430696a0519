"""What the program proves of itself, and that each proof can fail."""

import logging
import ssl
from types import SimpleNamespace

import pytest

from gateway.cli import self_test
from gateway.cli.run import proven_mode
from gateway.market import dsse


def test_everything_holds_here():
    proofs = self_test.prove(ssl.create_default_context())
    assert [p.id for p in proofs if p.holds is False] == []
    assert {p.id for p in proofs} == {
        "self.signatures",
        "self.impostor",
        "self.versions",
        "self.program",
    }


def test_a_verifier_that_takes_everything_is_noticed():
    def takes_all(_raw, **_settings):
        return dsse.Opened(b"{}", ())

    proof = self_test.signatures(takes_all)
    assert proof.holds is False
    assert "a changed message is taken" in proof.text
    assert "a stranger's signature is taken" in proof.text


def test_a_verifier_that_takes_nothing_is_noticed():
    assert "a good signature is refused" in self_test.signatures(lambda *_a, **_k: []).text


def test_a_context_that_believes_everybody_is_noticed():
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    assert self_test.impostor(careless).holds is False
    assert self_test.impostor(ssl.create_default_context()).holds is True
    assert self_test.impostor(None).holds is None


@pytest.mark.parametrize(
    ("found", "holds"),
    [("50.0.0", True), ("50.0.0rc1", True), ("49.9.9", False), ("51", True), ("5.100.0", False)],
)
def test_old_libraries_are_named(found, holds):
    def installed(name):
        return found if name == "cryptography" else "999.0"

    proof = self_test.versions(installed)
    assert proof.holds is holds
    assert ("cryptography" in proof.text) is not holds


def test_an_old_openssl_is_named():
    assert self_test.versions(openssl=(1, 1, 1, 23, 0)).holds is False


def test_a_changed_file_of_an_installed_program_is_named(tmp_path, monkeypatch):
    package = tmp_path / "gateway"
    package.mkdir()
    (package / "core.py").write_text("LIMIT_W = 1\n")
    record = tmp_path / "sop_gateway_test-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: sop-gateway-test\nVersion: 1\n")
    digest = self_test._hash(package / "core.py", "sha256")
    (record / "RECORD").write_text(f"gateway/core.py,sha256={digest},12\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert self_test.program("sop-gateway-test").holds is True
    (package / "core.py").write_text("LIMIT_W = 9\n")
    proof = self_test.program("sop-gateway-test")
    assert proof.holds is False
    assert "gateway/core.py" in proof.text
    assert self_test.program("no-such-distribution").holds is None


def test_a_gateway_that_does_not_prove_itself_writes_nothing(monkeypatch, caplog):
    market = SimpleNamespace(
        broker="mqtt://127.0.0.1", ca_file=None, certificate=None, client_key_file=None
    )
    site = SimpleNamespace(market=market)
    assert proven_mode("on", site) == "on"
    bad = self_test.Proof(id="self.program", holds=False, text="a file was changed")
    monkeypatch.setattr(self_test, "prove", lambda _tls: [bad])
    with caplog.at_level(logging.ERROR):
        assert [proven_mode(m, site) for m in ("on", "test", "blocked", "off", "test-blocked")] == [
            "blocked", "blocked", "blocked", "off", "test-blocked",
        ]  # fmt: skip
    assert "a file was changed" in caplog.text
