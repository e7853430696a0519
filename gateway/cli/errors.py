"""``sopgw errors``: every error code explained."""

from __future__ import annotations

import click

from gateway.cli.output import MEANINGS, ExitCode, emit, fail, group


@group(
    "errors",
    examples=(
        ("sopgw errors show P022", "what a code means and how to mend it"),
        ("sopgw errors ls overlap", "codes about a word"),
    ),
)
def errors() -> None:
    """Explain error codes and exit codes."""


@errors.command(
    "ls",
    schema="errors.ls",
    examples=(("sopgw errors ls", "all codes"), ("sopgw errors ls unit", "codes about a word")),
)
@click.argument("word", default="")
def ls(word: str) -> None:
    """List error codes."""
    from gateway.cli.error_pages import pages

    rows = [
        {"code": code, "title": page.title}
        for code, page in sorted(pages().items())
        if word.lower() in f"{code} {page.title} {page.why}".lower()
    ]
    emit({"errors": rows}, text="\n".join(f"{r['code']}  {r['title']}" for r in rows))


@errors.command(
    "show",
    schema="errors.show",
    examples=(
        ("sopgw errors show C025", "one code"),
        ("sopgw errors show exit-codes", "how commands end"),
    ),
)
@click.argument("code")
def show(code: str) -> None:
    """Explain one code, or the exit codes."""
    if code == "exit-codes":
        rows = [
            {"exit_code": int(c), "name": c.name.lower(), "meaning": m} for c, m in MEANINGS.items()
        ]
        text = "\n".join(f"{r['exit_code']:>3}  {r['name']:<12} {r['meaning']}" for r in rows)
        emit({"code": code, "exit_codes": rows}, text=text)
        return
    from gateway.cli.error_pages import pages

    page = pages().get(code.upper())
    if page is None:
        fail(ExitCode.USAGE, f"no error has the code “{code}”", code="E012", help="sopgw errors ls")
    emit(
        {"code": code.upper(), "title": page.title, "why": page.why, "mend": page.mend},
        text=page.text(code.upper()),
    )
