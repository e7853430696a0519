"""YAML files read with positions: every mistake at once, each with file, line and column."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from firmware_sim.overriding import override

UNITS: dict[str, dict[str, float]] = {
    "power": {"W": 1.0, "kW": 1e3, "MW": 1e6},
    "reactive": {"var": 1.0, "kvar": 1e3, "Mvar": 1e6},
    "apparent": {"VA": 1.0, "kVA": 1e3, "MVA": 1e6},
    "voltage": {"V": 1.0, "kV": 1e3},
    "capacitance": {"F": 1.0, "mF": 1e-3, "uF": 1e-6, "µF": 1e-6},
    "time": {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0},
    "ratio": {"%": 0.01},
    "energy": {"Wh": 1.0, "kWh": 1e3},
    "frequency": {"Hz": 1.0},
}
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing wrong in a file."""

    file: str
    line_number: int
    column_number: int
    message: str

    @override
    def __str__(self) -> str:
        return f"{self.file}:{self.line_number}:{self.column_number}: {self.message}"


class FileMistakesError(Exception):
    """All mistakes of one file."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(m) for m in self.mistakes))


class Reader:
    """Walks a YAML document and collects what is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mistakes: list[Mistake] = []
        yaml = YAML(typ="rt", pure=True)
        try:
            self.root: Any = yaml.load(path.read_text())
        except MarkedYAMLError as wrong:
            mark = wrong.problem_mark
            line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
            self._add(line, column, str(wrong.problem))
            raise FileMistakesError(self.mistakes) from None

    def _add(self, line: int, column: int, message: str) -> None:
        self.mistakes.append(
            Mistake(file=str(self.path), line_number=line, column_number=column, message=message)
        )

    def complain(self, parent: Any, key: Any, message: str) -> None:
        """Note a mistake at a key of a map or an item of a list."""
        try:
            where = parent.lc.item(key) if isinstance(parent, CommentedSeq) else parent.lc.key(key)
            line, column = where[0] + 1, where[1] + 1
        except (AttributeError, KeyError, TypeError):
            lc = getattr(parent, "lc", None)
            line, column = (lc.line + 1, lc.col + 1) if lc is not None else (1, 1)
        self._add(line, column, message)

    def finish(self) -> None:
        """Raise all that was found."""
        if self.mistakes:
            raise FileMistakesError(sorted(self.mistakes, key=lambda m: m.line_number))

    # ------------------------------------------------------------------- shape

    def mapping(self, parent: Any, key: Any, value: Any) -> CommentedMap:
        """The value as a map; an empty one where it is something else."""
        if isinstance(value, CommentedMap):
            return value
        self.complain(parent, key, f"{key}: expected keys and values")
        return CommentedMap()

    def sequence(self, parent: CommentedMap, key: str) -> CommentedSeq:
        """A list; an empty one where it is missing or something else."""
        value = parent.get(key)
        if isinstance(value, CommentedSeq):
            return value
        self.complain(parent, key, f"{key}: expected a list")
        return CommentedSeq()

    def known(self, parent: CommentedMap, keys: Iterable[str]) -> None:
        """Every key must be one of these."""
        allowed = list(keys)
        for key in parent:
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; one of {', '.join(allowed)}"
                self.complain(parent, key, f"unknown key {key}{hint}")

    # ------------------------------------------------------------------ values

    def quantity(
        self,
        parent: CommentedMap,
        key: str,
        kind: str,
        *,
        default: float | None = None,
        low: float = float("-inf"),
        high: float = float("inf"),
    ) -> float:
        """A number with its unit, in base units."""
        if key not in parent:
            if default is None:
                self.complain(parent, key, f"{key} is missing")
                return 0.0
            return default
        raw, units = parent[key], UNITS[kind]
        match = _QUANTITY.fullmatch(str(raw).strip())
        if match is None or match[2] not in units:
            self.complain(
                parent, key, f"{key}: {raw!r} is no {kind}; a number with {', '.join(units)}"
            )
            return default or 0.0
        value = float(match[1]) * units[match[2]]
        if not low <= value <= high:
            self.complain(parent, key, f"{key}: {raw} is out of range")
        return value

    def word(
        self, parent: CommentedMap, key: str, choices: Iterable[str], default: str | None = None
    ) -> str:
        """One of several words."""
        allowed = list(choices)
        value = parent.get(key, default)
        if value in allowed:
            return str(value)
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.complain(parent, key, f"{key}: {value!r} is not one of {', '.join(allowed)}{hint}")
        return allowed[0]

    def integer(
        self, parent: CommentedMap, key: str, *, default: int | None, low: int, high: int
    ) -> int:
        """A whole number within limits."""
        value = parent.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.complain(parent, key, f"{key}: {value!r} is not a whole number {low} to {high}")
            return default if default is not None else low
        return int(value)

    def text(self, parent: CommentedMap, key: str, default: str | None = None) -> str:
        """A text."""
        value = parent.get(key, default)
        if not isinstance(value, str):
            self.complain(parent, key, f"{key}: expected a text")
            return default or ""
        return str(value)


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A map without positions."""
    return {str(k): v for k, v in value.items()}
