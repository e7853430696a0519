"""The report as data: what was planned, found and signed; its one spelling in bytes.

HTML and PDF are drawn from this data and carry it whole, so that a reader can draw them again
and compare every byte. Nothing here depends on the clock, the host or the order of a dict.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.commissioning.sat.canonical import canonical, sha256
from gateway.commissioning.sat.record import RunRecord, RunState

SCHEMA = "sopgw/v1/sat.report"
_OPTIONAL = ("reason", "note", "by")


def record_of(record: RunRecord) -> dict[str, Any]:
    """Return the signed part of the report: the run's header, plan, checks and punch list."""
    state = record.state()
    events = record.events
    return {
        "run": record.id,
        "header": dict(state.header),
        "plan": state.plan.data(),
        "plan_sha256": state.plan.digest(),
        "verdict": state.verdict,
        "started_us": events[0]["utc_us"],
        "ended_us": events[-1]["utc_us"],
        "events": len(events),
        "events_sha256": sha256(b"".join(canonical(e) + b"\n" for e in events)),
        "witnessed": dict(state.witnessed),
        "checks": [_check(state, check.id) for check in state.plan.checks()],
        "punch": [item.data() for item in state.punch],
    }


def _check(state: RunState, check_id: str) -> dict[str, Any]:
    check = state.checks[check_id]
    last = check.last
    return {
        "id": check_id,
        "status": check.status,
        "attempts": check.attempts_count,
        "started_us": check.started_us,
        "done_us": check.done_us,
        "rows": list(last.get("rows", ())),
        "findings": list(last.get("findings", ())),
        "ledger_index": last.get("ledger_index", -1),
        "plot_svg": last.get("plot_svg", ""),
        **{key: last.get(key, "") for key in _OPTIONAL},
    }


def statement(record: Mapping[str, Any], *, role: str, name: str, utc_us: int) -> bytes:
    """Return the text a person signs: readable, and bound to every byte of the record."""
    lines = [
        "sopgw acceptance statement v1",
        f"run {record['run']}",
        f"plan {record['plan']['plan']} revision {record['plan']['revision']}",
        f"verdict {record['verdict']}",
        f"role {role}",
        f"name {name}",
        f"signed {utc_text(utc_us)} ({utc_us} us)",
        f"record sha256 {sha256(canonical(record))}",
    ]
    return ("\n".join(lines) + "\n").encode()


def assemble(
    record: Mapping[str, Any],
    *,
    language: str,
    signatures: Sequence[Mapping[str, Any]] = (),
    anchors: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Join record, signatures and anchors; ``signatures`` as ``sign.Signed.data`` gives them."""
    return {
        "schema": SCHEMA,
        "language": language,
        "record": dict(record),
        "record_sha256": sha256(canonical(record)),
        "signatures": [dict(s) for s in signatures],
        "anchors": [dict(a) for a in anchors],
    }


def json_bytes(report: Mapping[str, Any]) -> bytes:
    """Return the report's one spelling in bytes."""
    return canonical(report) + b"\n"


def utc_text(utc_us: int) -> str:
    """Write an instant to the second, UTC; a dash for none."""
    if utc_us < 0:
        return "–"
    moment = dt.datetime.fromtimestamp(utc_us // 1_000_000, tz=dt.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def check_of(report: Mapping[str, Any], check_id: str) -> Mapping[str, Any]:
    """Return the result of a check; KeyError when there is none."""
    for check in report["record"]["checks"]:
        if check["id"] == check_id:
            found: Mapping[str, Any] = check
            return found
    raise KeyError(check_id)
