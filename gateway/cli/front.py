"""The front page: ``sopgw --help`` and the first word that Tab completes.

Both are typed all day on a cabinet's small computer, where every import is felt, so this file needs
nothing but the interpreter. ``gateway.cli.root`` shows and completes from here too: there is one
page, and one list of commands.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = "sopgw"
COMPLETION_VARIABLE = "_SOPGW_COMPLETE"
COLUMNS_MAX = 100  # wider lines are hard to read
COLUMNS_MIN = 50
_HERE = os.path.dirname(__file__)

# name -> (impact, what it does); the order is that of the help page.
COMMANDS: dict[str, tuple[str, str]] = {
    "stop": ("hw", "Bring a SOP to zero; never asks."),
    "demo": ("ro", "Simulated site, trades, delivery, verified ledger."),
    "init": ("rw", "Write a commented site file to begin with."),
    "run": ("hw", "The service."),
    "status": ("ro", "One page of what goes on."),
    "top": ("ro", "Live view in the terminal."),
    "doctor": ("ro", "Is everything ready? Each line has a fix."),
    "mode": ("hw", "Show or set the operator's mode."),
    "arm": ("hw", "Allow power again after a fail-safe."),
    "limits": ("hw", "Show limits; change them, two engineers together."),
    "apply": ("hw", "Carry out a plan that a command printed."),
    "plan": ("ro", "List and show plans."),
    "config": ("ro", "Check and show the site file."),
    "profile": ("ro", "Device profiles: list, check, test, match, make."),
    "scan": ("ro", "Find devices; never writes."),
    "device": ("rw", "Add, identify and trust devices."),
    "point": ("hw", "Read, decode and set single values."),
    "check": ("hw", "Signs, scales, wiring, clock, network."),
    "test": ("hw", "Signals, interlocks, steps, watchdog, emergency stop."),
    "sat": ("hw", "Site acceptance: plan, run, sign, report."),
    "trade": ("rw", "Sign, submit, follow and explain trades."),
    "relay": ("ro", "Region agents on a broker speak to a market node."),
    "instr": ("ro", "Instructions and what became of them."),
    "alarm": ("rw", "Alarms: list, acknowledge, shelve, explain."),
    "whoami": ("ro", "Who you are here, what you may, who holds control."),
    "access": ("ro", "Who has which role."),
    "account": ("rw", "People who may log in to the page."),
    "export": ("rw", "Readings and settlements as CSV or Parquet."),
    "replay": ("ro", "Recompute every decision from a ledger."),
    "backup": ("rw", "Back up and restore the state."),
    "support": ("ro", "Bundle for a maintainer, secrets left out."),
    "cheat": ("ro", "The commands of an occasion, in order."),
    "errors": ("ro", "Explain an error code."),
    "completion": ("ro", "Completion for bash, zsh and fish."),
    "man": ("ro", "Manual pages."),
    "version": ("ro", "Versions of the parts."),
}

ABOUT = (
    "Gateway between a local electricity market and a soft open point.",
    "Impact of a command: [ro] reads only, [rw] changes the gateway's own files, [hw] can move "
    "power. Exit codes: `sopgw errors show exit-codes`.",
)
EXAMPLES = (
    ("sopgw demo", "a simulated site delivers trades, about a minute"),
    ("sopgw config check site.yaml", "every mistake of a site file at once"),
)
OPTIONS = (
    ("--version", "Print the version and end."),
    ("-h, --help", "Show this message and exit."),
)


def present() -> list[str]:
    """Return the commands whose module is there, in the order of the page."""
    there = {entry.partition(".")[0] for entry in os.listdir(_HERE)}
    return [name for name in COMMANDS if name in there]


def short_help(name: str) -> str:
    """Return what a command does, with its impact."""
    return "[{}] {}".format(*COMMANDS[name])


def page(width: int) -> str:
    """Write the help page of the program, ``width`` columns wide, with its last line break."""
    lines = [f"Usage: {PROGRAM} [OPTIONS] COMMAND [ARGS]..."]
    for paragraph in ABOUT:
        lines += ["", *("  " + line for line in _folded(paragraph, width - 2))]
    for title, rows in (
        ("Examples", EXAMPLES),
        ("Options", OPTIONS),
        ("Commands", tuple((name, short_help(name)) for name in present())),
    ):
        lines += ["", f"{title}:", *_listed(rows, width)]
    return "\n".join(lines) + "\n"


def _listed(rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Write rows of two columns; the second is folded."""
    first = max(len(term) for term, _ in rows) + 4
    lines = []
    for term, text in rows:
        head, *rest = _folded(text, width - first)
        lines.append(f"  {term}".ljust(first) + head)
        lines += [" " * first + line for line in rest]
    return lines


def _folded(text: str, width: int) -> list[str]:
    """Break a text at its spaces; a word longer than a line stands alone."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def columns(environ: Mapping[str, str]) -> int:
    """Return the width to write in: of ``COLUMNS``, of the terminal, or of 80 columns."""
    said = environ.get("COLUMNS", "")
    found = int(said) if said.isdecimal() else 0
    if not found:
        try:
            found = os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 0
        except (OSError, ValueError):  # not a terminal, or closed
            found = 0
    return max(min(found or 80, COLUMNS_MAX) - 2, COLUMNS_MIN)


def completed(shell: str, incomplete: str) -> list[str]:
    """Return the commands that begin so, in the words of the shell's completion script."""
    form = {"bash": "plain,{0}", "zsh": "plain\n{0}\n{1}", "fish": "plain,{0}\t{1}"}[shell]
    return [form.format(n, short_help(n)) for n in present() if n.startswith(incomplete)]


def answer(arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return all that is to be printed, or None where the rest of the program is needed."""
    instruction = environ.get(COMPLETION_VARIABLE)
    if instruction:
        shell, _, what = instruction.partition("_")
        word = _first_word(shell, environ) if what == "complete" else None
        return None if word is None else "\n".join(completed(shell, word)) + "\n"
    if list(arguments) in (["-h"], ["--help"]):
        return page(columns(environ))
    return None


def _first_word(shell: str, environ: Mapping[str, str]) -> str | None:
    """Return the beginning of the first word after the program; None for anything else."""
    words, at = environ.get("COMP_WORDS", "").split(), environ.get("COMP_CWORD", "")
    if shell in ("bash", "zsh") and at == "1":
        word = words[1] if len(words) > 1 else ""
    elif shell == "fish" and words[1:] in ([], [at]):
        word = at
    else:
        return None
    return word if word.isalpha() or not word else None
