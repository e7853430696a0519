"""At a restore witnesses are asked; one whose door wants a certificate is shown the site's."""

import shutil

import pytest
from fakes.certificates import Authority
from fakes.lost_site import Lost, Seeing

from gateway.cli import backup_box
from ledger.network.tls import TlsFiles


@pytest.fixture
def lost(tmp_path, monkeypatch, sopgw):
    monkeypatch.setattr(backup_box, "MEMORY_KIB", 1024)  # guessing is not what is tested here
    return Lost(tmp_path, sopgw)


@pytest.fixture
def witness(lost, tmp_path):
    """A witness that anybody may ask."""
    made = Seeing(lost, tmp_path)
    yield made
    made.end()


@pytest.fixture
def choosy(lost, tmp_path):
    """A witness whose door wants a certificate; the site's lies beside its site file."""
    authority = Authority(tmp_path / "authority")
    made = Seeing(lost, tmp_path, clients=authority)
    certificate, key = authority.issue("elm")
    made.tls = TlsFiles(authority=authority.path, certificate=certificate, key=key)
    pki = lost.folder / "pki"
    pki.mkdir()
    for path, name in ((authority.path, "ca.pem"), (certificate, "elm.pem"), (key, "elm.key")):
        shutil.copy(path, pki / name)
    (pki / "elm.key").chmod(0o600)
    papers = "{ca: pki/ca.pem, certificate: pki/elm.pem, key: {file: pki/elm.key}}"
    lost.write_site(f"{made.row}, tls: {papers}")
    yield made
    made.end()


def test_a_witness_that_wants_a_certificate_is_asked_with_the_one_in_the_backup(lost, choosy):
    old, young = lost.older_and_younger(choosy.see)
    shutil.rmtree(lost.folder)
    answer = lost.restore(old, "--confirm", "elm")
    assert answer.exit_code == 8
    assert "rolled back" in answer.json["errors"][0]["message"]
    answer = lost.restore(young, "--confirm", "elm")
    assert (answer.exit_code, answer.json["data"]["asked"]) == (0, [choosy.url])
    assert answer.json["warnings"] == []


def unnamed(lost, witness):
    """The site does not say what it shows its witness."""
    lost.write_site(witness.row)
    return "its door may go by certificates"


def handed_over(lost, _witness):
    """The key comes from systemd: it is not in the backup."""
    text = lost.file.read_text()
    lost.file.write_text(text.replace("{file: pki/elm.key}", "{secret: no-such-key}"))
    (lost.folder / "pki" / "elm.key").unlink()
    return "does not hold the key"


def of_strangers(lost, witness):
    """The certificate is none of those the witness believes."""
    certificate, key = Authority(witness.tls.authority.parent / "other").issue("elm")
    shutil.copy(certificate, lost.folder / "pki" / "elm.pem")
    shutil.copy(key, lost.folder / "pki" / "elm.key")
    return "it may not believe our certificate"


@pytest.mark.parametrize("wrong", [unnamed, handed_over, of_strangers])
def test_without_the_right_certificate_the_witness_counts_as_silent(lost, choosy, tmp_path, wrong):
    said = wrong(lost, choosy)
    old, young = lost.older_and_younger(choosy.see)
    shutil.rmtree(lost.folder)
    answer = lost.restore(young, "--confirm", "elm")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (9, "B005")
    assert said in answer.json["errors"][0]["message"]
    assert not lost.folder.exists()
    papers = tmp_path / "usb-papers"
    papers.mkdir()
    for path, name in zip(
        (choosy.tls.authority, choosy.tls.certificate, choosy.tls.key),
        ("ca.pem", "cert.pem", "key.pem"),
        strict=True,
    ):
        shutil.copy(path, papers / name)
    assert lost.restore(old, "--confirm", "elm", "--tls", papers).exit_code == 8
    assert lost.restore(young, "--confirm", "elm", "--tls", papers).exit_code == 0


def test_papers_that_cannot_be_used_are_refused_before_anybody_is_asked(lost, choosy, tmp_path):
    file = lost.create()
    answer = lost.restore(file, "--confirm", "elm", "--tls", tmp_path)
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (5, "B008")
    assert "ca.pem" in answer.json["errors"][0]["message"]


def test_a_backup_that_names_no_witness_does_not_silence_those_of_the_site_that_is_here(
    lost, choosy
):
    named = lost.file.read_text()
    lost.write_site()
    old, young = lost.older_and_younger(choosy.see)
    shutil.rmtree(lost.folder / "ledger")
    lost.file.write_text(named)
    assert lost.restore(old, "--confirm", "elm", "--replace").exit_code == 8
    answer = lost.restore(young, "--confirm", "elm", "--replace")
    assert (answer.exit_code, answer.json["data"]["asked"]) == (0, [choosy.url])


def test_the_witnesses_of_a_policy_are_asked_as_well(lost, witness):
    key, url = witness.cosigner.key.vkey, witness.url
    policy = lost.folder / "witnesses.policy"
    policy.write_text(f"log {lost.add(1)}\nwitness w {key} {url}\nquorum w\n")
    lost.write_site("policy: witnesses.policy")
    old, young = lost.older_and_younger(witness.see)
    shutil.rmtree(lost.folder)
    assert lost.restore(old, "--confirm", "elm").exit_code == 8
    answer = lost.restore(young, "--confirm", "elm")
    assert (answer.exit_code, answer.json["data"]["asked"]) == (0, [url])


def test_a_policy_that_cannot_be_read_is_told_before_a_backup_is_made(lost, sopgw):
    (lost.folder / "witnesses.policy").write_text("quorum nobody\n")
    lost.write_site("policy: witnesses.policy")
    words = ("--passphrase-file", lost.passphrase, "-c", lost.file, "--json")
    answer = sopgw("backup", "create", lost.usb, *words)
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (5, "B008")
    assert not lost.usb.exists()
