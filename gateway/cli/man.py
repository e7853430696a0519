"""``sopgw man``: manual pages made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli.output import MEANINGS, SopCommand, SopGroup, command, emit


@command(
    "man",
    schema="man",
    impact="rw",
    examples=(
        ("sopgw man config", "one page on stdout"),
        ("sopgw man --write /usr/local/share/man/man1", "all pages into a folder"),
    ),
)
@click.argument("path", nargs=-1)
@click.option("--write", "folder", type=click.Path(path_type=Path), help="Folder for all pages.")
def man(path: tuple[str, ...], folder: Path | None) -> None:
    """Make manual pages: of one command, or of all into a folder."""
    from gateway.cli.root import cli

    root = cli.make_context("sopgw", [], resilient_parsing=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for context, found in walk(cli, root):
            target = folder / f"{context.command_path.replace(' ', '-')}.1"
            target.write_text(page_of(found, context), encoding="utf-8")
            written.append(str(target))
        emit({"written": written}, text=f"{len(written)} pages in {folder}")
        return
    context, found = root, cli
    step: click.Command = found
    for name in path:
        inner = step.get_command(context, name) if isinstance(step, click.Group) else None
        if inner is None:
            raise click.UsageError(f"no such command “{' '.join(path)}”")
        context = click.Context(inner, info_name=name, parent=context)
        step = inner
    text = page_of(step, context)
    emit({"written": [], "page": text}, text=text)


def walk(
    found: click.Command, context: click.Context
) -> Iterator[tuple[click.Context, click.Command]]:
    """Yield every command with its context, parents first."""
    yield context, found
    if isinstance(found, click.Group):
        for name in found.list_commands(context):
            inner = found.get_command(context, name)
            if inner is not None:
                yield from walk(inner, click.Context(inner, info_name=name, parent=context))


def _roff(text: str) -> str:
    """Escape what roff would take for its own."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in safe.split("\n"))


def page_of(found: click.Command, context: click.Context) -> str:
    """Write one manual page; the same command gives the same bytes."""
    name = context.command_path
    lines = [
        f'.TH "{name.replace(" ", "-").upper()}" 1 "" "sop-gateway" "sop-gateway manual"',
        ".SH NAME",
        f"{_roff(name)} \\- {_roff((found.get_short_help_str(200)).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_roff(name)}",
        _roff(" ".join(found.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        _roff((found.help or "").replace("\b\n", "")),
    ]
    if isinstance(found, click.Group):
        lines.append(".SH COMMANDS")
        for inner_name in found.list_commands(context):
            inner = found.get_command(context, inner_name)
            if inner is not None:
                lines += [".TP", f".B {_roff(inner_name)}", _roff(inner.get_short_help_str(200))]
    lines.append(".SH OPTIONS")
    for parameter in found.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            lines += [".TP", f".B {_roff(record[0])}", _roff(record[1] or "")]
    examples = found.examples if isinstance(found, SopCommand | SopGroup) else ()
    if examples:
        lines.append(".SH EXAMPLES")
        for line, what in examples:
            lines += [".TP", f".B {_roff(line)}", _roff(what)]
    lines.append(".SH EXIT STATUS")
    for code, meaning in MEANINGS.items():
        lines += [".TP", f".B {int(code)}", _roff(meaning)]
    return "\n".join(lines) + "\n"
