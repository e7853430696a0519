"""``sopgw config``: check, show and describe site files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gateway.cli.config_change import diff, fmt, migrate
from gateway.cli.output import ExitCode, Finding, emit, group, site_option


@group(
    "config",
    examples=(
        ("sopgw config check site.yaml", "every mistake at once, with line, column and mend"),
        ("sopgw config show --effective -c site.yaml", "what the gateway would use"),
    ),
)
def config() -> None:
    """Check and show the site file."""


def findings_of(problems: Any) -> list[Finding]:
    """Turn problems of files into the findings of an answer."""
    return [
        Finding(
            code=p.code,
            message=p.message,
            help=p.help,
            where=f"{p.file}:{p.line}:{p.column}" if p.line else p.file,
        )
        for p in problems
    ]


def file_answer(file: Path, problems: Any) -> dict[str, Any]:
    """One file's part of a JSON answer."""
    return {
        "file": str(file),
        "errors": [f.data() for f in findings_of(p for p in problems if p.severity == "error")],
        "warnings": [f.data() for f in findings_of(p for p in problems if p.severity != "error")],
    }


@config.command(
    "check",
    schema="config.check",
    examples=(
        ("sopgw config check site.yaml", "one file"),
        ("sopgw config check --json", "the file of -c or SOPGW_CONFIG, for a script"),
    ),
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@site_option
def check(files: tuple[Path, ...], config_path: Path) -> None:
    """Read site files and their profiles; print every mistake, load nothing."""
    from gateway.config.alarm_file import NAME as ALARM_FILE
    from gateway.config.alarm_file import check_alarms
    from gateway.config.problem import errors_in, report_text
    from gateway.config.site_file import check_site

    answers, texts, findings = [], [], []
    for path in files or (config_path,):
        document, site = check_site(path)
        if (path.parent / ALARM_FILE).is_file():
            document.problems += check_alarms(path.parent / ALARM_FILE)[0].problems
        answer = file_answer(path, document.problems)
        answer["sha256"] = site.sha256 if site else None
        answers.append(answer)
        findings += findings_of(p for p in document.problems if p.severity == "error")
        text = report_text(document.problems, file=str(path))
        if site is not None and not errors_in(document.problems):
            terminals = sum(len(c.sop.terminals) for c in site.sops)
            text += (
                f"\n{site.id}: {len(site.devices)} devices, {len(site.sops)} SOP, "
                f"{terminals} terminals, mode {site.mode}, sha256 {site.sha256[:12]}…"
            )
        texts.append(text)
        assert site is not None or errors_in(document.problems)
    emit(
        {"files": answers},
        text="\n\n".join(texts),
        exit_code=ExitCode.CONFIG if findings else ExitCode.OK,
        findings=findings,
    )


@config.command(
    "show",
    schema="config.show",
    examples=(
        ("sopgw config show -c site.yaml", "the site in the words of people"),
        ("sopgw config show --effective -c site.yaml", "everything that decides, in base units"),
    ),
)
@click.option("--effective", is_flag=True, help="Every value the gateway uses, defaults included.")
@site_option
def show(*, effective: bool, config_path: Path) -> None:
    """Show a site file as understood; secrets are never shown."""
    from gateway.config.site_file import load_site
    from gateway.config.site_text import effective_text, secrets_of, site_text

    site = load_site(config_path)
    secrets = secrets_of(site)
    emit(
        {
            "file": str(config_path),
            "sha256": site.sha256,
            "effective": site.effective,
            "secrets": secrets,
        },
        text=lambda: effective_text(site) if effective else site_text(site, secrets),
    )


@config.command(
    "schema",
    schema="config.schema",
    examples=(
        ("sopgw config schema", "JSON Schema of a site file, for an editor"),
        ("sopgw config schema profile", "the same for a device profile"),
    ),
)
@click.argument("kind", type=click.Choice(["config", "profile", "output"]), default="config")
@click.option("--table", is_flag=True, help="Every key as a table for people.")
def schema(*, kind: str, table: bool) -> None:
    """Print the JSON Schema of a file, or of the answers with --json."""
    from gateway.config.schema import output_schemas, schema_of, table_of

    if kind == "output":
        found: Any = output_schemas()
        text = json.dumps(found, indent=2, ensure_ascii=False)
    else:
        found = schema_of(kind)
        text = table_of(kind) if table else json.dumps(found, indent=2, ensure_ascii=False)
    emit({"kind": kind, "schema": found}, text=text)


for _command in (diff, fmt, migrate):
    config.add_command(_command)
