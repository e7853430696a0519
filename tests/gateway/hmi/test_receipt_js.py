"""The page's check of a receipt, run by Node.js: it refuses what ``sopledger`` refuses."""

import json
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.audit.receipt import build
from ledger.audit.receipt_check import verify
from ledger.log.keys import signer_of
from ledger.log.note import NoteError

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
import gateway_day
from gateway_day import full_day
from spoilt_receipt import SPOILT, kind_of, made_receipt, spoil

PROGRAM = """
import { readFileSync } from "node:fs";
import { readJson, verify } from "./receipt.js";
const told = [];
for (const { text, vkey } of JSON.parse(readFileSync("cases.json"))) {
  try {
    told.push((await verify(readJson(text), vkey)).filter(([, holds]) => !holds).map(([w]) => w));
  } catch {
    told.push(["unreadable"]);
  }
}
process.stdout.write(JSON.stringify(told));
"""


@pytest.fixture
def failed_checks(tmp_path):
    """Return what fails of each (text, key), as the page's own program says."""
    if shutil.which("node") is None:
        if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
            pytest.fail("Node.js is not installed, SOPGW_REQUIRE_SERVERS=1 asks for it")
        pytest.skip("Node.js is not installed")
    static = files("gateway.hmi").joinpath("static")
    for name in ("receipt.js", "settle.js"):
        (tmp_path / name).write_bytes(static.joinpath(name).read_bytes())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "run.js").write_text(PROGRAM)

    def run(*cases):
        told = [{"text": text, "vkey": vkey} for text, vkey in cases]
        (tmp_path / "cases.json").write_text(json.dumps(told))
        done = subprocess.run(["node", "run.js"], cwd=tmp_path, capture_output=True, check=True)
        return json.loads(done.stdout)

    return run


def holds(text, vkey):
    """Tell whether ``sopledger receipt verify`` finds no errors."""
    try:
        return verify(text.encode(), vkey=vkey).ok
    except NoteError:
        return False


async def test_every_change_is_refused_here_as_by_sopledger(failed_checks, tmp_path):
    receipt, vkey = await made_receipt(tmp_path / "ledger", full_day().entries)
    cases = []
    for what, _ in SPOILT:
        spoilt = json.loads(json.dumps(receipt))
        key = spoil(spoilt, what, vkey)
        cases.append((json.dumps(spoilt), key))
    found = failed_checks(*cases)
    first = {what: (failed or [""])[0] for (what, _), failed in zip(SPOILT, found, strict=True)}
    assert first == dict(SPOILT)
    assert [holds(*case) for case in cases] == [not failed for failed in found]


async def test_right_after_a_key_change_a_receipt_holds_under_either_key_here_as_by_sopledger(
    failed_checks, tmp_path
):
    """Both keys have signed there; who was given one cannot check the other's line."""
    following, stranger = (
        signer_of(Ed25519PrivateKey.generate(), "gw.example/ledger") for _ in range(2)
    )
    receipt, old = await made_receipt(tmp_path / "ledger", full_day().entries, also=(following,))
    text, new = json.dumps(receipt), following.vkey
    said, _, lines = receipt["checkpoint"].partition("\n\n")
    first, second = lines.splitlines()
    cases = [(text, old), (text, new), (text, stranger.vkey)]
    for key, other in ((old, second), (new, first)):  # without the line of the key that is given
        receipt["checkpoint"] = f"{said}\n\n{other}\n"
        cases.append((json.dumps(receipt), key))
    found = failed_checks(*cases)
    assert found[:2] == [[], []]
    assert all("signature" in failed for failed in found[2:])
    assert [holds(*case) for case in cases] == [True, True, False, False, False]


async def test_a_key_that_stands_twice_is_refused(failed_checks, tmp_path):
    receipt, vkey = await made_receipt(tmp_path / "ledger", full_day().entries)
    text = json.dumps(receipt)
    twice = text.replace('"delivered_wh":', '"delivered_wh": 99999, "delivered_wh":', 1)
    assert failed_checks((text, vkey), (twice, vkey)) == [[], ["unreadable"]]
    assert not holds(twice, vkey)


async def test_another_trades_acceptance_says_nothing_about_this_one(failed_checks, tmp_path):
    receipt, vkey = await made_receipt(tmp_path / "ledger", full_day().entries)
    other = build(tmp_path / "ledger", "A-2")
    assert other["checkpoint"] == receipt["checkpoint"]
    receipt["entries"] += [e for e in other["entries"] if kind_of(e) == "trade.accepted"]
    receipt["entries"].sort(key=lambda e: e["index"])
    text = json.dumps(receipt)
    assert failed_checks((text, vkey)) == [[]]
    assert holds(text, vkey)


async def test_a_ledger_that_accepted_another_energy_is_found(failed_checks, tmp_path):
    day = full_day().entries
    accepted = next(e for e in day if e["kind"] == "trade.accepted")
    accepted["positions"][0]["energy_wh"] += 4
    receipt, vkey = await made_receipt(tmp_path / "ledger", day)
    text = json.dumps(receipt)
    assert "trade" in failed_checks((text, vkey))[0]
    assert not holds(text, vkey)


async def test_a_withdrawn_interval_holds_as_nothing_only(failed_checks, tmp_path):
    day = full_day()
    late = type(day)(boot=1)
    late.trade(-390, "A-3", [0], "T1", "T3")
    for entry in late.entries:
        if "received_index" in entry:
            entry["received_index"] = len(day.entries)
    receipt, vkey = await made_receipt(tmp_path / "ledger", day.entries + late.entries, "A-3")
    cases = [json.dumps(receipt)]
    for name, value in (("contracted_wh", 5), ("delivered_wh", 5), ("status", "delivered")):
        spoilt = json.loads(cases[0])
        spoilt["intervals"][0][name] = value
        cases.append(json.dumps(spoilt))
    found = failed_checks(*((text, vkey) for text in cases))
    assert found[0] == []
    assert all("figures" in failed for failed in found[1:])
    assert [holds(text, vkey) for text in cases] == [True, False, False, False]


@pytest.mark.parametrize(
    "otherwise",
    [{"out": "T2", "into": "T1"}, {"into": "T3"}, {"site": "elsewhere"}, {"sop": "SOP-9"},
     {"revision": 7}],
    ids=str,
)  # fmt: skip
async def test_a_trade_signed_otherwise_than_accepted_is_refused_here_as_by_sopledger(
    failed_checks, tmp_path, monkeypatch, otherwise
):
    sign = gateway_day.message

    def signed(trade_id, kwh, out, into, **more):
        return sign(trade_id, kwh, **{"out": out, "into": into, **more, **otherwise})

    monkeypatch.setattr(gateway_day, "message", signed)
    receipt, vkey = await made_receipt(tmp_path / "ledger", gateway_day.full_day().entries)
    text = json.dumps(receipt)
    assert failed_checks((text, vkey)) == [["trade"]]
    assert not holds(text, vkey)
