"""JSON from strangers: bounded in size and depth, no floats, no duplicate keys, all faults named.

The standard parser is lenient where two readers may understand one text differently; here each
such place is a reason to refuse. Nothing in this module raises for any input.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gateway.market.canonical import INTEGER_MAX
from gateway.model.reason import Reason, ReasonCode

DEPTH_MAX = 8  # the deepest document in use has 7 levels
REASONS_MAX = 50  # an answer must stay small even when every field is wrong
_QUOTE_MAX = 40  # of a stranger's text in our answers
_SAFE_DIGITS = len(str(INTEGER_MAX))

# An unterminated string runs to the end: so every quote is looked at once, whatever the text.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(b for b in range(256) if b not in b"[]{}")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Wrong:
    """Stands in the parsed value where something was not allowed; the walk names its place."""

    reason: Reason


class Keyed(dict[str, Any]):
    """An object that remembers which of its keys came twice."""

    __slots__ = ("twice",)
    twice: tuple[str, ...]


@dataclass(slots=True)
class Findings:
    """Every reason found so far, in order, each once and never more than ``REASONS_MAX``."""

    reasons: list[Reason] = field(default_factory=list)

    def add(self, code: ReasonCode, detail: str = "") -> None:
        """Note one reason."""
        if len(self.reasons) < REASONS_MAX:
            reason = Reason(code=code, detail=detail)
            if reason not in self.reasons:
                self.reasons.append(reason)

    @property
    def full(self) -> bool:
        """Further faults change nothing: whoever walks a long list may stop."""
        return len(self.reasons) >= REASONS_MAX


def quoted(text: object) -> str:
    """Quote a stranger's text: short, printable ASCII only."""
    shown = ascii(text)
    return shown if len(shown) <= _QUOTE_MAX else shown[: _QUOTE_MAX - 1] + "…"


def parse(raw: bytes, findings: Findings, *, depth_max: int = DEPTH_MAX) -> Keyed | None:
    """Return the top-level object and note every fault; None when there is no object to read.

    Where a value was not allowed the object holds ``Wrong``: readers pass over it, it has been
    noted already. So one answer names the faults of the text and those of the document.
    """
    if depth(raw, depth_max) > depth_max:
        findings.add(ReasonCode.DEPTH, f"nested deeper than {depth_max} levels")
        return None
    hooks = _Hooks(suspect=_SURROGATE_ESCAPE.search(raw) is not None)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=hooks.read_object,
            parse_int=hooks.read_integer,
            parse_float=hooks.read_fraction,
            parse_constant=hooks.read_fraction,
        )
    except UnicodeDecodeError:
        findings.add(ReasonCode.FORM, "not UTF-8")
        return None
    except json.JSONDecodeError as error:
        findings.add(ReasonCode.FORM, f"not JSON: {error.msg} at {error.pos}")
        return None
    if hooks.suspect:
        _walk(value, "", findings)
    if isinstance(value, Keyed):
        return value
    findings.add(ReasonCode.FORM, "not a JSON object")
    return None


def depth(raw: bytes, enough: int = 1 << 30) -> int:
    """Count the deepest nesting without parsing; stop early beyond ``enough``.

    Strings do not count.
    """
    level = deepest = 0
    for bracket in _STRINGS.sub(b"", raw).translate(None, _NO_BRACKETS):
        if bracket in b"[{":
            level += 1
            if level > deepest:
                deepest = level
                if deepest > enough:
                    break
        else:
            level -= 1
    return deepest


class _Hooks:
    """Readers of the parser; ``suspect`` says whether the value must be walked for faults."""

    __slots__ = ("suspect",)

    def __init__(self, *, suspect: bool) -> None:
        self.suspect = suspect

    def read_object(self, pairs: list[tuple[str, Any]]) -> Keyed:
        found = Keyed(pairs)
        found.twice = ()
        if len(found) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            found.twice = tuple(key for key, count in counts.items() if count > 1)
            self.suspect = True
        elif not all(map(_printable, found)):
            self.suspect = True
        return found

    def read_integer(self, text: str) -> int | Wrong:
        if len(text) < _SAFE_DIGITS or (
            len(text) <= _SAFE_DIGITS + 1 and abs(int(text)) <= INTEGER_MAX
        ):
            return int(text)
        self.suspect = True
        detail = f"{quoted(text)} is not an integer below 2^53"
        return Wrong(Reason(code=ReasonCode.OUT_OF_RANGE, detail=detail))

    def read_fraction(self, text: str) -> Wrong:
        self.suspect = True
        detail = f"{quoted(text)} is not an integer; write decimals as a string"
        return Wrong(Reason(code=ReasonCode.NOT_INTEGER, detail=detail))


def _walk(value: object, path: str, findings: Findings) -> None:
    if findings.full:
        return
    place = path or "/"
    match value:
        case Wrong(reason=reason):
            findings.add(reason.code, f"{place}: {reason.detail}")
        case Keyed():
            for key in value.twice:
                findings.add(ReasonCode.DUPLICATE_KEY, f"{place}: {quoted(key)}")
            for key, item in value.items():
                if not _printable(key):
                    findings.add(ReasonCode.FORM, f"{place}: key {quoted(key)} is not plain ASCII")
                _walk(item, f"{path}/{key if _printable(key) else '?'}", findings)
        case list():
            for index, item in enumerate(value):
                _walk(item, f"{path}/{index}", findings)
        case str() if _SURROGATE.search(value):
            findings.add(ReasonCode.FORM, f"{place}: half a surrogate pair is not text")
        case _:
            pass


def _printable(key: str) -> bool:
    return key.isascii() and key.isprintable() and len(key) <= _QUOTE_MAX * 2
