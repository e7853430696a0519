"""What doctor says of the ledger's keys, and of who vouches for the ledger."""

import asyncio
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.memory_journal import ManualClock

from gateway.config import site_file
from gateway.config.site_file import load_site
from gateway.journal.keys import answer_key
from gateway.journal.ledger_journal import LedgerJournal, key_of
from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log import anchor, checkpoint
from ledger.log.cosign import Cosigner
from ledger.log.note import Note

BENCH = Path(__file__).resolve().parents[3] / "configs" / "sites" / "bench4.yaml"
COSIGNER = Cosigner.ed25519(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "w.example/w")
NONE_NAMED = "witnesses: []"


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(BENCH.read_text())
    return path


def say(site, old, new):
    site.write_text(site.read_text().replace(old, new))


def lines(sopgw, site):
    answer = sopgw("doctor", "key", "ledger", "-c", site, "--json")
    return {c["id"]: c for c in answer.json["data"]["checks"]}


def a_ledger(site_path):
    """Make the ledger of a site with one entry; gives its checkpoint."""
    site = load_site(site_path)

    async def go():
        journal = LedgerJournal.open(
            directory=site.ledger.dir,
            origin=site.ledger.origin,
            key_file=site.ledger.key_file,
            clock=ManualClock(),
            passphrase=site.ledger.passphrase(),
        )
        await journal.append("alarm", {"code": "x", "active": True, "detail": ""})
        signed = journal.status().checkpoint
        await journal.close()
        return signed.encode()

    signed = asyncio.run(go())
    answer_key(site.ledger.key_file.with_name("answers.key"), site.ledger.passphrase())
    return signed


def test_plain_keys_are_called_not_protected(site, sopgw):
    a_ledger(site)
    found = lines(sopgw, site)
    for id_ in ("key.ledger", "key.answers"):
        assert found[id_]["status"] == "warn"
        assert "NOT PROTECTED" in found[id_]["text"]


def protected(site):
    secret = site.parent / "passphrase"
    secret.write_text("rain on the roof\n")
    secret.chmod(0o600)
    say(site, NONE_NAMED, f"{NONE_NAMED}, passphrase: {{file: passphrase}}")
    return secret


def test_encrypted_keys_that_open_are_well(site, sopgw):
    protected(site)
    a_ledger(site)
    found = lines(sopgw, site)
    assert found["key.ledger"]["status"] == found["key.answers"]["status"] == "ok"


@pytest.mark.parametrize(
    ("spoil", "id_", "words"),
    [
        (lambda p: p.write_text("sun\n"), "key.ledger", "passphrase is wrong"),
        (lambda p: p.chmod(0o644), "key.passphrase", "others can read"),
        (lambda p: p.unlink(), "key.passphrase", "cannot be read"),
    ],
)
def test_a_passphrase_that_does_not_do_is_explained(site, sopgw, spoil, id_, words):
    secret = protected(site)
    a_ledger(site)
    spoil(secret)
    found = lines(sopgw, site)
    assert found[id_]["status"] == "fail"
    assert words in found[id_]["text"]
    assert found[id_]["fix"]


def test_an_encrypted_key_without_a_passphrase_in_the_site_file_is_explained(site, sopgw):
    text = site.read_text()
    protected(site)
    a_ledger(site)
    site.write_text(text)
    found = lines(sopgw, site)["key.ledger"]
    assert found["status"] == "fail"
    assert "encrypted" in found["text"]
    assert "ledger.passphrase" in found["fix"]


def test_a_passphrase_may_come_from_systemd(site, sopgw, tmp_path, monkeypatch):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "ledger-passphrase").write_text("rain on the roof")
    (credentials / "ledger-passphrase").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    say(site, NONE_NAMED, f"{NONE_NAMED}, passphrase: {{secret: ledger-passphrase}}")
    a_ledger(site)
    assert lines(sopgw, site)["key.ledger"]["status"] == "ok"


def cosigned_by(data):
    parsed = checkpoint.parse(data).note
    line = COSIGNER.cosign(parsed.text, 1_800_000_000)
    return Note(text=parsed.text, signatures=(*parsed.signatures, line)).encode()


def test_anchored_means_that_somebody_else_signed(site, sopgw):
    signed = a_ledger(site)
    assert "NOT ANCHORED: no witness is named" in lines(sopgw, site)["ledger.anchored"]["text"]
    named = f"witnesses: [{{url: 'http://127.0.0.1:1', key: '{COSIGNER.key.vkey}'}}]"
    say(site, NONE_NAMED, named)
    found = lines(sopgw, site)["ledger.anchored"]
    assert (found["status"], found["text"][:12]) == ("warn", "NOT ANCHORED")
    anchor.keep(site.parent / "ledger", cosigned_by(signed))
    found = lines(sopgw, site)["ledger.anchored"]
    assert found["status"] == "ok"
    assert found["text"] == "1 of 1 entries by w.example/w at 2027-01-15 08:00:00Z"


