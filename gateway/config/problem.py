"""What is wrong with a file a person wrote: where, why, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.model.errors import ConfigError

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake; ``line`` and ``column`` count from 1, 0 when the whole file is meant."""

    code: str
    severity: Severity
    message: str
    file: str
    line: int = 0
    column: int = 0
    source_line: str = ""  # left empty where the line holds a secret
    width: int = 1  # characters to underline
    help: str = ""


class ConfigFileError(ConfigError):
    """A file a person wrote is wrong; nothing was loaded. Carries every problem found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=_place))
        first = next((p for p in self.problems if p.severity == "error"), None)
        where = f"{first.file}:{first.line}:{first.column}: " if first else ""
        super().__init__(where + (first.message if first else "invalid file"))


def _place(problem: Problem) -> tuple[str, int, int, str]:
    return (problem.file, problem.line, problem.column, problem.code)


def errors_in(problems: Iterable[Problem]) -> int:
    """Count the problems that forbid loading."""
    return sum(p.severity == "error" for p in problems)


def problem_text(problem: Problem) -> str:
    """Write one problem with its line, a caret and the mend."""
    lines = [f"{problem.severity}[{problem.code}]: {problem.message}"]
    if problem.line:
        gutter = " " * len(str(problem.line))
        lines.append(f"{gutter}--> {problem.file}:{problem.line}:{problem.column}")
        if problem.source_line:
            caret = " " * (problem.column - 1) + "^" * max(1, problem.width)
            lines += [
                f"{gutter} |",
                f"{problem.line} | {problem.source_line}",
                f"{gutter} | {caret}",
            ]
    else:
        gutter = " "
        lines.append(f" --> {problem.file}")
    if problem.help:
        lines.append(f"{gutter} = help: {problem.help}")
    return "\n".join(lines)


def report_text(problems: Sequence[Problem], *, file: str = "") -> str:
    """Write all problems sorted by place; the last line counts them."""
    ordered = sorted(problems, key=_place)
    blocks = [problem_text(p) for p in ordered]
    files = sorted({p.file for p in ordered} or {file})
    counts = []
    for word in ("error", "warning"):
        number = sum(p.severity == word for p in ordered)
        if number:
            counts.append(f"{number} {word}{'' if number == 1 else 's'}")
    tail = f"{', '.join(files)}: {', '.join(counts) or 'no errors'}."
    if errors_in(ordered):
        tail += " Nothing was loaded."
    return "\n\n".join([*blocks, tail])
