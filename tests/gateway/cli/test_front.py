"""What is answered without click is what click would answer."""

import os
import pty
import subprocess
import sys

import click
import pytest
from click.shell_completion import get_completion_class

from gateway.cli import front
from gateway.cli.root import cli

VARIABLE = front.COMPLETION_VARIABLE


def clicked(shell, words, at):
    """What click's own completion of the same commands prints."""
    found = get_completion_class(shell)(cli, {}, front.PROGRAM, VARIABLE)
    arguments, incomplete = found.get_completion_args()
    items = found.get_completions(arguments, incomplete)
    return "\n".join(found.format_completion(item) for item in items) + "\n"


@pytest.mark.parametrize("word", ["", "t", "st", "version", "nosuch"])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_first_word_is_completed_as_click_would(shell, word, monkeypatch):
    words, at = f"sopgw {word}".rstrip(), word if shell == "fish" else "1"
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", at)
    said = front.answer([], {**os.environ, VARIABLE: f"{shell}_complete"})
    assert said == clicked(shell, words, at)
    assert ("trade" in said) == (word in ("", "t"))


@pytest.mark.parametrize(
    ("words", "at"), [("sopgw trade s", "2"), ("sopgw --v", "1"), ("sopgw 'tr", "1"), ("", "")]
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "powershell"])
def test_what_is_more_than_a_first_word_is_left_to_click(shell, words, at):
    environ = {VARIABLE: f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": at}
    assert front.answer([], environ) is None


def test_fish_says_the_word_and_not_its_place():
    environ = {VARIABLE: "fish_complete", "COMP_WORDS": "sopgw trade s", "COMP_CWORD": "s"}
    assert front.answer([], environ) is None
    assert front.answer([], {VARIABLE: "fish_source"}) is None


def test_the_page_is_of_the_commands_and_options_there_are():
    context = cli.make_context("sopgw", [], resilient_parsing=True)
    records = (p.get_help_record(context) for p in cli.get_params(context))
    assert tuple(r for r in records if r is not None) == front.OPTIONS
    for name in front.present():
        assert f"  {name} ".ljust(14) in front.page(80)
        assert isinstance(cli.get_command(context, name), click.Command)
    assert front.present() == [n for n in front.COMMANDS if n in front.present()]


@pytest.mark.parametrize("width", [50, 60, 78, 98])
def test_the_page_keeps_to_its_width_and_loses_no_word(width):
    page = front.page(width)
    assert max(len(line) for line in page.splitlines()) <= width
    assert page.split() == front.page(98).split()
    context = cli.make_context("sopgw", [], resilient_parsing=True)
    context.terminal_width = width
    assert cli.get_help(context) == page.rstrip("\n")


@pytest.mark.parametrize(
    ("said", "width"), [("", 78), ("60", 58), ("20", 50), ("300", 98), ("wide", 78)]
)
def test_the_width_is_that_of_click(said, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", said)
    monkeypatch.setattr(sys, "__stdout__", None)
    assert front.columns({"COLUMNS": said}) == width
    assert click.HelpFormatter(max_width=front.COLUMNS_MAX).width == width


def test_help_is_as_wide_as_the_terminal():
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 64, 0, 0))
    environ = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    program = [sys.executable, "-m", "gateway", "--help"]
    with subprocess.Popen(program, stdout=theirs, env=environ) as run:
        os.close(theirs)
        text = b""
        while len(text) < len(front.page(62).replace("\n", "\r\n").encode()):
            text += os.read(ours, 65536)
        assert run.wait() == 0
    os.close(ours)
    assert text.decode().replace("\r\n", "\n") == front.page(62)


def test_a_reader_that_went_away_is_no_error():
    program = f"{sys.executable} -m gateway --help"
    closed = subprocess.run(
        ["sh", "-c", f"({program}; echo $? >&2) | true"], capture_output=True, text=True, check=True
    )
    assert closed.stderr.strip() in ("0", "1")


def test_an_answer_that_cannot_be_written_is_told():
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "gateway", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (run.returncode, b"No space left" in run.stderr) == (1, True)
    assert b"Traceback" not in run.stderr
    assert b"ignored" not in run.stderr
