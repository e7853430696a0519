"""How every command answers: human text or one JSON object, and the exit code.

A command returns an Answer or raises Failure; nothing else prints on stdout.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import click
from click.exceptions import Exit
from typing_extensions import override

PROGRAM = "sopledger"
PROGRESS_BYTES_MIN = 64 << 20


class ExitCode(IntEnum):
    """Meanings of the program's exit codes."""

    DONE = 0
    BAD = 1
    USAGE = 2
    INPUT = 3
    UNREACHABLE = 4
    REFUSED = 5
    PLANNED = 6
    VERIFICATION = 8
    UNDECIDED = 9
    BUSY = 10
    BUG = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A warning or an error: a stable code, what it is, what helps."""

    code: str
    message: str
    help: str = ""

    def as_dict(self) -> dict[str, str]:
        """The JSON form."""
        return {"code": self.code, "message": self.message, "help": self.help}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command has to say."""

    data: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    warnings: tuple[Remark, ...] = ()
    errors: tuple[Remark, ...] = ()
    exit_code: ExitCode = ExitCode.DONE


class Failure(Exception):  # noqa: N818 - carries an answer, is not itself a defect
    """A command cannot do what was asked."""

    def __init__(self, exit_code: ExitCode, code: str, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.answer = Answer(
            errors=(Remark(code=code, message=message, help=mend),), exit_code=exit_code
        )


def emit(name: str, answer: Answer, *, as_json: bool) -> int:
    """Print an answer and return its exit code."""
    if as_json:
        document = {
            "schema": f"{PROGRAM}/v1/{name}",
            "ok": answer.exit_code == 0,
            "exit_code": int(answer.exit_code),
            "data": answer.data,
            "warnings": [w.as_dict() for w in answer.warnings],
            "errors": [e.as_dict() for e in answer.errors],
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return int(answer.exit_code)
    for remark in answer.warnings:
        click.echo(f"warning[{remark.code}]: {remark.message}", err=True)
    for line in answer.lines:
        click.echo(line)
    for remark in answer.errors:
        click.echo(f"error[{remark.code}]: {remark.message}", err=True)
        if remark.help:
            click.echo(f"  help: {remark.help}", err=True)
    return int(answer.exit_code)


class ExampleCommand(click.Command):
    """A command whose help ends in literal examples."""

    examples: tuple[str, ...] = ()

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


class ExampleGroup(click.Group):
    """A group whose help ends in literal examples."""

    examples: tuple[str, ...] = ()

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr for long work; silent when short or not on a terminal."""
    if total < PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def write_examples(formatter: click.HelpFormatter, examples: tuple[str, ...]) -> None:
    """Write examples below a help page, unwrapped so that they can be copied."""
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"  {example}\n")


def command(name: str, *examples: str) -> Callable[[Callable[..., Answer]], ExampleCommand]:
    """Make a command that takes ``--json`` and whose help shows ``examples``."""

    def decorate(function: Callable[..., Answer]) -> ExampleCommand:
        @functools.wraps(function)
        def run(*, as_json: bool, **arguments: Any) -> None:
            context = click.get_current_context()
            path = context.command_path.split(" ")[1:]
            try:
                answer = function(**arguments)
            except Failure as failure:
                answer = failure.answer
            raise Exit(emit("-".join(path), answer, as_json=as_json))

        made = click.command(name, cls=ExampleCommand)(run)
        made.params.append(
            click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object.")
        )
        made.examples = examples
        return made

    return decorate


def run(group: click.Group, arguments: list[str]) -> int:
    """Run the program; every way it can end becomes an exit code and, if asked, JSON."""
    as_json = "--json" in arguments
    name = "-".join(a for a in arguments[:2] if a.isalpha()) or "usage"
    try:
        code = group.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        where = (
            f" ({error.ctx.command_path})"
            if isinstance(error, click.UsageError) and (error.ctx is not None)
            else ""
        )
        remark = Remark(
            code="usage", message=error.format_message(), help=f"{PROGRAM} --help{where}"
        )
        return emit(name, Answer(errors=(remark,), exit_code=ExitCode.USAGE), as_json=as_json)
    except click.Abort:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.BAD)
    except Exception as error:  # noqa: BLE001 - outermost frame: a bug is reported and ends
        traceback.print_exc()
        remark = Remark(code="bug", message=f"{type(error).__name__}: {error}")
        return emit(name, Answer(errors=(remark,), exit_code=ExitCode.BUG), as_json=as_json)
    return code if isinstance(code, int) else 0
