"""``sopgw trade keygen``, ``sign`` and ``cancel``: what a market signs."""

from __future__ import annotations

import base64
import json
import stat
from dataclasses import replace

import pytest
from fakes.new_trade import NEW

from gateway.market import dsse, schedule_document


def document_of(path):
    return schedule_document.read(dsse.peek(path.read_bytes()))


def test_a_key_is_private_and_never_overwritten(tmp_path, trade):
    code, answer = trade("keygen", tmp_path / "k.pem")
    assert code == 0
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert dsse.keyid(base64.b64decode(answer["data"]["key"])) == answer["data"]["keyid"]
    assert trade("keygen", tmp_path / "k.pem")[0] == 5


def test_a_key_may_be_encrypted(tmp_path, trade):
    (tmp_path / "pass").write_text("correct horse\n")
    assert trade("keygen", tmp_path / "k.pem", "--passphrase-file", tmp_path / "pass")[0] == 0
    assert b"ENCRYPTED" in (tmp_path / "k.pem").read_bytes()
    assert trade("sign", *NEW, "--key", tmp_path / "k.pem")[0] == 2
    code, _ = trade(
        "sign", *NEW, "--key", tmp_path / "k.pem", "--passphrase-file", tmp_path / "pass"
    )
    assert code == 0


def test_an_empty_passphrase_protects_nothing_and_is_refused(tmp_path, trade):
    (tmp_path / "pass").write_text("\n")
    arguments = ("--passphrase-file", tmp_path / "pass")
    code, answer = trade("keygen", tmp_path / "k.pem", *arguments)
    assert (code, answer["errors"][0]["code"]) == (2, "T102")
    assert not (tmp_path / "k.pem").exists()


def test_a_new_trade_is_written_and_signed(signed):
    message = json.loads(signed.read_bytes())
    body = json.loads(base64.b64decode(message["payload"]))["Schedule_MarketDocument"]
    assert body["TimeSeries"][0]["marketAgreement.mRID"] == "trd-1"
    assert body["TimeSeries"][0]["Period"][0]["Point"] == [{"position": 1, "quantity": "120"}]


def test_a_signed_message_is_co_signed(tmp_path, trade, signed):
    trade("keygen", tmp_path / "second.pem")
    code, answer = trade("sign", signed, "--key", tmp_path / "second.pem", "-o", signed)
    assert code == 0
    assert answer["data"]["signatures"] == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (["--power", "120"], 2),
        (["--power", "120kw"], 2),
        (["--start", "yesterday"], 2),
        (["--resolution", "PT1H"], 2),
        (["--power", "121.001kW"], 1),
        (["--start", "2026-01-02T02:01Z"], 1),
        (["--id", "a/b"], 1),
    ],
)
def test_what_makes_no_trade_is_not_signed(tmp_path, trade, changes, code):
    trade("keygen", tmp_path / "market.pem")
    found, answer = trade("sign", *NEW, "--key", tmp_path / "market.pem", *changes)
    assert found == code
    assert answer["errors"]


def test_a_faulty_document_is_signed_only_when_insisted(tmp_path, trade):
    trade("keygen", tmp_path / "market.pem")
    arguments = ["sign", *NEW, "--id", "a/b", "--key", tmp_path / "market.pem"]
    assert trade(*arguments)[0] == 1
    assert trade(*arguments, "--anyway")[0] == 0


def test_a_cancellation_is_the_next_revision_with_nothing_in_it(tmp_path, trade, signed):
    out = tmp_path / "cancel.json"
    code, answer = trade("cancel", signed, "--key", tmp_path / "market.pem", "-o", out)
    assert code == 0
    told = answer["data"]["trades"][0]
    assert (told["id"], told["revision"], told["contracted_wh"]) == ("trd-1", 2, 0)
    (before,), (after,) = document_of(signed).trades, document_of(out).trades
    assert after.cancelled
    assert replace(after, revision_number=1, positions=before.positions) == before
    assert [p.interval for p in after.positions] == [p.interval for p in before.positions]
    message = json.loads(out.read_bytes())
    assert [s["keyid"] for s in message["signatures"]] == [
        s["keyid"] for s in json.loads(signed.read_bytes())["signatures"]
    ]


def test_every_trade_of_a_message_is_cancelled_and_prices_stay(tmp_path, trade, signed):
    found = document_of(signed)
    (one,) = found.series
    other = replace(one, trade=replace(one.trade, id="trd-2"), currency="EUR", prices=(80,))
    both = replace(found, series=(one, other), extension={"contract": "hco"})
    (tmp_path / "both.json").write_bytes(schedule_document.write_document(both))
    out = tmp_path / "cancel.json"
    code, _ = trade("cancel", tmp_path / "both.json", "--key", tmp_path / "market.pem", "-o", out)
    assert code == 0
    after = document_of(out)
    assert [(t.id, t.cancelled, t.revision_number) for t in after.trades] == [
        ("trd-1", True, 2), ("trd-2", True, 2),
    ]  # fmt: skip
    assert [s.prices for s in after.series] == [(None,), (80,)]
    assert after.extension == {}, "the contract settled trades, not their end"


def test_a_cancellation_comes_after_a_revision_that_was_accepted(tmp_path, trade, signed):
    arguments = ["cancel", signed, "--key", tmp_path / "market.pem"]
    code, answer = trade(*arguments, "--revision", 7)
    assert (code, answer["data"]["trades"][0]["revision"]) == (0, 7)
    out = tmp_path / "seventh.json"
    assert trade(*arguments, "--revision", 7, "-o", out)[0] == 0
    code, answer = trade("cancel", out, "--key", tmp_path / "market.pem", "--revision", 7)
    assert code == 2
    assert "more than the message's 7" in answer["errors"][0]["message"]


def test_what_is_no_document_is_not_cancelled(tmp_path, trade, signed):
    (tmp_path / "no.json").write_text("{}")
    out = tmp_path / "cancel.json"
    code, answer = trade(
        "cancel", tmp_path / "no.json", "--key", tmp_path / "market.pem", "-o", out
    )
    assert code == 1
    assert answer["errors"]
    assert not out.exists()
