import base64
import hashlib
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.cli.settle import settle

ROOT = Path(__file__).resolve().parents[3]
ROUND = ROOT / "configs/rounds/four-terminals.json"
DAY = ROOT / "configs/rounds/six-suppliers-five-users.json"


def run(*arguments):
    result = CliRunner().invoke(settle, [str(argument) for argument in arguments])
    return result.exit_code, json.loads(result.stdout)


def test_hco_prints_the_shape_of_the_interface():
    code, answer = run("hco", ROUND, "--json")
    assert code == 0
    assert answer["ok"] is True
    assert answer["levels"] == {"T1": 6, "T2": 0, "T3": -3, "T4": -3}
    assert answer["value"] == 399
    assert answer["transfers"] == {"T1": 95, "T2": 0, "T3": -61, "T4": -34}
    assert answer["fees"] == 0
    assert answer["digest"] == (
        "sha256:2403e436cfb5461bf53a425b53ffb4f25c4731ccab4df9e26fcffecf3ca4a49b"
    )


def test_every_mistake_comes_with_its_path_and_nothing_is_settled(tmp_path):
    document = json.loads(ROUND.read_text())
    document["terminals"][1]["offers"]["2"] = 2.5
    document["terminals"][3]["offers"]["-1"] = 5_000
    document["k_dc"] = None
    file = tmp_path / "round.json"
    file.write_text(json.dumps(document))
    code, answer = run("hco", file)
    assert code == answer["exit_code"] == 3
    assert answer["ok"] is False
    assert [error["path"] for error in answer["errors"]] == [
        "$.terminals[1].offers.2",
        "$.terminals[3].offers.-1",
        "$.k_dc",
    ]
    assert "levels" not in answer


@pytest.mark.parametrize("text", ["", "{", "[]", '{"contract": NaN}', "nul"])
def test_rubbish_is_refused(tmp_path, text):
    file = tmp_path / "round.json"
    file.write_text(text)
    for command in ("hco", "requests"):
        code, answer = run(command, file)
        assert code == 3
        assert answer["errors"]


def test_an_exact_day_checks_and_an_altered_one_does_not(tmp_path):
    code, answer = run("requests", DAY)
    assert code == 0
    result = tmp_path / "result.json"
    result.write_text(json.dumps(answer))
    assert run("check", DAY, result)[0] == 0
    answer["flows"][0]["wh"] += 1
    result.write_text(json.dumps(answer))
    code, refusal = run("check", DAY, result)
    assert code == 8
    assert refusal["errors"]


def test_requests_by_each_order(tmp_path):
    nearest = run("requests", DAY, "--method", "request")[1]
    cheapest = run("requests", DAY, "--method", "request", "--order", "cheapest")[1]
    assert cheapest["f1"] < nearest["f1"]
    assert nearest["certificate"] is None


def test_regions_write_their_trades_plain_and_signed(tmp_path):
    from ledger.log.keys import create_key

    key = create_key(tmp_path / "market.key", "market")
    regions = ROOT / "configs/rounds/four-regions.json"
    code, answer = run("regions", regions, "--out", tmp_path / "plain")
    assert code == 0
    (plain,) = (tmp_path / "plain").iterdir()
    assert json.loads(plain.read_text()) == answer["documents"][0]
    code, _ = run("regions", regions, "--out", tmp_path / "signed", "--sign", tmp_path / "market.key")  # fmt: skip
    assert code == 0
    (signed,) = (tmp_path / "signed").iterdir()
    message = json.loads(signed.read_text())
    body = base64.b64decode(message["payload"])
    assert json.loads(body) == answer["documents"][0]
    kind = message["payloadType"].encode()
    data = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
    public = Ed25519PublicKey.from_public_bytes(key.key.public)
    public.verify(base64.b64decode(message["signatures"][0]["sig"]), data)
    assert message["signatures"][0]["keyid"] == hashlib.sha256(key.key.public).hexdigest()
    code, answer = run("regions", regions, "--out", tmp_path / "no", "--sign", regions)
    assert code == 3


@pytest.mark.parametrize("command", [("requests", DAY), ("regions", ROOT / "configs/rounds/four-regions.json")])  # fmt: skip
def test_without_the_solver_the_extra_is_named(monkeypatch, command):
    monkeypatch.setitem(sys.modules, "highspy", None)
    code, answer = run(*command)
    assert code == 2
    assert "sop-gateway[market]" in answer["errors"][0]["message"]


def test_checking_a_proof_needs_neither_solver_nor_numpy(monkeypatch, tmp_path):
    result = tmp_path / "result.json"
    result.write_text(json.dumps(run("requests", DAY)[1]))
    monkeypatch.setitem(sys.modules, "highspy", None)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert run("check", DAY, result)[0] == 0


def test_a_day_whose_second_supplier_says_nothing_of_its_energy_is_refused_with_the_place(tmp_path):
    document = json.loads(DAY.read_text())
    del document["suppliers"][1]["available_wh"]
    file = tmp_path / "day.json"
    file.write_text(json.dumps(document))
    code, answer = run("requests", file)
    assert code == answer["exit_code"] == 3
    assert "$.suppliers[1].available_wh" in [error["path"] for error in answer["errors"]]
