"""The report as one self-contained page: no script runs, nothing is fetched, prints on paper."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.commissioning.sat.plots import caption
from gateway.commissioning.sat.report import check_of, json_bytes, utc_text
from gateway.commissioning.sat.words import word

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#22292e;max-width:60em;margin:2em auto;padding:0 1em}
h1{font-size:1.6em;margin-bottom:.2em}h2{margin-top:2em;border-bottom:1px solid #5a646b}
h3{margin:1.4em 0 .3em}table{border-collapse:collapse;width:100%;margin:.5em 0}
th,td{border:1px solid #c3c9cd;padding:.25em .5em;text-align:left;vertical-align:top}
th{background:#e6e8e9}.verdict{font-size:1.25em;border:2px solid #22292e;padding:.4em .8em;
display:inline-block}.fault{border-left:6px solid #c1121f}.undecided{border-left:6px solid #b45309}
.muted{color:#4d575e}code{font-family:ui-monospace,monospace;font-size:.92em;word-break:break-all}
td:first-child{white-space:nowrap}svg{max-width:100%}
@media print{body{margin:0;max-width:none}h3,tr{break-inside:avoid}}
""".strip()
_SIGN = {"ok": "✓", "fault": "✗", "undecided": "?", "skipped": "–", "open": "·", "running": "▶"}
_BLOCK = re.compile(
    r'<script type="application/json" id="sat-report">\n(.*?)\n</script>', re.DOTALL
)


def render(report: Mapping[str, Any]) -> bytes:
    """Draw the page."""
    language, record = report["language"], report["record"]

    def w(key: str) -> str:
        return _e(word(language, key))

    title = w(f"title-{record['header']['phase']}")
    parts = [
        "<!doctype html>",
        f'<html lang="{_e(language)}"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{title} {_e(record['run'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="verdict">{w("verdict")}: <strong>{w(record["verdict"])}</strong></p>',
        _cover(report, w),
        f"<h2>{w('signatures')}</h2>{_signatures(report, w)}",
        f"<h2>{w('summary')}</h2>{_summary(report, w)}",
        f"<h2>{w('punch')}</h2>{_punch(record['punch'], w)}",
        f"<h2>{w('settings')}</h2>{_settings(record['header'].get('settings', {}), w)}",
        *_steps(report, w),
        f"<h2>{w('evidence')}</h2>{_evidence(report, w)}",
        '<script type="application/json" id="sat-report">',
        _embedded(report),
        "</script>",
        "</body></html>",
    ]
    return ("\n".join(parts) + "\n").encode()


def embedded(page: bytes) -> Any:
    """Return the report a page carries; ValueError when it carries none."""
    found = _BLOCK.search(page.decode("utf-8"))
    if not found:
        raise ValueError("the page carries no report")
    return json.loads(found.group(1))


def _embedded(report: Mapping[str, Any]) -> str:
    # < ends a script element wherever it stands, inside a string too.
    return json_bytes(report).decode().rstrip("\n").replace("<", "\\u003c")


def _e(text: object) -> str:
    return html.escape(str(text))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<table><thead><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr></thead><tbody>"]
    lines += ["<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</tbody></table>"])


def _cover(report: Mapping[str, Any], w: Any) -> str:
    record = report["record"]
    header = record["header"]
    plan = record["plan"]
    rows = [
        (w("site"), _e(header["site"])),
        (w("sop"), _e(header["sop"])),
        (w("run"), _e(record["run"])),
        (w("phase"), _e(header["phase"].upper())),
        (w("plan"), f"{_e(plan['title'])} ({_e(plan['plan'])}, {plan['revision']})"),
        (w("started"), utc_text(record["started_us"])),
        (w("ended"), utc_text(record["ended_us"])),
    ]
    return _table(("", ""), rows).replace("<thead><tr><th></th><th></th></tr></thead>", "")


def _signatures(report: Mapping[str, Any], w: Any) -> str:
    if not report["signatures"]:
        return f"<p>{w('unsigned')}</p>"
    rows = [
        (
            _e(s["role"]),
            _e(s["name"]),
            f"<code>{_e(s['fingerprint'])}</code>" if s["kind"] == "ssh"
            else f"{w('paper')} <code>{_e(s['sha256'])}</code>",
            utc_text(s["utc_us"]),
        )
        for s in report["signatures"]
    ]  # fmt: skip
    return _table((w("role"), w("name"), w("key"), "UTC"), rows)