@pytest.mark.parametrize("by", ["witness", "policy"])
def test_a_ledger_whose_key_was_changed_is_anchored_under_the_new_one(site, sopgw, by):
    """The new key signs in the segment that the old one began."""
    old = load_site(site).ledger.key_file
    a_ledger(site)
    folder = site.parent / "ledger"
    assert run(sopledger, ["key", "rotate", str(folder), "--key-file", str(old)]) == 0
    anchor.keep(folder, cosigned_by(a_ledger(site)))
    named = f"witnesses: [{{url: 'http://127.0.0.1:1', key: '{COSIGNER.key.vkey}'}}]"
    if by == "policy":
        log = key_of(old, load_site(site).ledger.origin)
        policy = f"log {log}\nwitness w {COSIGNER.key.vkey}\nquorum w\n"
        (site.parent / "w.policy").write_text(policy)
        named = "policy: w.policy"
    say(site, NONE_NAMED, named)
    found = lines(sopgw, site)["ledger.anchored"]
    assert found["text"] == "3 of 3 entries by w.example/w at 2027-01-15 08:00:00Z"
    assert found["status"] == "ok"


@pytest.mark.parametrize("named", [True, False])
def test_evidence_for_more_than_the_ledger_holds_is_a_failure(site, sopgw, named):
    """The ledger was set back, its evidence was not."""
    if named:
        say(site, NONE_NAMED, f"witnesses: [{{url: 'http://127.0.0.1:1', key: '{COSIGNER.key.vkey}'}}]")  # fmt: skip
    folder = site.parent / "ledger"
    anchor.keep(folder, cosigned_by(a_ledger(site)))
    before = site.parent / "before"
    shutil.copytree(folder, before)
    anchor.keep(folder, cosigned_by(a_ledger(site)))
    shutil.copytree(folder / anchor.FOLDER, before / anchor.FOLDER, dirs_exist_ok=True)
    shutil.rmtree(folder)
    before.rename(folder)
    found = lines(sopgw, site)["ledger.anchored"]
    assert found["status"] == "fail"
    assert "a checkpoint of size 2 is known, the ledger has 1: it was rolled back" in found["text"]
    assert found["fix"]


def test_a_policy_that_is_none_is_a_failure(site, sopgw):
    a_ledger(site)
    say(site, NONE_NAMED, "policy: w.policy")
    found = lines(sopgw, site)["ledger.anchored"]
    assert found["status"] == "fail"
    assert "w.policy" in found["text"]


@contextmanager
def the_service():
    """Ask with the rights of the service's user: nobody has to be known by this number."""
    os.setegid(61_234)
    os.seteuid(61_234)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(
    ("what", "by", "ids"),
    [
        ("key: {file: ledger.key}", "key: {secret: ledger-key}",
         {"config.ledger-key", "key.ledger-key"}),
        (NONE_NAMED, f"{NONE_NAMED}, passphrase: {{secret: ledger-passphrase}}",
         {"key.passphrase"}),
    ],
)  # fmt: skip
def test_a_secret_that_only_the_unit_is_given_is_no_failure_of_a_correct_site(
    sopgw, monkeypatch, what, by, ids
):
    """As the page on installing asks it: with the rights of the service's user."""
    folder = Path(tempfile.mkdtemp(prefix="sopgw-doctor-"))
    try:
        folder.chmod(0o755)
        site, secrets = folder / "site.yaml", folder / "secrets"
        site.write_text(BENCH.read_text().replace(what, by))
        secrets.mkdir(mode=0o700)
        for name in ("ledger-key", "ledger-passphrase"):
            (secrets / name).write_text("rain on the roof\n")
        monkeypatch.setattr(site_file, "SECRETS", secrets)
        words = ("doctor", "key", "config", "-c", site, "--json")
        sopgw(*words)  # root loads what the other one may not read
        with the_service():
            answer = sopgw(*words)
            nagios = sopgw("doctor", "key", "-c", site, "--format", "nagios")
        assert answer.exit_code == 0, answer.out
        found = {c["id"]: c for c in answer.json["data"]["checks"]}
        for id_ in ids:
            assert found[id_]["status"] == "unknown"
            assert "only root and the unit may read it" in found[id_]["text"]
        assert nagios.exit_code == 3, "unknown, and no end by a defect"
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_key_where_the_service_may_not_look_is_a_failure(sopgw):
    folder = Path(tempfile.mkdtemp(prefix="sopgw-doctor-"))
    try:
        folder.chmod(0o755)
        site = folder / "site.yaml"
        site.write_text(BENCH.read_text().replace("{file: ledger.key}", "{file: own/ledger.key}"))
        (folder / "own").mkdir(mode=0o700)
        sopgw("doctor", "key", "config", "-c", site, "--json")
        with the_service():
            found = lines(sopgw, site)
        assert (found["key.ledger"]["status"], found["key.ledger"]["fix"][:6]) == ("fail", "put it")
    finally:
        shutil.rmtree(folder)
