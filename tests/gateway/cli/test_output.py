"""The frame: exceptions become exit codes, answers become one object."""

import json

import click
import pytest

from gateway.__main__ import main
from gateway.cli import output
from gateway.cli.output import (
    ExitCode,
    Finding,
    command,
    emit,
    end_of,
    fail,
    run_program,
    say,
    warn,
)
from gateway.config.problem import Problem
from gateway.config.yaml_reader import ConfigFileError
from gateway.model import errors

PROBLEM = Problem(code="C020", severity="error", message="m", file="f", line=3, column=4, help="h")


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (click.UsageError("no"), 2, "E002"),
        (ConfigFileError([PROBLEM]), 3, "C020"),
        (errors.ConfigError("no"), 3, "C000"),
        (errors.DeviceNotSent("m1", "no link"), 4, "D101"),
        (errors.DeviceRefused("m1", "no", 2), 5, "D104"),
        (errors.OutcomeUnknown("m1", "no answer"), 7, "D107"),
        (errors.BadAnswer("m1", "foreign"), 4, "D105"),
        (errors.DeviceError("m1", "no"), 4, "D100"),
        (errors.JournalError("no"), 8, "L001"),
        (errors.ContractError("no"), 1, "T001"),
        (errors.GatewayError("no"), 1, "E001"),
        (TimeoutError(), 4, "E004"),
        (ConnectionRefusedError(111, "refused"), 4, "E004"),
        (FileNotFoundError(2, "No such file", "x.yaml"), 2, "E006"),
        (OSError(28, "No space left on device"), 1, "E007"),
        (KeyboardInterrupt(), 130, "E130"),
        (ZeroDivisionError("x"), 11, "E011"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else None,
)
def test_each_exception_has_its_exit_code(error, exit_code, code, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    end = end_of(error)
    assert int(end.exit_code) == exit_code
    assert [f.code for f in end.findings] == [code]


def test_a_bug_leaves_a_report_without_arguments_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = output.crash_report(ZeroDivisionError("division"))
    assert "ZeroDivisionError: division" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


EXAMPLES = (("sopgw x", "one"), ("sopgw x --json", "two"))


@command("x", examples=EXAMPLES, schema="x")
@click.argument("how", default="well")
def example(how):
    """Do a thing."""
    say("working")
    if how == "warned":
        warn("C041", "careful", help="do this")
    if how == "badly":
        emit(
            {"n": 1},
            text="bad",
            exit_code=ExitCode.FAILED,
            findings=[Finding(code="E001", message="m")],
        )
    if how == "refused":
        fail(ExitCode.REFUSED, "no", code="E005", help="ask")
    if how == "bug":
        raise ZeroDivisionError
    emit({"n": 1}, text=lambda: "done")


@pytest.mark.parametrize(
    ("how", "exit_code", "out", "err"),
    [
        ("well", 0, "working\ndone\n", ""),
        ("warned", 0, "working\ndone\n", "warning[C041]: careful\n  = help: do this\n"),
        ("badly", 1, "working\nbad\n", ""),
        ("refused", 5, "working\n", "error[E005]: no\n  = help: ask\n"),
    ],
)
def test_text_goes_to_stdout_and_errors_to_stderr(how, exit_code, out, err, capsys):
    assert run_program(example, [how]) == exit_code
    caught = capsys.readouterr()
    assert (caught.out, caught.err) == (out, err)


@pytest.mark.parametrize(
    ("how", "exit_code"), [("well", 0), ("warned", 0), ("badly", 1), ("refused", 5), ("bug", 11)]
)
def test_json_is_one_object_and_nothing_else(how, exit_code, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_program(example, [how, "--json"]) == exit_code
    caught = capsys.readouterr()
    answer = json.loads(caught.out)
    assert caught.err == ""
    assert answer["schema"] == "sopgw/v1/x"
    assert answer["exit_code"] == exit_code
    assert answer["ok"] == (exit_code == 0)
    assert [w["code"] for w in answer["warnings"]] == (["C041"] if how == "warned" else [])
    assert bool(answer["errors"]) == (exit_code != 0)


def test_quiet_leaves_only_the_answer(capsys):
    assert run_program(example, ["-q"]) == 0
    assert capsys.readouterr().out == "done\n"


def test_an_argument_after_two_dashes_is_not_an_option(capsys):
    assert run_program(example, ["--", "--json"]) == 0
    assert capsys.readouterr().out == "working\ndone\n"


def test_json_may_stand_before_the_command(capsys):
    assert main(["--json", "errors", "show", "C025"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["code"] == "C025"
