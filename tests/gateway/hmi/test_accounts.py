"""The file of accounts."""

import json
import os

import pytest

from gateway.hmi import accounts
from gateway.hmi.accounts import Accounts, matches, new_account, write
from gateway.model.errors import ConfigError

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(accounts, "MEMORY_KIB", 64)


@pytest.fixture
def path(tmp_path):
    where = tmp_path / "accounts.json"
    write(where, {"ann": new_account(name="ann", role="operator", password=PASSWORD)})
    return where


def test_the_file_keeps_no_password_and_is_for_its_owner_alone(path):
    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in path.read_text()
    account = Accounts(path).get("ann")
    assert account.role == "operator"
    assert matches(account, PASSWORD)
    assert not matches(account, PASSWORD + " ")
    assert not matches(None, PASSWORD)


def test_two_people_with_one_password_have_nothing_in_common(path):
    one = new_account(name="a", role="viewer", password=PASSWORD)
    two = new_account(name="b", role="viewer", password=PASSWORD)
    assert one.salt != two.salt
    assert one.verifier != two.verifier


def test_a_changed_file_is_read_anew_and_a_wrong_one_is_told(path):
    known = Accounts(path)
    write(path, {"bob": new_account(name="bob", role="viewer", password=PASSWORD)})
    known.refresh()
    assert known.get("ann") is None
    assert known.get("bob").role == "viewer"
    os.chmod(path, 0o640)
    with pytest.raises(ConfigError, match="others can read it"):
        Accounts(path)


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "{}", '{"people": []}', '{"people": {"ann": {}}}', '{"people": {"ann": 1}}',
        json.dumps({"people": {"ann": {"role": "root", "salt": "AA==", "argon2id": "AA=="}}}),
        json.dumps({"people": {"ann": {"role": "viewer", "salt": "", "argon2id": "?"}}}),
        "[" * 20_000,
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_refused(path, body):
    path.write_text(body)
    with pytest.raises(ConfigError, match="sopgw account"):
        Accounts(path)


def test_weak_passwords_and_unknown_roles_are_refused(tmp_path):
    for wrong in ({"password": "short"}, {"password": "x" * 257}, {"role": "root"}):
        with pytest.raises(ConfigError):
            new_account(**{"name": "ann", "role": "viewer", "password": PASSWORD, **wrong})
    with pytest.raises(ConfigError, match="sopgw account add"):
        accounts.read(tmp_path / "nothing.json")
