"""Receipts: built from the ledger alone, checked with the public key alone."""

from __future__ import annotations

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit import receipt
from ledger.audit.receipt import ReceiptError
from ledger.audit.receipt_check import verify
from ledger.log import tiles
from ledger.log.keys import Signer, create_key

Write = Callable[[list[dict[str, Any]]], Path]


def places(made: dict[str, Any], signer: Signer) -> list[str]:
    report = verify(json.dumps(made).encode(), vkey=signer.vkey)
    assert report.ok is (not report.faults)
    return [f.place for f in report.faults]


@pytest.fixture
def made(day: Any, write: Write) -> dict[str, Any]:
    return receipt.build(write(day.entries), "A-1")


def test_a_receipt_holds_and_says_what_was_delivered(made: dict[str, Any], signer: Signer) -> None:
    report = verify(json.dumps(made).encode(), vkey=signer.vkey)
    assert report.faults == ()
    assert report.trade_id == "A-1"
    assert [(r["contracted_wh"], r["status"]) for r in report.intervals] == [
        (10_000, "delivered"), (20_000, "delivered"),
    ]  # fmt: skip
    assert all(abs(r["delivered_wh"] - r["contracted_wh"]) <= 2 for r in report.intervals)
    kinds = {json.loads(b64decode(e["leaf"]))["kind"] for e in made["entries"]}
    assert kinds == {
        "config", "trade.received", "trade.accepted", "plan", "intent", "prepared", "commit",
        "outcome", "reading", "delivery",
    }  # fmt: skip
    assert report.checked
    assert report.not_checked


def test_published_tiles_serve_and_damaged_ones_do_no_harm(
    day: Any, write: Write, signer: Signer
) -> None:
    directory = write(day.entries)
    plain = receipt.build(directory, "A-1")
    tiles.materialise(directory)
    tiled = receipt.build(directory, "A-1")
    assert tiled == plain
    path = next((directory / "tile" / "0").rglob("*.p")) / str(len(day.entries))
    path.write_bytes(path.read_bytes()[::-1])
    assert receipt.build(directory, "A-1") == plain
    tiles.materialise(directory)
    signed = (directory / "checkpoint").read_bytes()
    (directory / "checkpoint").write_bytes(signed[:-10] + b"AAAA" + signed[-6:])
    assert receipt.build(directory, "A-1") == plain


def test_the_other_trade_has_its_own(day: Any, write: Write, signer: Signer) -> None:
    made = receipt.build(write(day.entries), "A-2")
    assert places(made, signer) == []
    assert len(made["intervals"]) == 1


