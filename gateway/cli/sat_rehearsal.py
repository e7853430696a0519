"""A trade rehearsal as a step of acceptance: this machine, from message to proof, on a bench.

The rehearsal touches no device: it needs the gateway whole, so it runs in a process of its own.
Imported inside commands only.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from gateway.cli.output import ExitCode
from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.sat.plan import Check
from gateway.commissioning.sat.record import CheckOutcome, Row

REHEARSAL = "trade rehearse"
LONGEST_S = 900.0


async def rehearse(check: Check) -> CheckOutcome:
    """Run the command of a check and put what it says into the words of the record."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *check.run.split(), *check.arguments, "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONGEST_S):
            out, _err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return CheckOutcome(verdict=Verdict.UNDECIDED, note=f"no end after {LONGEST_S:.0f} s")
    return outcome_of(out)


def outcome_of(answer: bytes) -> CheckOutcome:
    """Read the one JSON object that the command answers with."""
    try:
        said: Mapping[str, Any] = json.loads(answer)
        code, data = ExitCode(said["exit_code"]), said["data"]
        trades = list(data.get("trades", ()))
    except (ValueError, KeyError, TypeError):
        return CheckOutcome(verdict=Verdict.UNDECIDED, note="the rehearsal gave no answer")
    verdicts = {ExitCode.OK: Verdict.OK, ExitCode.FAILED: Verdict.FAULT}
    rows = [_row(t) for t in trades]
    if "ledger_verified" in data:
        fine = bool(data["ledger_verified"])
        rows.append(
            Row(
                name="ledger",
                value_text="every byte verified" if fine else "does not verify",
                verdict=Verdict.OK if fine else Verdict.FAULT,
            )
        )
    findings = tuple(
        Finding(
            code=e["code"], where="trade rehearsal", what=e["message"],
            mend=e["help"] or "sopgw trade rehearse --keep DIR", punch=Punch.A,
        )
        for e in said["errors"]
    )  # fmt: skip
    verdict = verdicts.get(code, Verdict.UNDECIDED)
    return CheckOutcome(
        verdict=verdict,
        rows=tuple(rows),
        findings=findings if verdict is Verdict.FAULT else (),
        note="" if verdict is not Verdict.UNDECIDED else "; ".join(f.what for f in findings),
    )


def _row(trade: Mapping[str, Any]) -> Row:
    energy = ""
    if trade.get("contracted_wh") is not None:
        energy = f", {trade['delivered_wh']} of {trade['contracted_wh']} Wh"
    why = f" ({', '.join(trade['reasons'])})" if trade.get("reasons") else ""
    return Row(
        name=f"{trade['id']} {trade['case']}",
        value_text=f"{trade['outcome']}{why}{energy}",
        limit=str(trade.get("expected", "")),
        verdict=Verdict.OK if trade.get("ok") else Verdict.FAULT,
    )
