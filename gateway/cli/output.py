"""What every command says and how it ends: exit codes, the JSON envelope, errors with their mend.

A command module writes::

    @command("version", examples=(("sopgw version", "what runs here"), …), schema="version")
    def version() -> None:
        emit({"version": "0.1.0"}, text="sopgw 0.1.0")

``emit`` prints either the human text or one JSON object and ends with the exit code; ``fail`` ends
with an error. Exceptions of the gateway become exit codes in ``end_of``.
"""

from __future__ import annotations

import enum
import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from gateway.cli.overriding import override
from gateway.model.errors import (
    ConfigError,
    ContractError,
    DeviceError,
    DeviceNotSent,
    DeviceRefused,
    GatewayError,
    JournalError,
    OutcomeUnknown,
)

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_PREFIX = "sopgw/v1/"
DEFAULT_SITE = "/etc/sopgw/sopgw.yaml"
SENTENCE_MAX = 120  # letters of a one-line help: a whole sentence, folded, not cut in its middle
F = TypeVar("F", bound=Callable[..., Any])


class ExitCode(enum.IntEnum):
    """How a command ended; scripts rely on these."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    UNREACHABLE = 4
    REFUSED = 5
    UNCONFIRMED = 6
    UNVERIFIED = 7
    TAMPERED = 8
    UNDECIDED = 9
    LOCKED = 10
    INTERNAL = 11
    INTERRUPTED = 130


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done, and what was asked for holds",
    ExitCode.FAILED: "the check, test or trade came out bad (nothing broke in the tool)",
    ExitCode.USAGE: "wrong arguments",
    ExitCode.CONFIG: "configuration or profile invalid; nothing loaded",
    ExitCode.UNREACHABLE: "device, broker or gateway did not answer in time",
    ExitCode.REFUSED: "refused by an interlock, limit, mode or permission; nothing was written",
    ExitCode.UNCONFIRMED: "a plan was made but not applied",
    ExitCode.UNVERIFIED: "something was written and the read-back disagrees or is missing",
    ExitCode.TAMPERED: "ledger, receipt or report fails verification",
    ExitCode.UNDECIDED: "not enough evidence either way",
    ExitCode.LOCKED: "somebody else holds control",
    ExitCode.INTERNAL: "bug in the program",
    ExitCode.INTERRUPTED: "interrupted; cleaned up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One error or warning of a command's answer."""

    code: str
    message: str
    help: str = ""
    where: str = ""  # file:line:column, device or register

    def data(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"code": self.code, "message": self.message, "help": self.help, "where": self.where}

    def text(self, severity: str = "error") -> str:
        """Write it for people."""
        lines = [f"{severity}[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f" --> {self.where}")
        if self.help:
            lines.append(f"  = help: {self.help}")
        return "\n".join(lines)


class CommandFailed(Exception):  # noqa: N818 - a command fails, the program does not err
    """A command ends with an error; ``text`` replaces the usual form of the error."""

    def __init__(
        self,
        exit_code: ExitCode,
        findings: Sequence[Finding],
        *,
        data: Mapping[str, Any] | None = None,
        text: str = "",
    ) -> None:
        super().__init__(findings[0].message if findings else exit_code.name.lower())
        self.exit_code = exit_code
        self.findings = tuple(findings)
        self.data = dict(data or {})
        self.text = text


@dataclass(slots=True, kw_only=True)
class Invocation:
    """One run of the program: what the frame must know when it ends."""

    json: bool = False
    quiet: bool = False
    schema: str = "sopgw"
    warnings: list[Finding] = field(default_factory=list)


def current() -> Invocation:
    """Return the run this command belongs to; a fresh one outside ``main``."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Invocation) if context is not None else None
    return found or Invocation()


def say(text: str) -> None:
    """Print a line for people; nothing with --json or --quiet."""
    run = current()
    if not run.json and not run.quiet:
        click.echo(text)


def note(text: str) -> None:
    """Print a line of progress on stderr; nothing with --json or --quiet."""
    run = current()
    if not run.json and not run.quiet:
        click.echo(text, err=True)


def warn(code: str, message: str, *, help: str = "", where: str = "") -> None:
    """Add a warning: on stderr at once, or in the JSON answer."""
    run = current()
    finding = Finding(code=code, message=message, help=help, where=where)
    run.warnings.append(finding)
    if not run.json:
        click.echo(finding.text("warning"), err=True)


def emit(
    data: Mapping[str, Any],
    *,
    text: str | Callable[[], str] = "",
    exit_code: ExitCode = ExitCode.OK,
    findings: Sequence[Finding] = (),
    ledger: Mapping[str, Any] | None = None,
) -> None:
    """Answer a command and end it: the text for people, or one JSON object.

    ``findings`` explain an exit code other than 0. Returns only when that code is 0.
    """
    run = current()
    if run.json:
        click.echo(envelope(run, data, exit_code, findings, ledger))
    else:
        body = text() if callable(text) else text
        if body:
            click.echo(body)
    if exit_code:
        raise click.exceptions.Exit(int(exit_code))


def fail(
    exit_code: ExitCode,
    message: str,
    *,
    code: str,
    help: str = "",
    where: str = "",
    data: Mapping[str, Any] | None = None,
) -> NoReturn:
    """End a command with one error."""
    finding = Finding(code=code, message=message, help=help, where=where)
    raise CommandFailed(exit_code, [finding], data=data)


def envelope(
    run: Invocation,
    data: Mapping[str, Any],
    exit_code: ExitCode | int,
    findings: Sequence[Finding] = (),
    ledger: Mapping[str, Any] | None = None,
) -> str:
    """Write the one JSON object every command answers with."""
    import datetime as dt
    import json

    moment = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    answer: dict[str, Any] = {
        "schema": SCHEMA_PREFIX + run.schema,
        "ok": int(exit_code) == 0,
        "exit_code": int(exit_code),
        "generated": moment.replace("+00:00", "Z"),
        "data": dict(data),
        "warnings": [w.data() for w in run.warnings],
        "errors": [f.data() for f in findings],
    }
    if ledger is not None:
        answer["ledger"] = dict(ledger)
    return json.dumps(answer, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a run ended badly."""

    exit_code: ExitCode
    findings: tuple[Finding, ...]
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


_DEVICE_CODES = {
    "DeviceNotSent": "D101",
    "DeviceRefused": "D104",
    "OutcomeUnknown": "D107",
    "BadAnswer": "D105",
}


def end_of(error: BaseException) -> End:
    """Give an exception its exit code and its words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # the first that ended what ran side by side
    if isinstance(error, CommandFailed):
        return End(
            exit_code=error.exit_code,
            findings=error.findings,
            text=error.text,
            data=error.data,
        )
    if isinstance(error, click.UsageError):
        return End(exit_code=ExitCode.USAGE, findings=(_usage(error),))
    if isinstance(error, ConfigError):
        return _config_end(error)
    if isinstance(error, DeviceError):
        code = ExitCode.UNREACHABLE
        if isinstance(error, DeviceRefused) or _guarded(error):
            code = ExitCode.REFUSED
        elif isinstance(error, OutcomeUnknown):
            code = ExitCode.UNVERIFIED
        name = _DEVICE_CODES.get(type(error).__name__, "D100")
        help_text = f"sopgw device identify {error.device}"
        return _one(code, name, str(error), help_text=help_text)
    if isinstance(error, JournalError):
        help_text = "sopledger verify DIR --key FILE"
        return _one(ExitCode.TAMPERED, "L001", str(error), help_text=help_text)
    if isinstance(error, ContractError):
        return _one(ExitCode.FAILED, "T001", str(error))
    if isinstance(error, GatewayError):
        return _one(ExitCode.FAILED, "E001", str(error))
    if isinstance(error, click.ClickException):
        return _one(ExitCode.USAGE, "E002", error.format_message())
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return _one(ExitCode.INTERRUPTED, "E130", "interrupted")
    if isinstance(error, TimeoutError | ConnectionError):
        return _one(ExitCode.UNREACHABLE, "E004", str(error) or "no answer in time")
    if isinstance(error, OSError) and error.filename is not None:
        return _one(ExitCode.USAGE, "E006", f"{error.strerror}: {error.filename}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _one(ExitCode.FAILED, "E007", f"cannot be written: {error.strerror}")
    return _one(
        ExitCode.INTERNAL,
        "E011",
        f"bug in the program: {type(error).__name__}: {error}",
        help_text=f"please report it with {crash_report(error)}",
    )


def _guarded(error: DeviceError) -> bool:
    """Tell whether our own guard refused: nothing was sent, and trying again does not help."""
    return isinstance(error, DeviceNotSent) and not error.retryable


def _one(exit_code: ExitCode, code: str, message: str, *, help_text: str = "") -> End:
    return End(exit_code=exit_code, findings=(Finding(code=code, message=message, help=help_text),))


def _usage(error: click.UsageError) -> Finding:
    path = error.ctx.command_path if error.ctx is not None else "sopgw"
    return Finding(code="E002", message=error.format_message(), help=f"see `{path} --help`")


def _config_end(error: ConfigError) -> End:
    problems = getattr(error, "problems", ())
    if not problems:
        return _one(ExitCode.CONFIG, "C000", str(error))
    from gateway.config.problem import report_text

    findings = tuple(
        Finding(
            code=p.code,
            message=p.message,
            help=p.help,
            where=f"{p.file}:{p.line}:{p.column}" if p.line else p.file,
        )
        for p in problems
        if p.severity == "error"
    )
    return End(exit_code=ExitCode.CONFIG, findings=findings, text=report_text(problems))


def crash_report(error: BaseException) -> Path:
    """Write what a maintainer needs; return where."""
    import tempfile
    import traceback
    from pathlib import Path

    handle, name = tempfile.mkstemp(prefix="sopgw-crash-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write("".join(traceback.format_exception(error)))
    return Path(name)


def finish(run: Invocation, error: BaseException) -> int:
    """Print how a run ended badly and return its exit code."""
    end = end_of(error)
    if run.json:
        click.echo(envelope(run, end.data, end.exit_code, end.findings))
    else:
        text = end.text or "\n\n".join(f.text() for f in end.findings)
        click.echo(text, err=True)
    return int(end.exit_code)


Examples = Sequence[tuple[str, str]]


class SopCommand(click.Command):
    """A command with --json, --quiet, an impact tag and examples in its help."""

    def __init__(
        self,
        *args: Any,
        examples: Examples = (),
        schema: str = "",
        impact: str = "ro",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.schema = schema or str(self.name)
        self.impact = impact
        self.params += [_flag("--json", "json"), _flag("-q", "quiet", "--quiet")]

    @override
    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        write_examples(self.examples, formatter)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        run = ctx.find_object(Invocation)
        if run is not None:
            run.schema = self.schema
        return super().invoke(ctx)

    @override
    def get_short_help_str(self, limit: int = 45) -> str:
        return f"[{self.impact}] {super().get_short_help_str(max(limit, SENTENCE_MAX))}"


class SopGroup(click.Group):
    """A group whose commands are SopCommands; its own help has examples too."""

    command_class = SopCommand

    def __init__(self, *args: Any, examples: Examples = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params += [_flag("--json", "json", hidden=True)]

    @override
    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        write_examples(self.examples, formatter)

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib

            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.5)
            tail = f" Did you mean “{near[0]}”?" if near else ""
            raise click.UsageError(f"no such command “{name}”.{tail}", ctx)
        return super().resolve_command(ctx, args)


SopGroup.group_class = SopGroup


def _flag(flag: str, name: str, *more: str, hidden: bool = False) -> click.Option:
    help_text = {"json": "One JSON object on stdout.", "quiet": "No text but errors."}[name]

    def keep(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
        run = ctx.find_object(Invocation)
        if run is not None and value:
            setattr(run, name, True)

    return click.Option(
        [flag, *more, name],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=keep,
        help=help_text,
        hidden=hidden,
    )


def write_examples(examples: Examples, formatter: click.HelpFormatter) -> None:
    """Write the examples section of a help page."""
    if examples:
        with formatter.section("Examples"):
            formatter.write_dl([(line, what) for line, what in examples], col_max=56)


def command(
    name: str, *, examples: Examples, schema: str = "", impact: str = "ro", **attributes: Any
) -> Callable[[Callable[..., Any]], SopCommand]:
    """Make a top-level command; ``impact`` is ro, rw (own files) or hw (can move power)."""
    return click.command(
        name, cls=SopCommand, examples=examples, schema=schema, impact=impact, **attributes
    )


def group(
    name: str, *, examples: Examples, cls: type[SopGroup] = SopGroup, **attributes: Any
) -> Callable[[Callable[..., Any]], SopGroup]:
    """Make a group; its members: ``@that.command("check", examples=…, schema="that.check")``."""
    return click.group(name, cls=cls, examples=examples, **attributes)


def site_option(function: F) -> F:
    """Add ``-c/--config FILE``: the site file, also from SOPGW_CONFIG."""
    from pathlib import Path

    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        envvar="SOPGW_CONFIG",
        default=Path(DEFAULT_SITE),
        show_default=True,
        help="Site file.",
    )(function)


def wants_json(arguments: Sequence[str]) -> bool:
    """Tell from the raw arguments whether JSON was asked for, before they are parsed."""
    plain = list(arguments)
    if "--" in plain:
        plain = plain[: plain.index("--")]
    return "--json" in plain


def run_program(root: click.Command, arguments: Sequence[str], *, program: str = "sopgw") -> int:
    """Run a command line and return its exit code; the one place that sees every exception."""
    run = Invocation(json=wants_json(arguments))
    try:
        code = root.main(list(arguments), prog_name=program, obj=run, standalone_mode=False)
    except BrokenPipeError:
        # Whoever read us is gone; keep the interpreter from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.FAILED)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost frame
        return finish(run, error)
    return code if isinstance(code, int) else int(ExitCode.OK)
