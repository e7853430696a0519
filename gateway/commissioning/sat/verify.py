"""Is this report what was signed? Every byte that is shown is drawn again and compared.

The keys that count come from the verifier's own allowed_signers file, never from the report.
What could not be checked is listed as such.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.commissioning.sat import html, sign
from gateway.commissioning.sat.canonical import canonical, sha256
from gateway.commissioning.sat.plan import from_record
from gateway.commissioning.sat.record import CheckState, PunchItem, RunState
from gateway.commissioning.sat.report import SCHEMA, json_bytes
from gateway.model.errors import GatewayError

Render = Callable[[Mapping[str, Any]], bytes]
_RECORD_KEYS = {
    "run", "header", "plan", "plan_sha256", "verdict", "started_us", "ended_us", "events",
    "events_sha256", "witnessed", "checks", "punch",
}  # fmt: skip
_SIGNED_KEYS = {"kind", "role", "name", "utc_us", "fingerprint", "signature", "sha256"}
_REPORT_KEYS = {"schema", "language", "record", "record_sha256", "signatures", "anchors"}


@dataclass(slots=True, kw_only=True)
class Verification:
    """What held, what did not and what was not checked."""

    checked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    report: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Tell whether nothing was found."""
        return not self.problems


def verify(
    document: bytes,
    *,
    allowed_signers: Path | None,
    pdf: tuple[Callable[[bytes], Any], Render] | None = None,
    anchored: Callable[[Mapping[str, Any]], str] | None = None,
) -> Verification:
    """Verify a report as JSON, HTML or PDF.

    ``pdf`` gives the extractor and renderer where fpdf2 is installed; ``anchored`` returns ""
    when an anchor is found in the ledger, else what is wrong with it.
    """
    result = Verification()
    report = _extract(document, result, pdf)
    if report is None:
        return result
    result.report = report
    wrong = _shape(report)
    if wrong:
        result.problems.append(wrong)
        return result
    try:
        _content(
            document, report, result, allowed_signers=allowed_signers, pdf=pdf, anchored=anchored
        )
    except GatewayError as undrawn:
        result.problems.append(f"it cannot be drawn again: {undrawn}")
    except (KeyError, TypeError, ValueError, AttributeError) as odd:
        result.problems.append(f"the report is malformed: {type(odd).__name__} {odd}")
    return result


def _content(
    document: bytes,
    report: Mapping[str, Any],
    result: Verification,
    *,
    allowed_signers: Path | None,
    pdf: tuple[Callable[[bytes], Any], Render] | None,
    anchored: Callable[[Mapping[str, Any]], str] | None,
) -> None:
    _redraw(document, report, result, pdf)
    record = report["record"]
    if sha256(canonical(record)) == report["record_sha256"]:
        result.checked.append("the record leads to the digest shown")
    else:
        result.problems.append("the record does not lead to the digest shown: it was changed")
    _verdict(record, result)
    _signatures(report, result, allowed_signers)
    _anchors(report, result, anchored)


def _extract(
    document: bytes,
    result: Verification,
    pdf: tuple[Callable[[bytes], Any], Render] | None,
) -> dict[str, Any] | None:
    try:
        if document.startswith(b"%PDF-"):
            if pdf is None:
                result.problems.append("a PDF is checked with fpdf2: install sop-gateway[report]")
                return None
            report = pdf[0](document)
        elif document.startswith(b"<!doctype html>"):
            report = html.embedded(document)
        else:
            report = json.loads(document)
    except (
        ValueError,
        RecursionError,
    ) as wrong:  # UnicodeDecodeError and JSONDecodeError are among them
        result.problems.append(f"no report can be read from the file: {wrong}")
        return None
    if not isinstance(report, dict):
        result.problems.append("the file does not hold a report")
        return None
    return report


def _shape(report: Mapping[str, Any]) -> str:
    if report.get("schema") != SCHEMA or set(report) != _REPORT_KEYS:
        return "the file does not hold a report of this kind, or holds unknown fields"
    record = report["record"]
    if not isinstance(record, dict) or set(record) != _RECORD_KEYS:
        return "the record has missing or unknown fields"
    return ""


def _redraw(
    document: bytes,
    report: Mapping[str, Any],
    result: Verification,
    pdf: tuple[Callable[[bytes], Any], Render] | None,
) -> None:
    kind = "JSON"
    draw: Render = json_bytes
    if document.startswith(b"%PDF-") and pdf is not None:
        kind, draw = "PDF", pdf[1]
    elif document.startswith(b"<!doctype html>"):
        kind, draw = "HTML", html.render
    if draw(report) == document:
        result.checked.append(f"the {kind} drawn again from its record is the same in every byte")
    else:
        result.problems.append(
            f"the {kind} differs from what its record draws: something shown was changed, "
            "or another version made it"
        )


def _verdict(record: Mapping[str, Any], result: Verification) -> None:
    """The verdict must follow from the checks, punch list and witnesses it stands beside."""
    plan = from_record(record["plan"])
    if record["plan_sha256"] != plan.digest():
        result.problems.append("the plan does not lead to the digest shown")
    if [c["id"] for c in record["checks"]] != [c.id for c in plan.checks()]:
        result.problems.append("the checks are not those of the plan")
    state = RunState(
        header=record["header"],
        plan=plan,
        checks={c["id"]: CheckState(id=c["id"], status=c["status"]) for c in record["checks"]},
        punch=[PunchItem(**item) for item in record["punch"]],
        witnessed=record["witnessed"],
    )
    if record["verdict"] == state.verdict:
        result.checked.append(f"the verdict “{record['verdict']}” follows from the checks")
    else:
        result.problems.append(
            f"the verdict “{record['verdict']}” does not follow from the checks, punch list and "
            f"witnesses: they lead to “{state.verdict}”"
        )


def _signatures(
    report: Mapping[str, Any], result: Verification, allowed_signers: Path | None
) -> None:
    if not report["signatures"]:
        result.not_checked.append("who vouches for it: nobody signed")
        return
    for signed in report["signatures"]:
        who = f"{signed['role']} {signed['name']}"
        stray = signed["sha256"] if signed["kind"] == "ssh" else signed["signature"]
        if set(signed) != _SIGNED_KEYS or stray:
            result.problems.append(f"the signature of {who} holds what no signature holds")
        if signed["kind"] == "paper":
            result.not_checked.append(f"the paper signature of {who}: compare the photo")
        elif allowed_signers is None:
            result.not_checked.append(f"the signature of {who}: give --signers FILE")
        else:
            wrong = sign.check(report["record"], signed, allowed_signers=allowed_signers)
            if wrong:
                result.problems.append(f"the signature of {who} is not good: {wrong}")
            else:
                result.checked.append(f"signature of {who}, key {signed['fingerprint']}")


def _anchors(
    report: Mapping[str, Any],
    result: Verification,
    anchored: Callable[[Mapping[str, Any]], str] | None,
) -> None:
    if not report["anchors"]:
        result.not_checked.append("when it was made: not anchored in a ledger")
    for anchor in report["anchors"]:
        where = f"{anchor['where']} #{anchor['index']}"
        if anchor["sha256"] != report["record_sha256"]:
            result.problems.append(f"the anchor {where} is of another record")
        elif anchored is None:
            result.not_checked.append(f"the anchor {where}: give --ledger DIR")
        else:
            wrong = anchored(anchor)
            if wrong:
                result.problems.append(f"the anchor {where}: {wrong}")
            else:
                result.checked.append(f"anchored at {where}")
