"""Rules every command keeps, whichever there are: help, examples, JSON, exit codes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.cheat import SHEETS
from gateway.cli.man import walk
from gateway.cli.output import SopCommand, SopGroup
from gateway.cli.root import cli

ROOT_CONTEXT = cli.make_context("sopgw", [], resilient_parsing=True)
FOUND = [(context.command_path.split()[1:], found) for context, found in walk(cli, ROOT_CONTEXT)]
LEAVES = [(path, found) for path, found in FOUND if isinstance(found, SopCommand)]
GROUPS = [(path, found) for path, found in FOUND if isinstance(found, SopGroup)]
PROGRAM = "sopgw"
OUTPUT = Path(__file__).resolve().parents[3] / "configs" / "schema" / "output"


def named(rows):
    return {"argvalues": rows, "ids": [" ".join(path) or "sopgw" for path, _ in rows]}


def test_every_command_is_made_with_the_frame():
    assert [path for path, found in FOUND if not isinstance(found, SopCommand | SopGroup)] == []
    assert len(LEAVES) > 10


@pytest.mark.parametrize(("path", "found"), **named(LEAVES + GROUPS))
def test_help_shows_two_examples(path, found, sopgw):
    assert len(found.examples) >= 2
    answer = sopgw(*path, "--help")
    assert answer.exit_code == 0
    assert "Examples:" in answer.out
    folded = "".join(answer.out.split())
    for line, what in found.examples:
        assert "".join(line.split()) in folded
        assert what


def untypable(line):
    """Say what of a line there is not: our program, its command or an option; "" when all is."""
    match = re.search(rf"{PROGRAM} (.*?)(?:\)\"|\s[|>&].*)?$", line)
    if match is None:
        return "" if line.startswith(("sopledger ", "sopsim ")) else "not a program of ours"
    words = [w for w in shlex.split(match[1]) if not w.startswith("$(")]
    context, command = ROOT_CONTEXT, cli
    while isinstance(command, SopGroup) and words:
        inner = command.get_command(context, words[0])
        if inner is None:
            break
        context = inner.make_context(words.pop(0), [], parent=context, resilient_parsing=True)
        command = inner
    if isinstance(command, SopGroup):
        return "" if not words and command is not cli else f"no command {' '.join(words)}"
    known = {o for p in command.get_params(context) for o in (*p.opts, *p.secondary_opts)}
    used = {w.split("=")[0] for w in words if re.match(r"--?[a-z]", w)}
    return " ".join(sorted(used - known))


@pytest.mark.parametrize(("path", "found"), **named(LEAVES + GROUPS))
def test_the_examples_can_be_typed(path, found):
    """Each runs our program, with a command and options there are."""
    assert {line: untypable(line) for line, _ in found.examples if untypable(line)} == {}


def test_what_cannot_be_typed_would_be_seen():
    assert untypable("sopgw stop --quickly") == "--quickly"
    assert untypable("sopgw halt") == "no command halt"
    assert untypable("halt") == "not a program of ours"


@pytest.mark.parametrize("topic", SHEETS)
def test_a_cheat_sheet_can_be_typed(topic, sopgw):
    rows = sopgw("cheat", topic, "--json").json["data"]["topics"][topic]
    assert {r["command"]: untypable(r["command"]) for r in rows if untypable(r["command"])} == {}
    text = sopgw("cheat", topic).out
    assert all(r["command"] in text and r["what"] in text for r in rows)
    assert max(map(len, text.splitlines())) <= 100


def test_the_sheet_of_commissioning_is_that_of_the_readme(sopgw):
    readme = (OUTPUT.parents[2] / "README.md").read_text()
    for line, _ in SHEETS["commission"]:
        assert f"\n{line} " in readme
    assert len(SHEETS["commission"]) == 11


@pytest.mark.parametrize(("path", "found"), **named(LEAVES))
def test_wrong_arguments_end_with_2_and_one_object(path, found, sopgw):
    answer = sopgw(*path, "--json", "--there-is-no-such-option")
    assert answer.exit_code == 2
    assert answer.json["errors"][0]["code"] == "E002"
    assert answer.err == ""


@pytest.mark.parametrize(("path", "found"), **named(LEAVES))
def test_impact_and_schema_are_said(path, found):
    assert found.impact in ("ro", "rw", "hw")
    assert re.fullmatch(r"[a-z]+(\.[a-z_-]+)*", found.schema)
    assert found.get_short_help_str().startswith(f"[{found.impact}]")


def test_no_two_commands_share_a_schema():
    names = [found.schema for _, found in LEAVES]
    assert sorted(names) == sorted(set(names))


def test_every_command_has_a_shipped_schema_and_no_other_is_shipped():
    names = {found.schema for _, found in LEAVES} | {"envelope"}
    assert names == {p.name.removesuffix(".schema.json") for p in OUTPUT.glob("*.json")}


def test_a_bare_program_shows_its_help(sopgw):
    answer = sopgw()
    assert "Commands:" in answer.out + answer.err


def test_a_misspelt_command_is_not_guessed(sopgw):
    answer = sopgw("confg", "--json")
    assert answer.exit_code == 2
    assert "Did you mean “config”?" in answer.json["errors"][0]["message"]


def test_help_of_the_program_imports_no_heavy_part():
    """A Tab press must be quick: what is slow to import is imported on use."""
    code = (
        "import sys; sys.argv = ['sopgw', '--help']\n"
        "from gateway.__main__ import main\n"
        "main()\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stderr.split()}
    heavy = {
        "pydantic",
        "ruamel",
        "rich",
        "asyncio",
        "cryptography",
        "aiohttp",
        "msgspec",
        "ledger",
        "serial",
        "click",
        "typing",
        "re",
    }
    assert loaded & heavy == set()
    assert "gateway.config" not in run.stderr
    assert "Usage: sopgw" in run.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [("sopgw prof", "plain,profile"), ("sopgw profile show schneider-", "plain,schneider-iem3255")],
)
def test_completion_knows_commands_and_imports_no_reader(words, completed):
    code = (
        "import os, sys, atexit\n"
        "os.environ |= {'_SOPGW_COMPLETE': 'bash_complete'}\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        "from gateway.__main__ import main\n"
        "main([])"
    )
    shell = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=shell
    )
    assert run.stdout.split() == [completed]
    assert {"pydantic", "ruamel"} & {name.split(".")[0] for name in run.stderr.split()} == set()


def test_assertions_cannot_be_switched_off():
    run = subprocess.run(
        [sys.executable, "-O", "-m", "gateway", "version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 5
    assert run.stdout == ""


def test_the_schema_checker_of_these_tests_sees_differences(schema_differences):
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    assert schema_differences(schema, {"a": 1}) == []
    assert schema_differences(schema, {}) == ["$.a is missing"]
    assert schema_differences(schema, {"a": True}) != []
    assert schema_differences({"type": "array", "items": {"type": "string"}}, ["a", 1]) != []