def test_every_changed_digit_is_refused(made: dict[str, Any], signer: Signer) -> None:
    """Every digit of a receipt in its short form, next digit instead, one after another."""
    made["entries"] = made["entries"]
    text = json.dumps(made)
    positions = [n for n, c in enumerate(text) if c.isdigit()]
    step = max(1, len(positions) // 150)
    head = [n for n in positions if n < text.index('"trade"')]
    for n in [*head, *positions[::step]]:
        digit = str((int(text[n]) + 1) % 10)
        spoiled = (text[:n] + digit + text[n + 1 :]).encode()
        assert not verify(spoiled, vkey=signer.vkey).ok, text[max(0, n - 30) : n + 10]


def test_faults_name_their_place(made: dict[str, Any], signer: Signer) -> None:
    def spoil(change: Callable[[dict[str, Any]], object]) -> list[str]:
        other = copy.deepcopy(made)
        change(other)
        return places(other, signer)

    assert (
        spoil(lambda m: m["intervals"][1].update(delivered_wh=1))[0] == "intervals[1].delivered_wh"
    )
    assert spoil(lambda m: m["intervals"][0].update(status="partial"))[0] == "intervals[0].status"
    assert spoil(lambda m: m["intervals"].pop()) == ["intervals"]
    assert spoil(lambda m: m.update(trade_id="A-9"))[0] == "trade"
    assert spoil(lambda m: m["trade"].update(payload="AAAA")) == ["trade"]
    assert spoil(lambda m: m["entries"][3].update(leaf="AAAA"))[0].startswith("entries[3] (index ")
    assert spoil(lambda m: m["entries"][3].update(proof=[]))[0].startswith("entries[3]")
    assert spoil(lambda m: m.update(extra=1)) == ["receipt"]
    assert spoil(lambda m: m["intervals"][0].update(extra=1)) == ["receipt"]
    assert spoil(lambda m: m.update(schema="sopgw/v2/receipt")) == ["receipt"]
    assert (
        spoil(lambda m: m.update(checkpoint=m["checkpoint"].replace("\n\n", "\nx\n\n")))[0]
        == "checkpoint"
    )
    line = "— w.example AAAAAAAAAAA=\n"
    assert spoil(lambda m: m.update(checkpoint=m["checkpoint"] + line)) == ["checkpoint"]


@pytest.mark.parametrize(
    "kind", ["trade.received", "plan", "delivery", "config", "outcome", "trade.accepted"]
)
def test_a_receipt_without_a_needed_entry_is_refused(
    made: dict[str, Any], signer: Signer, kind: str
) -> None:
    entries = [e for e in made["entries"] if json.loads(b64decode(e["leaf"]))["kind"] != kind]
    assert len(entries) < len(made["entries"])
    assert places({**made, "entries": entries}, signer)


def test_leaving_out_the_readings_at_a_boundary_is_found(
    made: dict[str, Any], signer: Signer
) -> None:
    readings = [e for e in made["entries"] if json.loads(b64decode(e["leaf"]))["kind"] == "reading"]
    entries = [e for e in made["entries"] if e not in readings[14:17]]
    assert "intervals[0].delivered_wh" in places({**made, "entries": entries}, signer)


def test_energy_the_gateway_overstated_is_found(day: Any, write: Write, signer: Signer) -> None:
    """Even a validly signed ledger cannot claim more than its own readings show."""
    for entry in day.entries:
        if entry["kind"] == "delivery":
            entry["trades"][0]["delivered_wh"] += 5
    made = receipt.build(write(day.entries), "A-1")
    assert places(made, signer) == ["intervals[0].delivered_wh", "intervals[1].delivered_wh"]


def test_another_key_is_refused(made: dict[str, Any], tmp_path: Path, signer: Signer) -> None:
    other = create_key(tmp_path / "k", signer.name)
    assert not verify(json.dumps(made).encode(), vkey=other.vkey).ok


def test_a_message_signed_by_a_stranger_is_found(day: Any, write: Write, signer: Signer) -> None:
    config = next(e for e in day.entries if e["kind"] == "config")
    config["config"] = {
        **config["config"],
        "signers": [{"name": "x", "key": b64encode(bytes(32)).decode()}],
    }
    made = receipt.build(write(day.entries), "A-1")
    assert "trade (entry 3)" in places(made, signer)


def test_accepting_more_than_the_message_says_is_found(
    day: Any, write: Write, signer: Signer
) -> None:
    accepted = next(e for e in day.entries if e["kind"] == "trade.accepted")
    accepted["positions"][0]["energy_wh"] += 1
    made = receipt.build(write(day.entries), "A-1")
    assert "trade (entry 3)" in places(made, signer)


def test_no_receipt_before_its_time(day: Any, write: Write) -> None:
    directory = write([e for e in day.entries if e["kind"] != "delivery"])
    with pytest.raises(ReceiptError, match="not settled yet"):
        receipt.build(directory, "A-1")
    with pytest.raises(ReceiptError, match="no accepted trade"):
        receipt.build(directory, "A-7")


def test_a_cancelled_interval_needs_no_delivery(day: Any, write: Write, signer: Signer) -> None:
    day.trade(-300, "A-3", [0], "T2", "T3")
    late = day.entries[-2:]
    entries = day.entries[:7] + late + day.entries[7:-2]
    late[1]["received_index"] = 7
    shifted = [shift(e, after=6, by=2) if e not in late else e for e in entries]
    made = receipt.build(write(shifted), "A-3")
    assert places(made, signer) == []
    assert made["intervals"][0]["status"] == "cancelled"


def shift(entry: dict[str, Any], *, after: int, by: int) -> dict[str, Any]:
    """References to entries behind an insertion move along."""
    return {
        k: v + by if k.endswith("_index") and isinstance(v, int) and v > after else v
        for k, v in entry.items()
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "{}",
        '{"schema":"sopgw/v1/receipt"}',
        '{"a":1,"a":1}',
        '{"a":1.5}',
        '{"a":NaN}',
        "[" * 5000,
    ],
)
def test_what_is_no_receipt_is_refused(text: str, signer: Signer) -> None:
    report = verify(text.encode(), vkey=signer.vkey)
    assert [f.place for f in report.faults] == ["receipt"]


@pytest.mark.parametrize("key", [b"\xed\xb6\xbd", b"\\ud800", b"\xff"])
def test_half_characters_are_refused_not_a_crash(signer: Signer, key: bytes) -> None:
    for text in (b'{"%s":1}' % key, b'{"schema":"%s"}' % key):
        assert not verify(text, vkey=signer.vkey).ok


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    vkey = "gw.example/ledger+d5a4fd22+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    assert not verify(data, vkey=vkey).ok
