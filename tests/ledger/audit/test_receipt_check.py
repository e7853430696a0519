"""Checking a receipt: what its signed message says, and what became of its instructions."""

from __future__ import annotations

import copy
import json
from typing import Any

import gateway_day
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gateway_day import Day, full_day

from ledger.audit import receipt
from ledger.audit.receipt_check import ReceiptFault, verify
from ledger.log import note
from ledger.log.cosign import Cosigner
from ledger.log.keys import Signer, signer_of


def faults(entries: list[dict[str, Any]], write: Any, signer: Signer) -> tuple[ReceiptFault, ...]:
    made = receipt.build(write(entries), "A-1")
    return verify(json.dumps(made).encode(), vkey=signer.vkey).faults


def test_a_signature_that_nobody_can_check_is_a_fault_unless_it_is_the_logs_own(
    write: Any, signer: Signer
) -> None:
    """Right after a key change both keys of the log have signed, and one of them is given."""
    made = receipt.build(write(full_day().entries), "A-1")
    text, own = note.parse(made["checkpoint"].encode()).text, made["checkpoint"]
    other = signer_of(Ed25519PrivateKey.generate(), signer.name)
    west = Cosigner.ed25519(Ed25519PrivateKey.generate(), "west.example/w")
    theirs = note.Signature(
        name=signer.name, key_hash=other.key.key_hash, blob=other.private.sign(text)
    )

    def told(*lines: note.Signature, more: tuple[str, ...] = ()) -> list[str]:
        checked = {**made, "checkpoint": own + "".join(line.line() for line in lines)}
        report = verify(json.dumps(checked).encode(), vkey=signer.vkey, more_vkeys=more)
        return [f.what for f in report.faults]

    assert told(theirs) == told(theirs, more=(other.vkey,)) == []
    cosigned = west.cosign(text, 1_800_000_000)
    assert told(cosigned) == ["carries a signature that no given key can check"]
    assert told(cosigned, theirs, more=(west.key.vkey,)) == []
    forged = note.Signature(name=signer.name, key_hash=signer.key.key_hash, blob=theirs.blob)
    assert told(forged) != []
    assert "not signed by" in verify(json.dumps(made).encode(), vkey=other.vkey).faults[0].what


SIGNED: dict[str, dict[str, Any]] = {
    "the other way round": {"out": "T2", "into": "T1"},
    "to another region": {"into": "T3"},
    "for another site": {"site": "elsewhere"},
    "for another SOP": {"sop": "SOP-9"},
    "as another revision": {"revision": 7},
}


@pytest.mark.parametrize("what", SIGNED)
def test_a_trade_signed_otherwise_than_accepted_is_found(
    what: str, write: Any, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = gateway_day.message

    def otherwise(trade_id: str, kwh: list[int], out: str, into: str, **more: Any) -> bytes:
        return sign(trade_id, kwh, **{"out": out, "into": into, **more, **SIGNED[what]})

    monkeypatch.setattr(gateway_day, "message", otherwise)
    (found,) = faults(full_day().entries, write, signer)
    assert found.place == "trade (entry 3)"
    assert "was accepted" in found.what
    assert "is signed" in found.what


def test_a_message_counts_under_the_configuration_of_its_answer(write: Any, signer: Signer) -> None:
    """It came before a start and was judged after it, when its region was a terminal's at last."""
    entries = full_day().entries
    now, received = entries[1], entries[3]
    earlier = copy.deepcopy(now)
    earlier["config"]["terminals"][1]["domain"] = "region-9"
    entries[1:4] = [earlier, received, {**now, "utc_us": received["utc_us"],
                                        "mono_us": received["mono_us"]}]  # fmt: skip
    entries[4]["received_index"] = 2
    assert faults(entries, write, signer) == ()


def test_the_configuration_that_settles_is_the_one_of_the_delivery(
    write: Any, signer: Signer
) -> None:
    """A start between plan and delivery added a terminal, whose meter was not read."""
    entries = full_day().entries
    where = max(k for k, e in enumerate(entries) if e["kind"] == "delivery") - 1
    larger = copy.deepcopy(entries[1])
    terminals = larger["config"]["terminals"]
    terminals.append({**terminals[-1], "id": "T4", "domain": "region-3", "meter": "m4"})
    entries[where] = {**larger, **{k: entries[where][k] for k in ("utc_us", "mono_us")}}
    entries[-1]["trades"][0]["status"] = "partial"
    assert faults(entries, write, signer) == ()


def test_an_aborted_instruction_with_another_after_it_is_ordinary(
    write: Any, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A select that failed is tried again: each of the two instructions ends once."""
    instruct = Day.instruct

    def twice(day: Day, at_s: float, name: str, *rest: Any) -> None:
        instruct(day, at_s - 0.009, f"{name} first", *rest)
        intent = day.entries[-4]
        del day.entries[-3:]
        day.add("abort", at_s - 0.005, intent_index=len(day.entries) - 1,
                instr_id=intent["instr_id"], reasons=[])  # fmt: skip
        instruct(day, at_s, name, *rest)

    monkeypatch.setattr(Day, "instruct", twice)
    entries = full_day().entries
    assert faults(entries, write, signer) == ()


def test_an_instruction_that_ends_twice_is_found(write: Any, signer: Signer) -> None:
    entries = full_day().entries
    prepared = next(e for e in entries if e["kind"] == "prepared")
    prepared.update(kind="abort", reasons=[])
    (found,) = faults(entries, write, signer)
    assert found.what == "an intent with 2 ends"
