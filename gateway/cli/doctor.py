"""``sopgw doctor``: is this machine ready? Each line has an id, a verdict and a mend."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.output import ExitCode, Finding, command, current, emit, site_option

if TYPE_CHECKING:
    from gateway.cli.doctor_line import Line

STATUS = ("ok", "warn", "fail", "unknown")  # the order is Nagios's
MARKS = {"ok": "✓", "warn": "!", "fail": "✗", "unknown": "?"}
NAGIOS = {"ok": "OK", "warn": "WARNING", "fail": "CRITICAL", "unknown": "UNKNOWN"}


@command(
    "doctor",
    schema="doctor",
    impact="rw",
    examples=(
        ("sopgw doctor -c site.yaml", "everything, with fixes"),
        ("sopgw doctor devices clock --format nagios -c site.yaml", "for a monitoring system"),
    ),
)
@click.argument("checks", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "nagios", "prometheus"]),
    default="text",
    show_default=True,
)
@click.option("--fix", is_flag=True, help="Mend what can be mended safely (file permissions).")
@site_option
def doctor(*, checks: tuple[str, ...], form: str, fix: bool, config_path: Path) -> None:
    """Look at host, clock, configuration, devices, broker, safety tests and ledger.

    With --format nagios the exit code is Nagios's own: 0 ok, 1 warning, 2 critical, 3 unknown.
    """
    from gateway.cli.doctor_line import Line

    lines = [x for x in lines_of(config_path) if _wanted(x, checks)]
    if fix:
        lines = [_mended(x) for x in lines]
    if not lines:
        lines = [Line(id="doctor", status="unknown", text=f"no check {' '.join(checks)}")]
    bad = [x for x in lines if x.status == "fail"]
    if form == "nagios":
        known = [STATUS.index(x.status) for x in lines if x.status != "unknown"]
        code = max(known, default=STATUS.index("unknown"))
        click.echo(_nagios(lines, code))
        raise click.exceptions.Exit(code)
    if form == "prometheus":
        click.echo(_prometheus(lines))
        raise click.exceptions.Exit(int(ExitCode.FAILED if bad else ExitCode.OK))
    if form == "json":
        current().json = True
    emit(
        {
            "checks": [
                {"id": x.id, "status": x.status, "text": x.text, "fix": x.fix} for x in lines
            ],
            "ok": sum(x.status == "ok" for x in lines),
            "warnings": sum(x.status == "warn" for x in lines),
            "failed": len(bad),
        },
        text=lambda: _text(lines),
        exit_code=ExitCode.FAILED if bad else ExitCode.OK,
        findings=[Finding(code=x.id, message=x.text, help=x.fix) for x in bad],
    )


def _wanted(line: Line, checks: Sequence[str]) -> bool:
    return not checks or line.id in checks or line.group in checks


def _mended(line: Line) -> Line:
    if line.mend is None or line.status == "ok":
        return line
    line.mend()
    return dataclasses.replace(line, status="ok", text=f"{line.text} (mended)")


def _text(lines: Sequence[Line]) -> str:
    out = []
    for line in lines:
        fix = f"   fix: {line.fix}" if line.fix and line.status != "ok" else ""
        out.append(f"{MARKS[line.status]} {line.id:<20} {line.text}{fix}")
    count = {s: sum(x.status == s for x in lines) for s in STATUS}
    out.append(
        f"{len(lines)} checks: {count['ok']} ok, {count['warn']} warnings, {count['fail']} failed, "
        f"{count['unknown']} unknown."
    )
    return "\n".join(out)


def _nagios(lines: Sequence[Line], code: int) -> str:
    shown = [x for x in lines if x.status in ("fail", "warn")] or list(lines)[:1]
    what = "; ".join(f"{x.id}: {x.text}" for x in shown)
    ok = sum(x.status == "ok" for x in lines)
    failed = sum(x.status == "fail" for x in lines)
    return f"SOPGW {NAGIOS[STATUS[code]]} - {what} | ok={ok} failed={failed}"


def _prometheus(lines: Sequence[Line]) -> str:
    rows = [
        "# HELP sopgw_doctor_status Result of a check: 0 ok, 1 warning, 2 failed, 3 unknown.",
        "# TYPE sopgw_doctor_status gauge",
    ]
    rows += [f'sopgw_doctor_status{{check="{x.id}"}} {STATUS.index(x.status)}' for x in lines]
    return "\n".join(rows)


def lines_of(config_path: Path) -> list[Line]:
    """Examine; a site file that cannot be read is a line and not the end."""
    from gateway.cli.doctor_checks import examine, host_lines
    from gateway.cli.doctor_line import Line
    from gateway.cli.field import TIMEBASE
    from gateway.config.problem import ConfigFileError
    from gateway.config.site_file import load_site

    try:
        site = load_site(config_path)
    except ConfigFileError as wrong:
        errors = sum(p.severity == "error" for p in wrong.problems)
        line = Line(
            id="config.valid",
            status="fail",
            text=f"{config_path}: {errors} errors",
            fix=f"sopgw config check {config_path}",
        )
        return [*host_lines(config_path.parent), line]
    return examine(site, simulated=bool(os.environ.get(TIMEBASE)))
