"""Results of scenarios for machines and for people: JUnit XML and one self-contained page."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from firmware_sim.scenario.model import Outcome, Sample

PLOT_POINTS_MAX = 600
WIDTH, HEIGHT, LEFT = 860, 200, 70
COLOURS = ("#1b6ca8", "#c0392b", "#2e7d32", "#8e44ad", "#b8860b", "#555555", "#008b8b", "#d35400")


def junit(outcomes: Sequence[Outcome]) -> str:
    """One suite a scenario, one case an expectation."""
    suites = []
    for outcome in outcomes:
        cases = []
        for check in outcome.checks:
            e = check.expectation
            place = f"{outcome.scenario.path}:{e.line_number}"
            body = (
                ""
                if check.passed
                else (
                    f"<failure message={quoteattr(check.detail)}>"
                    f"{escape(f'{place}: {e.title}: {check.detail}')}</failure>"
                )
            )
            cases.append(
                f"<testcase classname={quoteattr(outcome.scenario.name)} "
                f"name={quoteattr(e.title)}>{body}</testcase>"
            )
        failed = sum(not check.passed for check in outcome.checks)
        suites.append(
            f'<testsuite name={quoteattr(outcome.scenario.name)} tests="{len(outcome.checks)}" '
            f'failures="{failed}">{"".join(cases)}</testsuite>'
        )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>{"".join(suites)}</testsuites>\n'


def as_data(outcome: Outcome) -> dict[str, Any]:
    """The result as plain data."""
    return {
        "name": outcome.scenario.name,
        "file": str(outcome.scenario.path),
        "ok": outcome.passed,
        "duration_s": outcome.scenario.duration_s,
        "checks": [
            {"line": c.expectation.line_number, "what": c.expectation.title, "ok": c.passed,
             "seen": c.detail}
            for c in outcome.checks
        ],
        "events": [{"t_s": round(e.t_s, 3), "what": e.what} for e in outcome.events],
    }  # fmt: skip


def page(outcomes: Sequence[Outcome]) -> str:
    """A page without anything from outside."""
    parts = []
    for outcome in outcomes:
        data = as_data(outcome)
        rows = "".join(
            f"<tr class={'ok' if c['ok'] else 'bad'}><td>{'✓' if c['ok'] else '✗'}</td>"
            f"<td>{html.escape(c['what'])}</td><td>{html.escape(c['seen'])}</td>"
            f"<td>{c['line']}</td></tr>"
            for c in data["checks"]
        )
        events = "".join(
            f"<tr><td>{e['t_s']:.3f}</td><td>{html.escape(e['what'])}</td></tr>"
            for e in data["events"][:1000]
        )
        parts.append(
            f"<h2>{html.escape(data['name'])}: {'passed' if data['ok'] else 'FAILED'}</h2>"
            f"<table><tr><th></th><th>expected</th><th>seen</th><th>line</th></tr>{rows}</table>"
            f"{_plots(outcome.samples)}"
            f"<details><summary>{len(data['events'])} events</summary>"
            f"<table><tr><th>s</th><th>event</th></tr>{events}</table></details>"
        )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Scenarios</title>"
        "<style>body{font:15px sans-serif;margin:2em;max-width:60em}td,th{padding:2px 10px;"
        "text-align:left}.bad{color:#b00020;font-weight:bold}svg{display:block;margin:1em 0}"
        f"</style><h1>Scenarios</h1>{''.join(parts)}</html>\n"
    )


def _plots(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    names = sorted(samples[-1].point_level)
    groups: list[list[str]] = [[n for n in names if n.endswith(".p")]]
    groups += [[n] for n in ("dc.v", "loss", "grid.loss", "grid.v_min") if n in names]
    return "".join(_plot(samples, group) for group in groups)


def _plot(samples: Sequence[Sample], names: Sequence[str]) -> str:
    stride = max(1, len(samples) // PLOT_POINTS_MAX)
    shown = [s for s in samples[::stride] if all(n in s.point_level for n in names)]
    if not shown:
        return ""
    values = [s.point_level[n] for s in shown for n in names]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    t_end = shown[-1].t_s or 1.0

    def at(t_s: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 10) * t_s / t_end
        y = 15 + (HEIGHT - 35) * (high - value) / span
        return f"{x:.1f},{y:.1f}"

    lines = "".join(
        f'<polyline fill=none stroke={json.dumps(COLOURS[k % len(COLOURS)])} points="'
        + " ".join(at(s.t_s, s.point_level[name]) for s in shown)
        + f'"/><text x="{LEFT + 5 + 60 * k}" y="{HEIGHT - 4}" font-size="11" '
        f"fill={json.dumps(COLOURS[k % len(COLOURS)])}>{html.escape(name)}</text>"
        for k, name in enumerate(names)
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label='
        f'{json.dumps(" ".join(names))}><text x="0" y="20" font-size="11">{high:g}</text>'
        f'<text x="0" y="{HEIGHT - 22}" font-size="11">{low:g}</text>'
        f'<text x="{WIDTH - 60}" y="{HEIGHT - 4}" font-size="11">{t_end:g} s</text>{lines}</svg>'
    )
