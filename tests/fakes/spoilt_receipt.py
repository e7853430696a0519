"""Receipts of a made-up ledger, and everything that somebody may change in one."""

import base64
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.audit.receipt import build
from ledger.log import canonical
from ledger.log.keys import signer_of
from ledger.log.writer import LedgerWriter

SPOILT = [
    ("nothing", ""), ("leaf", "proofs"), ("index", "proofs"), ("order", "proofs"),
    ("proof", "proofs"), ("no entries", "proofs"), ("figure", "figures"), ("status", "figures"),
    ("no interval", "figures"), ("one interval less", "figures"), ("interval twice", "figures"),
    ("end", "figures"), ("reasons", "figures"), ("invented interval", "figures"),
    ("size", "signature"), ("other key", "signature"), ("bad key", "badKey"), ("trade", "trade"),
    ("other trade", "trade"), ("no message", "trade"), ("no readings", "recomputed"),
    ("no plan", "recomputed"), ("unknown field", "unreadable"), ("field of a row", "unreadable"),
    ("not a receipt", "unreadable"),
]  # fmt: skip
"""What is changed, and the first check that has to fail for it."""


def b64(data):
    return base64.b64encode(data).decode()


def kind_of(entry):
    return json.loads(base64.b64decode(entry["leaf"]))["kind"]


async def made_receipt(folder, entries, trade_id="A-1", also=()):
    """Write a ledger of these entries; return the receipt of a trade and the ledger's key.

    Keys in ``also`` sign too, as the next one does when the ledger's key is changed.
    """
    signer = signer_of(Ed25519PrivateKey.generate(), "gw.example/ledger")
    writer = LedgerWriter.open(folder, signer=signer, origin=signer.name, also=also)
    await writer.append_many([canonical.encode(e) for e in entries])
    await writer.close()
    return build(folder, trade_id), signer.vkey


def spoil(receipt, what, vkey):
    """Change one thing in a receipt; return the key to check it with."""
    entries, rows = receipt["entries"], receipt["intervals"]
    match what:
        case "leaf":
            entry = next(e for e in entries if kind_of(e) == "reading")
            leaf = base64.b64decode(entry["leaf"])
            entry["leaf"] = b64(leaf.replace(b'"export_wh":', b'"export_wh":1', 1))
        case "index":
            entries[1]["index"] += 1
        case "order":
            entries.append(entries[0])
        case "proof":
            entries[0]["proof"].pop()
        case "figure":
            rows[0]["delivered_wh"] += 1
        case "status":
            rows[0]["status"] = "partial"
        case "no interval":
            rows.clear()
        case "one interval less":
            rows.pop()
        case "interval twice":
            rows.append(dict(rows[0]))
        case "end":
            rows[0]["end"] = "2026-01-02T23:15Z"
        case "reasons":
            rows[0]["reasons"] = [{"code": "operator", "detail": "the buyer asked for it"}]
        case "invented interval":
            rows.append(
                {"start": "2026-01-02T05:00Z", "end": "2026-01-02T05:15Z", "contracted_wh": 0,
                 "delivered_wh": 0, "status": "cancelled", "reasons": []}
            )  # fmt: skip
        case "size":
            origin, size, rest = receipt["checkpoint"].split("\n", 2)
            receipt["checkpoint"] = f"{origin}\n{int(size) + 1}\n{rest}"
        case "other key":
            return signer_of(Ed25519PrivateKey.generate(), "gw.example/ledger").vkey
        case "bad key":
            return vkey[:-4]
        case "trade":
            receipt["trade"]["payload"] = b64(b'{"mRID":"T-2"}')
        case "other trade":
            receipt["trade"] = other_trade()
        case _:
            leave_out(receipt, what)
    return vkey


def leave_out(receipt, what):
    """Take entries out of a receipt, or put in what nobody vouches for."""
    kinds = {"no message": "trade.received", "no readings": "reading", "no plan": "plan"}
    match what:
        case "no entries":
            receipt["entries"] = []
        case "unknown field":
            receipt["note"] = "paid in full"
        case "field of a row":
            receipt["intervals"][0]["note"] = "paid in full"
        case "not a receipt":
            receipt.clear()
        case _ if what in kinds:
            receipt["entries"] = [e for e in receipt["entries"] if kind_of(e) != kinds[what]]


def other_trade():
    """A message of the same market, as well signed, about another trade."""
    from gateway_day import message

    return json.loads(message("A-2", [5], "T3", "T2"))
