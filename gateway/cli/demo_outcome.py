"""What the demo found out: the report from the ledger, receipts, verification and tampering."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.cli.demo_story import CURTAILED, CUT
from gateway.journal.ledger_journal import read_entries
from gateway.model.errors import GatewayError
from gateway.model.interval import utc_ms_from

WITHIN_PERMILLE = 1  # undisturbed trades end within 0.1 % of contract


def read_ledger(directory: Path) -> list[dict[str, Any]]:
    """Read every entry, each with its index."""
    return [{"index": index, **entry} for index, entry in read_entries(directory)]


def trade_rows(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a trade and interval, then one a refused message."""
    ends = {
        e["trade_id"]: (e["out_terminal"], e["in_terminal"])
        for e in entries
        if e["kind"] == "trade.accepted"
    }
    rows = []
    for entry in entries:
        if entry["kind"] != "delivery":
            continue
        for trade in entry["trades"]:
            seller, buyer = ends[trade["trade_id"]]
            rows.append(
                {
                    "id": trade["trade_id"],
                    "seller_terminal": seller,
                    "buyer_terminal": buyer,
                    "interval_start": entry["interval"]["start"],
                    "interval_end": entry["interval"]["end"],
                    "contracted_wh": trade["contracted_wh"],
                    "delivered_wh": trade["delivered_wh"],
                    "status": trade["status"],
                    "reasons": trade["reasons"],
                }
            )
    for entry in entries:
        if entry["kind"] == "trade.refused":
            rows.append(
                {
                    "message_id": entry["sha256"],
                    "trade_id": entry["trade_id"],
                    "contracted_wh": 0,
                    "delivered_wh": 0,
                    "status": "refused",
                    "reasons": [r["code"] for r in entry["reasons"]],
                }
            )
    return rows


def truth_rows(path: Path, utc_epoch_us: int) -> list[dict[str, Any]]:
    """Read the simulator's trace as the report wants it."""
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.append(
                {
                    "utc_us": utc_epoch_us + int(float(row["t_s"]) * 1e6),
                    "v_dc_dv": int(float(row["v_dc_v"]) * 10),
                    "loss_w": float(row["loss_w"]),
                    "p_w": {f"T{k}": int(float(row[f"t{k}_p_w"])) for k in range(1, 5)},
                }
            )
    return rows


def energy_balance_wh(
    entries: Sequence[Mapping[str, Any]], truth: Sequence[Mapping[str, Any]]
) -> int:
    """Sum of all meters over the delivered intervals plus the true losses: zero but for rounding.

    What meters count and what the converters lose come from different places.
    """
    balance_wh = 0.0
    for entry in entries:
        if entry["kind"] != "delivery":
            continue
        balance_wh += sum(t["metered_wh"] or 0 for t in entry["terminals"])
        start_us = utc_ms_from(entry["interval"]["start"]) * 1000
        end_us = utc_ms_from(entry["interval"]["end"]) * 1000
        inside = [r for r in truth if start_us <= r["utc_us"] <= end_us]
        for before, after in itertools.pairwise(inside):
            mean_w = (before["loss_w"] + after["loss_w"]) / 2
            balance_wh += mean_w * (after["utc_us"] - before["utc_us"]) / 3.6e9
    return round(balance_wh)


def problems(rows: Sequence[Mapping[str, Any]], *, verified: bool, tamper: str | None) -> list[str]:
    """What did not come out as the demo promises; empty when all of it did."""
    found = []
    by_status: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_status.setdefault(row["status"], []).append(row)
        trade = row.get("id")
        if trade is None or trade in (CURTAILED, CUT):
            continue
        short_wh = abs(row["contracted_wh"] - row["delivered_wh"])
        if row["status"] != "delivered" or short_wh * 1000 > row["contracted_wh"] * WITHIN_PERMILLE:
            found.append(f"{trade}: {row['delivered_wh']} of {row['contracted_wh']} Wh")
    refusals = {code for row in by_status.get("refused", []) for code in row["reasons"]}
    found += [
        f"no {code} message was refused"
        for code in ("duplicate", "retained")
        if code not in refusals
    ]
    curtailed = [r for r in rows if r.get("id") == CURTAILED]
    if not any("guard_p" in r["reasons"] for r in curtailed):
        found.append("nothing was curtailed by the guard")
    cut = [r for r in rows if r.get("id") == CUT]
    if not any(r["status"] == "partial" and "link_lost" in r["reasons"] for r in cut):
        found.append("the lost link left no trace")
    if not verified:
        found.append("the ledger does not verify")
    if tamper is None:
        found.append("a changed byte was not found")
    return found


def run_sopledger(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the auditor's program as anybody would."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "ledger", *arguments, "--json"],
        capture_output=True,
        check=False,
        timeout=120,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise GatewayError(f"sopledger {arguments[0]}: {done.stderr.decode()[-500:]}") from None
    return done.returncode, answer


def tamper(directory: Path, copy: Path, key: Path, leaf: bytes) -> tuple[int, str]:
    """Change one byte of an entry in a copy and let the auditor find it."""
    import shutil

    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("lock", "*.sock"))
    for segment in sorted(copy.rglob("*")):
        if not segment.is_file():
            continue
        data = bytearray(segment.read_bytes())
        place = data.find(leaf)
        if place >= 0:
            data[place + len(leaf) // 2] ^= 0x01
            segment.write_bytes(data)
            break
    code, answer = run_sopledger("verify", str(copy), "--key", str(key))
    shutil.rmtree(copy)
    errors = answer.get("errors") or [{"message": ""}]
    return code, errors[0]["message"]