def _summary(report: Mapping[str, Any], w: Any) -> str:
    record = report["record"]
    rows = []
    for step in record["plan"]["steps"]:
        found = [check_of(report, c["id"])["status"] for c in step["checks"]]
        hold = "" if step["hold"] == "-" else f" [{_e(step['hold'])}]"
        marks = " ".join(_SIGN.get(s, _e(s)) for s in found)
        rows.append(
            (
                _e(step["id"]),
                _e(step["title"]) + hold,
                str(len(found)),
                marks,
                _e(record["witnessed"].get(step["id"], "")),
            )
        )
    return _table(("", w("step"), w("checks"), w("status"), w("witness")), rows)


def _punch(items: Sequence[Mapping[str, Any]], w: Any) -> str:
    if not items:
        return f"<p>{w('punch-none')}</p>"
    rows = [
        (
            _e(p["number"]),
            _e(p["check"]),
            _e(p["where"]),
            _e(p["what"]),
            _e(p["mend"]),
            w("open") if p["closed_us"] < 0
            else f"{w('closed')} {utc_text(p['closed_us'])}, {_e(p['closed_by'])}",
        )
        for p in items
    ]  # fmt: skip
    head = ("number", "check", "where", "finding", "mend", "status")
    return _table([w(h) for h in head], rows)


def _settings(settings: Mapping[str, str], w: Any) -> str:
    rows = [(_e(k), f"<code>{_e(v)}</code>") for k, v in sorted(settings.items())]
    return _table((w("name"), w("value")), rows)


def _steps(report: Mapping[str, Any], w: Any) -> list[str]:
    parts = []
    for step in report["record"]["plan"]["steps"]:
        parts.append(f"<h2>{_e(step['id'])} {_e(step['title'])}</h2>")
        if step["purpose"]:
            parts.append(f'<p class="muted">{_e(step["purpose"])}</p>')
        for check in step["checks"]:
            parts.append(_one_check(check, check_of(report, check["id"]), w))
    return parts


def _one_check(check: Mapping[str, Any], result: Mapping[str, Any], w: Any) -> str:
    status = result["status"]
    command = " ".join([check["run"], *check["arguments"]]).strip()
    lines = [
        f'<h3 class="{_e(status)}">{_e(check["id"])} {_e(check["title"])} '
        f"{_SIGN.get(status, '')} {w(status)}</h3>",
        f'<p class="muted">{utc_text(result["done_us"])}, {_e(result["by"])}, '
        f"{w('attempts')} {result['attempts']}"
        + (f", <code>sopgw {_e(command)}</code>" if command else "")
        + "</p>",
    ]
    if check["manual"] and check["manual"] != check["title"]:
        lines.append(f"<p>{_e(check['manual'])}</p>")
    if result["reason"]:
        lines.append(f"<p>{w('skipped')}: {_e(result['reason'])}</p>")
    if result["note"]:
        lines.append(f"<p>{_e(result['note'])}</p>")
    if result["rows"]:
        rows = [
            (_e(r["name"]), _e(r["value"]), _e(r["limit"]), _SIGN.get(r["verdict"], ""))
            for r in result["rows"]
        ]
        lines.append(_table((w("measured"), w("value"), w("limit"), ""), rows))
    lines += [f"<p>✗ {_e(f['what'])}. {_e(f['mend'])}.</p>" for f in result["findings"]]
    if result["plot_svg"]:
        lines.append(result["plot_svg"])
        lines.append(f'<p class="muted">{_e(caption(result["plot_svg"]))}</p>')
    if result["ledger_index"] >= 0:
        lines.append(f'<p class="muted">ledger #{result["ledger_index"]}</p>')
    return "\n".join(lines)


def _evidence(report: Mapping[str, Any], w: Any) -> str:
    anchors = "".join(
        f"<li>{_e(a['where'])} #{a['index']}: <code>{_e(a['sha256'])}</code></li>"
        for a in report["anchors"]
    )
    return (
        f"<p>record sha256 <code>{_e(report['record_sha256'])}</code><br>"
        f"{w('verify')}: <code>sopgw sat verify FILE --signers allowed_signers</code></p>"
        f"<ul>{anchors}</ul>"
    )
