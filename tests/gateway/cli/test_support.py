"""A support bundle holds what helps and no secret, wherever the secret was planted."""

import asyncio
import base64
import importlib.util
import json
import zipfile
from pathlib import Path

import pytest

from gateway.cli.support_redact import GONE, Redactor
from ledger.log.keys import create_key
from ledger.log.writer import LedgerWriter

FAKES = Path(__file__).resolve().parents[2] / "fakes"
SPEC = importlib.util.spec_from_file_location("planted_site", FAKES / "planted_site.py")
planted_site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(planted_site)

PASSWORD = "swordfish-7731"
TOKEN = "tok_4f9a2c77e0b1"
SCRAP = "k3yM4t3r14lThatL00ksLikeNothing"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SCRAP}AAAA\n-----END PRIVATE KEY-----\n"
INLINE = "hunter2hunter2"
HIDDEN = [PASSWORD, TOKEN, SCRAP, INLINE, base64.b64encode(PASSWORD.encode()).decode()]


@pytest.fixture
def site(tmp_path):
    """A site with secrets in files, in the site file, in an address and in a log."""
    path = tmp_path / "site.yaml"
    text = planted_site.site_text({"station": 5020, "meters": [5021, 5022, 5023, 5024]})
    text = text.replace(
        "  broker: mqtt://127.0.0.1:1883",
        "  broker: mqtts://broker.example:8883\n  username: elm\n  password: {file: broker.pass}",
    )
    path.write_text(text)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "cloud").write_text(TOKEN + "\n")
    (tmp_path / "broker.pass").write_text(PASSWORD + "\n")
    (tmp_path / "ledger.key").write_text(PEM)
    for name in ("secrets/cloud", "broker.pass", "ledger.key"):
        (tmp_path / name).chmod(0o600)
    return path


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "gateway.log"
    rows = [
        f"connect mqtts://elm:{PASSWORD}@broker.example:8883 from 192.168.10.7",
        f"password={PASSWORD} and again {PASSWORD}!",
        f"header {base64.b64encode(PASSWORD.encode()).decode()}",
        f"Authorization: Bearer {INLINE}",
        f'{{"api_key": "{INLINE}", "unit": 100}}',
        f"lost token {TOKEN}",
        PEM,
        "station answers in 8 ms",
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_it_is_listed_first_and_nothing_is_written(site, log, sopgw, tmp_path):
    out = tmp_path / "elm.zip"
    answer = sopgw("support", "bundle", "-o", out, "--log", log, "-c", site, "--json")
    assert answer.exit_code == 6
    assert not out.exists()
    names = {p["name"] for p in answer.json["data"]["parts"]}
    assert {"site.yaml", "doctor.json", "versions.json", "log-gateway.log"} <= names
    taken = {r["what"]: r["count"] for r in answer.json["data"]["redacted"]}
    assert taken["private keys"] == 1
    assert taken["values of secret files"] >= 4
    text = sopgw("support", "bundle", "-o", out, "--log", log, "-c", site).out
    assert "Taken out:" in text


def test_no_planted_secret_is_in_it_and_the_rest_is(site, log, sopgw, tmp_path):
    out = tmp_path / "elm.zip"
    words = ("-o", out, "--yes", "--log", log, "--hide-addresses", "-c", site, "--json")
    answer = sopgw("support", "bundle", *words)
    assert (answer.exit_code, answer.json["data"]["written"]) == (0, True), answer
    assert out.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(out) as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    for name, text in texts.items():
        assert [s for s in HIDDEN if s in text] == [], name
    assert "station answers in 8 ms" in texts["log-gateway.log"]
    assert "192.168.10.7" not in texts["log-gateway.log"]
    assert "<host-" in texts["log-gateway.log"]
    assert "password: {file: broker.pass}" in texts["site.yaml"], "where it lies is no secret"
    assert texts["site.yaml"].count("\n") == site.read_text().count("\n")
    assert json.loads(texts["effective.json"])["site"]["id"] == "elm"
    assert sopgw("support", "bundle", *words).exit_code == 5, "nothing is overwritten"


def test_a_broken_site_file_with_a_password_in_it_still_gives_a_bundle(site, sopgw, tmp_path):
    text = (
        site.read_text().replace("{file: broker.pass}", INLINE).replace("version: 1", "version: 9")
    )
    site.write_text(text)
    out = tmp_path / "elm.zip"
    assert sopgw("support", "bundle", "-o", out, "--yes", "-c", site, "--json").exit_code == 0
    with zipfile.ZipFile(out) as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert all(INLINE not in t for t in texts.values())
    assert "version" in texts["problems.txt"]


def test_a_damaged_ledger_is_told_in_the_bundle(site, sopgw, tmp_path):
    (tmp_path / "ledger.key").unlink()
    signer = create_key(tmp_path / "ledger.key", "elm.example/SOP-1")

    async def begin():
        await LedgerWriter.open(tmp_path / "ledger", signer=signer, origin=signer.name).close()

    asyncio.run(begin())
    newest = max((tmp_path / "ledger" / "segments").glob("*.seg"))
    data = bytearray(newest.read_bytes())
    data[20] ^= 1
    newest.write_bytes(data)
    out = tmp_path / "b.zip"
    answer = sopgw("support", "bundle", "-o", out, "--yes", "-c", site, "--json")
    assert answer.exit_code == 0
    told = json.loads(zipfile.ZipFile(out).read("ledger.json"))
    assert newest.name in told["fault"]


@pytest.mark.parametrize(
    "text",
    [
        "password: {v}", "  broker-password = {v}", '"passphrase": "{v}"', "'secret': '{v}',",
        "API_KEY={v}", "mqtt://u:{v}@h", "Basic {v}", "client_secret={v}&x=1", "token:{v}",
        'PASSWORD="a {v} b"', "-----BEGIN EC PRIVATE KEY-----\n{v}", "private_key: {v} # mine",
    ],
)  # fmt: skip
def test_forms_of_secrets_that_no_file_names(text):
    cleaned = Redactor().clean(text.format(v="S3cr3tS3cr3tS3cr3t"))
    assert "S3cr3t" not in cleaned
    assert GONE in cleaned


@pytest.mark.parametrize(
    "text",
    ["key: {file: ledger.key}", "password: {file: broker.pass}", "a passage in secrecy", '"passphrase": null,',
     "signers: [{name: m, key: 11qYAYKxCrfVS}]", "https://broker.example:8883/a@b"],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(text):
    assert Redactor().clean(text) == text


def test_a_value_that_slips_through_keeps_the_bundle_from_being_written(site, tmp_path):
    from gateway.cli import support_parts

    redactor = Redactor([PASSWORD])
    part = support_parts.Part(name="a.txt", what="", text=f"x {PASSWORD}")
    assert support_parts.write(tmp_path / "a.zip", [part], redactor) != []
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize(
    "address",
    [
        "fd00::20",
        "2001:db8:0:1::7",
        "fe80::1%eth0",
        "::ffff:10.0.0.5",
        "1:2:3:4:5:6:7:8",
        "FD00::A",
    ],
)
def test_addresses_of_ipv6_are_hidden_too(address):
    redactor = Redactor(addresses=True)
    text = f'url: "modbus+tcp://[{address}]:502", from {address}, and 10.0.0.5'
    want = 'url: "modbus+tcp://[<host-1>]:502", from <host-1>, and <host-2>'
    assert redactor.clean(text) == want
    assert redactor.counts["addresses"] == 3


def test_what_only_looks_like_an_address_is_kept():
    text = "2026-11-21 08:15:10Z 08:15 aa:bb:cc:dd:ee:ff [::1]:502 [::]:1883 sha256:ab12 a: :: x"
    assert Redactor(addresses=True).clean(text) == text
