"""People of the page, from the command line."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli import demo_bench
from gateway.cli.demo_bench import Ports
from gateway.hmi import accounts
from gateway.hmi.accounts import Accounts, matches


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(accounts, "MEMORY_KIB", 64)
    signer = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    ports = Ports(station_port=9, meter_ports=(1, 2, 3, 4), broker_port=5)
    path = tmp_path / "site.yaml"
    block = "web:\n  listen: 127.0.0.1:0\n  accounts: accounts.json\n"
    path.write_text(demo_bench.site_text(ports, signer).rstrip("\n") + "\n" + block)
    (tmp_path / "pw").write_text("correct horse battery\n")
    (tmp_path / "pw").chmod(0o600)
    return path


def test_people_are_added_changed_listed_and_taken_away(site, sopgw, tmp_path):
    arguments = ("-c", str(site), "--json")
    made = ("account", "add", "ann", "--password-file", str(tmp_path / "pw"), *arguments)
    first, again = sopgw(*made), sopgw(*made, "--role", "secaud")
    assert (first.exit_code, first.json["data"]["changed"]) == (0, False)
    assert (again.exit_code, again.json["data"]["changed"]) == (0, True)
    known = Accounts(site.parent / "accounts.json").get("ann")
    assert matches(known, "correct horse battery")
    listed = sopgw("account", "ls", *arguments).json["data"]["people"]
    assert listed == [{"name": "ann", "role": "secaud"}]
    assert sopgw("account", "rm", "ann", *arguments).exit_code == 0
    assert sopgw("account", "rm", "ann", *arguments).json["errors"][0]["code"] == "A004"


def test_a_password_never_comes_from_the_command_line_or_a_file_others_read(site, sopgw, tmp_path):
    arguments = ("account", "add", "ann", "-c", str(site), "--json")
    assert sopgw(*arguments).json["errors"][0]["code"] == "A003"
    (tmp_path / "pw").chmod(0o644)
    open_file = sopgw(*arguments, "--password-file", str(tmp_path / "pw"))
    assert open_file.exit_code == 3
    assert open_file.json["errors"][0]["code"] == "C048"


def test_a_site_without_accounts_and_a_name_that_is_none_are_told(site, sopgw, tmp_path):
    pw = ("--password-file", str(tmp_path / "pw"), "-c", str(site), "--json")
    assert sopgw("account", "add", " ", *pw).json["errors"][0]["code"] == "A002"
    site.write_text(site.read_text().replace("  accounts: accounts.json\n", ""))
    refused = sopgw("account", "add", "ann", *pw)
    assert (refused.exit_code, refused.json["errors"][0]["code"]) == (3, "A001")
